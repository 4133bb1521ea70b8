"""The number of clusters, from the spectrum of graphs and from normal mixtures."""

from collections.abc import Callable
from numbers import Integral

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_array

from ..data.containers import as_numeric, as_numpy
from ..utils.guards import default_modes
from ..utils.numbers import near_origin, to_unit_variance, with_safe_squares
from ..utils.random_state import private_random_state
from ._gaussian import COVARIANCES, mixture_criteria
from ._graph import (
    angular_neighbors,
    degree_normalize,
    nearest_neighbors,
    self_tuning_affinity,
)

# Rows that are looked at, and samples per cluster that there should be.
MAX_SAMPLES, _SAMPLES_PER_CLUSTER = 2000, 5

# Neighbours of each sample in the graphs, more than for a clustering, and how many
# features there have to be for a graph of directions: with few features, many samples
# that are not of one subspace have nearly the same direction.
_N_NEIGHBORS, _MIN_FEATURES = 15, 8

# Added to the eigenvalues of the Laplacian before they are divided by one another:
# some are nearly 0, also of data with few features and without clusters.
_FLOOR = 0.05

# Principal components that normal distributions are fitted to, and starts of k-means.
_N_COMPONENTS, _N_INIT = 10, 3

# The gap of a single cluster depends on the number of features more than on the
# clusters. This takes its place.
_GAP_OF_ONE = 0.2

# Normal distributions are not the true model, so that their likelihood counts no more
# than a gap which data without clusters may have.
_MAX_LOSS = 0.3


