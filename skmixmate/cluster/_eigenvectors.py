"""Eigenvectors of affinity graphs, and clusters of them."""

import math
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.preprocessing import normalize

from ..utils.threads import single_blas_thread
from ._consensus import consensus_labels
from ._graph import degree_normalize

# With fewer samples than this a full decomposition is as fast as Lanczos iterations
# and, unlike them, always converges.
_DENSE_BELOW = 400

# Smallest weight of an edge between degree-normalised nodes. Of weaker edges, rounding
# errors of the eigenvalues leave nothing; but to Lanczos iterations, parts of the graph
# that only they connect have eigenvalues near 1 that differ.
_NEGLIGIBLE = 1e-10

# Relative tolerances of eigenvalues that are tried in turn, the first one machine
# epsilon, and restarts of the Lanczos iterations for each; below a hundred are usual.
_TOLERANCES, _MAX_RESTARTS = (0.0, 1e-6, 1e-3), 1000

# Number of runs of k-means. With fewer runs the best one is often not found.
_N_INIT = 50

# Eigenvectors per cluster, and steps of a walk if their number is "auto"; both of a
# longer walk, if all these eigenvalues are above _SLOW.
_N_VECTORS, _N_STEPS = 1.5, 4
_N_LONG_VECTORS, _N_LONG_STEPS, _SLOW = 3.0, 16, 0.9


