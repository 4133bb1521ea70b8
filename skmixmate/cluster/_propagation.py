"""Classes of a few samples, propagated to all others over a graph."""

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from ._graph import nearest_neighbors, self_tuning_affinity
from ._votes import N_NEIGHBORS, vote
from ._whitening import PrincipalComponents

# Steps of the walk: far more than it takes on average.
_N_STEPS = 100

# Probability that the walk stops at a sample, where a linear classifier then decides,
# if at least so many labels per class are known. With fewer, the classifier is less
# reliable than the walk, and the probability is smaller in proportion.
_STOPPING, _N_LABELS = 0.1, 10

# Powers of their standard deviations that principal components are divided by, for the
# classifier and for the graph.
_WHITENING, _GRAPH_WHITENING = 0.5, 0.75

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
        self._pca = PrincipalComponents(self.random_state).fit(X)
        components = self._pca.transform(X)
        is_known = labels >= 0
        self._fit_regression(components[is_known], labels[is_known])
        guesses = self._guess(components)
        n_labels = is_known.sum() / len(np.unique(labels[is_known]))
        self._stopping = _STOPPING * min(1.0, n_labels / _N_LABELS)
        one_hot = labels[is_known, None] == np.arange(self.n_classes)
        nodes = self._nodes(components)
        affinity = self_tuning_affinity(*nearest_neighbors(nodes, N_NEIGHBORS))
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
        self._reference = nodes
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
        components = self._pca.transform(X)
        nodes = self._nodes(components)
        means = vote(nodes, self._reference, self._probabilities)
        return self._mix(means, self._guess(components))

    def _nodes(self, components: np.ndarray) -> np.ndarray:
        """Return the points whose neighbours are found."""
        nodes = self._pca.whiten(components, _GRAPH_WHITENING)
        return normalize(nodes) if self.metric == "cosine" else nodes

    def _fit_regression(self, components: np.ndarray, labels: np.ndarray) -> None:
        regression: Any = LogisticRegression(C=_C, max_iter=_MAX_ITER)
        if (labels == labels[0]).all():  # nothing to separate
            regression = DummyClassifier()
        self._regression = regression.fit(self._standardize(components), labels)

    def _guess(self, components: np.ndarray) -> np.ndarray:
        """Return the probabilities of the linear classifier."""
        guesses = np.zeros((len(components), self.n_classes))
        points = self._standardize(components)
        guesses[:, self._regression.classes_] = self._regression.predict_proba(points)
        return guesses

    def _standardize(self, components: np.ndarray) -> np.ndarray:
        """Return the points that the linear classifier gets."""
        norm = np.sqrt(np.sum(self._pca.stds_ ** (2 - 2 * _WHITENING)))
        points: np.ndarray = self._pca.whiten(components, _WHITENING) * (_NORM / norm)
        return points

    def _mix(self, walked: np.ndarray, guesses: np.ndarray) -> np.ndarray:
        """Return the probabilities after a step, at which the walk may stop."""
        return (1 - self._stopping) * walked + self._stopping * guesses
