"""Filters of the scattering transform: Morlet wavelets and the final average.

The mathematics follows Bruna and Mallat (2013), the choice of the wavelets kymatio
0.3. The Fourier transform of a Gabor wavelet is a Gaussian, so that the wavelets are
computed in the Fourier domain, where they are used, and are exactly real.
"""

import math
from collections.abc import Sequence

import torch

from ._fourier import Fourier

# kymatio scales Gaussians by this number instead of pi; kept for equal features.
_KYMATIO_PI = 3.1415

# Width of the finest Gaussian in pixels, and frequency of the finest wavelet.
_SIGMA, _XI = 0.8, 3 * math.pi / 4

# Exponents are clipped from below at this value, where Gaussians are negligible in any
# sum. Computing denormal exponentials takes a hundred times as long.
_MIN_EXPONENT = -100.0


def _frequencies(size: int, n_copies: int) -> torch.Tensor:
    """Compute the angular frequencies of a DFT and their aliases.

    Spectra have period 2 pi: the values of a Gaussian outside of one period are added
    to it, from `n_copies` periods on either side.

    Parameters
    ----------
    size, n_copies : int

    Returns
    -------
    frequencies : float64 tensor of shape (2 * n_copies + 1, size)
    """
    base = 2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64, device="cpu")
    copies = torch.arange(-n_copies, n_copies + 1, dtype=torch.float64, device="cpu")
    return base + 2 * math.pi * copies[:, None]


def wavelet_spectrum(
    shape: Sequence[int], j: int, theta: int, n_angles: int
) -> torch.Tensor:
    """Compute the Fourier transform of a Morlet wavelet.

    It is a Gaussian around the wavelet's frequency, minus a multiple of a Gaussian
    around 0, so that the mean of the wavelet is 0.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the padded image.
    j : int
        Scale: the wavelet is 2 ** j times as large as the finest.
    theta : int
        Orientation, less than `n_angles`.
    n_angles : int
        Number of orientations in half a turn.

    Returns
    -------
    spectrum : float64 tensor of shape (height, width)
    """
    sigma, xi, slant = _SIGMA * 2**j, _XI / 2**j, 4 / n_angles
    angle = (int(n_angles / 2 - 1) - theta) * math.pi / n_angles
    n_copies = 1 + math.ceil(max(slant, 1))
    # (n_copies, height, n_copies, width)
    y = _frequencies(shape[0], n_copies)[:, :, None, None]
    x = _frequencies(shape[1], n_copies)
    along = sigma * (y * math.cos(angle) + x * math.sin(angle))
    across = sigma / slant * (x * math.cos(angle) - y * math.sin(angle))
    envelope = across.square_()

    def gaussian(centre: float) -> torch.Tensor:
        exponent = (along - sigma * centre).square_().add_(envelope).mul_(-0.5)
        return exponent.clamp_min_(_MIN_EXPONENT).exp_().sum(dim=(0, 2))

    gabor, low = gaussian(xi), gaussian(0.0)
    return (gabor - gabor[0, 0] / low[0, 0] * low) * (math.pi / _KYMATIO_PI)


def crop(spectra: torch.Tensor, dim: int, factor: int) -> torch.Tensor:
    """Keep the lowest frequencies along one axis, one in `factor` of them.

    Parameters
    ----------
    spectra : tensor
    dim, factor : int

    Returns
    -------
    spectra : tensor
        Its size along `dim` is divided by `factor`.
    """
    size = spectra.shape[dim]
    half = size // factor // 2
    low, high = spectra.narrow(dim, 0, half), spectra.narrow(dim, size - half, half)
    return torch.cat([low, high], dim=dim)


