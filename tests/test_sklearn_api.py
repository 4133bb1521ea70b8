"""scikit-learn's own checks."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skmixmate import (
    ConvolutionalMixMate,
    MixMateClustering,
    SparseSubspaceClustering,
    SpectralGraphClustering,
)
from skmixmate.model.priors import PRIORS


class OfColumns(ConvolutionalMixMate):
    """Takes rows of any length, as the checks bring them, as images of one column."""

    def _check_settings(self):
        pass

    def _shape(self):
        return self.n_features_in_, 1


ESTIMATORS = [
    MixMateClustering(),
    MixMateClustering(init="ssc"),
    MixMateClustering(weights="learned"),
    MixMateClustering(fit_intercept=True),
    MixMateClustering(scale=2.0),
    MixMateClustering(noise_variance="auto"),
    *(MixMateClustering(prior=name) for name in PRIORS if name != "laplace"),
    OfColumns(filter_size=1, init="random", center=False),
    SparseSubspaceClustering(),
    SpectralGraphClustering(),
]


def expected_failures(estimator):
    if isinstance(estimator, SparseSubspaceClustering):
        return {
            "check_clustering": "its data are blobs in the plane, where any sample "
            "is a combination of any two others: there are no subspaces to find"
        }
    if isinstance(estimator, OfColumns):
        return {
            "check_clustering": "its data are blobs in the plane, which are no images "
            "of two pixels and no textures"
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
