"""Sparse subspace clustering by orthogonal matching pursuit."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval

from ._spectral import private_random_state, spectral_labels, validate_graph_data


def self_representation(X, n_nonzero_coefs, tol):
    """Write every sample as a sparse combination of the others.

    Orthogonal matching pursuit for all samples at once: a round takes, for
    each, the sample that goes best with what is left of it, then fits all
    taken so far by least squares. Everything is done on the Gram matrix.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Rows of norm 1.
    n_nonzero_coefs : int
        Number of rounds, at most ``n_samples - 1``.
    tol : float
        A sample whose squared residual is no larger is left as it is.

    Returns
    -------
    coefs : csr_array of shape (n_samples, n_samples)
        ``X`` is about ``coefs @ X``; the diagonal is empty.
    """
    n_samples = len(X)
    n_rounds = min(n_nonzero_coefs, n_samples - 1)
    rows = np.arange(n_samples)
    gram = X @ X.T
    support = np.zeros((n_samples, n_rounds), dtype=np.intp)
    coefs = np.zeros((n_samples, n_rounds), dtype=X.dtype)
    active = np.arange(n_samples)  # samples that still have something left
    for size in range(1, n_rounds + 1):
        chosen, weights = support[active, : size - 1], coefs[active, : size - 1]
        explained = _scatter(weights, chosen, n_samples) @ gram
        residual_correlations = gram[active] - explained
        left = 1 - np.einsum("ij,ij->i", weights, gram[active[:, None], chosen])
        keep = left > tol
        active, residual_correlations = active[keep], residual_correlations[keep]
        if not len(active):
            break
        np.abs(residual_correlations, out=residual_correlations)
        residual_correlations[rows[: len(active)], active] = -1
        np.put_along_axis(residual_correlations, chosen[keep], -1, axis=1)
        support[active, size - 1] = residual_correlations.argmax(axis=1)
        chosen = support[active, :size]  # (n_active, size)
        normal = gram[chosen[:, :, None], chosen[:, None, :]]
        target = gram[active[:, None], chosen]
        coefs[active, :size] = _solve(normal, target)
    matrix = _scatter(coefs, support, n_samples)
    matrix.eliminate_zeros()
    return matrix


def _scatter(values, columns, n_columns):
    """Sparse array with the same number of entries in every row."""
    n_rows, n_entries = values.shape
    starts = np.arange(n_rows + 1) * n_entries
    return sparse.csr_array(
        (values.ravel(), columns.ravel(), starts), shape=(n_rows, n_columns)
    )


def _solve(normal, target):
    # The trace of a Gram matrix of unit rows is its size: a jitter at the
    # level of rounding, so that rows alike to the last digit can be solved for.
    size = normal.shape[-1]
    jitter = size * np.finfo(normal.dtype).eps * np.eye(size, dtype=normal.dtype)
    return np.linalg.solve(normal + jitter, target[..., None])[..., 0]


class SparseSubspaceClustering(ClusterMixin, BaseEstimator):
    """Sparse subspace clustering by orthogonal matching pursuit.

    Every sample, scaled to norm 1, is written as a combination of a few
    others. Samples of one linear subspace choose one another, so that the
    coefficients make a graph whose parts are the subspaces; the graph is
    partitioned by its normalised Laplacian.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters.
    n_nonzero_coefs : int, default=5
        Samples that may take part in writing another.
    tol : float, default=1e-5
        A sample is written well enough when its squared residual, as a part of
        its squared norm, is no larger.
    random_state : int, RandomState instance or None, default=None
        Start of the eigenvectors and of k-means. An int makes the result
        reproducible.

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
        Names of the features, where all are strings.

    Notes
    -----
    Memory is a few times ``n_samples ** 2`` numbers: meant for thousands of
    samples, not for hundreds of thousands. The subspaces pass through the
    origin, so that features whose zero means nothing are better centred first.

    References
    ----------
    E. Elhamifar and R. Vidal, Sparse subspace clustering: Algorithm, theory,
    and applications, IEEE TPAMI 2013.

    C. You, D. Robinson and R. Vidal, Scalable sparse subspace clustering by
    orthogonal matching pursuit, CVPR 2016.

    Examples
    --------
    Three subspaces of three dimensions, in twenty:

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

    _parameter_constraints = {  # noqa: RUF012
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_clusters=8, *, n_nonzero_coefs=5, tol=1e-5, random_state=None):
        self.n_clusters = n_clusters
        self.n_nonzero_coefs = n_nonzero_coefs
        self.tol = tol
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
        X = normalize(validate_graph_data(self, X))
        coefs = self_representation(X, self.n_nonzero_coefs, self.tol)
        magnitudes = abs(normalize(coefs))
        self.affinity_matrix_ = (magnitudes + magnitudes.T) / 2
        self.labels_ = spectral_labels(
            self.affinity_matrix_, self.n_clusters, private_random_state(self)
        )
        return self
