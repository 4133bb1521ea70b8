r"""Wavelet scattering of images.

Convolutions are products in the Fourier domain. The mathematics follows Bruna
and Mallat (2013), the choice of the Morlet wavelets and the order of the output
kymatio 0.3, so that the features of both can be compared. Two choices make it fast:

- Images are along the last axis, so that all operations are products of small
  matrices with large ones: Fourier transforms (see ``_fourier.py``), and, if
  convolutions are subsampled by k, sums over the k x k frequencies that become aliases,
  for all orientations and images at once (see ``_filters.py``).
- The final average is computed at few positions only, and is separable: it is two
  small matrices, applied from both sides, which also leave out the margins.
"""

import math
from collections.abc import Sequence
from itertools import product
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..data.loader import RowLoader, Rows
from ..data.sparse import SparseRows
from ..data.validation import resolve_device, validate_rows
from ..utils.guards import all_or_nothing, default_modes
from ..utils.types import ArrayOut, Data
from ._filters import Wavelets, average_matrix, crop, wavelet_spectrum
from ._fourier import Buffers, choose_fourier

# Complex entries of the largest buffer of a batch: on a CPU, few enough to fit into the
# caches; elsewhere, enough to use all of the device.
_CPU_ENTRIES, _DEVICE_ENTRIES = 2**19, 2**24

# Minimum number of images in a batch, so that matrix products have enough columns, as
# long as they have no more entries than this.
_MIN_IMAGES, _MAX_ENTRIES = 4, 2**22


class Scattering:
    """Compute the scattering coefficients of images of one size.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the images.
    J, L, order : int
        See :class:`ScatteringTransform`.
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(
        self,
        shape: tuple[int, int],
        J: int,
        L: int,
        order: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.J, self.L, self.order = J, L, order
        padded = [_padded_size(size, J) for size in shape]
        self.margins = [
            torch.from_numpy(_reflected(size, padded_size)).to(device)
            for size, padded_size in zip(shape, padded, strict=True)
        ]
        self.averages = [
            [
                average_matrix(size, padded_size, J, j).to(device, dtype)
                for size, padded_size in zip(shape, padded, strict=True)
            ]
            for j in range(J)
        ]
        buffers = Buffers(dtype, device)
        # By the scale j, for images subsampled by 2 ** j.
        self.fourier = [
            choose_fourier(padded[0] // 2**j, padded[1] // 2**j, buffers)
            for j in range(J)
        ]
        # By the scale of the images that they are applied to, and the scale of the
        # wavelets.
        self.wavelets = {}
        for j in range(J):
            spectra = torch.stack(
                [wavelet_spectrum(padded, j, theta, L) for theta in range(L)]
            )
            for start in range(max(j, 1)) if order == 2 else [0]:
                low = crop(crop(spectra, 1, 2**start), 2, 2**start)
                self.wavelets[start, j] = Wavelets(low, self.fourier[j])

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the scattering coefficients of images.

        Parameters
        ----------
        images : tensor of shape (n_images, height, width)

        Returns
        -------
        coefficients : tensor of shape (n_images, n_paths, n_positions)
        """
        rows, columns = self.margins
        images = images.index_select(1, rows).index_select(2, columns)
        images = images.permute(1, 2, 0).contiguous()  # (height, width, n_images)
        spectra = self.fourier[0].spectra(images, "spectra of images")
        paths = [self._average(images, 0, 1)]
        second = []
        for j1 in range(self.J):
            moduli = self.wavelets[0, j1].moduli(spectra, "moduli")
            paths.append(self._average(moduli, j1, self.L))
            if self.order == 2 and j1 < self.J - 1:
                second.append(self._second_order(moduli, j1))
        flat = [averages.flatten(1, -2) for averages in [*paths, *second]]
        return torch.cat(flat, dim=1).permute(2, 1, 0)

    def _second_order(self, moduli: torch.Tensor, j1: int) -> torch.Tensor:
        """Compute the coefficients of order 2 from the moduli at scale `j1`.

        Parameters
        ----------
        moduli : tensor of shape (height, width, L * n_images)
        j1 : int

        Returns
        -------
        averages : tensor of shape (n_positions, L, J - 1 - j1, L, n_images)
            By the first angle, the second scale and the second angle.
        """
        spectra = self.fourier[j1].spectra(moduli, "spectra of moduli")
        averages = []
        for j2 in range(j1 + 1, self.J):
            moduli = self.wavelets[j1, j2].moduli(spectra, "moduli of moduli")
            averages.append(self._average(moduli, j2, self.L, self.L))
        # In the moduli the second angle comes before the first.
        return torch.stack(averages, dim=1).movedim(3, 1)

    def _average(self, moduli: torch.Tensor, j: int, *n_angles: int) -> torch.Tensor:
        """Average moduli at scale `j`.

        Parameters
        ----------
        moduli : tensor of shape (height, width, prod(n_angles) * n_images)
        j : int
        *n_angles : int

        Returns
        -------
        averages : tensor of shape (n_positions, *n_angles, n_images)
        """
        down, across = self.averages[j]
        averaged = torch.bmm(across.expand(len(moduli), -1, -1), moduli)
        averaged = down @ averaged.flatten(1)
        return averaged.view(len(down) * len(across), *n_angles, -1)


