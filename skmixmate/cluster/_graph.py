"""Affinity graphs of samples, and their spectral partition."""

import math

import numpy as np
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.validation import validate_data

from ..data.containers import as_numeric, as_numpy
from ._consensus import consensus_labels

# Below this many samples a full decomposition is as fast as Lanczos iterations
# and, unlike them, sure to end.
_DENSE_BELOW = 400

# Runs of k-means: fewer end in a partition worse than the best that they find.
_N_INIT = 50


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


def leading_eigenvectors(affinity, n_vectors, random_state, deflate=False):
    """Find the eigenvectors of the degree-normalised affinity.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_vectors : int
        At most n_samples are given.
    random_state : RandomState
    deflate : bool, default=False
        Whether to take off the one that tells nothing but the degrees. Of a graph
        in several pieces it is one of many with eigenvalue 1.

    Returns
    -------
    values : ndarray of shape (n_vectors,)
        The largest eigenvalues, in ascending order.
    vectors : ndarray of shape (n_samples, n_vectors)
    """
    normalized = degree_normalize(affinity)
    n_samples = normalized.shape[0]
    # A start of its own keeps ARPACK from drawing on the global random state.
    start = random_state.uniform(-1, 1, n_samples)
    if deflate:
        stationary = np.sqrt(affinity.sum(axis=1))[:, None]
        stationary /= np.linalg.norm(stationary) or 1.0
        column, row = map(sparse.linalg.aslinearoperator, (stationary, stationary.T))
        normalized = sparse.linalg.aslinearoperator(normalized) - column @ row
    if n_samples < max(_DENSE_BELOW, 4 * n_vectors):
        dense = normalized @ np.eye(n_samples, dtype=normalized.dtype)
        values, vectors = np.linalg.eigh(dense)
        return values[-n_vectors:], vectors[:, -n_vectors:]
    if deflate:
        return sparse.linalg.eigsh(normalized, k=n_vectors, which="LA", v0=start)
    # One start finds one vector of an eigenvalue, and of 1 there is one for each piece
    # of the graph.
    known = _vectors_of_pieces(affinity)[:, :n_vectors]
    values, vectors = np.ones(known.shape[1]), known
    if known.shape[1] < n_vectors:
        pieces = sparse.linalg.aslinearoperator(known)
        rest = sparse.linalg.aslinearoperator(normalized) - pieces @ pieces.T
        n_left = n_vectors - known.shape[1]
        found = sparse.linalg.eigsh(rest, k=n_left, which="LA", v0=start)
        values = np.concatenate([found[0], values])
        vectors = np.concatenate([found[1], vectors], axis=1)
    return values, vectors


def _vectors_of_pieces(affinity):
    """Eigenvectors of a graph's pieces, one each, the largest piece first."""
    n_pieces, pieces = sparse.csgraph.connected_components(affinity, directed=False)
    roots = np.sqrt(affinity.sum(axis=1))
    vectors = roots[:, None] * (pieces[:, None] == np.arange(n_pieces))
    vectors = vectors[:, np.argsort(-np.bincount(pieces), kind="stable")]
    norms = np.linalg.norm(vectors, axis=0)
    return vectors[:, norms > 0] / norms[norms > 0]  # nothing of lone samples


def spectral_labels(affinity, n_clusters, random_state, n_steps=None):
    """Cluster the nodes of a graph: k-means on row-normalised eigenvectors.

    Parameters
    ----------
    affinity : sparse array of shape (n_samples, n_samples)
        Symmetric and non-negative.
    n_clusters : int
    random_state : RandomState
    n_steps : int or None, default=None
        None for `n_clusters` eigenvectors, weighed alike, and the best of many runs;
        otherwise half as many again, weighed by what a random walk of so many steps
        leaves of them, and what the good runs agree on.

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    References
    ----------
    A. Ng, M. Jordan and Y. Weiss, On spectral clustering, NIPS 2001.

    R. Coifman and S. Lafon, Diffusion maps, Applied and Computational Harmonic
    Analysis 2006.
    """
    if n_steps is None:
        vectors = leading_eigenvectors(affinity, n_clusters, random_state)[1]
        kmeans = KMeans(n_clusters, n_init=_N_INIT, random_state=random_state)
        return kmeans.fit_predict(normalize(vectors))
    values, vectors = leading_eigenvectors(
        affinity, math.ceil(1.5 * n_clusters), random_state, deflate=True
    )
    points = normalize(vectors * values**n_steps)
    return consensus_labels(points, n_clusters, random_state)


