"""Scores of a clustering against known classes."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix
from sklearn.utils.validation import check_consistent_length, column_or_1d


def matching(
    labels_true: npt.ArrayLike, labels_pred: npt.ArrayLike
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Match classes with clusters one to one, maximizing the samples in common.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
    labels_pred : array-like of shape (n_samples,)

    Returns
    -------
    counts : ndarray of shape (n_classes, n_clusters)
        Number of samples of each class in each cluster, both in sorted order.
    pairs : tuple of two ndarrays of shape (min(n_classes, n_clusters),)
        Rows of `counts` and the columns that they are matched with, so that
        ``counts[pairs]`` are the numbers of samples in common.

    Raises
    ------
    ValueError
        If `labels_true` and `labels_pred` have different lengths, or are empty.

    Examples
    --------
    >>> from skmixmate.metrics import matching
    >>> counts, (rows, columns) = matching(["a", "a", "b", "b"], [7, 7, 7, 2])
    >>> counts.tolist(), rows.tolist(), columns.tolist()
    ([[0, 2], [1, 1]], [0, 1], [1, 0])
    """
    classes, clusters = column_or_1d(labels_true), column_or_1d(labels_pred)
    check_consistent_length(classes, clusters)
    if not len(classes):
        raise ValueError("labels_true is empty; pass at least one sample.")
    counts = contingency_matrix(classes, clusters)
    return counts, linear_sum_assignment(counts, maximize=True)


def clustering_accuracy_score(
    labels_true: npt.ArrayLike, labels_pred: npt.ArrayLike
) -> float:
    """Compute the accuracy under the best one-to-one matching of clusters and classes.

    Parameters
    ----------
    labels_true : array-like of shape (n_samples,)
        Known classes, of any type.
    labels_pred : array-like of shape (n_samples,)
        Clusters, of any type. There may be more or fewer clusters than classes;
        samples of unmatched clusters or classes count as wrong.

    Returns
    -------
    accuracy : float
        Fraction of the samples whose cluster is matched with their class, in (0, 1].

    Raises
    ------
    ValueError
        If `labels_true` and `labels_pred` have different lengths, or are empty.

    References
    ----------
    H. W. Kuhn, The Hungarian method for the assignment problem, 1955. This is
    "ACC" in the paper.

    Examples
    --------
    >>> from skmixmate import clustering_accuracy_score
    >>> clustering_accuracy_score(["a", "a", "b", "b"], [7, 7, 7, 2])
    0.75
    """
    counts, pairs = matching(labels_true, labels_pred)
    return float(counts[pairs].sum() / counts.sum())
