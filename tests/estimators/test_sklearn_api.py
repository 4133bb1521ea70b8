"""scikit-learn's own checks."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixmate import (
    MixMateClustering,
    SparseSubspaceClustering,
    SpectralGraphClustering,
)
from skmixmate.model.priors import PRIORS


class OfShares(MixMateClustering):
    """Takes numbers of any size, as the checks bring them, as shares of one."""

    def __init__(
        self,
        n_clusters=8,
        prior="laplace",
        fit_intercept="auto",
        max_iter=50,
        random_state=None,
    ):
        super().__init__(
            n_clusters,
            likelihood="bernoulli",
            prior=prior,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            random_state=random_state,
        )

    def fit(self, X, y=None):
        return super().fit(as_shares(X), y)

    def partial_fit(self, X, y=None):
        return super().partial_fit(as_shares(X), y)

    def _predict_rows(self, X, method, out):
        return super()._predict_rows(as_shares(X), method, out)


def as_shares(X):
    if sparse.issparse(X) or hasattr(X, "columns"):
        return X
    array = np.asarray(X)
    return expit(5 * array) if array.ndim == 2 and array.dtype.kind in "iuf" else X


ESTIMATORS = [
    MixMateClustering(),
    MixMateClustering(init="ssc"),
    MixMateClustering(weights="learned"),
    MixMateClustering(fit_intercept=True),
    MixMateClustering(scale=2.0),
    MixMateClustering(noise_variance="auto"),
    *(MixMateClustering(prior=name) for name in PRIORS if name != "laplace"),
    MixMateClustering(fit_intercept=False),
    *(MixMateClustering(likelihood="poisson", prior=name) for name in PRIORS),
    MixMateClustering(likelihood="poisson", fit_intercept=False),
    *(OfShares(prior=name) for name in PRIORS),
    OfShares(fit_intercept=False),
    SparseSubspaceClustering(),
    SpectralGraphClustering(),
]


def expected_failures(estimator):
    if isinstance(estimator, SparseSubspaceClustering):
        return {
            "check_clustering": "its data are blobs in the plane, where any sample "
            "is a combination of any two others: there are no subspaces to find"
        }
    if getattr(estimator, "likelihood", None) == "poisson":
        return {
            "check_clustering": "its data are negative in part, although the tag "
            "positive_only is set"
        }
    return {}


# The checks fit a few dozen samples for few epochs, often random ones.
@pytest.mark.filterwarnings("ignore:The loss was still falling")
@pytest.mark.filterwarnings("ignore:Clusters .* have no sample left")
@pytest.mark.filterwarnings("ignore:The codes are nearly full")
@pytest.mark.filterwarnings("ignore:Every code is empty")
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
# Skipped where array API support is not installed, by a warning.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
