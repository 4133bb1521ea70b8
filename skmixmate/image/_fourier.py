"""Fourier transforms of many images at a time, which are stacked along the last axis.

Real and imaginary parts are stored along a separate axis. A transform is then a product
with a matrix from either side, and no array has to be copied to another layout before
or after it. A fast Fourier transform needs fewer operations, but no library executes
them at the rate of matrix products; it is used for images that are large enough for it
to be faster nevertheless.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch

# Largest side of images that are transformed by matrices.
_MAX_MATRIX_SIDE = 96


class Buffers:
    """Reuse memory for temporary tensors.

    The operating system zeroes newly allocated pages, which takes longer than the
    operations on them.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.settings: dict[str, Any] = {"dtype": dtype, "device": device}
        self._memory: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        """Return an uninitialized tensor in the memory of a name.

        The tensor that had the name before is overwritten.

        Parameters
        ----------
        name : str
        *shape : int

        Returns
        -------
        tensor : tensor of shape `shape`
        """
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = torch.empty(size, **self.settings)
        return memory[:size].view(shape)


class Fourier(ABC):
    """Transform images of one size.

    Parameters
    ----------
    height, width : int
        The width is even.
    buffers : Buffers
    """

    def __init__(self, height: int, width: int, buffers: Buffers) -> None:
        self.height, self.width = height, width
        self.half = width // 2 + 1
        self.buffers = buffers

    @abstractmethod
    def spectra(self, images: torch.Tensor, name: str) -> torch.Tensor:
        """Compute the spectra of real images.

        Parameters
        ----------
        images : tensor of shape (height, width, n_images)
        name : str
            Name of the buffer for the spectra.

        Returns
        -------
        spectra : tensor of shape (height, 2, width // 2 + 1, n_images)
            Real and imaginary parts at the non-negative horizontal frequencies. The
            spectra at negative frequencies are their conjugates.
        """

    @abstractmethod
    def moduli(self, spectra: torch.Tensor, name: str) -> torch.Tensor:
        """Compute the moduli of the inverse transform of spectra.

        They are computed from squares: in float32 they should be well between 1e-18
        and 1e18.

        Parameters
        ----------
        spectra : tensor of shape (height, width, 2, n_images)
            Contiguous; overwritten.
        name : str
            Name of the buffer for the moduli.

        Returns
        -------
        moduli : tensor of shape (height, width, n_images)
        """


class MatrixFourier(Fourier):
    """Transform images by products with matrices."""

    def __init__(self, height: int, width: int, buffers: Buffers) -> None:
        super().__init__(height, width, buffers)

        def to_device(matrix: torch.Tensor, *shape: int) -> torch.Tensor:
            return matrix.reshape(shape).to(**buffers.settings)

        cos, sin = (part[: self.half] for part in _waves(width))
        self._across = to_device(torch.stack([cos, -sin]), -1, width)
        cos, sin = _waves(height)
        # In the output, as in the input, the axis of the parts follows the position.
        down = _complex_matrix(cos, -sin).transpose(0, 1)
        self._down = to_device(down, 2 * height, 2 * height)
        self._inverse_across, self._inverse_down = (
            to_device(_complex_matrix(*_waves(size)) / size, 2 * size, 2 * size)
            for size in (width, height)
        )

    def spectra(self, images: torch.Tensor, name: str) -> torch.Tensor:
        """Transform the rows of images, then the columns."""
        n_images = images.shape[2]
        rows = self.buffers("rows", self.height, 2 * self.half, n_images)
        torch.bmm(self._across.expand(self.height, -1, -1), images, out=rows)
        spectra = self.buffers(name, 2 * self.height, self.half * n_images)
        torch.mm(self._down, rows.view(2 * self.height, -1), out=spectra)
        return spectra.view(self.height, 2, self.half, n_images)

    def moduli(self, spectra: torch.Tensor, name: str) -> torch.Tensor:
        """Apply the inverse transform to rows, then to columns."""
        n_images = spectra.shape[3]
        rows = self.buffers("rows", self.height, 2 * self.width, n_images)
        across = self._inverse_across.expand(self.height, -1, -1)
        torch.bmm(across, spectra.view(rows.shape), out=rows)
        parts = spectra.view(2 * self.height, -1)
        torch.mm(self._inverse_down, rows.view(parts.shape), out=parts)
        real, imaginary = parts.view(2, self.height, self.width, n_images)
        moduli = torch.square(real, out=self.buffers(name, *real.shape))
        return moduli.addcmul_(imaginary, imaginary).sqrt_()


class FastFourier(Fourier):
    """Transform images by the FFT of torch, which needs each image contiguous.

    Transposing two axes takes less time than permuting three.
    """

    def spectra(self, images: torch.Tensor, name: str) -> torch.Tensor:
        """Move the axis of images to the front, transform, and move it back."""
        n_images = images.shape[2]
        images = images.reshape(-1, n_images).t().contiguous()
        transformed = torch.fft.rfft2(images.view(-1, self.height, self.width))
        transformed = transformed.view(n_images, -1).t().contiguous()
        parts = torch.view_as_real(transformed.view(self.height, self.half, n_images))
        spectra = self.buffers(name, self.height, 2, self.half, n_images)
        return spectra.copy_(parts.permute(0, 3, 1, 2))

    def moduli(self, spectra: torch.Tensor, name: str) -> torch.Tensor:
        """Move the axis of spectra to the front, transform, and move it back."""
        n_images = spectra.shape[3]
        spectra = torch.complex(*spectra.unbind(2)).view(-1, n_images).t().contiguous()
        images = torch.fft.ifft2(spectra.view(-1, self.height, self.width))
        # Several times as fast as abs.
        squares = torch.view_as_real(images).square_()
        magnitudes = squares[..., 0].add(squares[..., 1]).sqrt_()
        moduli = self.buffers(name, self.height * self.width, n_images)
        moduli.copy_(magnitudes.view(n_images, -1).t())
        return moduli.view(self.height, self.width, n_images)


def choose_fourier(height: int, width: int, buffers: Buffers) -> Fourier:
    """Return the transform that is faster for a size.

    Parameters
    ----------
    height, width : int
        The width is even.
    buffers : Buffers

    Returns
    -------
    fourier : Fourier
    """
    is_small = max(height, width) <= _MAX_MATRIX_SIDE
    return (MatrixFourier if is_small else FastFourier)(height, width, buffers)


def _waves(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines of a DFT.

    Returns
    -------
    cos, sin : float64 tensors of shape (size, size)
        By frequency and by position.
    """
    numbers = torch.arange(size, device="cpu")
    angles = 2 * math.pi / size * (numbers[:, None] * numbers % size).double()
    return angles.cos(), angles.sin()


def _complex_matrix(cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return a complex matrix as a real matrix that acts on real and imaginary parts.

    Parameters
    ----------
    cos, sin : tensors of shape (n_out, n_in)
        Real and imaginary parts of the complex matrix.

    Returns
    -------
    matrix : tensor of shape (2, n_out, n_in, 2)
        The first axis is the part of the output, the last one the part of the input.
    """
    real = torch.stack([cos, -sin], dim=2)
    imaginary = torch.stack([sin, cos], dim=2)
    return torch.stack([real, imaginary])
