"""Clustering by several methods, of which the data confirm one or the consensus."""

import warnings
from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval

from ..utils.guards import all_or_nothing, default_modes
from ..utils.numbers import near_origin, to_unit_variance, with_safe_squares
from ..utils.random_state import private_random_state
from ..utils.threads import single_blas_thread
from ._consensus import combine_clusterings
from ._eigenvectors import spectral_embedding
from ._gaussian import constrained_labels, gaussian_labels, normal_misfit
from ._graph import nearest_neighbors, self_tuning_affinity, validate_graph_data

# Numbers of neighbours of the graphs, and steps of the walk on them.
_N_NEIGHBORS, _N_STEPS = (10, 20), 4

# Names of the members that are walks, and of those that form the consensus. The first
# two walks are those that differ most where clusters are not clear.
_WALKS = ("euclidean_20", "cosine_10", "euclidean_10", "cosine_20")
_CONSENSUS = (
    "euclidean_20",
    "kmeans",
    "clipped_kmeans",
    "ward",
    "diag",
    "tied",
    "full",
)

# Starts of k-means.
_N_INIT = 10

# Principal components that stand for more features, except where entries are clipped:
# neighbours are found faster, and on images the noise of pixels is left out.
_N_COMPONENTS = 50

# Ward's criterion takes the square of this in memory.
_MAX_WARD_SAMPLES = 5000

# EM multiplies the products of all pairs of features. If there are fewer than this, one
# thread is faster than two.
_MAX_SMALL_PRODUCTS = 2**24

# Entries of the view in which outliers have little weight lie within this many standard
# deviations of the mean of their feature.
_MAX_DEVIATION = 2.0

# Clusters are taken for normal distributions if their misfit is below this. It is at
# most .09 where this does better than the alternatives, mostly .15 and more elsewhere.
_MAX_MISFIT = 0.09

# The graphs find the clusters if the mean of their adjusted Rand indices is above the
# first number. A single index below the second one ends the comparison.
_GRAPHS_AGREE, _GRAPHS_DIFFER = 0.85, 0.7


class EnsembleClustering(ClusterMixin, BaseEstimator):
    """Cluster by several methods, and keep what the data confirm.

    No method is the best on all data, and without labels the best one is not known.
    But clusters can be of the form that a method assumes, and if methods that have
    little in common find the same clusters, these are more likely to be in the data
    than in the method. Three cases are tried in turn:

    - "normal": EM for normal distributions of any shape is run from the clusters of
      k-means and from those of a graph. If either ends with clusters that are normal
      distributions, by a Kolmogorov-Smirnov distance, they are the result.
    - "graphs": spectral clustering of four graphs, of 10 and of 20 nearest neighbours,
      by the Euclidean and by the cosine distance. If their results are nearly the
      same, their consensus is the result. The first two that differ much end the
      comparison.
    - "consensus": otherwise, the consensus of k-means, k-means with outliers moved to
      two standard deviations, a graph, hierarchical clustering by Ward's criterion,
      and normal distributions with diagonal, equal and any covariances.

    The consensus clusters the samples again, by their labels in each clustering.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    random_state : int, RandomState instance or None, default=None
        Initializes k-means, EM and the eigensolver. Pass an int for reproducible
        results.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample.
    source_ : {"normal", "graphs", "consensus"}
        Which of the cases applied.
    members_ : dict of str to ndarray of shape (n_samples,)
        Labels found by each method that was run.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all are strings.

    See Also
    --------
    SpectralGraphClustering : The clustering of a single graph.

    Notes
    -----
    Time grows with ``n_samples ** 2``, for neighbours: the method is suitable for tens
    of thousands of samples. Samples that are equal are one node of a graph. With more
    than 50 features, their first 50 principal components are clustered.

    References
    ----------
    A. Strehl and J. Ghosh, Cluster ensembles - a knowledge reuse framework for
    combining multiple partitions, JMLR 3, 2002.

    A. Fred and A. Jain, Combining multiple clusterings using evidence accumulation,
    IEEE TPAMI 27, 2005.

    C. Fraley and A. E. Raftery, Bayesian regularization for normal mixture estimation
    and model-based clustering, Journal of Classification 2007.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skmixmate import EnsembleClustering
    >>> X, y = load_iris(return_X_y=True)
    >>> ensemble = EnsembleClustering(3, random_state=0).fit(X)
    >>> ensemble.source_
    'normal'
    >>> round(adjusted_rand_score(y, ensemble.labels_), 2)
    0.96
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state

    @all_or_nothing
    @default_modes()
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Cluster the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite values. Their overall scale and origin do not matter.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X has fewer rows than `n_clusters`.
        """
        samples = with_safe_squares(near_origin(validate_graph_data(self, X)))
        ensemble = _Ensemble(
            to_unit_variance(samples.astype(np.float64)),
            self.n_clusters,
            private_random_state(self.random_state),
        )
        n_products = len(samples) * ensemble.components.shape[1] ** 2
        with (
            single_blas_thread(n_products < _MAX_SMALL_PRODUCTS),
            warnings.catch_warnings(),
        ):
            # Members need not converge, nor find all clusters where rows repeat.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.source_, self.labels_ = ensemble.find_clusters()
        self.members_ = ensemble.members
        return self


