"""Directions of large variance, which can be made to count for less."""

from typing import Self

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

from ..data.containers import multiply
from ..utils.numbers import safe_exponent

# Principal components that are used, at most.
_N_COMPONENTS = 150


class PrincipalComponents:
    """Principal components that are divided by a power of their standard deviation.

    The largest components often vary within clusters as much as between them.
    Neighbours are more often of the same cluster if components are divided by a power
    of their standard deviation that makes their variances more alike.

    Parameters
    ----------
    random_state : RandomState
        Of the decomposition, where it is randomized.

    Attributes
    ----------
    stds_ : ndarray of shape (n_components,)
        Standard deviations of the components, in descending order. At most 150
        components are used, those that are larger than rounding errors.
    """

    def __init__(self, random_state: np.random.RandomState) -> None:
        self.random_state = random_state

    def fit(self, X: np.ndarray) -> Self:
        """Find the components.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.

        Returns
        -------
        self : object
        """
        self._exponent = safe_exponent(X)
        X = self._with_safe_squares(X)
        n_components = min(_N_COMPONENTS, *X.shape)
        pca = PCA(n_components, random_state=self.random_state)
        with np.errstate(invalid="ignore"):  # ratios of the variance of equal samples
            pca.fit(X)
        stds = np.sqrt(pca.explained_variance_)
        is_large = stds > np.sqrt(np.finfo(X.dtype).eps) * stds[0]
        is_large[0] = True
        self.stds_: np.ndarray = np.where(stds > 0, stds, 1)[is_large]
        self._mean, self._axes = pca.mean_, pca.components_[is_large].T
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Compute the components of samples, in units in which squares do not overflow.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)

        Returns
        -------
        components : ndarray of shape (n_samples, n_components)
        """
        return multiply(self._with_safe_squares(X) - self._mean, self._axes)

    def _with_safe_squares(self, X: np.ndarray) -> np.ndarray:
        """Divide samples by the power of two that was found in `fit`."""
        return np.ldexp(X, -self._exponent) if self._exponent else X

    def whiten(self, components: np.ndarray, power: float) -> np.ndarray:
        """Divide components by a power of their standard deviations.

        Parameters
        ----------
        components : ndarray of shape (n_samples, n_components)
            Returned by :meth:`transform`.
        power : float
            0 leaves them as they are, 1 makes all of them count the same.

        Returns
        -------
        whitened : ndarray of shape (n_samples, n_components)
        """
        whitened: np.ndarray = components / self.stds_**power
        return whitened


def whiten_within(X: np.ndarray, labels: np.ndarray, power: float) -> np.ndarray:
    """Find the linear map that makes the variances within clusters more alike.

    Where clusters are known, directions in which their samples differ tell nothing
    about the cluster, whatever their variance in all samples.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Finite.
    labels : int ndarray of shape (n_samples,)
        Clusters.
    power : float
        Of the standard deviations that directions are divided by: with 1 all have the
        same variance within clusters, with 0 nothing changes.

    Returns
    -------
    matrix : ndarray of shape (n_features, n_features)
        Symmetric; multiply rows by it. Its largest eigenvalue is 1. The covariance
        within clusters is shrunk as much as the number of samples demands.

    References
    ----------
    O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional covariance
    matrices, Journal of Multivariate Analysis 2004.
    """
    deviations = X.astype(np.float64)
    for cluster in np.unique(labels):
        is_member = labels == cluster
        deviations[is_member] -= deviations[is_member].mean(axis=0)
    covariance, _ = ledoit_wolf(deviations, assume_centered=True)
    variances, axes = np.linalg.eigh(covariance)
    smallest = max(variances[0], np.finfo(X.dtype).eps * variances[-1])
    if smallest == 0:  # clusters of equal samples
        return np.eye(X.shape[1])
    factors = (np.maximum(variances, smallest) / smallest) ** (-power / 2)
    matrix: np.ndarray = (axes * factors) @ axes.T
    return matrix
