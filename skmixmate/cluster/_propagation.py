"""Classes of a few samples, propagated to all others over a graph."""

from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from ._graph import nearest_neighbors, self_tuning_affinity

# Neighbours of each sample, and steps of the walk: far more than it takes on average.
_N_NEIGHBORS, _N_STEPS = 10, 100

# Probability that the walk stops at a sample, where a linear classifier then decides,
# if at least so many labels per class are known. With fewer, the classifier is less
# reliable than the walk, and the probability is smaller in proportion.
_STOPPING, _N_LABELS = 0.1, 10

# Principal components that are used, and the powers of their standard deviations that
# they are divided by for the classifier and for the graph: 0 leaves them as they are, 1
# makes all of them count the same.
_N_COMPONENTS, _WHITENING, _GRAPH_WHITENING = 150, 0.5, 0.75

# Root mean square of the norm of samples for the classifier, and the inverse strength
# of its penalty.
_NORM, _C, _MAX_ITER = 9.2, 1.0, 200


class GraphClassifier:
    """Classify samples by a random walk that ends at labelled ones.

    From each sample a walk goes from neighbour to neighbour, until it meets a sample
    whose class is known. At every step it may also stop, and then logistic regression,
    fitted to the labelled samples, decides. So samples that are connected have the
    same class, and far from all labelled samples the linear classifier decides.

    Both use principal components that are divided by a power of their standard
    deviation, since the largest ones often vary within classes as much as between them.

    Parameters
    ----------
    n_classes : int
    metric : {"euclidean", "cosine"}
        Distance between neighbours; "cosine" is the Euclidean distance between points
        scaled to norm 1.
    random_state : RandomState

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
        Class of each sample.

    References
    ----------
    X. Zhu, Z. Ghahramani and J. Lafferty, Semi-supervised learning using Gaussian
    fields and harmonic functions, ICML 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate.cluster._propagation import GraphClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> known = np.where(np.arange(len(y)) < 100, y, -1)
    >>> classifier = GraphClassifier(10, "cosine", np.random.RandomState(0))
    >>> round(float(np.mean(classifier.fit(X, known).labels_ == y)), 2)
    0.91
    """

    def __init__(
        self, n_classes: int, metric: str, random_state: np.random.RandomState
    ) -> None:
        self.n_classes = n_classes
        self.metric = metric
        self.random_state = random_state

    def fit(self, X: np.ndarray, labels: np.ndarray) -> Self:
        """Compute the probabilities of the classes of all samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.
        labels : int ndarray of shape (n_samples,)
            Classes, 0 to n_classes - 1; -1 where unknown. One at least is known.

        Returns
        -------
        self : object
        """
        self._fit_whitening(X)
        points = self._whiten(X)
        is_known = labels >= 0
        self._fit_regression(points[is_known], labels[is_known])
        guesses = self._guess(points)
        n_labels = is_known.sum() / len(np.unique(labels[is_known]))
        self._stopping = _STOPPING * min(1.0, n_labels / _N_LABELS)
        one_hot = labels[is_known, None] == np.arange(self.n_classes)
        nodes = self._nodes(points)
        affinity = self_tuning_affinity(*nearest_neighbors(nodes, _N_NEIGHBORS))
        degrees = affinity.sum(axis=1)
        degrees[degrees == 0] = 1.0
        transitions = (sparse.diags_array(1 / degrees) @ affinity).tocsr()
        probabilities = guesses.copy()
        for _ in range(_N_STEPS):
            probabilities[is_known] = one_hot
            probabilities = self._mix(transitions @ probabilities, guesses)
        probabilities[is_known] = one_hot
        self._probabilities = probabilities
        self.labels_: np.ndarray = probabilities.argmax(axis=1)
        self._reference = torch.from_numpy(nodes)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Classify samples by one more step of the walk, to the samples of `fit`.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Finite.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
        """
        points = self._whiten(X)
        # Faster than NearestNeighbors, which computes in float64.
        distances = torch.cdist(torch.from_numpy(self._nodes(points)), self._reference)
        n_neighbors = min(_N_NEIGHBORS, len(self._reference))
        found = torch.topk(distances, n_neighbors, largest=False)
        squares = found.values.numpy() ** 2
        local_scales = np.where(squares[:, -1:] > 0, squares[:, -1:], 1.0)
        weights = normalize(np.exp(-squares / local_scales), norm="l1")
        probabilities = self._probabilities[found.indices.numpy()]
        means = np.einsum("ij,ijk->ik", weights, probabilities)
        return self._mix(means, self._guess(points))

    def _fit_whitening(self, X: np.ndarray) -> None:
        pca = PCA(min(_N_COMPONENTS, *X.shape), random_state=self.random_state)
        pca.fit(X)
        stds = np.sqrt(pca.explained_variance_)
        is_large = stds > np.sqrt(np.finfo(X.dtype).eps) * stds[0]
        stds, axes = stds[is_large], pca.components_[is_large]
        axes = axes.T / stds**_WHITENING
        norm = np.sqrt(np.sum(stds ** (2 - 2 * _WHITENING)))
        self._mean, self._axes = pca.mean_, axes * (_NORM / norm)
        self._stretch = stds ** (_WHITENING - _GRAPH_WHITENING)

    def _whiten(self, X: np.ndarray) -> np.ndarray:
        points: np.ndarray = (X - self._mean) @ self._axes
        return points

    def _nodes(self, points: np.ndarray) -> np.ndarray:
        """Return the points whose neighbours are found."""
        nodes: np.ndarray = points * self._stretch
        return normalize(nodes) if self.metric == "cosine" else nodes

    def _fit_regression(self, points: np.ndarray, labels: np.ndarray) -> None:
        regression: Any = LogisticRegression(C=_C, max_iter=_MAX_ITER)
        if (labels == labels[0]).all():  # nothing to separate
            regression = DummyClassifier()
        self._regression = regression.fit(points, labels)

    def _guess(self, points: np.ndarray) -> np.ndarray:
        """Return the probabilities of the linear classifier."""
        guesses = np.zeros((len(points), self.n_classes))
        guesses[:, self._regression.classes_] = self._regression.predict_proba(points)
        return guesses

    def _mix(self, walked: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        """Return the probabilities after a step, at which the walk may stop."""
        return (1 - self._stopping) * walked + self._stopping * guesses