def _safe_exponents(images: torch.Tensor) -> torch.Tensor | None:
    """Find powers of two to divide images by, so that squares do not overflow.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width)

    Returns
    -------
    exponents : int tensor of shape (n_images, 1, 1) or None
        None if no image is of extreme magnitude.
    """
    low, high = torch.aminmax(images)
    largest = max(-float(low), float(high))
    limit = torch.finfo(images.dtype).max ** 0.25
    if largest == 0 or 1 / limit < largest < limit:
        return None
    return torch.frexp(images.abs().amax(dim=(1, 2), keepdim=True)).exponent


def _ldexp(values: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Multiply by powers of two, in two steps: a single factor may overflow."""
    half = exponents.div(2, rounding_mode="floor")
    two = torch.tensor(2.0, dtype=values.dtype, device=values.device)
    return values * two**half * two ** (exponents - half)


def is_image_shape(shape: Sequence[Any]) -> bool:
    """Return whether a tuple is (height, width) or (height, width, n_channels)."""
    return len(shape) in (2, 3) and all(
        isinstance(size, Integral) and int(size) > 0 for size in shape
    )


def _padded_size(size: int, J: int) -> int:
    """Return the size with margins for the average, a multiple of 2 ** J."""
    return (size // 2**J + 2) * 2**J


def _reflected(size: int, padded_size: int) -> np.ndarray:
    """Return the index of the pixel at each position of an axis padded by reflection.

    Returns
    -------
    index : int ndarray of shape (padded_size,)
    """
    before = (padded_size - size) // 2
    after = padded_size - size - before
    return np.pad(np.arange(size), (before, after), mode="reflect")


class ScatteringTransform(TransformerMixin, BaseEstimator):
    """Wavelet scattering of images, as features to cluster.

    An image is convolved with Morlet wavelets of `J` scales and `L`
    orientations, the modulus is taken, and the result is convolved with the
    wavelets of larger scales again. The moduli are averaged over ``2 ** J`` pixels.
    These coefficients change little if the image is shifted or slightly deformed, and
    therefore are closer to the linear subspaces spanned by dictionaries than pixels
    are. Nothing is learned.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels) of the images in the rows of X,
        channels last. Each channel is transformed separately.
    J : int, default=3
        Number of scales. Coefficients are averages over ``2 ** J`` pixels, which must
        not exceed the height and the width.
    L : int, default=8
        Number of orientations of the wavelets in half a turn.
    order : {1, 2}, default=2
        Maximum number of successive convolutions with wavelets.
    device : str or torch.device, default="auto"
        Device of the computation. "auto" is the device of X if it is a tensor,
        otherwise a GPU if one is available.
    batch_size : int or "auto", default="auto"
        Number of images transformed at a time. "auto" keeps the buffers at a few MiB
        on a CPU, and below about a gigabyte on other devices.

    Attributes
    ----------
    output_shape_ : tuple of int
        (n_paths, height_out, width_out): the shape of the coefficients of one image,
        to which a row of the result can be reshaped. All paths of the first channel
        come first: the average, order 1 by scale and orientation, order 2 by the scale
        and orientation of the first wavelet and then of the second.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all are strings.

    Notes
    -----
    Margins are padded by reflection. Wavelets, margins and the order of the
    result are the same as in kymatio 0.3.0, and coefficients agree to about 1e-7 of
    their norm. Images of extreme magnitude are multiplied by a power of two before the
    transform, and their coefficients by its inverse afterwards.

    References
    ----------
    J. Bruna and S. Mallat, Invariant scattering convolution networks, IEEE
    TPAMI 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate.image import ScatteringTransform
    >>> X, _ = load_digits(return_X_y=True)
    >>> scattering = ScatteringTransform(image_shape=(8, 8), J=2)
    >>> features = scattering.fit_transform(X)
    >>> scattering.output_shape_
    (81, 2, 2)
    >>> features.shape
    (1797, 324)
    """

    _parameter_constraints = {
        "image_shape": ["array-like"],
        "J": [Interval(Integral, 1, None, closed="left")],
        "L": [Interval(Integral, 1, None, closed="left")],
        "order": [Interval(Integral, 1, 2, closed="both")],
        "device": [str, torch.device],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
    }

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        J: int = 3,
        L: int = 8,
        order: int = 2,
        device: str | torch.device = "auto",
        batch_size: int | str = "auto",
    ) -> None:
        self.image_shape = image_shape
        self.J = J
        self.L = L
        self.order = order
        self.device = device
        self.batch_size = batch_size

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @default_modes()
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Data, y: Any = None) -> Self:
        """Check the parameters against the images; nothing is learned.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Each row is an image. All entries are finite.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, `image_shape` does not match the
            number of features or is too small for `J`, the device is not available,
            or X has NaN or infinite entries.
        """
        height, width, n_channels = self._image_shape()
        X = self._validate(X, reset=True)
        if X.shape[1] != height * width * n_channels:
            raise ValueError(
                f"X has {X.shape[1]} features, but image_shape={self.image_shape} "
                f"means {height * width * n_channels}; set image_shape to the shape of "
                "the images in X."
            )
        resolve_device(self.device, X)
        self.output_shape_ = (
            n_channels * len(self._paths()),
            height // 2**self.J,
            width // 2**self.J,
        )
        return self

    @default_modes()
    def transform(self, X: Data) -> ArrayOut:
        """Compute the scattering coefficients of images.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Each row is an image. All entries are finite.

        Returns
        -------
        coefficients : ndarray or tensor of shape (n_samples, n_features_out)
            In the units of X, and of its dtype if that is float32 or float64.
            A tensor if X is one, on the same device and without a gradient.
            ``n_features_out`` is the product of `output_shape_`.

        Raises
        ------
        ValueError
            If X has a different number of features than in fit, or NaN or infinite
            entries.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        device = resolve_device(self.device, X)
        height, width, n_channels = self._image_shape()
        n_coefficients = math.prod(self.output_shape_)
        if isinstance(X, torch.Tensor):
            coefficients = X.new_empty((len(X), n_coefficients))
        else:
            dtype = getattr(torch, X.dtype.name)
            coefficients = torch.empty(
                (len(X), n_coefficients), dtype=dtype, device="cpu"
            )
        scattering = Scattering(
            (height, width),
            self.J,
            self.L,
            self.order,
            dtype=coefficients.dtype,
            device=device,
        )
        loader = RowLoader(X, device=device)
        with torch.inference_mode():
            for chunk in loader.chunks(self._chunk_size(device)):
                images = loader.load(chunk).rows.view(-1, height, width, n_channels)
                images = images.permute(0, 3, 1, 2).flatten(0, 1)
                exponents = _safe_exponents(images)
                if exponents is None:
                    scattered = scattering.transform(images)
                else:
                    images = _ldexp(images, -exponents)
                    scattered = _ldexp(scattering.transform(images), exponents)
                coefficients[chunk] = scattered.reshape(-1, n_coefficients)
        return coefficients if isinstance(X, torch.Tensor) else coefficients.numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns that :meth:`transform` returns.

        Parameters
        ----------
        input_features : Ignored
            Present by convention.

        Returns
        -------
        names : ndarray of str, of shape (n_features_out,)
            "order0_y0_x0", "order1_j0_theta3_y0_x0",
            "order2_j0_theta3_j1_theta5_y0_x0" and so on: the order, the scale and
            orientation of each wavelet, the row and column of the position. If
            `image_shape` has channels, names begin with their number, as in
            "channel0_order0_y0_x0".
        """
        check_is_fitted(self)
        _, height, width = self.output_shape_
        channels = [""]
        if len(self.image_shape) == 3:
            channels = [f"channel{c}_" for c in range(self.image_shape[2])]
        names = [
            f"{channel}{path}_y{y}_x{x}"
            for channel, path, y, x in product(
                channels, self._paths(), range(height), range(width)
            )
        ]
        return np.array(names, dtype=object)

    def _paths(self) -> list[str]:
        """Return the names of the paths of one channel, in order."""
        scales, angles = range(self.J), range(self.L)
        paths = ["order0"]
        paths += [f"order1_j{j}_theta{t}" for j, t in product(scales, angles)]
        if self.order == 2:
            paths += [
                f"order2_j{j1}_theta{t1}_j{j2}_theta{t2}"
                for j1, t1, j2, t2 in product(scales, angles, scales, angles)
                if j1 < j2
            ]
        return paths

    def _image_shape(self) -> tuple[int, int, int]:
        """Check `image_shape`; return (height, width, n_channels)."""
        shape = tuple(self.image_shape)
        if not is_image_shape(shape):
            raise ValueError(
                f"image_shape={self.image_shape} should be (height, width) or "
                "(height, width, n_channels), all positive integers."
            )
        if min(shape[:2]) < 2**self.J:
            raise ValueError(
                f"J={self.J} averages over {2**self.J} x {2**self.J} pixels, larger "
                f"than image_shape={self.image_shape}; J should be at most "
                f"{int(min(shape[:2])).bit_length() - 1}."
            )
        height, width, *channels = shape
        return height, width, channels[0] if channels else 1

    def _validate(self, X: Data, reset: bool) -> Rows:
        """Check X; return it as an array, tensor or reader, not copied if floating."""
        X = validate_rows(self, X, reset)
        assert not isinstance(X, SparseRows)  # it accepts dense data only
        chunks = RowLoader(X, device=torch.device("cpu")).chunks()
        if any(math.isnan(X[chunk].min()) for chunk in chunks):
            raise ValueError(
                "Input X contains NaN, which ScatteringTransform does not accept: one "
                "missing pixel would corrupt all coefficients around it. Impute "
                "missing pixels first, with MixMateClustering(...).fit(X)"
                ".reconstruct(X) or sklearn.impute.SimpleImputer."
            )
        return X

    def _chunk_size(self, device: torch.device) -> int:
        """Return the number of images to transform at a time."""
        if not isinstance(self.batch_size, str):
            return self.batch_size
        height, width, n_channels = self._image_shape()
        n_pixels = _padded_size(height, self.J) * _padded_size(width, self.J)
        n_wavelets = self.L
        if self.order == 2 and self.J > 1:  # at half the resolution
            n_wavelets = max(self.L, self.L**2 // 4)
        n_entries = _CPU_ENTRIES if device.type == "cpu" else _DEVICE_ENTRIES
        n_min = min(_MIN_IMAGES, _MAX_ENTRIES // (n_pixels * n_wavelets))
        n_planes = max(n_min, n_entries // (n_pixels * n_wavelets))
        return max(1, n_planes // n_channels)