class Wavelets:
    """Convolve images of one resolution with the wavelets of one scale.

    The result is subsampled if the wavelets are large: in its spectrum, frequencies
    that become aliases of each other are added up.

    Parameters
    ----------
    spectra : float64 tensor of shape (n_angles, height, width)
        Fourier transforms of the wavelets.
    fourier : Fourier
        Transforms of the size of the subsampled result.
    """

    def __init__(self, spectra: torch.Tensor, fourier: Fourier) -> None:
        height, width = spectra.shape[1:]
        self.fourier = fourier
        factor, half = height // fourier.height, width // 2 + 1
        settings = fourier.buffers.settings
        row, column = (torch.arange(size, device="cpu") for size in (height, width))
        row = row[:, None]
        is_conjugate = (column >= half).expand(height, width)
        row = torch.where(is_conjugate, -row % height, row)
        column = torch.where(is_conjugate, width - column, column)
        real = self._fold(2 * row * half + column, factor)
        # By row, column, real or imaginary part, and alias.
        index = torch.stack([real, real + half], dim=2).flatten()
        self.index = index.to(settings["device"])
        # Negligible tails are set to 0: they would be denormal numbers, which are slow.
        is_tail = spectra.abs() < torch.finfo(spectra.dtype).eps * spectra.abs().max()
        spectra = spectra.masked_fill(is_tail, 0) / factor**2
        signs = 1.0 - 2.0 * is_conjugate.float()
        parts = [self._fold(part, factor) for part in (spectra, spectra * signs)]
        # (height * width * 2, n_angles, factor ** 2)
        filters = torch.stack(parts, dim=2).flatten(0, 2)
        self.filters = filters.to(**settings)

    @staticmethod
    def _fold(values: torch.Tensor, factor: int) -> torch.Tensor:
        """Gather the frequencies that are aliases after subsampling by a factor.

        Parameters
        ----------
        values : tensor of shape (..., height, width)
        factor : int

        Returns
        -------
        folded : tensor of shape (height / factor, width / factor, ..., factor ** 2)
        """
        *leading, height, width = values.shape
        folded = values.reshape(
            *leading, factor, height // factor, factor, width // factor
        )
        return folded.movedim((-3, -1), (0, 1)).flatten(-2)

    def moduli(self, spectra: torch.Tensor, name: str) -> torch.Tensor:
        """Compute the moduli of images convolved with each of the wavelets.

        Parameters
        ----------
        spectra : tensor of shape (height, 2, width // 2 + 1, n_images)
            Spectra of the images, as from :meth:`Fourier.spectra`.
        name : str
            Name of the buffer for the moduli.

        Returns
        -------
        moduli : tensor of shape (height, width, n_angles * n_images)
            Height and width are those of `fourier`.
        """
        n_entries, n_angles, n_folded = self.filters.shape
        n_images, buffers = spectra.shape[3], self.fourier.buffers
        folded = buffers("folded", n_entries * n_folded, n_images)
        torch.index_select(spectra.view(-1, n_images), 0, self.index, out=folded)
        folded = folded.view(n_entries, n_folded, n_images)
        products = buffers("products", n_entries, n_angles, n_images)
        # bmm is slow for outer products of two vectors.
        multiply = torch.mul if n_folded == 1 else torch.bmm
        multiply(self.filters, folded, out=products)
        height, width = self.fourier.height, self.fourier.width
        return self.fourier.moduli(products.view(height, width, 2, -1), name)


def average_matrix(size: int, padded_size: int, J: int, j: int) -> torch.Tensor:
    """Build the matrix that averages over 2 ** J pixels of one axis and subsamples.

    Parameters
    ----------
    size, padded_size : int
        Length of the axis, in pixels.
    J : int
        Scale of the average.
    j : int
        The averaged images have already been subsampled by 2 ** j.

    Returns
    -------
    matrix : float64 tensor of shape (size // 2 ** J, padded_size // 2 ** j)
        The average is circular; the margins are left out.
    """
    sigma = _SIGMA * 2 ** (J - 1)
    frequencies = _frequencies(padded_size, n_copies=2)
    gaussian = (sigma * frequencies).square().mul(-0.5).exp().sum(dim=0)
    kernel = torch.fft.ifft(crop(gaussian, 0, 2**j)).real
    centres = torch.arange(1, size // 2**J + 1, device="cpu") * 2 ** (J - j)
    distances = centres[:, None] - torch.arange(len(kernel), device="cpu")
    return kernel[distances % len(kernel)] * math.sqrt(math.pi / _KYMATIO_PI)
