"""Spectral clustering of a fused graph."""

from numbers import Integral
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval, StrOptions

from ..utils.guards import all_or_nothing, default_modes
from ..utils.numbers import near_origin, with_safe_squares
from ..utils.random_state import private_random_state
from ._gaussian import gaussian_labels
from ._graph import (
    degree_normalize,
    representation_affinity,
    self_tuning_affinity,
    spectral_labels,
    validate_graph_data,
)


class SpectralGraphClustering(ClusterMixin, BaseEstimator):
    """Spectral clustering of nearest neighbours, of self-representation, or both.

    One graph joins each sample to its nearest neighbours with the affinity
    ``exp(-d_ij ** 2 / (d_i * d_j))``, where ``d_i`` is the distance of sample i
    to the last of its neighbours, so that no bandwidth has to be chosen and
    the units of X do not matter. The other, on request, joins it to the few
    samples it is best written by, as :class:`SparseSubspaceClustering` does.
    The graph, or the sum of the two, each degree-normalised, is partitioned by
    k-means on the row-normalised leading eigenvectors of its normalised
    Laplacian.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    n_neighbors : int or None, default=10
        Neighbours of each sample, at most ``n_samples - 1``; None leaves the
        graph of neighbours out.
    n_nonzero_coefs : int or None, default=None
        Samples that may take part in writing another; None leaves the graph of
        self-representation out. On scattering coefficients of images 5 does
        better than either graph alone; on plain features it does worse.
    metric : {"euclidean", "cosine"}, default="euclidean"
        Distance between neighbours; "cosine" is the Euclidean one between rows
        scaled to norm 1. Self-representation sees the rows as they are.
    n_steps : int or None, default=None
        None takes `n_clusters` eigenvectors and weighs them alike. An int takes
        half as many again, each weighed by what a random walk of so many steps
        on the graph leaves of it: where clusters differ in how well they hang
        together, one may show only in a later eigenvector. k-means then has many ends
        that are nearly as good, and what the good ones agree on is taken. On images 4
        does better; it loses clusters that are long and thin.
    refine : bool, default=False
        Whether the clusters of the graph are where EM of normal distributions starts,
        one a cluster and each of a shape of its own, which then say who belongs where.
        A graph finds clusters wherever they lie, but where two overlap it does not
        know their shapes. Clusters with no more samples than features are left as
        found. On plain features with clusters of different shapes this does better;
        it loses clusters that are bent.
    random_state : int, RandomState instance or None, default=None
        Start of the eigenvectors and of k-means. An int makes the result
        reproducible.

    Attributes
    ----------
    affinity_matrix_ : csr_array of shape (n_samples, n_samples)
        The graph; of both, the sum of the degree-normalised ones.
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
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [StrOptions({"euclidean", "cosine"})],
        "n_steps": [Interval(Integral, 1, None, closed="left"), None],
        "refine": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_neighbors: int | None = 10,
        n_nonzero_coefs: int | None = None,
        metric: str = "euclidean",
        n_steps: int | None = None,
        refine: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.n_nonzero_coefs = n_nonzero_coefs
        self.metric = metric
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
            Finite values, in any units.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, both graphs are left out, or X
            has fewer rows than `n_clusters`.
        """
        if self.n_neighbors is None and self.n_nonzero_coefs is None:
            raise ValueError(
                "n_neighbors=None and n_nonzero_coefs=None leave no graph; one of "
                "them should be an int."
            )
        X = validate_graph_data(self, X)
        # Distances and shapes do not depend on the origin; angles and subspaces do.
        centered = with_safe_squares(near_origin(X))
        X = with_safe_squares(X)
        graphs = []
        if self.n_neighbors is not None:
            points = normalize(X) if self.metric == "cosine" else centered
            graphs.append(self_tuning_affinity(points, self.n_neighbors))
        if self.n_nonzero_coefs is not None:
            graphs.append(representation_affinity(X, self.n_nonzero_coefs))
        if len(graphs) > 1:  # so that each weighs the same
            graphs = [degree_normalize(graph) for graph in graphs]
        self.affinity_matrix_ = sum(graphs[1:], start=graphs[0])
        self.labels_ = spectral_labels(
            self.affinity_matrix_,
            self.n_clusters,
            private_random_state(self.random_state),
            self.n_steps,
        )
        if self.refine:
            self.labels_ = gaussian_labels(centered, self.labels_, self.n_clusters)
        return self
