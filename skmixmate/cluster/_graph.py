"""Affinity graphs of samples."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils.validation import validate_data

from ..data.containers import as_numeric, as_numpy


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
