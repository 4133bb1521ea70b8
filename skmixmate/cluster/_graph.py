"""Affinity graphs of samples, and spectral clustering of them."""

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.validation import validate_data

from ..data.containers import as_numeric, as_numpy
from ..utils.threads import single_blas_thread
from ._consensus import consensus_labels

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


def nearest_neighbors(X: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest neighbours of each sample, itself excluded.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_neighbors : int
        At most n_samples - 1 are found.

    Returns
    -------
    distances, indices : ndarray of shape (n_samples, n_neighbors)
        In ascending order of the distance.
    """
    n_neighbors = min(n_neighbors, len(X) - 1)
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(X)
    distances, indices = search.kneighbors()
    return distances, indices


def angular_neighbors(X: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the samples that point in the most similar or most opposite directions.

    Samples of a linear subspace, such as sparse combinations of a few atoms, are near
    others in direction, even if they are far away or on the other side of the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Centred.
    n_neighbors : int
        At most n_samples - 1 are found.

    Returns
    -------
    distances, indices : ndarray of shape (n_samples, n_neighbors)
        In ascending order of the distance, between points where the lines through
        samples and the origin meet the unit sphere.

    References
    ----------
    R. Heckel and H. Boelcskei, Robust subspace clustering via thresholding, IEEE
    Transactions on Information Theory 61, 2015.
    """
    directions = normalize(X)
    squares = 2 - 2 * np.abs(directions @ directions.T)  # (n_samples, n_samples)
    np.fill_diagonal(squares, np.inf)
    n_neighbors = min(n_neighbors, len(X) - 1)
    indices = np.argpartition(squares, n_neighbors - 1, axis=1)[:, :n_neighbors]
    nearest = np.take_along_axis(squares, indices, axis=1).clip(min=0)
    order = nearest.argsort(axis=1)
    return (
        np.sqrt(np.take_along_axis(nearest, order, axis=1)),
        np.take_along_axis(indices, order, axis=1),
    )


def self_tuning_affinity(
    distances: np.ndarray, indices: np.ndarray, decay: float = 0.0
) -> sparse.csr_array:
    """Compute the affinity of nearest neighbours, with a local scale for each sample.

    Parameters
    ----------
    distances, indices : ndarray of shape (n_samples, n_neighbors)
        Of the neighbours of each sample, in ascending order of the distance. The local
        scale of a sample is the distance to the last of them.
    decay : float, default=0.0
        Neighbour r of n counts less by the factor ``exp(-decay * r / n)``, where r is 0
        for the nearest. In many dimensions the distances to all neighbours are nearly
        the same, and only their order tells which are more likely of the same cluster.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        Symmetric, in [0, 1], with an empty diagonal.

    References
    ----------
    L. Zelnik-Manor and P. Perona, Self-tuning spectral clustering, NIPS 2004.
    """
    n_samples, n_neighbors = distances.shape
    local_scales = distances[:, -1]
    products = local_scales[:, None] * local_scales[indices]
    # Samples that coincide have local scale 0 and affinity 1.
    products = np.where(products > 0, products, 1.0)
    decays = decay * np.arange(n_neighbors) / n_neighbors
    values = np.exp(-(distances**2) / products - decays)
    indptr = np.arange(0, n_samples * n_neighbors + 1, n_neighbors)
    affinity = sparse.csr_array(
        (values.ravel(), indices.ravel(), indptr), shape=(n_samples, n_samples)
    )
    return (affinity + affinity.T) / 2


def degree_normalize(affinity: sparse.csr_array) -> sparse.csr_array:
    """Divide each entry by the square roots of the degrees of both nodes.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative. Rows and columns of nodes without neighbours remain
        0.

    Returns
    -------
    normalized : csr_array of shape (n_samples, n_samples)
        The identity minus the normalised Laplacian; its eigenvalues are in [-1, 1].
    """
    degrees = affinity.sum(axis=1)
    inverse = sparse.diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)))
    return (inverse @ affinity @ inverse).tocsr()


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
    diffusion_time: int | None = None,
) -> np.ndarray:
    """Cluster the nodes of a graph by k-means on row-normalised eigenvectors.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_clusters : int
    random_state : RandomState
    diffusion_time : int or None, default=None
        With None, the best of many runs of k-means on `n_clusters` eigenvectors of
        equal weight. Otherwise the consensus of the good runs on 1.5 times as many
        eigenvectors, weighted by their eigenvalues to the power of `diffusion_time`,
        as after this number of steps of a random walk.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    References
    ----------
    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.

    R. Coifman and S. Lafon, Diffusion maps, Applied and Computational Harmonic
    Analysis 2006.
    """
    points = spectral_embedding(affinity, n_clusters, random_state, diffusion_time)
    if diffusion_time is not None:
        return consensus_labels(points, n_clusters, random_state)
    kmeans = KMeans(n_clusters, n_init=_N_INIT, random_state=random_state)
    labels: np.ndarray = kmeans.fit_predict(points)
    return labels


def spectral_embedding(
    affinity: sparse.csr_array,
    n_clusters: int,
    random_state: np.random.RandomState,
    diffusion_time: int | None = None,
) -> np.ndarray:
    """Compute the rows of leading eigenvectors, scaled to norm 1.

    Parameters
    ----------
    affinity, n_clusters, random_state, diffusion_time
        As in :func:`spectral_labels`.

    Returns
    -------
    points : ndarray of shape (n_samples, n_vectors)
    """
    if diffusion_time is None:
        vectors = leading_eigenvectors(affinity, n_clusters, random_state)[1]
        return normalize(vectors)
    values, vectors = leading_eigenvectors(
        affinity, math.ceil(1.5 * n_clusters), random_state, deflate=True
    )
    return normalize(vectors * values**diffusion_time)


