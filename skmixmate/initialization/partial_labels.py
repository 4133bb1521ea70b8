"""Initial clusters where the classes of some rows are known."""

import numpy as np

# Rows, at least, that stand for a cluster of which no label is known.
_N_SEEDS = 10


def add_seeds(
    labels: np.ndarray,
    clusters: np.ndarray,
    n_clusters: int,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """Choose rows that stand for the clusters of which no label is known.

    They are drawn from the clusters, found without labels, that have the smallest
    fraction of labelled rows: the structure that the labelled ones do not explain.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Known clusters, -1 where unknown.
    clusters : ndarray of shape (n_clustered,)
        Clusters of the first rows, found without labels; -1 for rows of no cluster.
    n_clusters : int
    random_state : RandomState

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        With as many rows of each such cluster as the labelled ones have in the median,
        and at least 10, if there are as many.
    """
    counts = np.bincount(labels[labels >= 0], minlength=n_clusters)
    n_seeds = max(_N_SEEDS, int(np.median(counts[counts > 0])))
    is_known = labels[: len(clusters)] >= 0
    n_known = np.bincount(clusters[is_known & (clusters >= 0)], minlength=n_clusters)
    sizes = np.bincount(clusters[clusters >= 0], minlength=n_clusters)
    order = np.argsort(n_known / np.maximum(sizes, 1), kind="stable")
    labels = labels.copy()
    for label, cluster in zip(np.flatnonzero(counts == 0), order, strict=False):
        candidates = np.flatnonzero((clusters == cluster) & ~is_known)
        labels[random_state.permutation(candidates)[:n_seeds]] = label
    return labels
