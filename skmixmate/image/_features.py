"""Representations of images: to start a clustering from, and to train on."""

import math

import numpy as np
import torch
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin

from ..data.containers import as_tensor
from ..data.statistics import scale_of_norm
from ..utils.guards import default_modes
from ..utils.numbers import largest_magnitude
from ._scattering import ScatteringTransform

# Images read at a time when all of their coefficients are not needed at once.
IMAGES_AT_A_TIME = 2048

# Columns of features, of larger images than 28 x 28, that are too many to find their
# axes from inner products of columns. Where rows are more than this, too, the axes are
# found with some of them: in memory and time that do not depend on how many there are.
_MANY_COLUMNS, _MANY_ROWS = 4096, 5000

# Of images with so many coefficients no more are drawn than these, nor than have so
# many bytes of coefficients, as long as they are twice as many as the axes.
_MOST_IMAGES, _MOST_BYTES = 2000, 2**28

# Bytes of a matrix that are converted to float64 at a time.
_BLOCK_BYTES = 2**25

# Attributes that fit finds in the images, and parameters of the scattering before.
_FOUND, _SETTINGS = ("mean_", "components_", "decoder_"), ("J", "L", "order")


def default_scale(image_shape):
    """Scale J of scattering that leaves about three places along each side.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels), 4 pixels or more.

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


def has_few_rows(n_rows, n_columns):
    """Tell whether principal axes are found from inner products of rows.

    Parameters
    ----------
    n_rows, n_columns : int

    Returns
    -------
    has_few_rows : bool
        Whether rows are less than half as many as columns, or the columns are too many.
    """
    return 2 * n_rows < n_columns or n_columns > max(n_rows, _MANY_COLUMNS)


def principal_axes(X, n_components):
    """Directions of largest second moment about the origin.

    The eigenproblem has the size of the columns or, where these are many more, of the
    rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_components : int
        At most n_features are given; of few rows, at most as many as the rank of X, but
        at least one.

    Returns
    -------
    axes : ndarray of shape (n_features, n_components)
        Orthonormal columns, the longest last.
    """
    n_rows, n_features = X.shape
    if not has_few_rows(n_rows, n_features):
        first = max(0, n_features - n_components)
        return eigh(X.T @ X, subset_by_index=[first, n_features - 1])[1]
    first = max(0, n_rows - n_components)
    squares, directions = eigh(_row_products(X), subset_by_index=[first, n_rows - 1])
    # Of the rest nothing is left but rounding: of X, and of the products.
    noise = (100 * np.finfo(X.dtype).eps) ** 2 + n_rows * np.finfo(np.float64).eps
    is_large = squares > noise * squares[-1]
    is_large[-1] = True
    directions = directions[:, is_large][:, ::-1]
    axes = np.empty((n_features, directions.shape[1]))
    for block in _column_blocks(X):
        axes[block] = X[:, block].T.astype(np.float64) @ directions
    # Directions of small moments are inexact: the longest come first.
    return np.linalg.qr(axes)[0][:, ::-1].astype(X.dtype)


def _row_products(X):
    """Inner products of all rows, in float64."""
    products = np.zeros((len(X), len(X)))
    for block in _column_blocks(X):
        columns = X[:, block].astype(np.float64)
        products += columns @ columns.T
    return products


def _column_blocks(X):
    size = max(1, _BLOCK_BYTES // (8 * len(X)))
    for start in range(0, X.shape[1], size):
        yield slice(start, start + size)


def principal_scores(X, n_components):
    """Coordinates of rows along their principal axes, without these.

    The matrix that is taken apart has the size of the rows, which are few.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_components : int
        At most n_samples are given.

    Returns
    -------
    scores : ndarray of shape (n_samples, n_components)
        As ``X @ principal_axes(X, n_components)``, up to the signs of columns.
    """
    first = max(0, len(X) - n_components)
    squares, directions = eigh(X @ X.T, subset_by_index=[first, len(X) - 1])
    return directions * np.sqrt(squares.clip(min=0))


def graph_features(images, image_shape, n_components=500):
    """Features in whose graph images of a kind are neighbours.

    Two views of the coefficients of scattering, side by side, each with a root
    mean square norm of 1. In one, each path of each image is divided by its own
    largest magnitude: only where it is large counts. In the other the square
    root is taken, which keeps how large it is but lets nothing dominate. Then
    principal axes, without centring.

    Parameters
    ----------
    images : ndarray of shape (n_samples, n_pixels)
        Finite.
    image_shape : tuple of int
    n_components : int, default=500

    Returns
    -------
    features : ndarray of shape (n_samples, n_components)
        Of fewer columns where scattering has no more.

    References
    ----------
    The code published with the paper starts its clustering from features of the
    first kind.
    """
    scattering = ScatteringTransform(image_shape, J=default_scale(image_shape))
    n_columns = 2 * math.prod(scattering.fit(images[:1]).output_shape_)
    n_most = len(images)
    if n_columns > _MANY_COLUMNS:
        n_bytes = 2 * _MOST_BYTES // (n_columns * images.dtype.itemsize)
        n_most = min(_MANY_ROWS, max(2 * n_components, n_bytes))
    step = math.ceil(len(images) / n_most)
    features, norms = _two_views(scattering, images[::step])
    if step == 1 and has_few_rows(*features.shape):
        return principal_scores(features, n_components)
    axes = principal_axes(features, n_components)
    if step == 1:
        return features @ axes
    del features
    blocks = [
        _two_views(scattering, images[b], norms)[0] @ axes for b in _blocks(images)
    ]
    return np.concatenate(blocks)


def _two_views(scattering, images, norms=None):
    """Scatter images, and view the coefficients in two ways.

    Parameters
    ----------
    scattering : ScatteringTransform
        Fitted.
    images : ndarray of shape (n_samples, n_pixels)
    norms : list of float, default=None
        What the views are divided by; by default their root mean square norms.

    Returns
    -------
    features : ndarray of shape (n_samples, 2 * n_coefficients)
    norms : list of float
    """
    coefficients = scattering.transform(images)
    n_samples, n_coefficients = coefficients.shape
    features = np.empty((n_samples, 2 * n_coefficients), dtype=coefficients.dtype)
    where, how_much = views = np.hsplit(features, 2)
    np.abs(coefficients, out=coefficients)
    np.sqrt(coefficients, out=how_much)
    by_path = coefficients.reshape(n_samples, scattering.output_shape_[0], -1)
    largest = by_path.max(axis=2, keepdims=True)
    by_path /= np.where(largest > 0, largest, 1)
    where[:] = coefficients
    if norms is None:
        norms = [np.linalg.norm(view) / np.sqrt(n_samples) or 1.0 for view in views]
    for view, norm in zip(views, norms, strict=True):
        view /= norm
    return features, norms


class ScatteringFeatures(TransformerMixin, BaseEstimator):
    """Square roots of scattering coefficients along their principal axes.

    A coefficient is a mean of magnitudes, and varies the more the larger it is; its
    root varies about as much everywhere, so that no path rules the distances. A
    least-squares fit leads back to pixels.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).
    n_components : int
        Number of axes.
    max_samples : int
        Images, drawn at random, that the axes and the way back are found with; fewer,
        where images are larger than 32 x 32 and their coefficients would take too much
        memory.
    device : str or torch.device
        Where the coefficients are computed.
    random_state : int or RandomState

    Attributes
    ----------
    mean_ : ndarray of shape (n_coefficients,)
        Mean of the roots of the coefficients.
    components_ : ndarray of shape (n_components, n_coefficients)
        Their principal axes; fewer than were asked for, where few images do not have
        as many.
    decoder_ : ndarray of shape (n_components + 1, n_pixels)
        The pixels that features stand for, by least squares; the last row is
        the image of features 0.
    """

    def __init__(self, image_shape, n_components, max_samples, device, random_state):
        self.image_shape = image_shape
        self.n_components = n_components
        self.max_samples = max_samples
        self.device = device
        self.random_state = random_state

    def fit(self, X, y=None):
        """Find the axes, and the pixels behind them.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
            float32 or float64, finite.
        y : Ignored

        Returns
        -------
        self : object
            The estimator itself.
        """
        self._fit(X)
        return self

    def fit_transform(self, X, y=None):
        """Find the axes, and give the features of the images.

        Where all images are drawn they are scattered once for both.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)
        y : Ignored

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
            To the last bit what :meth:`transform` gives.
        """
        features = self._fit(X)
        return features if len(features) == len(X) else self.transform(X)

    @default_modes()
    def _fit(self, X):
        """Fit; return the features of the images drawn."""
        drawn = self.random_state.permutation(len(X))[: self.max_samples]
        self.scattering_ = ScatteringTransform(
            self.image_shape, J=default_scale(self.image_shape), device=self.device
        ).fit(X[:1])
        n_coefficients = math.prod(self.scattering_.output_shape_)
        if n_coefficients > _MANY_COLUMNS:
            n_bytes = max(n_coefficients, X.shape[1] // 2) * X.dtype.itemsize
            n_most = max(2 * self.n_components, _MOST_BYTES // n_bytes)
            drawn = drawn[: min(n_most, _MOST_IMAGES)]
        images = X[np.sort(drawn)]
        exponent = self._find_exponent(images)
        if exponent:
            images = np.ldexp(images, -2 * exponent)
        roots = np.empty((len(images), n_coefficients), dtype=X.dtype)
        for block in _blocks(images):
            roots[block] = self._roots(images[block])
        self.mean_ = roots.mean(axis=0)
        roots -= self.mean_
        self.components_ = principal_axes(roots, self.n_components).T
        features = np.empty((len(images), len(self.components_)), dtype=X.dtype)
        for block in _blocks(images):
            self._project(roots[block], out=features[block])
        self.decoder_ = self._find_decoder(features, images)
        if exponent:  # back to the units of X, and of their root
            self.mean_ = np.ldexp(self.mean_, exponent)
            self.decoder_ = np.ldexp(self.decoder_, exponent)
            self.decoder_[-1] = np.ldexp(self.decoder_[-1], exponent)
            features = np.ldexp(features, exponent)
        return features

    def _find_exponent(self, images):
        """Find the power of two to divide roots by, so that they are not far from 1.

        Beside a column of ones others would be lost in rounding, or the ones would. It
        is 0 where the images need not be scaled.
        """
        exponent = math.frexp(largest_magnitude(images))[1]
        if abs(exponent) <= np.finfo(images.dtype).nmant // 2:
            return 0
        exponent = math.floor(exponent / 2)
        norm = np.linalg.norm(np.ldexp(images, -2 * exponent).astype(np.float64))
        norm = np.ldexp(norm / np.sqrt(len(images)), 2 * exponent)
        scale_of_norm(float(norm), 1.0, images.dtype)  # it may be refused
        return exponent

    def _find_decoder(self, features, images):
        """Least-squares fit of images by their features."""
        with_one = np.column_stack([features, np.ones(len(features), features.dtype)])
        if math.prod(self.scattering_.output_shape_) <= _MANY_COLUMNS:
            return np.linalg.lstsq(with_one, images, rcond=None)[0]
        # lstsq would copy the images twice.
        eps = np.finfo(features.dtype).eps
        return np.linalg.pinv(with_one, rcond=eps * max(with_one.shape)) @ images

    def state_dict(self):
        """Return what was found, and what it was found with.

        Returns
        -------
        state : dict of ndarray and int
        """
        found = {name: getattr(self, name) for name in _FOUND}
        return found | {name: getattr(self.scattering_, name) for name in _SETTINGS}

    def load_state_dict(self, state):
        """Take over what another found.

        Parameters
        ----------
        state : dict of ndarray and int
            What :meth:`state_dict` gave.

        Returns
        -------
        self : object
        """
        for name in _FOUND:
            setattr(self, name, state[name])
        settings = {name: state[name] for name in _SETTINGS}
        scattering = ScatteringTransform(self.image_shape, **settings)
        # Nothing is learned from images, a blank one does; and on any device, so that
        # a state can be taken over where there is not the one that was used.
        scattering.fit(np.zeros_like(self.decoder_[:1]))
        self.scattering_ = scattering.set_params(device=self.device)
        return self

    @default_modes()
    def transform(self, X):
        """Features of images.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_pixels)

        Returns
        -------
        features : ndarray of shape (n_samples, n_components)
            In the units of the square root of X.
        """
        features = np.empty((len(X), len(self.components_)), dtype=X.dtype)
        for block in _blocks(X):
            roots = self._roots(X[block])
            roots -= self.mean_
            self._project(roots, out=features[block])
        return features

    def _project(self, deviations, out):
        """Coordinates along the axes."""
        # By torch, as the scattering is: its threads and those of numpy's products wait
        # busily, and would stand in each other's way.
        axes = as_tensor(self.components_.T.astype(out.dtype, copy=False))
        torch.mm(torch.from_numpy(deviations), axes, out=torch.from_numpy(out))

    def _roots(self, X):
        coefficients = self.scattering_.transform(X)
        # Some are below zero, if by no more than rounding or the filters' ripple.
        torch.from_numpy(coefficients).abs_().sqrt_()
        return coefficients

    def inverse_transform(self, X):
        """Images that features stand for.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_components)

        Returns
        -------
        images : ndarray of shape (n_samples, n_pixels)
        """
        return X @ self.decoder_[:-1] + self.decoder_[-1]


def _blocks(X):
    """Split images, always alike: the last bits may depend on what is beside one."""
    for start in range(0, len(X), IMAGES_AT_A_TIME):
        yield slice(start, start + IMAGES_AT_A_TIME)
