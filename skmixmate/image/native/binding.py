"""Compiled wavelet scattering, for float32 on a CPU.

`scattering.c` is built when the package is installed, if there is a C compiler. Without
it torch computes the same, which takes several times as long.
"""

import ctypes
import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ...utils.native import LoadedLibrary, is_available, load_library, struct_fields
from .._filters import average_matrix, padded_size, reflected, wavelet_spectra

# Built by setup.py.
_PATH = Path(__file__).with_name("_scattering.so")

# As in scattering.c: images in a block.
_LANES = 16

# Blocks of images for each thread, so that none waits long for the last one, as long as
# the images and their coefficients have no more entries than this.
_BLOCKS_PER_THREAD, _MAX_ENTRIES = 8, 2**23

# Bytes of the memory of a thread, at most: images of some 900 x 900 pixels.
_MAX_BYTES = 2**28

# Radices of Fourier transforms that have their own code; others take longer.
_RADICES = (4, 2, 3, 5)

# Values of a wavelet below this part of the largest are left out: they are far below
# the rounding errors of float32.
_NEGLIGIBLE = 2.0**-30


class _Axis(ctypes.Structure):
    """``struct axis`` of scattering.c, which documents the fields."""

    _fields_ = struct_fields("radices twiddles", "size n_radices")


class _Level(ctypes.Structure):
    """``struct level``."""

    _fields_ = [("x", _Axis), ("y", _Axis), *struct_fields("across down", "")]


class _Band(ctypes.Structure):
    """``struct band``, a row of an array of integers."""

    _fields_ = struct_fields("", "source target first_value length is_mirrored")


class _Wavelets(ctypes.Structure):
    """``struct wavelets``."""

    _fields_ = struct_fields("bands starts values", "")


class _Scattering(ctypes.Structure):
    """``struct scattering``."""

    _fields_ = struct_fields(
        "images coefficients rows columns levels wavelets",
        "n_images height width n_paths height_out width_out n_scales n_angles order",
    )


def load() -> LoadedLibrary:
    """Load the library.

    Returns
    -------
    library : ctypes.CDLL or None
        None if :func:`~skmixmate.utils.native.load_library` cannot load it.
    reason : str
        Why the library is None.
    """
    structures = (_Level, _Band, _Wavelets, _Scattering)
    return load_library(_PATH, "scattering_struct_sizes", structures)


_library, _reason = load()


def implementation() -> str:
    """Describe the implementation of the scattering of float32 images on a CPU.

    Returns
    -------
    implementation : str
        "compiled", or "torch" with the reason.
    """
    return f"torch ({_reason})" if _library is None else "compiled"