class _Ensemble:
    """The members of an ensemble, each run when it is needed.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Of mean 0 and variance 1.
    n_clusters : int
    random_state : RandomState
    """

    def __init__(
        self, X: np.ndarray, n_clusters: int, random_state: np.random.RandomState
    ) -> None:
        self.X = X
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.members: dict[str, np.ndarray] = {}
        self.components = X
        if min(X.shape) > _N_COMPONENTS and X.any():
            pca = PCA(_N_COMPONENTS, random_state=random_state)
            self.components = pca.fit_transform(X)

    def find_clusters(self) -> tuple[str, np.ndarray]:
        """Return which case applies, and the labels."""
        _, nodes, node_of_sample = np.unique(
            self.X, axis=0, return_index=True, return_inverse=True
        )
        if len(nodes) <= self.n_clusters:
            return "consensus", node_of_sample
        points = self.components[nodes]
        graphs = _build_graphs(points, "euclidean")
        kmeans = self._run_kmeans(self.components)
        unweighted = self._run_spectral(graphs["euclidean_10"], None)[node_of_sample]
        self.members |= {"kmeans": kmeans, "graph": unweighted}
        mixtures = [
            gaussian_labels(self.components, start, self.n_clusters)
            for start in (kmeans, unweighted)
        ]
        misfits = [
            normal_misfit(self.components, labels, self.n_clusters)
            for labels in mixtures
        ]
        if min(misfits) < _MAX_MISFIT:
            return "normal", mixtures[int(np.argmin(misfits))]
        graphs |= _build_graphs(normalize(points), "cosine")
        if self._graphs_agree(graphs, node_of_sample):
            walks = [self.members[name] for name in _WALKS]
            return "graphs", combine_clusterings(walks, self.n_clusters)
        deviations = _MAX_DEVIATION * self.X.std(axis=0)
        clipped = self.X.clip(-deviations, deviations)
        self.members |= {
            "clipped_kmeans": self._run_kmeans(clipped),
            "ward": self._run_ward(),
            "diag": constrained_labels(self.components, kmeans, "diag"),
            "tied": constrained_labels(self.components, kmeans, "tied"),
            "full": mixtures[0],
        }
        members = [self.members[name] for name in _CONSENSUS]
        return "consensus", combine_clusterings(members, self.n_clusters)

    def _graphs_agree(
        self, graphs: dict[str, sparse.csr_array], node_of_sample: np.ndarray
    ) -> bool:
        """Walk on one graph after the other, as long as the results are similar."""
        walks: list[np.ndarray] = []
        indices: list[float] = []
        for name in _WALKS:
            walk = self._run_spectral(graphs[name], _N_STEPS)[node_of_sample]
            self.members[name] = walk
            indices += [adjusted_rand_score(walk, other) for other in walks]
            if min(indices, default=1.0) < _GRAPHS_DIFFER:
                return False
            walks.append(walk)
        return bool(np.mean(indices) > _GRAPHS_AGREE)

    def _run_kmeans(self, points: np.ndarray) -> np.ndarray:
        labels: np.ndarray = KMeans(
            self.n_clusters, n_init=_N_INIT, random_state=self.random_state
        ).fit_predict(points)
        return labels

    def _run_ward(self) -> np.ndarray:
        """Cluster a subsample by Ward's criterion, all others by the nearest mean."""
        order = self.random_state.permutation(len(self.X))
        points = self.components[order[:_MAX_WARD_SAMPLES]]
        labels: np.ndarray = AgglomerativeClustering(self.n_clusters).fit_predict(
            points
        )
        if len(points) < len(self.X):
            return NearestCentroid().fit(points, labels).predict(self.components)
        return labels[np.argsort(order)]

    def _run_spectral(
        self, affinity: sparse.csr_array, n_steps: int | None
    ) -> np.ndarray:
        return self._run_kmeans(
            spectral_embedding(affinity, self.n_clusters, self.random_state, n_steps)
        )


def _build_graphs(points: np.ndarray, metric: str) -> dict[str, sparse.csr_array]:
    """Connect points to their nearest neighbours, few and more."""
    distances, indices = nearest_neighbors(points, max(_N_NEIGHBORS))
    return {
        f"{metric}_{k}": self_tuning_affinity(distances[:, :k], indices[:, :k])
        for k in _N_NEIGHBORS
    }
