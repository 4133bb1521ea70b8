"""Consensus of many runs of k-means."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.preprocessing import OneHotEncoder

# Number of runs of k-means, and how many of lowest inertia form the ensemble.
_N_RUNS, _N_ENSEMBLE = 50, 20


def consensus_labels(
    points: np.ndarray, n_clusters: int, random_state: np.random.RandomState
) -> np.ndarray:
    """Cluster points by the consensus of many runs of k-means.

    If clusters are not well separated, k-means has many local optima of nearly the same
    inertia, and rounding errors decide which one is the best. The consensus of good
    runs is more stable. Therefore points are clustered again, by their labels in each
    of the good runs: the squared distance of two points is twice the number of runs
    in which they are in different clusters.

    Parameters
    ----------
    points : ndarray of shape (n_samples, n_features)
    n_clusters : int
    random_state : RandomState

    Returns
    -------
    labels : ndarray of shape (n_samples,)

    References
    ----------
    A. Fred and A. Jain, Combining multiple clusterings using evidence accumulation,
    IEEE TPAMI 27, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from skmixmate.cluster._consensus import consensus_labels
    >>> points = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> labels = consensus_labels(points, 2, np.random.RandomState(0))
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """
    runs = [
        KMeans(n_clusters, n_init=1, random_state=random_state).fit(points)
        for _ in range(_N_RUNS)
    ]
    runs.sort(key=lambda run: run.inertia_)
    # (n_samples, _N_ENSEMBLE)
    label_matrix = np.column_stack([run.labels_ for run in runs[:_N_ENSEMBLE]])
    one_hot = OneHotEncoder(dtype=points.dtype).fit_transform(label_matrix)
    kmeans = KMeans(n_clusters, n_init=_N_RUNS, random_state=random_state)
    labels: np.ndarray = kmeans.fit_predict(one_hot)
    return labels


def combine_clusterings(clusterings: list[np.ndarray], n_clusters: int) -> np.ndarray:
    """Cluster samples by their labels in a few clusterings.

    As in :func:`consensus_labels`, but k-means starts from each of the clusterings in
    turn, so that nothing is drawn.

    Parameters
    ----------
    clusterings : list of ndarray of shape (n_samples,)
    n_clusters : int

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        The first clustering, if none has `n_clusters` clusters.
    """
    label_matrix = np.column_stack(clusterings)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(label_matrix)
    runs = []
    for labels in clusterings:
        found = np.unique(labels)
        if len(found) == n_clusters:
            groups = [one_hot[labels == label] for label in found]
            centers = np.stack([group.mean(axis=0) for group in groups])
            runs.append(KMeans(n_clusters, init=centers, n_init=1).fit(one_hot))
    if not runs:
        return clusterings[0]
    best: np.ndarray = min(runs, key=lambda run: run.inertia_).labels_
    return best