def can_run(
    height: int, width: int, J: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Return whether the library supports images like these, and is available.

    Parameters
    ----------
    height, width, J : int
    dtype : torch.dtype
    device : torch.device

    Returns
    -------
    can_run : bool
    """
    # Five arrays of vectors, one for each pixel.
    n_bytes = 5 * 4 * _LANES * padded_size(height, J) * padded_size(width, J)
    is_supported = (
        dtype == torch.float32 and device.type == "cpu" and n_bytes <= _MAX_BYTES
    )
    return is_supported and is_available(_library, _reason)


class CompiledScattering:
    """Compute the scattering coefficients of images of one size.

    The coefficients of an image do not depend on the images that are transformed with
    it, to the last bit.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the images.
    J, L, order : int
        See :class:`~skmixmate.image.ScatteringTransform`.

    Attributes
    ----------
    images_at_a_time : int
        Number of images for which :meth:`transform` is fastest.
    """

    def __init__(self, shape: tuple[int, int], J: int, L: int, order: int) -> None:
        self.J, self.L, self.order = J, L, order
        self.shape = shape
        self.shape_out = shape[0] // 2**J, shape[1] // 2**J
        self.n_paths = 1 + J * L + (L * L * J * (J - 1) // 2 if order == 2 else 0)
        self._constants = _constants(shape, J, L, order)
        n_entries = max(math.prod(shape), self.n_paths * math.prod(self.shape_out))
        self.images_at_a_time = max(
            _LANES,
            min(
                _MAX_ENTRIES // n_entries,
                _BLOCKS_PER_THREAD * _LANES * torch.get_num_threads(),
            ),
        )

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the scattering coefficients of images.

        Parameters
        ----------
        images : float32 tensor of shape (n_images, height, width)

        Returns
        -------
        coefficients : tensor of shape (n_images, n_paths, n_positions)

        Raises
        ------
        MemoryError
            If the working memory of a thread cannot be allocated.
        """
        images = images.contiguous()
        n_positions = self.shape_out[0] * self.shape_out[1]
        coefficients = images.new_empty(len(images), self.n_paths, n_positions)
        constants = self._constants
        problem = _Scattering(
            images.data_ptr(),
            coefficients.data_ptr(),
            *(margin.ctypes.data for margin in constants.margins),
            ctypes.addressof(constants.levels),
            ctypes.addressof(constants.wavelets),
            len(images),
            *self.shape,
            self.n_paths,
            *self.shape_out,
            self.J,
            self.L,
            self.order,
        )
        assert _library is not None
        if _library.scattering_run(ctypes.byref(problem), torch.get_num_threads()):
            raise MemoryError("Scattering could not allocate its working memory.")
        return coefficients


class _Constants(NamedTuple):
    """What the library reads besides images."""

    margins: list[np.ndarray]
    levels: "ctypes.Array[_Level]"
    wavelets: "ctypes.Array[_Wavelets]"
    arrays: list[np.ndarray]  # that the structs refer to


@functools.lru_cache(maxsize=4)  # it takes as long as hundreds of images
def _constants(shape: tuple[int, int], J: int, L: int, order: int) -> _Constants:
    arrays: list[np.ndarray] = []

    def pointer(array: np.ndarray) -> int:
        arrays.append(np.ascontiguousarray(array))
        return arrays[-1].ctypes.data

    def axis(size: int) -> _Axis:
        radices, twiddles = _passes(size)
        return _Axis(pointer(radices), pointer(twiddles), size, len(radices))

    padded = [padded_size(size, J) for size in shape]
    levels = (_Level * J)()
    for j in range(J):
        averages = [
            average_matrix(*sizes, J, j).numpy().astype(np.float32)
            for sizes in zip(shape, padded, strict=True)
        ]
        height, width = (size // 2**j for size in padded)
        down, across = map(pointer, averages)
        levels[j] = _Level(axis(width), axis(height), across, down)
    wavelets = (_Wavelets * (J * J))()
    for (start, j), spectra in wavelet_spectra(padded, J, L, order).items():
        height, width = (size // 2**j for size in padded)
        bands = _bands(spectra.numpy(), height, width)
        wavelets[start * J + j] = _Wavelets(*map(pointer, bands))
    margins = [reflected(*sizes).numpy() for sizes in zip(shape, padded, strict=True)]
    return _Constants(margins, levels, wavelets, arrays)


def _passes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a Fourier transform into passes.

    Parameters
    ----------
    size : int
        At least 2.

    Returns
    -------
    radices : int64 ndarray of shape (n_passes,)
    twiddles : complex64 ndarray
        By pass: its factors and, if it has no code of its own, its roots of unity.
    """
    radices, twiddles, n_left = [], [], size
    for radix in (*_RADICES, *range(7, size + 1, 2)):
        while n_left % radix == 0:
            numbers = np.arange(n_left // radix)[:, None] * np.arange(1, radix)
            twiddles.append(np.exp(-2j * np.pi / n_left * numbers).ravel())
            if radix not in _RADICES:
                twiddles.append(np.exp(-2j * np.pi / radix * np.arange(radix)))
            radices.append(radix)
            n_left //= radix
    return np.array(radices), np.concatenate(twiddles).astype(np.complex64)


def _bands(
    spectra: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the frequencies at which wavelets are not negligible.

    Parameters
    ----------
    spectra : ndarray of shape (n_angles, full_height, full_width)
        Fourier transforms of the wavelets.
    height, width : int
        Size of the subsampled convolutions.

    Returns
    -------
    bands : int64 ndarray of shape (n_bands, 5)
        Fields of ``struct band``.
    starts : int64 ndarray of shape (n_angles * height + 1,)
        Of the bands of each angle and row of the subsampled convolutions.
    values : float32 ndarray
        The wavelets at these frequencies. They include the factors of both Fourier
        transforms, and of the sum over frequencies that become aliases.
    """
    n_angles, full_height, full_width = spectra.shape
    # One row of the subsampled convolutions after the other.
    n_aliases = full_height // height
    by_angle = spectra.reshape(n_angles, n_aliases, height, full_width)
    by_row = by_angle.swapaxes(1, 2).reshape(-1, full_width)
    y = np.arange(full_height).reshape(n_aliases, height).T
    y = np.tile(y.ravel(), n_angles)[:, None]  # (n_angles * full_height, 1)
    x = np.arange(full_width)
    is_mirrored = y > full_height // 2
    is_used = np.abs(by_row) > _NEGLIGIBLE * np.abs(by_row).max()
    previous = np.pad(is_used[:, :-1], ((0, 0), (1, 0)))
    following = np.pad(is_used[:, 1:], ((0, 0), (0, 1)))
    # Mirrored frequencies descend from the last column, after the first one.
    is_first = ~previous | (x % width == 0) | (is_mirrored & (x == 1))
    is_last = ~following | (x % width == width - 1) | (is_mirrored & (x == 0))
    row, first = np.nonzero(is_used & is_first)
    length = np.nonzero(is_used & is_last)[1] - first + 1
    y, is_mirrored = y[row, 0], is_mirrored[row, 0]
    opposite = (full_height - y) * full_width + (full_width - first) % full_width
    source = np.where(is_mirrored, opposite, y * full_width + first)
    first_value = np.cumsum(length) - length
    bands = np.column_stack([source, first % width, first_value, length, is_mirrored])
    starts = np.searchsorted(row, n_aliases * np.arange(n_angles * height + 1))
    # `transform` in scattering.c computes twice the spectra.
    values = by_row[is_used] / (2 * full_height * full_width)
    return bands, starts, values.astype(np.float32)
