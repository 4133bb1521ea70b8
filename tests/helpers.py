"""Helpers that several test modules share."""

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

DOUBLE = {"dtype": torch.float64}
METHODS = [
    "predict",
    "predict_proba",
    "energies",
    "score_samples",
    "encode",
    "transform",
    "reconstruct",
]


def small(**params):
    """Return an estimator that fits the data below within milliseconds."""
    defaults = {
        "n_clusters": 3,
        "n_atoms": 6,
        "max_iter": 3,
        "tol": 0,
        "batch_size": 32,
        "random_state": 0,
    }
    return MixMateClustering(**{**defaults, **params})


def data(n_samples=120, **params):
    """Draw rows of 16 features from a sparse mixture of three clusters."""
    return make_sparse_mixture(n_samples, 16, n_atoms=4, random_state=0, **params).data


def load_standardized(load):
    """Load a data set of scikit-learn and standardize its columns."""
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def streamed(X, sizes, **params):
    """Call partial_fit on consecutive chunks of X of the given sizes."""
    mixmate = small(**{"init_size": 60, **params})
    for chunk in np.split(X, np.cumsum(sizes)[:-1]):
        mixmate.partial_fit(chunk)
    return mixmate


def assert_same_model(mixmate, expected):
    """Assert that the parameters of two models are bit-identical."""
    names = ("dictionaries_", "intercepts_", "weights_", "noise_variance_")
    for name in (*names, "scale_", "n_steps_"):
        np.testing.assert_array_equal(getattr(mixmate, name), getattr(expected, name))


def assert_fitted_like(mixmate, expected):
    """Assert that two fits have bit-identical atoms, labels and losses."""
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    assert mixmate.loss_curve_ == expected.loss_curve_


def far_blobs():
    """Draw three blobs that are far from each other, and their labels."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    return (rng.normal(size=(3, 6)) * 6)[y] + 0.5 * rng.normal(size=(300, 6)), y


class DuckNet:
    """An elastic net that a user implements, without a base class."""

    def __init__(self, alpha=0.3, ridge=0.5):
        self.alpha = alpha
        self.ridge = ridge

    def __str__(self):
        return "duck"

    def value(self, codes):
        penalties = self.alpha * codes.abs() + self.ridge / 2 * codes.square()
        return penalties.sum(dim=1)

    def prox(self, codes, step):
        shrunk = (codes.abs() - step * self.alpha).clamp_min(0)
        return codes.sign() * shrunk / (1 + step * self.ridge)
