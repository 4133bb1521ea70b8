"""Spectral clustering of the sum of two graphs."""

import math
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval, StrOptions

from ..utils.guards import all_or_nothing, default_modes
from ..utils.numbers import near_origin, with_safe_squares
from ..utils.random_state import private_random_state
from ._eigenvectors import spectral_labels
from ._gaussian import gaussian_labels
from ._graph import (
    degree_normalize,
    nearest_neighbors,
    representation_affinity,
    self_tuning_affinity,
    validate_graph_data,
)
from ._whitening import PrincipalComponents

# Weight of the graph of self-representation; that of the graph of neighbours is 1.
_REPRESENTATION_WEIGHT = 0.5

# If the number of neighbours is "auto": the largest one; and with fewer, how fast the
# affinity falls with the rank, and the power of coefficients of self-representation.
_MAX_NEIGHBORS, _DECAY, _COEF_POWER = 10, 2.0, 1.5


class SpectralGraphClustering(ClusterMixin, BaseEstimator):
    """Spectral clustering of nearest neighbours, of self-representation, or of both.

    One graph connects each sample to its nearest neighbours with the affinity
    ``exp(-d_ij ** 2 / (d_i * d_j))``, where ``d_i`` is the distance of sample i
    to the last of its neighbours, so that no bandwidth has to be chosen and
    the overall scale of X does not matter. The other, optional, graph connects each
    sample to the few samples that represent it best, as in
    :class:`SparseSubspaceClustering`. If both are used, they are normalised by the
    degrees, and the first one counts twice as much as the second. The graph is
    partitioned by k-means on the row-normalised leading eigenvectors of its normalised
    Laplacian.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    n_neighbors : int, "auto" or None, default=10
        Number of neighbours of each sample, at most ``n_samples - 1``. With None the
        graph of neighbours is not used. "auto" is twice the cube root of the mean
        number of samples in a cluster, rounded up, and at most 10: more neighbours
        connect small clusters with each other. If it is less than 10, strong edges also
        count more: the affinity of neighbour r of n, counted from 0, is multiplied by
        ``exp(-2 * r / n)``, and coefficients of self-representation are raised to the
        power of 1.5. On images, "auto" gives better results.
    n_nonzero_coefs : int or None, default=None
        Maximum number of samples in the representation of another. With None the graph
        of self-representation is not used. On scattering coefficients of images, 5
        gives better results than either graph alone; on tabular data, worse ones.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance between neighbours; "cosine" is the Euclidean distance between rows
        scaled to norm 1. It does not affect the graph of self-representation.
    whitening : float, default=0.0
        Power of their standard deviations by which principal components are divided
        before neighbours are found, 0 to 1: 0 leaves distances as they are, 1 makes all
        components count the same. Unless it is 0, distances are between the first 150
        principal components. It does not affect the graph of self-representation. On
        scattering coefficients of images, 0.75 gives better results.
    n_steps : int, "auto" or None, default=None
        With None, k-means uses `n_clusters` eigenvectors of equal weight. With an int,
        it uses 1.5 times as many eigenvectors, weighted by their eigenvalues to the
        power of `n_steps`, as after this number of steps of a random walk on the graph:
        if clusters differ in density, some may appear only in later eigenvectors.
        k-means then has many local optima that are nearly as good, and the consensus of
        good runs is used. Clusters that are long and thin may be lost. "auto" is 4,
        unless the eigenvalues of all these eigenvectors are above 0.9: then it is 16,
        with 3 times as many eigenvectors as clusters. So it is for images of objects
        that turn, as a walk takes many steps to pass through the views of one. On
        images, "auto" gives better results.
    refine : bool, default=False
        Whether to refine the clusters of the graph by EM for a Gaussian mixture with
        full covariance matrices. Graphs find clusters anywhere, but do not model the
        shapes of clusters that overlap. Clusterings in which a cluster has no more
        samples than features are not refined. On tabular data with clusters of
        different shapes this gives better results; curved clusters may be lost.
    random_state : int, RandomState instance or None, default=None
        Initializes the eigensolver and k-means. Pass an int for reproducible results.

    Attributes
    ----------
    affinity_matrix_ : csr_array of shape (n_samples, n_samples)
        The graph; if there are two, the sum of the degree-normalised graphs, the one
        of self-representation multiplied by 0.5.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all are strings.

    References
    ----------
    L. Zelnik-Manor and P. Perona, Self-tuning spectral clustering, NIPS 2004.

    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.

    R. Coifman and S. Lafon, Diffusion maps, Applied and Computational Harmonic
    Analysis 2006.

    E. Elhamifar and R. Vidal, Sparse subspace clustering: Algorithm, theory, and
    applications, IEEE TPAMI 2013.

    C. Fraley and A. E. Raftery, Bayesian regularization for normal mixture estimation
    and model-based clustering, Journal of Classification 2007.

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

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [StrOptions({"euclidean", "cosine"})],
        "whitening": [Interval(Real, 0, 1, closed="both")],
        "n_steps": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
        "refine": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_neighbors: int | str | None = 10,
        n_nonzero_coefs: int | None = None,
        metric: str = "euclidean",
        whitening: float = 0.0,
        n_steps: int | str | None = None,
        refine: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.n_nonzero_coefs = n_nonzero_coefs
        self.metric = metric
        self.whitening = whitening
        self.n_steps = n_steps
        self.refine = refine
        self.random_state = random_state

    @all_or_nothing
    @default_modes()
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: npt.ArrayLike, y: Any = None) -> Self:
        """Cluster the samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite values. Their overall scale does not matter.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, both graphs are None, or X has fewer
            rows than `n_clusters`.
        """
        if self.n_neighbors is None and self.n_nonzero_coefs is None:
            raise ValueError(
                "n_neighbors=None and n_nonzero_coefs=None leave no graph; set at "
                "least one of them to an int."
            )
        samples = validate_graph_data(self, X)
        random_state = private_random_state(self.random_state)
        # Distances and covariances do not depend on the origin, but angles and
        # subspaces do.
        centered = with_safe_squares(near_origin(samples))
        samples = with_safe_squares(samples)
        n_neighbors, decay, power = self._resolve_neighbors(len(samples))
        graphs = []
        if n_neighbors is not None:
            points = samples if self.metric == "cosine" else centered
            if self.whitening > 0:
                pca = PrincipalComponents(random_state).fit(centered)
                points = pca.whiten(pca.transform(centered), self.whitening)
            if self.metric == "cosine":
                points = normalize(points)
            neighbors = nearest_neighbors(points, n_neighbors)
            graphs.append(self_tuning_affinity(*neighbors, decay))
        if self.n_nonzero_coefs is not None:
            representation = representation_affinity(
                samples, self.n_nonzero_coefs, power=power
            )
            graphs.append(representation)
        if len(graphs) > 1:  # normalised, so that the weights are of equal graphs
            graphs[0] = degree_normalize(graphs[0])
            graphs[1] = _REPRESENTATION_WEIGHT * degree_normalize(graphs[1])
        self.affinity_matrix_ = sum(graphs[1:], start=graphs[0])
        self.labels_ = spectral_labels(
            self.affinity_matrix_, self.n_clusters, random_state, self.n_steps
        )
        if self.refine:
            self.labels_ = gaussian_labels(centered, self.labels_, self.n_clusters)
        return self

    def _resolve_neighbors(self, n_samples: int) -> tuple[int | None, float, float]:
        """Return the number of neighbours, the decay, and the power of coefficients."""
        if not isinstance(self.n_neighbors, str):
            return self.n_neighbors, 0.0, 1.0
        n_neighbors = math.ceil(2 * math.cbrt(n_samples / self.n_clusters))
        if n_neighbors < _MAX_NEIGHBORS:
            return n_neighbors, _DECAY, _COEF_POWER
        return _MAX_NEIGHBORS, 0.0, 1.0