def leading_eigenvectors(
    affinity: sparse.csr_array,
    n_vectors: int,
    random_state: np.random.RandomState,
    deflate: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the leading eigenvectors of the degree-normalised affinity.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_vectors : int
        At most n_samples are returned.
    random_state : RandomState
    deflate : bool, default=False
        Whether to deflate the trivial eigenvector, the square root of the degrees. If
        the graph has several connected components it is one of several eigenvectors
        with eigenvalue 1.

    Returns
    -------
    values : ndarray of shape (n_vectors,)
        The largest eigenvalues, in ascending order.
    vectors : ndarray of shape (n_samples, n_vectors)
    """
    affinity, normalized = _without_negligible_edges(affinity)
    n_samples = normalized.shape[0]
    # With an explicit start ARPACK does not draw from the global random state.
    start = random_state.uniform(-1, 1, n_samples)
    # Lanczos iterations find one vector of each eigenvalue, but the eigenvalue 1 has
    # one for each connected component.
    known = _component_eigenvectors(affinity)
    if deflate:
        known = _with_stationary_first(known, affinity)
    if n_samples < max(_DENSE_BELOW, 4 * n_vectors):
        dense = normalized.toarray()
        if deflate:
            dense -= known[:, :1] @ known[:, :1].T
        values, vectors = np.linalg.eigh(dense)
        return values[-n_vectors:], vectors[:, -n_vectors:]
    vectors = known[:, deflate:][:, :n_vectors]
    values = np.ones(vectors.shape[1])
    n_remaining = n_vectors - vectors.shape[1]
    if n_remaining > 0:
        # One function instead of sums and products of operators, which take longer than
        # the products themselves.
        deflated = sparse.linalg.LinearOperator(
            normalized.shape,
            matvec=lambda vector: normalized @ vector - known @ (known.T @ vector),
            dtype=normalized.dtype,
        )
        with single_blas_thread():  # for vectors, not matrices
            more_values, more_vectors = _lanczos(deflated, n_remaining, start)
        values = np.concatenate([more_values, values])
        vectors = np.concatenate([more_vectors, vectors], axis=1)
    return values, vectors


def _lanczos(
    matrix: sparse.linalg.LinearOperator, n_vectors: int, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the largest eigenvalues and their vectors by Lanczos iterations.

    Iterations do not separate eigenvalues that are nearly equal, as where weak edges
    connect many parts of a graph. Any vectors of their subspace do then.
    """
    solve = partial(sparse.linalg.eigsh, matrix, n_vectors, which="LA", v0=start)
    for tol in _TOLERANCES[:-1]:
        try:
            return solve(tol=tol, maxiter=_MAX_RESTARTS)
        except sparse.linalg.ArpackNoConvergence:
            continue
    return solve(tol=_TOLERANCES[-1])


def _without_negligible_edges(
    affinity: sparse.csr_array,
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Remove the edges between parts of the graph that are as good as unconnected.

    Returns the affinity and the degree-normalised affinity.
    """
    normalized = degree_normalize(affinity)
    is_kept = normalized.data >= _NEGLIGIBLE
    if is_kept.all():
        return affinity, normalized
    normalized.data = is_kept.astype(affinity.dtype)
    affinity = (affinity * normalized).tocsr()
    return affinity, degree_normalize(affinity)


def _with_stationary_first(
    vectors: np.ndarray, affinity: sparse.csr_array
) -> np.ndarray:
    """Rotate the eigenvectors of eigenvalue 1 so that the first is the trivial one."""
    stationary = np.sqrt(affinity.sum(axis=1))[:, None]
    if vectors.shape[1] < 2:
        return stationary / (np.linalg.norm(stationary) or 1.0)
    rotated: np.ndarray = np.linalg.qr(np.hstack([stationary, vectors[:, 1:]]))[0]
    return rotated


def _component_eigenvectors(affinity: sparse.csr_array) -> np.ndarray:
    """Compute the eigenvectors with eigenvalue 1, one for each connected component.

    Returns
    -------
    vectors : ndarray of shape (n_samples, n_components)
        The largest component is first. Isolated nodes have no vector.
    """
    n_components, components = sparse.csgraph.connected_components(
        affinity, directed=False
    )
    sqrt_degrees = np.sqrt(affinity.sum(axis=1))
    vectors = sqrt_degrees[:, None] * (components[:, None] == np.arange(n_components))
    vectors = vectors[:, np.argsort(-np.bincount(components), kind="stable")]
    norms = np.linalg.norm(vectors, axis=0)
    eigenvectors: np.ndarray = vectors[:, norms > 0] / norms[norms > 0]
    return eigenvectors


def spectral_labels(
    affinity: sparse.csr_array,
    n_clusters: int,
    random_state: np.random.RandomState,
    n_steps: int | str | None = None,
) -> np.ndarray:
    """Cluster the nodes of a graph by k-means on row-normalised eigenvectors.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_clusters : int
    random_state : RandomState
    n_steps : int, "auto" or None, default=None
        With None, the best of many runs of k-means on `n_clusters` eigenvectors of
        equal weight. Otherwise the consensus of the good runs on more eigenvectors,
        weighted as after this number of steps of a random walk.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    References
    ----------
    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.

    R. Coifman and S. Lafon, Diffusion maps, Applied and Computational Harmonic
    Analysis 2006.
    """
    points = spectral_embedding(affinity, n_clusters, random_state, n_steps)
    if n_steps is not None:
        return consensus_labels(points, n_clusters, random_state)
    kmeans = KMeans(n_clusters, n_init=_N_INIT, random_state=random_state)
    labels: np.ndarray = kmeans.fit_predict(points)
    return labels


def spectral_embedding(
    affinity: sparse.csr_array,
    n_clusters: int,
    random_state: np.random.RandomState,
    n_steps: int | str | None = None,
) -> np.ndarray:
    """Compute the rows of leading eigenvectors, scaled to norm 1.

    Parameters
    ----------
    affinity, n_clusters, random_state
        As in :func:`spectral_labels`.
    n_steps : int, "auto" or None, default=None
        With None, `n_clusters` eigenvectors. With an int, 1.5 times as many, multiplied
        by their eigenvalues to this power. "auto" is 4, unless a walk takes so many
        steps to mix within clusters that eigenvectors that are left out count nearly as
        much as the last ones: then it is 16, with twice as many eigenvectors.

    Returns
    -------
    points : ndarray of shape (n_samples, n_vectors)
    """
    if n_steps is None:
        vectors = leading_eigenvectors(affinity, n_clusters, random_state)[1]
        return normalize(vectors)

    def leading(n_per_cluster: float) -> tuple[np.ndarray, np.ndarray]:
        n_vectors = math.ceil(n_per_cluster * n_clusters)
        return leading_eigenvectors(affinity, n_vectors, random_state, deflate=True)

    values, vectors = leading(_N_VECTORS)
    if isinstance(n_steps, str):
        n_steps = _N_STEPS
        if values[0] > _SLOW:
            values, vectors = leading(_N_LONG_VECTORS)
            n_steps = _N_LONG_STEPS
    return normalize(vectors * values**n_steps)
