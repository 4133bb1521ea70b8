"""k-means without the luck of a single run."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.preprocessing import OneHotEncoder

# Runs of k-means, and how many of them, those of least inertia, have a say.
_N_RUNS, _N_HEARD = 50, 20


def consensus_labels(points, n_clusters, random_state):
    """Cluster points by what many runs of k-means make of them.

    Where clusters are not clear, k-means has many ends of nearly the same inertia, and
    which of them is least is luck: rounding decides. What good runs agree on is not. So
    points are clustered once more, by the clusters that each of the good runs put them
    into: the squared distance of two is the number of runs that part them, twice.

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
    opinions = np.column_stack([run.labels_ for run in runs[:_N_HEARD]])
    members = OneHotEncoder(dtype=points.dtype).fit_transform(opinions)
    kmeans = KMeans(n_clusters, n_init=_N_RUNS, random_state=random_state)
    return kmeans.fit_predict(members)
