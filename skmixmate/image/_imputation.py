"""Missing pixels, imputed by their conditional mean under a normal distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..utils.numbers import safe_exponent
from ._axes import principal_axes

# Principal axes along which variances are estimated, and the variance along all other
# directions, as a fraction of the mean variance of a pixel.
_N_AXES, _RESIDUAL_VARIANCE = 300, 0.1

# Weight of the smoothness of an image, where there are as many images to estimate from
# as pixels: with fewer, adjacent pixels tell more than axes that fit the noise.
_SMOOTHNESS = 0.02

# Times that the distribution is estimated from incomplete images, each time from those
# that the last estimate completed.
_N_ROUNDS = 3

# Conjugate gradients end for an image when this fraction of its residual is left. A few
# iterations suffice for scattered pixels, large holes take more.
_TOLERANCE, _MAX_ITERATIONS = 1e-2, 30

# Pixels of incomplete images that are worked on at a time.
_CHUNK_ENTRIES = 2**20


@dataclass(frozen=True)
class PixelDistribution:
    """Normal distribution of the pixels of images.

    Parameters
    ----------
    mean : ndarray of shape (n_pixels,)
    axes : ndarray of shape (n_axes, n_pixels)
        Orthonormal rows; the variance along all other directions is the same.
    shrinkage : ndarray of shape (n_axes,)
        Fraction of the variance along each axis that is not this residual variance,
        less than 1.
    smoothness : float
        The density has another factor, which decreases with the squared differences
        between adjacent pixels of the deviation from the mean: their weight, in
        relation to squared deviations along the other directions.
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).

    References
    ----------
    M. E. Tipping and C. M. Bishop, Probabilistic principal component analysis, Journal
    of the Royal Statistical Society B 61, 1999.
    """

    mean: np.ndarray
    axes: np.ndarray
    shrinkage: np.ndarray
    smoothness: float
    image_shape: Sequence[int]

    def impute(self, images: np.ndarray, device: torch.device) -> np.ndarray:
        """Replace missing pixels by their mean, given the observed ones.

        Parameters
        ----------
        images : ndarray of shape (n_images, n_pixels)
            NaN is missing.
        device : torch.device

        Returns
        -------
        images : ndarray of shape (n_images, n_pixels)
            A copy, if a pixel is missing.
        """
        is_missing = np.isnan(images)
        incomplete = np.flatnonzero(is_missing.any(axis=1))
        if not len(incomplete):
            return images
        imputed = images.copy()
        mean = self.mean.astype(images.dtype, copy=False)
        size = max(1, _CHUNK_ENTRIES // images.shape[1])
        for start in range(0, len(incomplete), size):
            rows = incomplete[start : start + size]
            missing, deviations = is_missing[rows], images[rows] - mean
            deviations[missing] = 0
            means = mean + self._conditional_means(deviations, missing, device)
            imputed[rows] = np.where(missing, means, images[rows])
        return imputed

    def _conditional_means(
        self, deviations: np.ndarray, is_missing: np.ndarray, device: torch.device
    ) -> np.ndarray:
        """Solve for the missing deviations by preconditioned conjugate gradients.

        Parameters
        ----------
        deviations : ndarray of shape (n_images, n_pixels)
            From the mean; 0 where a pixel is missing.
        is_missing : bool ndarray of shape (n_images, n_pixels)
        device : torch.device

        Returns
        -------
        deviations : ndarray of shape (n_images, n_pixels)
            Conditional means where pixels are missing, given the other entries.
        """
        dtype = deviations.dtype
        axes = torch.from_numpy(self.axes.astype(dtype, copy=False)).to(device)
        shrinkage = torch.from_numpy(self.shrinkage.astype(dtype, copy=False))
        shrinkage = shrinkage.to(device)
        n_adjacent = _n_adjacent(self.image_shape).to(device, axes.dtype)
        diagonal = 1 - shrinkage @ axes.square() + self.smoothness * n_adjacent

        def precision(rows: torch.Tensor) -> torch.Tensor:
            """Multiply by the inverse of the covariance, up to a constant factor."""
            product = rows - (rows @ axes.T * shrinkage) @ axes
            return product.add_(
                _differences(rows, self.image_shape), alpha=self.smoothness
            )

        # A power of two for each image: squares neither overflow nor vanish.
        exponents = np.frexp(np.abs(deviations).max(axis=1, keepdims=True))[1]
        x = torch.from_numpy(np.ldexp(deviations, -exponents)).to(device)
        missing = torch.from_numpy(is_missing).to(device, x.dtype)
        residual = -precision(x) * missing
        direction = residual / diagonal
        norm = (residual * direction).sum(dim=1, keepdim=True)
        goal = _TOLERANCE**2 * norm
        solved, index = x.clone(), torch.arange(len(x), device=device)
        for _ in range(_MAX_ITERATIONS):
            active = (norm > goal)[:, 0].nonzero()[:, 0]
            if len(active) < len(x):
                x, missing, residual, direction, norm, goal, index = (
                    values[active]
                    for values in (x, missing, residual, direction, norm, goal, index)
                )
            if not len(x):
                break
            product = precision(direction) * missing
            step = norm / (direction * product).sum(dim=1, keepdim=True)
            x = x + step * direction
            residual = residual - step * product
            scaled = residual / diagonal
            previous, norm = norm, (residual * scaled).sum(dim=1, keepdim=True)
            direction = scaled + norm / previous * direction
            solved[index] = x
        return np.ldexp(solved.numpy(force=True), exponents)


def _differences(rows: torch.Tensor, image_shape: Sequence[int]) -> torch.Tensor:
    """Sum the differences of each pixel from the adjacent ones of its channel.

    Parameters
    ----------
    rows : tensor of shape (n_images, n_pixels)
    image_shape : tuple of int

    Returns
    -------
    sums : tensor of shape (n_images, n_pixels)
        Half the gradient of the sum of squared differences between adjacent pixels.
    """
    images = rows.view(-1, *image_shape)
    sums = torch.zeros_like(images)
    for axis in (1, 2):
        difference = images.diff(dim=axis)
        n_pairs = difference.shape[axis]
        sums.narrow(axis, 1, n_pairs).add_(difference)
        sums.narrow(axis, 0, n_pairs).sub_(difference)
    return sums.view_as(rows)


def _n_adjacent(image_shape: Sequence[int]) -> torch.Tensor:
    """Count the adjacent pixels of each pixel, as a tensor of shape (n_pixels,)."""
    counts = torch.full(tuple(image_shape), 4.0)
    for axis in (0, 1):
        counts.select(axis, 0).sub_(1)
        counts.select(axis, -1).sub_(1)
    return counts.flatten()


def fit_pixel_distribution(
    images: np.ndarray, image_shape: Sequence[int], device: torch.device
) -> PixelDistribution:
    """Estimate the distribution of pixels.

    Parameters
    ----------
    images : ndarray of shape (n_images, n_pixels)
        NaN is missing.
    image_shape : tuple of int
    device : torch.device

    Returns
    -------
    distribution : PixelDistribution
        A pixel that is never observed has mean 0, and no variance.
    """
    is_missing = np.isnan(images)
    exponent = safe_exponent(images)
    if exponent:
        images = np.ldexp(images, -exponent)
    counts = np.maximum((~is_missing).sum(axis=0), 1).astype(images.dtype)
    mean = np.nansum(images, axis=0) / counts
    deviations = np.where(is_missing, 0, images - mean)
    smoothness = _SMOOTHNESS * images.shape[1] / len(images)
    n_rounds = _N_ROUNDS if is_missing.any() else 1
    for n_left in reversed(range(n_rounds)):
        axes, shrinkage = _axes_and_shrinkage(deviations)
        distribution = PixelDistribution(
            mean, axes, shrinkage, smoothness, tuple(image_shape)
        )
        if n_left:
            deviations = distribution.impute(images, device)
            mean = deviations.mean(axis=0)
            deviations -= mean
    return replace(distribution, mean=np.ldexp(distribution.mean, exponent))


def _axes_and_shrinkage(deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute principal axes, and the fraction of variance that is not residual."""
    axes = principal_axes(deviations, _N_AXES)
    variances = np.square(deviations @ axes).mean(axis=0)
    residual = _RESIDUAL_VARIANCE * np.square(deviations).mean()
    total = variances + residual
    shrinkage = variances / np.where(total > 0, total, 1)
    return np.ascontiguousarray(axes.T), shrinkage.astype(deviations.dtype)
