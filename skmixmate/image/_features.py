"""Features of images, to cluster and to train on."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from ..data.containers import multiply
from ..data.statistics import scale_of_norm
from ..data.validation import resolve_device
from ..utils.guards import default_modes
from ..utils.numbers import largest_magnitude
from ._axes import MANY_COLUMNS, principal_axes
from ._imputation import PixelDistribution, fit_pixel_distribution
from ._scattering import ScatteringTransform
from ._turning import turn_images

# Number of images whose coefficients are computed at a time.
IMAGES_AT_A_TIME = 2048

# Number of images that are turned at a time, which takes three copies of them.
_TURNED_AT_A_TIME = 256

# Maximum number of images in the subsample if there are many coefficients, and maximum
# size of their coefficients; at least twice as many as the axes are always used.
_MAX_IMAGES, _MAX_BYTES = 2000, 2**28

# Images, at most, that the distribution of pixels is estimated from.
_IMPUTATION_SIZE = 10_000

# Attributes that fit learns from images, and parameters of the scattering transform.
_FITTED, _SCATTERING_PARAMS = ("mean_", "components_", "decoder_"), ("J", "L", "order")

# Attributes that missing pixels are imputed by; models of earlier versions have none.
IMPUTATION = ("pixel_mean_", "pixel_axes_", "pixel_shrinkage_", "pixel_smoothness_")


def default_scale(image_shape: Sequence[int]) -> int:
    """Return the scattering scale J with about three positions along each side.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels); at least 4 pixels.

    Returns
    -------
    J : int
        At least 1; 3 for 28 pixels, 2 for 16, 1 for 8.

    Examples
    --------
    >>> from skmixmate.image._features import default_scale
    >>> default_scale((28, 28)), default_scale((16, 16)), default_scale((8, 8))
    (3, 2, 1)
    """
    return max(1, int(math.log2(min(image_shape[:2]) / 3)))


class ScatteringFeatures(TransformerMixin, BaseEstimator):
    """Project square roots of scattering coefficients onto their principal axes.

    A coefficient is a mean of magnitudes, whose variance grows with its size. The
    square root stabilizes the variance, so that no path dominates the distances. A
    least-squares fit maps features back to pixels. Missing pixels are imputed first, by
    their mean given the observed ones, under a normal distribution of all pixels.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).
    n_components : int
        Number of axes.
    max_samples : int
        Maximum size of the random subsample from which the axes and the decoder are
        computed. It is smaller if images are larger than 32 x 32 and their
        coefficients would take too much memory.
    device : str or torch.device
        Device on which the coefficients are computed.
    random_state : RandomState

    Attributes
    ----------
    mean_ : ndarray of shape (n_coefficients,)
        Mean of the square roots of the coefficients.
    components_ : ndarray of shape (n_components, n_coefficients)
        Their principal axes; fewer than `n_components` if there are not enough images.
        After :meth:`map_features`, combinations of these.
    decoder_ : ndarray of shape (n_components + 1, n_pixels)
        Least-squares map from features to pixels; the last row is the image whose
        features are all 0.
    pixel_mean_, pixel_axes_, pixel_shrinkage_, pixel_smoothness_ : ndarray, float
        Fields of :class:`~skmixmate.image._imputation.PixelDistribution`.
    """

    pixel_mean_: np.ndarray | None = None
    pixel_axes_: np.ndarray | None = None
    pixel_shrinkage_: np.ndarray | None = None
    pixel_smoothness_: float | None = None

    def __init__(
        self,
        image_shape: Sequence[int],
        n_components: int,
        max_samples: int,
        device: str | torch.device,
        random_state: np.random.RandomState | None,
    ) -> None:
        self.image_shape = image_shape
        self.n_components = n_components
        self.max_samples = max_samples
        self.device = device
        self.random_state = random_state

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Compute the principal axes and the decoder.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
            float32 or float64; NaN is missing. Each has an observed pixel.
        y : Ignored

        Returns
        -------
        self : object
            The estimator itself.
        """
        self._fit(X)
        return self

    def fit_transform(self, X: np.ndarray, y: Any = None) -> np.ndarray:
        """Compute the principal axes, and the features of the images.

        The coefficients are computed only once if all images are in the subsample.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
        y : Ignored

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
            Bit-identical to the output of :meth:`transform`.
        """
        features = self._fit(X)
        return features if len(features) == len(X) else self.transform(X)

    @default_modes()
    def _fit(self, X: np.ndarray) -> np.ndarray:
        """Fit; return the features of the images in the subsample."""
        assert self.random_state is not None
        sample = self.random_state.permutation(len(X))[: self.max_samples]
        self.scattering_ = ScatteringTransform(
            self.image_shape, J=default_scale(self.image_shape), device=self.device
        ).fit(np.zeros_like(X[:1]))  # nothing is learned from it
        n_coefficients = math.prod(self.scattering_.output_shape_)
        if n_coefficients > MANY_COLUMNS:
            n_bytes = max(n_coefficients, X.shape[1] // 2) * X.dtype.itemsize
            n_max = max(2 * self.n_components, _MAX_BYTES // n_bytes)
            sample = sample[: min(n_max, _MAX_IMAGES)]
        images = X[np.sort(sample)]
        self._fit_pixels(images)
        for chunk in _chunks(images):
            images[chunk] = self.impute(images[chunk])
        exponent = self._find_exponent(images)
        if exponent:
            images = np.ldexp(images, -2 * exponent)
        sqrt_coefficients = np.empty((len(images), n_coefficients), dtype=X.dtype)
        for chunk in _chunks(images):
            sqrt_coefficients[chunk] = self._sqrt_coefficients(images[chunk])
        self.mean_ = sqrt_coefficients.mean(axis=0)
        sqrt_coefficients -= self.mean_
        self.components_ = principal_axes(sqrt_coefficients, self.n_components).T
        features = np.empty((len(images), len(self.components_)), dtype=X.dtype)
        for chunk in _chunks(images):
            self._project(sqrt_coefficients[chunk], out=features[chunk])
        self.decoder_ = self._find_decoder(features, images)
        if exponent:  # return to the units of X, and of their square root
            self.mean_ = np.ldexp(self.mean_, exponent)
            self.decoder_ = np.ldexp(self.decoder_, exponent)
            self.decoder_[-1] = np.ldexp(self.decoder_[-1], exponent)
            features = np.ldexp(features, exponent)
        return features

    def _fit_pixels(self, images: np.ndarray) -> None:
        """Estimate the distribution by which missing pixels are imputed."""
        pixels = fit_pixel_distribution(
            images[:: math.ceil(len(images) / _IMPUTATION_SIZE)],
            self.image_shape,
            resolve_device(self.device, None),
        )
        self.pixel_mean_ = pixels.mean
        self.pixel_axes_ = pixels.axes
        self.pixel_shrinkage_ = pixels.shrinkage
        self.pixel_smoothness_ = pixels.smoothness

    def _find_exponent(self, images: np.ndarray) -> int:
        """Find the power of two to divide square roots by, so that they are close to 1.

        The least-squares fit has a column of ones: if the other columns were much
        larger or smaller, one or the other would be lost in rounding.

        Returns
        -------
        exponent : int
            0 if the images need not be scaled.
        """
        exponent = math.frexp(largest_magnitude(images))[1]
        if abs(exponent) <= np.finfo(images.dtype).nmant // 2:
            return 0
        exponent = math.floor(exponent / 2)
        norm = np.linalg.norm(np.ldexp(images, -2 * exponent).astype(np.float64))
        norm = np.ldexp(norm / np.sqrt(len(images)), 2 * exponent)
        scale_of_norm(float(norm), 1.0, images.dtype)  # raises if it overflows
        return exponent

    def _find_decoder(self, features: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Fit images by their features, by least squares."""
        with_one = np.column_stack([features, np.ones(len(features), features.dtype)])
        if math.prod(self.scattering_.output_shape_) <= MANY_COLUMNS:
            return np.linalg.lstsq(with_one, images, rcond=None)[0]
        # lstsq would copy the images twice.
        eps = np.finfo(features.dtype).eps
        return np.linalg.pinv(with_one, rcond=eps * max(with_one.shape)) @ images

    def state_dict(self) -> dict[str, Any]:
        """Return the fitted attributes, and the parameters of the scattering transform.

        Returns
        -------
        state : dict of ndarray and int
        """
        names = _FITTED if self.pixel_mean_ is None else (*_FITTED, *IMPUTATION)
        fitted = {name: getattr(self, name) for name in names}
        params = {name: getattr(self.scattering_, name) for name in _SCATTERING_PARAMS}
        return fitted | params

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Set the attributes to those of another, fitted instance.

        Parameters
        ----------
        state : dict of ndarray and int
            Returned by :meth:`state_dict`.

        Returns
        -------
        self : object
        """
        for name in _FITTED:
            setattr(self, name, state[name])
        for name in IMPUTATION:
            setattr(self, name, state.get(name))
        params = {name: state[name] for name in _SCATTERING_PARAMS}
        scattering = ScatteringTransform(self.image_shape, **params)
        # Nothing is learned from images, so that a blank one suffices. The device is
        # set afterwards, because it may not be available on this machine.
        scattering.fit(np.zeros_like(self.decoder_[:1]))
        self.scattering_ = scattering.set_params(device=self.device)
        return self

    @default_modes()
    def transform(self, X: np.ndarray) -> np.ndarray:
        """Compute the features of images.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
            NaN is missing, and imputed.

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
            In the units of the square root of X; NaN for images without an observed
            pixel.
        """
        features = np.empty((len(X), len(self.components_)), dtype=X.dtype)
        for chunk in _chunks(X):
            images = X[chunk]
            sqrt_coefficients = self._sqrt_coefficients(self.impute(images))
            sqrt_coefficients -= self.mean_
            self._project(sqrt_coefficients, out=features[chunk])
            features[chunk][np.isnan(images).all(axis=1)] = np.nan
        return features

    def transform_turned(self, X: np.ndarray, degrees: float) -> np.ndarray:
        """Compute the features that images would have if they were turned.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
            NaN is missing, and imputed before. Each has an observed pixel.
        degrees : float

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
        """
        features = np.empty((len(X), len(self.components_)), dtype=X.dtype)
        for chunk in _chunks(X, _TURNED_AT_A_TIME):
            images = self.impute(X[chunk])
            turned = turn_images(images, self.image_shape, degrees)
            features[chunk] = self.transform(turned)
        return features

    @default_modes()
    def impute(self, images: np.ndarray) -> np.ndarray:
        """Replace missing pixels by their mean, given the observed ones.

        Parameters
        ----------
        images : ndarray of shape (n_images, n_pixels)
            NaN is missing.

        Returns
        -------
        images : ndarray of shape (n_images, n_pixels)
            A copy, if a pixel is missing.

        Raises
        ------
        ValueError
            If a pixel is missing, and the features were fitted by a version that did
            not impute.
        """
        if not np.isnan(images).any():
            return images
        mean, axes = self.pixel_mean_, self.pixel_axes_
        shrinkage, smoothness = self.pixel_shrinkage_, self.pixel_smoothness_
        if mean is None or axes is None or shrinkage is None or smoothness is None:
            raise ValueError(
                "Input X contains NaN, and the model was fitted by an earlier version "
                "of skmixmate, which did not impute missing pixels. Fit it again, or "
                "impute them with sklearn.impute.SimpleImputer."
            )
        pixels = PixelDistribution(mean, axes, shrinkage, smoothness, self.image_shape)
        return pixels.impute(images, resolve_device(self.device, None))

    def _project(self, deviations: np.ndarray, out: np.ndarray) -> None:
        """Compute the coordinates along the axes."""
        multiply(deviations, self.components_.T.astype(out.dtype, copy=False), out)

    def _sqrt_coefficients(self, X: np.ndarray) -> np.ndarray:
        coefficients = self.scattering_.transform(X)
        # Some are slightly negative, due to rounding or the ripple of the filters.
        torch.from_numpy(coefficients).abs_().sqrt_()
        return coefficients

    def map_features(self, matrix: np.ndarray) -> None:
        """Multiply the features of all images by a matrix from now on.

        Parameters
        ----------
        matrix : ndarray of shape (n_components, n_components)
            Symmetric and invertible.
        """
        axes = self.components_.T @ matrix
        self.components_ = axes.astype(self.components_.dtype, copy=False).T
        decoder = self.decoder_.copy()
        decoder[:-1] = np.linalg.solve(matrix, decoder[:-1])
        self.decoder_ = decoder

    def inverse_transform(self, X: np.ndarray) -> np.ndarray:
        """Compute the images that features represent.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        images : ndarray of shape (n_samples, n_pixels)
        """
        return X @ self.decoder_[:-1] + self.decoder_[-1]


def _chunks(X: np.ndarray, size: int = IMAGES_AT_A_TIME) -> Iterator[slice]:
    """Yield slices of fixed size: rounding may depend on the images in a batch."""
    for start in range(0, len(X), size):
        yield slice(start, start + size)
