"""Classes of samples by the classes of their nearest neighbours."""

from collections.abc import Sequence
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

# Share of a class above which all neighbours are of this class, up to rounding.
_UNANIMOUS = 0.99


class NeighborClassifier:
    """Classify samples by their neighbours, where the clusters of others are known.

    Neighbours are found in principal components that are mapped so that all directions
    have the same variance within clusters, by the angle between them. Samples whose own
    neighbours are mostly of another class are not used: their class is often wrong, and
    variants of a sample would repeat the error. Any other sample that was fitted is a
    neighbour of itself.

    Parameters
    ----------
    n_classes : int
    random_state : RandomState

    References
    ----------
    D. L. Wilson, Asymptotic properties of nearest neighbor rules using edited data,
    IEEE Transactions on Systems, Man, and Cybernetics 1972.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate.cluster._votes import NeighborClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = NeighborClassifier(10, np.random.RandomState(0))
    >>> probabilities = classifier.fit(X[:1000], y[:1000]).predict_proba(X[1000:])
    >>> round(float(np.mean(probabilities.argmax(axis=1) == y[1000:])), 2)
    0.94
    """

    def __init__(self, n_classes: int, random_state: np.random.RandomState) -> None:
        self.n_classes = n_classes
        self.random_state = random_state

    def fit(
        self, X: np.ndarray, labels: np.ndarray, variants: Sequence[np.ndarray] = ()
    ) -> Self:
        """Keep the samples whose neighbours agree with their classes.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.
        labels : int ndarray of shape (n_samples,)
            Classes, 0 to n_classes - 1.
        variants : sequence of ndarray of shape (n_samples, n_features)
            The samples, changed in ways that leave their classes as they are. They
            vote, too, on samples whose neighbours among `X` disagree.

        Returns
        -------
        self : object
        """
        self._pca = PrincipalComponents(self.random_state).fit(X)
        components = self._pca.transform(X)
        self._map = whiten_within(components, labels, power=1).astype(X.dtype)
        points = self._points(components)
        is_kept = _is_supported(points, labels, self.n_classes)
        # The samples come first, then their variants.
        kept = [points[is_kept]]
        kept += [self._points(self._pca.transform(each[is_kept])) for each in variants]
        self._n_samples, self._reference = len(kept[0]), np.concatenate(kept)
        one_hot = np.eye(self.n_classes)[labels[is_kept]]
        self._one_hot = np.tile(one_hot, (len(kept), 1))
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
        points, samples = self._points(self._pca.transform(X)), slice(self._n_samples)
        means = vote(points, self._reference[samples], self._one_hot[samples])
        is_split = means.max(axis=1) < _UNANIMOUS
        if len(self._reference) > self._n_samples and is_split.any():
            means[is_split] = vote(points[is_split], self._reference, self._one_hot)
        return means

    def _points(self, components: np.ndarray) -> np.ndarray:
        """Return the points whose neighbours are found."""
        points: np.ndarray = normalize(multiply(components, self._map))
        return points


def _is_supported(points: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return whether most neighbours of samples have the same class.

    At most as many neighbours vote as there are other samples in a class of median
    size. Classes that would lose all samples keep them.
    """
    _, counts = np.unique(labels, return_counts=True)
    n_neighbors = min(N_NEIGHBORS, int(np.median(counts)) - 1)
    if n_neighbors < 1:
        return np.ones(len(labels), dtype=bool)
    one_hot = np.eye(n_classes)[labels]
    votes = vote(points, points, one_hot, n_neighbors, excludes_self=True)
    is_supported: np.ndarray = votes.argmax(axis=1) == labels
    return is_supported | ~np.isin(labels, labels[is_supported])


def vote(
    points: np.ndarray,
    reference: np.ndarray,
    probabilities: np.ndarray,
    n_neighbors: int = N_NEIGHBORS,
    excludes_self: bool = False,
) -> np.ndarray:
    """Average probabilities over the nearest neighbours of points.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_features)
    reference : ndarray of shape (n_reference, n_features)
        Points among which neighbours are found.
    probabilities : ndarray of shape (n_reference, n_classes)
    n_neighbors : int, default=N_NEIGHBORS
        All of `reference`, if there are fewer.
    excludes_self : bool, default=False
        Whether `points` are the references, and point i is no neighbour of itself.
        There are more references than neighbours then.

    Returns
    -------
    means : ndarray of shape (n_points, n_classes)
        A neighbour at the distance of the farthest one has a weight of 1 / e, relative
        to one at the same place.
    """
    means = np.empty((len(points), probabilities.shape[1]))
    transposed = torch.from_numpy(reference).T.contiguous()
    offsets = transposed.square().sum(dim=0) / -2
    n_neighbors = min(n_neighbors, len(reference))
    for start in range(0, len(points), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        rows = torch.from_numpy(points[chunk])
        # Half of the squared norm of the row, minus half of the squared distance.
        similarities = torch.addmm(offsets, rows, transposed)
        if excludes_self:
            similarities.diagonal(start).fill_(-torch.inf)
        found, indices = torch.topk(similarities, n_neighbors)
        halves = rows.square().sum(dim=1, keepdim=True) / 2 - found
        squares = halves.clamp_(min=0).numpy()
        local_scales = np.where(squares[:, -1:] > 0, squares[:, -1:], 1.0)
        weights = normalize(np.exp(-squares / local_scales), norm="l1")
        neighbors = probabilities[indices.numpy()]  # (n_rows, n_neighbors, n_classes)
        means[chunk] = np.einsum("ij,ijk->ik", weights, neighbors)
    return means
