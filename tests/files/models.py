"""Small estimators and data for tests of model files."""

from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

X = make_sparse_mixture(120, 16, n_atoms=4, random_state=0).data
IMAGES = load_digits().data[:200]


def small(**params):
    """Return an estimator that fits the data above quickly."""
    defaults = {"n_clusters": 3, "n_atoms": 6, "max_iter": 2, "tol": 0}
    return MixMateClustering(**{**defaults, "random_state": 0, **params})
