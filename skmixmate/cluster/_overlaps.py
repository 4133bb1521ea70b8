"""How much clusters overlap, from energies, and the tree in which they merge."""

import numpy as np

# Fraction of the samples that a cluster without samples counts as, and the least
# overlap, where the exponential of a margin is 0.
_LEAST_SIZE, _LEAST_OVERLAP = 1e-12, 1e-300


def median_margin(margins: np.ndarray) -> float:
    """Compute the median of the differences of the two lowest energies of a sample.

    Parameters
    ----------
    margins : ndarray of shape (n_samples, n_clusters)
        Energies above the lowest one of the sample.

    Returns
    -------
    margin : float
        0 if there is one cluster or no sample.
    """
    if margins.shape[1] < 2 or not len(margins):
        return 0.0
    return float(np.median(np.partition(margins, 1, axis=1)[:, 1]))


def soft_posterior(margins: np.ndarray, temperature: float) -> np.ndarray:
    r"""Soften the posterior of each sample by a temperature.

    Posteriors are often 0 and 1 to many digits, and tell nothing about which clusters
    are close. With a temperature of the scale of the margins,
    :math:`e^{-E_j / T} / \sum_k e^{-E_k / T}` is neither.

    Parameters
    ----------
    margins : ndarray of shape (n_samples, n_clusters)
        Energies above the lowest one of the sample.
    temperature : float
        At least 0.

    Returns
    -------
    posterior : float64 ndarray of shape (n_samples, n_clusters)
    """
    with np.errstate(over="ignore"):  # of a margin that is infinite at this scale
        scaled = margins / max(temperature, np.finfo(margins.dtype).tiny)
    posterior = np.exp(-scaled, dtype=np.float64)
    posterior /= posterior.sum(axis=1, keepdims=True)
    return posterior


def soft_overlaps(margins: np.ndarray, temperature: float) -> np.ndarray:
    """Sum the softened posteriors of the samples of each cluster.

    Parameters
    ----------
    margins, temperature
        As in :func:`soft_posterior`.

    Returns
    -------
    overlaps : ndarray of shape (n_clusters, n_clusters)
        Entry (i, j) is the sum for cluster j over the samples of cluster i, whose
        number is the sum of row i.
    """
    posterior, labels = soft_posterior(margins, temperature), margins.argmin(axis=1)
    clusters = range(margins.shape[1])
    return np.array([posterior[labels == k].sum(axis=0) for k in clusters])


def overlap_linkage(overlaps: np.ndarray) -> np.ndarray:
    r"""Merge the two clusters that overlap most, again and again.

    The overlap of two clusters is compared with that of clusters that have nothing to
    do with each other: with the sum :math:`S_{ij}` of :func:`soft_overlaps`, as a
    fraction of all samples, and the sizes :math:`\pi_i = \sum_j S_{ij}`, it is
    :math:`r_{ij} = (S_{ij} + S_{ji}) / (2 \pi_i \pi_j)`. The distance is
    :math:`\log(1 + 1 / r_{ij})`. The posterior of a merged cluster is the sum of those
    of its parts, and so are its rows and columns of :math:`S`: its :math:`r` is a
    weighted mean.

    Parameters
    ----------
    overlaps : ndarray of shape (n_clusters, n_clusters)
        From :func:`soft_overlaps`, or a multiple.

    Returns
    -------
    linkage : ndarray of shape (n_clusters - 1, 4)
        In the format of :func:`scipy.cluster.hierarchy.linkage`: the two clusters or
        earlier merges, the distance, which does not decrease, and the number of
        clusters in the merge.

    Examples
    --------
    >>> import numpy as np
    >>> from skmixmate.cluster._overlaps import overlap_linkage
    >>> overlaps = np.array([[40, 5, 0], [5, 40, 0], [0, 1, 9]])
    >>> overlap_linkage(overlaps).round(1)
    array([[0. , 1. , 1.6, 2. ],
           [2. , 3. , 2.9, 3. ]])
    """
    overlaps = overlaps / overlaps.sum()
    sizes = np.maximum(overlaps.sum(axis=1), _LEAST_SIZE)
    is_empty = overlaps.sum(axis=1) == 0
    shared = (overlaps + overlaps.T) / 2  # (n_clusters, n_clusters)
    nodes = [(k, 1) for k in range(len(sizes))]  # numbers, and clusters in them
    linkage: list[tuple[int, int, float, int]] = []
    while len(nodes) > 1:
        ratios = np.maximum(shared, _LEAST_OVERLAP) / np.outer(sizes, sizes)
        # A cluster without samples merges first.
        ratios[is_empty[:, None] | is_empty] += 1 / _LEAST_SIZE
        np.fill_diagonal(ratios, -np.inf)
        first, second = sorted(np.unravel_index(ratios.argmax(), ratios.shape))
        distance = float(np.log1p(1 / ratios[first, second]))
        if linkage:  # rounding may lower it
            distance = max(distance, linkage[-1][2])
        (a, n_a), (b, n_b) = nodes[first], nodes.pop(second)
        nodes[first] = len(overlaps) + len(linkage), n_a + n_b
        linkage.append((min(a, b), max(a, b), distance, n_a + n_b))
        shared[first] += shared[second]
        shared[:, first] += shared[:, second]
        sizes[first] += sizes[second]
        shared = np.delete(np.delete(shared, second, axis=0), second, axis=1)
        sizes = np.delete(sizes, second)
        is_empty[first] &= is_empty[second]
        is_empty = np.delete(is_empty, second)
    return np.array(linkage, dtype=np.float64).reshape(-1, 4)
