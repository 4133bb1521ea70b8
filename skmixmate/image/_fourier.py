r"""Fourier transforms of many images at a time, which lie along the last axis.

Real and imaginary parts are apart, along an axis of their own. A transform is then a
product with a matrix from either side, and no array has to be laid out anew before or
after it. A fast transform needs fewer operations, but no library makes them at the
rate of matrix products; it is in use for images so large that it wins all the same.
"""

import math
from abc import ABC, abstractmethod

import torch

# Largest side that is transformed by matrices.
_LARGEST_SIDE = 96


class Buffers:
    """Memory that is used again and again.

    New memory comes as pages of zeros, which cost more than what is done in them.

    Parameters
    ----------
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, dtype, device):
        self.settings = {"dtype": dtype, "device": device}
        self._memory = {}

    def __call__(self, name, *shape):
        """Give a tensor with anything in it; what had the name before is lost."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = torch.empty(size, **self.settings)
        return memory[:size].view(shape)


class Fourier(ABC):
    """Transforms of images of one size.

    Parameters
    ----------
    height, width : int
        The width is even.
    buffers : Buffers
    """

    def __init__(self, height, width, buffers):
        self.height, self.width = height, width
        self.half = width // 2 + 1
        self.buffers = buffers

    @abstractmethod
    def spectra(self, images, name):
        """Transform real images.

        Parameters
        ----------
        images : tensor of shape (height, width, n_images)
        name : str
            Of the buffer where the spectra go.

        Returns
        -------
        spectra : tensor of shape (height, 2, width // 2 + 1, n_images)
            Real and imaginary parts at the horizontal frequencies that are not
            negative; those at the others are their conjugates.
        """

    @abstractmethod
    def moduli(self, spectra, name):
        """Absolute values of what has given spectra.

        They are found by squares: in float32 they should be well inside 1e-18 to
        1e18.

        Parameters
        ----------
        spectra : tensor of shape (height, width, 2, n_images)
            Contiguous; overwritten.
        name : str
            Of the buffer where the moduli go.

        Returns
        -------
        moduli : tensor of shape (height, width, n_images)
        """


class MatrixFourier(Fourier):
    """Transforms as products of matrices."""

    def __init__(self, height, width, buffers):
        super().__init__(height, width, buffers)

        def place(matrix, *shape):
            return matrix.reshape(shape).to(**buffers.settings)

        cos, sin = (part[: self.half] for part in _waves(width))
        self._across = place(torch.stack([cos, -sin]), -1, width)
        cos, sin = _waves(height)
        # What comes out has the part after the place, as what is put in.
        down = _times(cos, -sin).transpose(0, 1)
        self._down = place(down, 2 * height, 2 * height)
        self._across_back, self._down_back = (
            place(_times(*_waves(size)) / size, 2 * size, 2 * size)
            for size in (width, height)
        )

    def spectra(self, images, name):
        """Transform rows, then columns."""
        n_images = images.shape[2]
        rows = self.buffers("rows", self.height, 2 * self.half, n_images)
        torch.bmm(self._across.expand(self.height, -1, -1), images, out=rows)
        spectra = self.buffers(name, 2 * self.height, self.half * n_images)
        torch.mm(self._down, rows.view(2 * self.height, -1), out=spectra)
        return spectra.view(self.height, 2, self.half, n_images)

    def moduli(self, spectra, name):
        """Transform rows back, then columns."""
        n_images = spectra.shape[3]
        rows = self.buffers("rows", self.height, 2 * self.width, n_images)
        across = self._across_back.expand(self.height, -1, -1)
        torch.bmm(across, spectra.view(rows.shape), out=rows)
        parts = spectra.view(2 * self.height, -1)
        torch.mm(self._down_back, rows.view(parts.shape), out=parts)
        real, imaginary = parts.view(2, self.height, self.width, n_images)
        moduli = torch.square(real, out=self.buffers(name, *real.shape))
        return moduli.addcmul_(imaginary, imaginary).sqrt_()


class FastFourier(Fourier):
    """Transforms by a library, which wants each image in one piece.

    Two axes that are exchanged are quicker to copy than three.
    """

    def spectra(self, images, name):
        """Bring images to the front, and their spectra back."""
        n_images = images.shape[2]
        images = images.reshape(-1, n_images).t().contiguous()
        found = torch.fft.rfft2(images.view(-1, self.height, self.width))
        found = found.view(n_images, -1).t().contiguous()
        found = torch.view_as_real(found.view(self.height, self.half, n_images))
        spectra = self.buffers(name, self.height, 2, self.half, n_images)
        return spectra.copy_(found.permute(0, 3, 1, 2))

    def moduli(self, spectra, name):
        """Bring spectra to the front, and moduli back."""
        n_images = spectra.shape[3]
        spectra = torch.complex(*spectra.unbind(2)).view(-1, n_images).t().contiguous()
        found = torch.fft.ifft2(spectra.view(-1, self.height, self.width))
        # Several times as fast as abs.
        squares = torch.view_as_real(found).square_()
        found = squares[..., 0].add(squares[..., 1]).sqrt_()
        moduli = self.buffers(name, self.height * self.width, n_images)
        moduli.copy_(found.view(n_images, -1).t())
        return moduli.view(self.height, self.width, n_images)


def fourier(height, width, buffers):
    """Give the transforms that are quicker for the size.

    Parameters
    ----------
    height, width, buffers
        As in :class:`Fourier`.

    Returns
    -------
    fourier : Fourier
    """
    is_small = max(height, width) <= _LARGEST_SIDE
    return (MatrixFourier if is_small else FastFourier)(height, width, buffers)


def _waves(size):
    """Cosines and sines, float64 (size, size): by frequency, and by place."""
    numbers = torch.arange(size, device="cpu")
    angles = 2 * math.pi / size * (numbers[:, None] * numbers % size).double()
    return angles.cos(), angles.sin()


def _times(cos, sin):
    """Multiply by complex numbers, as a matrix.

    Parameters
    ----------
    cos, sin : tensors of shape (n_out, n_in)
        Real and imaginary parts of the numbers.

    Returns
    -------
    matrix : tensor of shape (2, n_out, n_in, 2)
        From real and imaginary parts, last, to both, first.
    """
    real = torch.stack([cos, -sin], dim=2)
    imaginary = torch.stack([sin, cos], dim=2)
    return torch.stack([real, imaginary])
