"""Classes of samples by the classes of their nearest neighbours."""

from typing import Self

import numpy as np
import torch
from sklearn.preprocessing import normalize

from ..data.containers import multiply
from ._whitening import PrincipalComponents, whiten_within

# Neighbours that vote.
N_NEIGHBORS = 10

# Points whose neighbours are found at a time.
_CHUNK_ROWS = 256


class NeighborClassifier:
    """Classify samples by their neighbours, where the clusters of others are known.

    Neighbours are found in principal components that are mapped so that all directions
    have the same variance within clusters, by the angle between them. A sample that was
    fitted is a neighbour of itself.

    Parameters
    ----------
    n_classes : int
    random_state : RandomState

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate.cluster._votes import NeighborClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = NeighborClassifier(10, np.random.RandomState(0))
    >>> probabilities = classifier.fit(X[:1000], y[:1000]).predict_proba(X[1000:])
    >>> round(float(np.mean(probabilities.argmax(axis=1) == y[1000:])), 2)
    0.95
    """

    def __init__(self, n_classes: int, random_state: np.random.RandomState) -> None:
        self.n_classes = n_classes
        self.random_state = random_state

    def fit(self, X: np.ndarray, labels: np.ndarray) -> Self:
        """Keep samples whose classes are known, and find the metric.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.
        labels : int ndarray of shape (n_samples,)
            Classes, 0 to n_classes - 1.

        Returns
        -------
        self : object
        """
        self._pca = PrincipalComponents(self.random_state).fit(X)
        components = self._pca.transform(X)
        self._map = whiten_within(components, labels, power=1).astype(X.dtype)
        self._reference: np.ndarray = normalize(multiply(components, self._map))
        self._one_hot = np.eye(self.n_classes)[labels]
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Compute the shares of the classes among the neighbours of samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        points = normalize(multiply(self._pca.transform(X), self._map))
        return vote(points, self._reference, self._one_hot)


def vote(
    points: np.ndarray, reference: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    """Average probabilities over the nearest neighbours of points.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
    reference : ndarray of shape (n_reference, n_features)
        Points among which neighbours are found.
    probabilities : ndarray of shape (n_reference, n_classes)

    Returns
    -------
    means : ndarray of shape (n_points, n_classes)
        A neighbour at the distance of the farthest one has a weight of 1 / e, relative
        to one at the same place.
    """
    means = np.empty((len(points), probabilities.shape[1]))
    transposed = torch.from_numpy(reference).T.contiguous()
    offsets = transposed.square().sum(dim=0) / -2
    n_neighbors = min(N_NEIGHBORS, len(reference))
    for start in range(0, len(points), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        rows = torch.from_numpy(points[chunk])
        # Half of the squared norm of the row, minus half of the squared distance.
        similarities = torch.addmm(offsets, rows, transposed)
        found, indices = torch.topk(similarities, n_neighbors)
        halves = rows.square().sum(dim=1, keepdim=True) / 2 - found
        squares = halves.clamp_(min=0).numpy()
        local_scales = np.where(squares[:, -1:] > 0, squares[:, -1:], 1.0)
        weights = normalize(np.exp(-squares / local_scales), norm="l1")
        neighbors = probabilities[indices.numpy()]  # (n_rows, n_neighbors, n_classes)
        means[chunk] = np.einsum("ij,ijk->ik", weights, neighbors)
    return means