@validate_params(
    {
        "X": ["array-like", object],
        "max_clusters": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
@default_modes()
def estimate_n_clusters(
    X: npt.ArrayLike,
    *,
    max_clusters: int = 20,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Estimate the number of clusters without labels.

    Two kinds of evidence are added. The first is the eigengap of two graphs, of nearest
    neighbours and, with at least 8 features, of nearest directions: if there are k
    groups with few edges between them, k eigenvalues of the normalised Laplacian are
    small and the next one is not. The second is the likelihood of mixtures of k normal
    distributions in the first 10 principal components, with the best of three kinds of
    covariance. The integrated classification likelihood (ICL), which is low for
    components that overlap, decides whether there is more than one cluster, and the
    Bayesian information criterion (BIC) how many. Graphs find clusters of any shape,
    and subspaces, in many dimensions; normal distributions find clusters that overlap
    in few dimensions.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Finite values. Their overall scale does not matter; that of the features among
        each other does. Of more than 2,000 samples a random subset is used.
    max_clusters : int, default=20
        Largest number of clusters. There are also at most as many as a fifth of the
        samples, and as distinct samples.
    random_state : int, RandomState instance or None, default=None
        Selects the subset, and initializes k-means. Pass an int for reproducible
        results.

    Returns
    -------
    n_clusters : int
        The number of the highest score.
    scores : dict of str to ndarray of shape (n_candidates,)
        - "n_clusters": the candidates, from 1;
        - "neighbors_gap" and "directions_gap": logarithm of the ratio of eigenvalue
          ``k + 1`` to eigenvalue ``k`` of the Laplacian of either graph, 0.05 added to
          both; 0 for k = 1, and with fewer than 8 features for the second graph;
        - "mixture_loss": the BIC, or the ICL if that is best for k = 1, minus its
          smallest value, per sample and tenth of the components;
        - "score": the sum of both gaps (0.2 for k = 1) minus the loss, at most 0.3.

    Raises
    ------
    ValueError
        If a parameter is out of its range or X is not finite.

    Notes
    -----
    Scores of several candidates that are nearly the same mean that the data do not
    determine the number.

    References
    ----------
    U. von Luxburg, A tutorial on spectral clustering, Statistics and Computing 17,
    2007.

    R. Heckel and H. Boelcskei, Robust subspace clustering via thresholding, IEEE
    Transactions on Information Theory 61, 2015.

    C. Biernacki, G. Celeux and G. Govaert, Assessing a mixture model for clustering
    with the integrated completed likelihood, IEEE TPAMI 22, 2000.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skmixmate.cluster import estimate_n_clusters
    >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
    >>> n_clusters, scores = estimate_n_clusters(X, max_clusters=6, random_state=0)
    >>> n_clusters
    4
    >>> scores["score"].round(1)
    array([-0.1, -0.3, -0.3,  1.8, -0.2, -0.3])
    """
    random_state = private_random_state(random_state)
    samples: np.ndarray = check_array(
        as_numpy(as_numeric(X)), dtype=[np.float64, np.float32]
    )
    if len(samples) > MAX_SAMPLES:
        samples = samples[random_state.permutation(len(samples))[:MAX_SAMPLES]]
    samples = to_unit_variance(with_safe_squares(near_origin(samples)).astype(float))
    components = _principal_components(samples, random_state)
    n_candidates = min(
        max_clusters,
        max(1, len(samples) // _SAMPLES_PER_CLUSTER),
        len(np.unique(components, axis=0)),
    )
    gaps = _eigengaps(nearest_neighbors, samples, n_candidates)
    directions_gap = np.zeros(n_candidates)
    if samples.shape[1] >= _MIN_FEATURES:
        directions_gap = _eigengaps(angular_neighbors, samples, n_candidates)
    loss = _mixture_loss(components, n_candidates, random_state)
    score = gaps + directions_gap
    score[0] = _GAP_OF_ONE
    score -= np.minimum(loss, _MAX_LOSS)
    scores = {
        "n_clusters": np.arange(1, n_candidates + 1),
        "neighbors_gap": gaps,
        "directions_gap": directions_gap,
        "mixture_loss": loss,
        "score": score,
    }
    return 1 + int(score.argmax()), scores


def _principal_components(
    X: np.ndarray, random_state: np.random.RandomState
) -> np.ndarray:
    """Project centred samples onto principal components, and round.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    random_state : RandomState

    Returns
    -------
    components : ndarray of shape (n_samples, n_components)
        Scaled to a root mean square of 1. Samples that coincide have equal components.
    """
    if not X.any():
        return X[:, :1]
    n_components = min(_N_COMPONENTS, *X.shape)
    components = PCA(n_components, random_state=random_state).fit_transform(X)
    return np.round(to_unit_variance(components), 8)


def _eigengaps(
    find_neighbors: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]],
    X: np.ndarray,
    n_gaps: int,
) -> np.ndarray:
    """Compute the log-ratios of successive eigenvalues of the normalised Laplacian.

    Parameters
    ----------
    find_neighbors : callable
        Returns the distances and indices of so many neighbours of each sample.
    X : ndarray of shape (n_samples, n_features)
    n_gaps : int

    Returns
    -------
    gaps : ndarray of shape (n_gaps,)
        The first is 0.
    """
    if n_gaps == 1:
        return np.zeros(1)
    affinity = self_tuning_affinity(*find_neighbors(X, _N_NEIGHBORS))
    normalized = degree_normalize(affinity).toarray()
    n_samples = len(normalized)
    # Lanczos iterations do not converge for graphs of few features, whose leading
    # eigenvalues are nearly the same.
    values = eigh(
        normalized,
        eigvals_only=True,
        subset_by_index=[n_samples - n_gaps - 1, n_samples - 1],
        overwrite_a=True,
        check_finite=False,
    )
    gaps = np.diff(np.log(np.maximum(1 - values[::-1], 0) + _FLOOR))
    gaps[0] = 0
    return gaps


def _mixture_loss(
    components: np.ndarray, n_candidates: int, random_state: np.random.RandomState
) -> np.ndarray:
    """Compare mixtures of so many normal distributions.

    Parameters
    ----------
    components : ndarray of shape (n_samples, n_components)
    n_candidates : int
    random_state : RandomState

    Returns
    -------
    loss : ndarray of shape (n_candidates,)
        Per sample; the smallest is 0.
    """
    if n_candidates == 1:
        return np.zeros(1)
    criteria = np.empty((2, n_candidates))
    for index in range(n_candidates):
        kmeans = KMeans(index + 1, n_init=_N_INIT, random_state=random_state)
        labels = kmeans.fit_predict(components)
        criteria[:, index] = np.min(
            [
                mixture_criteria(components, labels, index + 1, covariance)
                for covariance in COVARIANCES
            ],
            axis=0,
        )
    bic, icl = criteria
    criterion = bic if icl.argmin() > 0 else icl
    return _N_COMPONENTS * (criterion - criterion.min()) / components.size