def self_representation(X, n_nonzero_coefs, tol):
    """Write every sample as a sparse combination of the others.

    Orthogonal matching pursuit for all samples at once: a round takes, for
    each, the sample with the largest inner product with what is left of it,
    then fits all taken so far by least squares. Rows are not scaled to norm 1:
    of two samples in the same direction the longer one is taken. Everything is
    done on the Gram matrix.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_nonzero_coefs : int
        Number of rounds, at most ``n_samples - 1``.
    tol : float
        A sample is left as it is once its squared residual is no larger than
        this part of its squared norm.

    Returns
    -------
    coefs : csr_array of shape (n_samples, n_samples)
        ``X`` is about ``coefs @ X``; the diagonal is empty.
    """
    n_samples = len(X)
    n_rounds = min(n_nonzero_coefs, n_samples - 1)
    norms = np.linalg.norm(X, axis=1)
    active = np.flatnonzero(norms)  # samples that still have something left
    norms[norms == 0] = 1
    # Of unit rows, for well-conditioned systems; the norms come back at the end.
    gram = (X / norms[:, None]) @ (X / norms[:, None]).T
    support = np.zeros((n_samples, n_rounds), dtype=np.intp)
    coefs = np.zeros((n_samples, n_rounds), dtype=X.dtype)
    for size in range(1, n_rounds + 1):
        chosen, weights = support[active, : size - 1], coefs[active, : size - 1]
        left = 1 - np.einsum("ij,ij->i", weights, gram[active[:, None], chosen])
        keep = left > tol
        active, chosen, weights = active[keep], chosen[keep], weights[keep]
        if not len(active):
            break
        explained = _scatter(weights, chosen, n_samples) @ gram
        gains = np.abs(gram[active] - explained) * norms
        gains[np.arange(len(active)), active] = -1
        np.put_along_axis(gains, chosen, -1, axis=1)
        support[active, size - 1] = gains.argmax(axis=1)
        chosen = support[active, :size]  # (n_active, size)
        normal = gram[chosen[:, :, None], chosen[:, None, :]]
        target = gram[active[:, None], chosen]
        coefs[active, :size] = _solve(normal, target)
    matrix = _scatter(coefs * norms[:, None] / norms[support], support, n_samples)
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


def representation_affinity(X, n_nonzero_coefs, tol=1e-5):
    """Affinity of samples that take part in writing one another.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_nonzero_coefs : int
    tol : float
        As in :func:`self_representation`.

    Returns
    -------
    affinity : csr_array of shape (n_samples, n_samples)
        Mean of the absolute coefficients, rows scaled to norm 1, and of their
        transpose.

    References
    ----------
    E. Elhamifar and R. Vidal, Sparse subspace clustering: Algorithm, theory, and
    applications, IEEE TPAMI 2013.
    """
    magnitudes = abs(normalize(self_representation(X, n_nonzero_coefs, tol)))
    return (magnitudes + magnitudes.T) / 2


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
        estimator,
        as_numpy(as_numeric(X)),
        dtype=[np.float64, np.float32],
        ensure_min_samples=2,
    )
    if len(X) < estimator.n_clusters:
        raise ValueError(
            f"n_samples={len(X)} should be >= n_clusters={estimator.n_clusters}."
        )
    return X
