"""Spectral clustering of a self-tuning nearest-neighbour graph."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import validate_data

# Below this many samples a full decomposition is as fast as Lanczos iterations
# and, unlike them, sure to end.
_DENSE_BELOW = 400


def self_tuning_affinity(X, n_neighbors):
    """Affinity of nearest neighbours, each sample with a length of its own.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_neighbors : int
        Neighbours of each sample; its length is the distance to the last.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        Symmetric, in [0, 1], with an empty diagonal.

    References
    ----------
    L. Zelnik-Manor and P. Perona, Self-tuning spectral clustering, NIPS 2004.
    """
    n_samples = len(X)
    n_neighbors = min(n_neighbors, n_samples - 1)
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(X)
    distances, indices = search.kneighbors()  # (n_samples, n_neighbors)
    lengths = distances[:, -1]
    products = lengths[:, None] * lengths[indices]
    # Samples that coincide have length 0 and affinity 1.
    products = np.where(products > 0, products, 1.0)
    values = np.exp(-(distances**2) / products)
    starts = np.arange(0, n_samples * n_neighbors + 1, n_neighbors)
    affinity = sparse.csr_array(
        (values.ravel(), indices.ravel(), starts), shape=(n_samples, n_samples)
    )
    return (affinity + affinity.T) / 2


def degree_normalize(affinity):
    """Divide each entry by the square root of the degrees of both its ends.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative. A sample with no neighbour is left alone.

    Returns
    -------
    normalized : csr_array of shape (n_samples, n_samples)
        One less the normalised Laplacian; eigenvalues in [-1, 1].
    """
    degrees = affinity.sum(axis=1)
    inverse = sparse.diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)))
    return (inverse @ affinity @ inverse).tocsr()


def spectral_labels(affinity, n_clusters, random_state):
    """Cluster the nodes of a graph: k-means on row-normalised eigenvectors.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_clusters : int
    random_state : RandomState

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    References
    ----------
    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.
    """
    normalized = degree_normalize(affinity)
    n_samples = normalized.shape[0]
    # A start of its own keeps ARPACK from drawing on the global random state.
    start = random_state.uniform(-1, 1, n_samples)
    if n_samples < max(_DENSE_BELOW, 4 * n_clusters):
        vectors = np.linalg.eigh(normalized.toarray())[1][:, -n_clusters:]
    else:
        vectors = sparse.linalg.eigsh(normalized, k=n_clusters, which="LA", v0=start)[1]
    kmeans = KMeans(n_clusters, n_init=10, random_state=random_state)
    return kmeans.fit_predict(normalize(vectors))


class SpectralGraphClustering(ClusterMixin, BaseEstimator):
    """Spectral clustering of a self-tuning nearest-neighbour graph.

    Each sample is joined to its nearest neighbours with the affinity
    ``exp(-d_ij ** 2 / (d_i * d_j))``, where ``d_i`` is the distance of sample i
    to the last of its neighbours, so that no bandwidth has to be chosen and
    the units of X do not matter. k-means then clusters the row-normalised
    leading eigenvectors of the degree-normalised graph.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    n_neighbors : int, default=10
        Neighbours of each sample, at most ``n_samples - 1``.
    random_state : int, RandomState instance or None, default=None
        Start of the eigenvectors and of k-means. An int makes the result
        reproducible.

    Attributes
    ----------
    affinity_matrix_ : csr_array of shape (n_samples, n_samples)
        The graph.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all are strings.

    References
    ----------
    L. Zelnik-Manor and P. Perona, Self-tuning spectral clustering, NIPS 2004.

    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skmixmate.cluster import SpectralGraphClustering
    >>> X, y = make_moons(300, noise=0.05, random_state=0)
    >>> labels = SpectralGraphClustering(2, random_state=0).fit_predict(X)
    >>> adjusted_rand_score(y, labels)
    1.0
    """

    _parameter_constraints = {  # noqa: RUF012
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_clusters=8, *, n_neighbors=10, random_state=None):
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Cluster the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite values, in any units.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X has fewer rows than
            `n_clusters`.
        """
        X = validate_graph_data(self, X)
        self.affinity_matrix_ = self_tuning_affinity(X, self.n_neighbors)
        self.labels_ = spectral_labels(
            self.affinity_matrix_, self.n_clusters, private_random_state(self)
        )
        return self


def validate_graph_data(estimator, X):
    """Check the samples of a graph clustering.

    Parameters
    ----------
    estimator : estimator with a parameter `n_clusters`
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    """
    X = validate_data(
        estimator, X, dtype=[np.float64, np.float32], ensure_min_samples=2
    )
    if len(X) < estimator.n_clusters:
        raise ValueError(
            f"n_samples={len(X)} should be >= n_clusters={estimator.n_clusters}."
        )
    return X


def private_random_state(estimator):
    """Random state of an estimator that never draws on numpy's global one.

    Parameters
    ----------
    estimator : estimator with a parameter `random_state`

    Returns
    -------
    random_state : RandomState
        Freshly seeded by the operating system where `random_state` is None.
    """
    if estimator.random_state is None:
        return np.random.RandomState()
    return check_random_state(estimator.random_state)