def self_representation(
    X: np.ndarray, n_nonzero_coefs: int, tol: float
) -> sparse.csr_array:
    """Approximate every sample by a sparse linear combination of the others.

    Orthogonal matching pursuit for all samples at once: each round selects, for
    each sample, the sample with the largest inner product with its residual, and then
    fits all selected samples by least squares. Rows are not scaled to norm 1:
    of two samples in the same direction the one of larger norm is selected. All
    computations use the Gram matrix only.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_nonzero_coefs : int
        Number of rounds, at most ``n_samples - 1``.
    tol : float
        The pursuit of a sample stops when its squared residual is at most this
        fraction of its squared norm.

    Returns
    -------
    coefs : csr_array of shape (n_samples, n_samples)
        ``X`` is about ``coefs @ X``; the diagonal is empty.
    """
    n_samples = len(X)
    n_rounds = min(n_nonzero_coefs, n_samples - 1)
    norms = np.linalg.norm(X, axis=1)
    active = np.flatnonzero(norms)  # samples whose residual is not yet small
    norms[norms == 0] = 1
    # Rows are scaled to norm 1 for well-conditioned systems, and rescaled at the end.
    gram = (X / norms[:, None]) @ (X / norms[:, None]).T
    support = np.zeros((n_samples, n_rounds), dtype=np.intp)
    coefs = np.zeros((n_samples, n_rounds), dtype=X.dtype)
    for size in range(1, n_rounds + 1):
        selected, weights = support[active, : size - 1], coefs[active, : size - 1]
        explained = np.einsum("ij,ij->i", weights, gram[active[:, None], selected])
        is_large = 1 - explained > tol  # the squared residual
        active, selected = active[is_large], selected[is_large]
        weights = weights[is_large]
        if not len(active):
            break
        approximation = _csr_from_rows(weights, selected, n_samples) @ gram
        correlations = np.abs(gram[active] - approximation) * norms
        correlations[np.arange(len(active)), active] = -1
        np.put_along_axis(correlations, selected, -1, axis=1)
        support[active, size - 1] = correlations.argmax(axis=1)
        selected = support[active, :size]  # (n_active, size)
        normal_matrix = gram[selected[:, :, None], selected[:, None, :]]
        target = gram[active[:, None], selected]
        coefs[active, :size] = _solve(normal_matrix, target)
    coefs = coefs * norms[:, None] / norms[support]
    matrix = _csr_from_rows(coefs, support, n_samples)
    matrix.eliminate_zeros()
    return matrix


def _csr_from_rows(
    values: np.ndarray, columns: np.ndarray, n_columns: int
) -> sparse.csr_array:
    """Build a sparse array that has the same number of entries in every row.

    Parameters
    ----------
    values, columns : ndarrays of shape (n_rows, n_entries)
    n_columns : int

    Returns
    -------
    matrix : csr_array of shape (n_rows, n_columns)
    """
    n_rows, n_entries = values.shape
    indptr = np.arange(n_rows + 1) * n_entries
    return sparse.csr_array(
        (values.ravel(), columns.ravel(), indptr), shape=(n_rows, n_columns)
    )


def _solve(normal: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Solve the normal equations of unit rows.

    Parameters
    ----------
    normal : ndarray of shape (n_systems, size, size)
    target : ndarray of shape (n_systems, size)

    Returns
    -------
    coefs : ndarray of shape (n_systems, size)
    """
    # The trace of a Gram matrix of unit rows is its size. A jitter of the order of
    # its rounding error keeps systems with identical rows regular.
    size = normal.shape[-1]
    jitter = size * np.finfo(normal.dtype).eps * np.eye(size, dtype=normal.dtype)
    coefs: np.ndarray = np.linalg.solve(normal + jitter, target[..., None])[..., 0]
    return coefs


def representation_affinity(
    X: np.ndarray, n_nonzero_coefs: int, tol: float = 1e-5, power: float = 1.0
) -> sparse.csr_array:
    """Compute the affinity of samples that represent one another.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_nonzero_coefs : int
    tol : float
        See :func:`self_representation`.
    power : float, default=1.0
        Of the absolute coefficients. With a larger one small coefficients, which are
        more often of other clusters, count less.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        Mean of the absolute coefficients to this power, rows first scaled to norm 1,
        and of their transpose.

    References
    ----------
    E. Elhamifar and R. Vidal, Sparse subspace clustering: Algorithm, theory, and
    applications, IEEE TPAMI 2013.
    """
    coefs = normalize(self_representation(X, n_nonzero_coefs, tol))
    magnitudes = abs(coefs) ** power
    return (magnitudes + magnitudes.T) / 2


def validate_graph_data(estimator: Any, X: npt.ArrayLike) -> np.ndarray:
    """Check the samples of a graph clustering.

    Parameters
    ----------
    estimator : estimator with a parameter `n_clusters`
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    """
    samples: np.ndarray = validate_data(
        estimator,
        as_numpy(as_numeric(X)),
        dtype=[np.float64, np.float32],
        ensure_min_samples=2,
    )
    if len(samples) < estimator.n_clusters:
        raise ValueError(
            f"n_samples={len(samples)} should be >= n_clusters={estimator.n_clusters}."
        )
    return samples
