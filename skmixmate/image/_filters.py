"""Filters of the scattering transform, and the margins of images.

The filters are Morlet wavelets and the final average.

The mathematics follows Bruna and Mallat (2013), the choice of the wavelets kymatio
0.3. The Fourier transform of a Gabor wavelet is a Gaussian, so that the wavelets are
computed in the Fourier domain, where they are used, and are exactly real.
"""

import math
from collections.abc import Sequence

import torch

# kymatio scales Gaussians by this number instead of pi; kept for equal features.
_KYMATIO_PI = 3.1415

# Width of the finest Gaussian in pixels, and frequency of the finest wavelet.
_SIGMA, _XI = 0.8, 3 * math.pi / 4

# Standard deviations from its centre beyond which a Gaussian is 0 in any sum.
_REACH = 10.0

# Exponents are clipped from below at this value, where Gaussians are negligible in any
# sum. Computing denormal exponentials takes a hundred times as long.
_MIN_EXPONENT = -100.0


def padded_size(size: int, J: int) -> int:
    """Return the size with margins for the average, a multiple of 2 ** J.

    Parameters
    ----------
    size, J : int

    Returns
    -------
    padded_size : int
    """
    return (size // 2**J + 2) * 2**J


def reflected(size: int, padded_size: int) -> torch.Tensor:
    """Return the index of the pixel at each place of an axis padded by reflection.

    Parameters
    ----------
    size, padded_size : int

    Returns
    -------
    index : int64 tensor of shape (padded_size,)
    """
    before = (padded_size - size) // 2
    places = torch.arange(-before, padded_size - before, device="cpu")
    period = max(1, 2 * (size - 1))
    return (size - 1) - ((places % period) - (size - 1)).abs()


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
    # Kymatio's number of copies; large wavelets are 0 in most of them.
    reach = (xi + _REACH * max(slant, 1) / sigma) / (2 * math.pi)
    n_copies = min(1 + math.ceil(max(slant, 1)), math.ceil(reach - 0.5))
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


def wavelet_spectra(
    shape: Sequence[int], J: int, n_angles: int, order: int
) -> dict[tuple[int, int], torch.Tensor]:
    """Compute the Fourier transforms of all wavelets that a scattering transform needs.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the padded images.
    J, n_angles : int
        Number of scales, and of orientations.
    order : {1, 2}
        Maximum number of successive convolutions.

    Returns
    -------
    spectra : dict of float64 tensors of shape (n_angles, height, width)
        By (start, j): for images subsampled by 2 ** start, and the scale j of the
        wavelets. Height and width are those of the subsampled images.
    """
    spectra = {}
    for j in range(J):
        angles = range(n_angles)
        full = torch.stack([wavelet_spectrum(shape, j, t, n_angles) for t in angles])
        for start in range(max(j, 1)) if order == 2 else [0]:
            spectra[start, j] = crop(crop(full, 1, 2**start), 2, 2**start)
    return spectra


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
