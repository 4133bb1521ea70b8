"""Sparse subspace clustering by orthogonal matching pursuit."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.utils._param_validation import Interval

from ..utils.guards import all_or_nothing, default_modes
from ..utils.numbers import with_safe_squares
from ..utils.random_state import private_random_state
from ._eigenvectors import spectral_labels
from ._graph import representation_affinity, validate_graph_data


class SparseSubspaceClustering(ClusterMixin, BaseEstimator):
    """Sparse subspace clustering by orthogonal matching pursuit.

    Every sample is approximated by a linear combination of a few others. Samples of
    one linear subspace select each other, so that the coefficients define a graph
    whose clusters are the subspaces; the graph is partitioned by its normalised
    Laplacian.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    n_nonzero_coefs : int, default=5
        Maximum number of samples in the approximation of another.
    tol : float, default=1e-5
        The approximation of a sample stops when its squared residual is at most this
        fraction of its squared norm.
    random_state : int, RandomState instance or None, default=None
        Initializes the eigensolver and k-means. Pass an int for reproducible results.

    Attributes
    ----------
    affinity_matrix_ : csr_array of shape (n_samples, n_samples)
        Mean of the absolute coefficients, rows scaled to norm 1, and of their
        transpose.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all are strings.

    Notes
    -----
    Memory is a few times ``n_samples ** 2`` numbers: the method is suitable for
    thousands of samples, not for hundreds of thousands. The subspaces pass through the
    origin, so that features without a meaningful zero should be centred first.
    Samples are not scaled to norm 1: those of larger norm are selected more often,
    which gives much better results on images. To ignore the norms, use
    :class:`sklearn.preprocessing.Normalizer` first.

    References
    ----------
    E. Elhamifar and R. Vidal, Sparse subspace clustering: Algorithm, theory,
    and applications, IEEE TPAMI 2013.

    C. You, D. Robinson and R. Vidal, Scalable sparse subspace clustering by
    orthogonal matching pursuit, CVPR 2016.

    Examples
    --------
    Three subspaces of dimension three, in twenty dimensions:

    >>> import numpy as np
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from skmixmate.cluster import SparseSubspaceClustering
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(3, 60, 3)) @ rng.normal(size=(3, 3, 20))
    >>> X = X.reshape(180, 20)
    >>> labels = SparseSubspaceClustering(3, random_state=0).fit_predict(X)
    >>> adjusted_rand_score(np.repeat([0, 1, 2], 60), labels)
    1.0
    """

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_nonzero_coefs: int = 5,
        tol: float = 1e-5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_nonzero_coefs = n_nonzero_coefs
        self.tol = tol
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
            If a parameter is out of its range, or X has fewer rows than
            `n_clusters`.
        """
        samples = with_safe_squares(validate_graph_data(self, X))
        self.affinity_matrix_ = representation_affinity(
            samples, self.n_nonzero_coefs, self.tol
        )
        self.labels_ = spectral_labels(
            self.affinity_matrix_,
            self.n_clusters,
            private_random_state(self.random_state),
        )
        return self
