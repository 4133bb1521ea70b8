"""scikit-learn's checks of estimators."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.utils.estimator_checks import (
    check_estimator_sparse_array,
    check_estimator_sparse_matrix,
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

from skmixmate import (
    MixMateClustering,
    SparseSubspaceClustering,
    SpectralGraphClustering,
)
from skmixmate.model.priors import PRIORS


class FractionMixMate(MixMateClustering):
    """Bernoulli mixtures that map the data of the checks to fractions of one."""

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

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(as_fractions(X), y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(as_fractions(X), y, sample_weight)

    def _predict_rows(self, X, method, out):
        return super()._predict_rows(as_fractions(X), method, out)


def as_fractions(X):
    if sparse.issparse(X):
        return X
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        return X
    fractions = expit(5 * array)
    if hasattr(X, "columns"):
        return type(X)(fractions, columns=X.columns)
    return fractions


ESTIMATORS = [
    MixMateClustering(),
    MixMateClustering(likelihood="poisson"),
    FractionMixMate(),
    SparseSubspaceClustering(),
    SpectralGraphClustering(),
]
# These repeat the checks with other parameters, and take minutes together.
VARIANTS = [
    MixMateClustering(init="ssc"),
    MixMateClustering(weights="learned"),
    MixMateClustering(fit_intercept=True),
    MixMateClustering(fit_intercept=False),
    MixMateClustering(scale=2.0),
    MixMateClustering(noise_variance="auto"),
    *(MixMateClustering(prior=name) for name in PRIORS if name != "laplace"),
    *(
        MixMateClustering(likelihood="poisson", prior=name)
        for name in PRIORS
        if name != "laplace"
    ),
    MixMateClustering(likelihood="poisson", fit_intercept=False),
    MixMateClustering(likelihood="negative_binomial"),
    MixMateClustering(likelihood="student_t"),
    MixMateClustering(likelihood="student_t", noise_variance="auto"),
    *(FractionMixMate(prior=name) for name in PRIORS if name != "laplace"),
    FractionMixMate(fit_intercept=False),
    MixMateClustering(n_clusters="auto"),
]


def expected_failures(estimator):
    failures = {}
    if isinstance(estimator, SparseSubspaceClustering):
        failures["check_clustering"] = (
            "its data are blobs in the plane, where any sample "
            "is a combination of any two others: there are no subspaces to find"
        )
    if getattr(estimator, "likelihood", None) in ("poisson", "negative_binomial"):
        failures["check_clustering"] = (
            "some of its data are negative, although the tag positive_only is set"
        )
    if isinstance(estimator, MixMateClustering):
        # As for KMeans. With a given start it passes, see below.
        failures |= dict.fromkeys(
            (
                "check_sample_weight_equivalence_on_dense_data",
                "check_sample_weight_equivalence_on_sparse_data",
            ),
            "the random start depends on the number and the order of the rows",
        )
        failures |= dict.fromkeys(
            ("check_estimator_sparse_array", "check_estimator_sparse_matrix"),
            "they expect of predict_proba as many columns as y has classes, or two, as "
            "if the estimator was a classifier: see test_sparse_checks below",
        )
    return failures


# The checks fit a few dozen samples, often random ones, for few epochs.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The loss was still falling"),
    pytest.mark.filterwarnings("ignore:Clusters .* have no sample left"),
    pytest.mark.filterwarnings("ignore:The codes are nearly full"),
    pytest.mark.filterwarnings("ignore:Every code is empty"),
    pytest.mark.filterwarnings("ignore:Number of distinct clusters"),
    # Checks are skipped, with a warning, if array API support is not installed.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


class WithoutProbabilities(MixMateClustering):
    """An estimator that the checks do not take for a classifier."""

    predict_proba = property()


@pytest.mark.parametrize(
    "check", [check_estimator_sparse_array, check_estimator_sparse_matrix]
)
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", "poisson"])
def test_sparse_checks(check, likelihood):
    estimator = WithoutProbabilities(likelihood=likelihood)
    assert estimator.__sklearn_tags__().input_tags.sparse
    check("MixMateClustering", estimator)


@pytest.mark.exhaustive
@parametrize_with_checks(VARIANTS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks_of_variants(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"weights": "learned", "noise_variance": "auto"},
        {"likelihood": "student_t", "noise_variance": "auto"},
        {"likelihood": "poisson"},
        {"likelihood": "negative_binomial"},
        {"likelihood": "bernoulli", "fit_intercept": False},
    ],
    ids=str,
)
def test_integer_weights_repeat_rows_where_the_start_is_given(params):
    init = np.random.RandomState(0).uniform(size=(3, 2, 30))  # 30 features in the check
    estimator = MixMateClustering(3, n_atoms=2, init=init, max_iter=5, **params)
    check_sample_weight_equivalence_on_dense_data("MixMateClustering", estimator)
