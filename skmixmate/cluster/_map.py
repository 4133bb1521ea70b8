"""Places of clusters and samples in two dimensions, from energies alone."""

import numpy as np

from ._overlaps import median_margin, soft_posterior


def map_points(energies: np.ndarray) -> np.ndarray:
    """Place each sample between the clusters that fit it best.

    Clusters are placed by classical multidimensional scaling, and each sample at a
    weighted mean of the places of the clusters.

    Parameters
    ----------
    energies : float64 ndarray of shape (n_samples, n_clusters)
        Of at least two clusters.

    Returns
    -------
    points : ndarray of shape (n_samples, 2)

    References
    ----------
    W. S. Torgerson, Multidimensional scaling: I. Theory and method, Psychometrika 17,
    1952.
    """
    points: np.ndarray = _weights(energies) @ _place_clusters(energies)
    return points


def _weights(energies: np.ndarray) -> np.ndarray:
    """Compute weights of the clusters that are softer than their probabilities.

    Parameters
    ----------
    energies : ndarray of shape (n_samples, n_clusters)

    Returns
    -------
    weights : ndarray of shape (n_samples, n_clusters)
        For a sample of median margin the weight of its cluster is e times that of the
        next one.
    """
    margins = energies - energies.min(axis=1, keepdims=True)
    return soft_posterior(margins, median_margin(margins))


def _place_clusters(energies: np.ndarray) -> np.ndarray:
    """Place clusters by classical multidimensional scaling.

    Parameters
    ----------
    energies : ndarray of shape (n_samples, n_clusters)

    Returns
    -------
    places : ndarray of shape (n_clusters, 2)
        Squared distances approximate the mean differences of energy. Clusters without
        samples are judged by the samples of the others.
    """
    n_clusters = energies.shape[1]
    members = np.eye(n_clusters)[energies.argmin(axis=1)].T  # (n_clusters, n_samples)
    sizes = members.sum(axis=1)
    own = (energies.T * members).sum(axis=1, keepdims=True)
    differences = (members @ energies - own) / sizes.clip(min=1)[:, None]
    # Where both clusters have samples, the mean of both; otherwise the one there is.
    n_judges = (sizes > 0).astype(int) + (sizes > 0)[:, None]
    squares = (differences + differences.T) / n_judges.clip(min=1)
    squares[n_judges == 0] = squares.max()
    np.fill_diagonal(squares, 0)
    centering = np.eye(n_clusters) - 1 / n_clusters
    values, vectors = np.linalg.eigh(-centering @ squares @ centering / 2)
    places: np.ndarray = vectors[:, :-3:-1] * np.sqrt(values[:-3:-1].clip(min=0))
    return places
