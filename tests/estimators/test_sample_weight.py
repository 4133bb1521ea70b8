"""sample_weight: a row of weight w counts as w rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.model_selection import cross_validate

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture

from ..helpers import assert_same_model, data, small
from ..sources import File, Stream

LIKELIHOODS = ["gaussian", "student_t", "poisson", "negative_binomial", "bernoulli"]
ALL = slice(None)

pytestmark = pytest.mark.exhaustive


def integer_weights(n_samples=120, low=0):
    return np.random.default_rng(0).integers(low, 5, size=n_samples)


def real_weights(n_samples=120):
    """Positive, zero for one row out of four."""
    weights = np.random.default_rng(0).lognormal(size=n_samples)
    return weights * (np.arange(n_samples) % 4 > 0)


def rows_for(likelihood, missing=0.0):
    X = data()
    if likelihood == "bernoulli":
        X = (X > 0).astype(float)
    elif likelihood in ("poisson", "negative_binomial"):
        X = np.floor(np.abs(5 * X))
    X[np.random.default_rng(1).uniform(size=X.shape) < missing] = np.nan
    return X


# --- what weights are for ------------------------------------------------------------


def test_counts_of_distinct_rows_give_the_clusters_of_all_rows():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=2000)  # answers of visitors of three kinds
    answers = rng.binomial(1, expit(3 * rng.normal(size=(3, 7))[y])).astype(float)
    distinct, inverse, counts = np.unique(
        answers, axis=0, return_inverse=True, return_counts=True
    )
    assert len(distinct) <= 128
    mixmate = MixMateClustering(3, n_atoms=1, likelihood="bernoulli", random_state=0)
    mixmate.set_params(weights="learned", max_iter=20, tol=0)
    labels = mixmate.fit_predict(distinct, sample_weight=counts)[inverse.ravel()]
    whole = mixmate.fit_predict(answers)
    assert clustering_accuracy_score(whole, labels) > 0.9


def test_weights_undo_unequal_probabilities_of_being_sampled():
    sizes = [1000, 100, 100]  # of kinds that are equally frequent in the population
    X, y = make_blobs(sizes, n_features=5, cluster_std=2.0, random_state=0)
    weights = 1 / np.array(sizes)[y]
    mixmate = MixMateClustering(3, weights="learned", random_state=0)
    sampled = np.sort(mixmate.fit(X).weights_)
    np.testing.assert_allclose(sampled, [1 / 12, 1 / 12, 10 / 12], atol=0.03)
    weighted = mixmate.fit(X, sample_weight=weights).weights_
    np.testing.assert_allclose(weighted, 1 / 3, atol=0.03)


# --- integer weights are repeated rows -----------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_integer_weights_give_the_fit_of_repeated_rows(likelihood, missing, dtype):
    X, weights = rows_for(likelihood, missing).astype(dtype), integer_weights()
    params = {
        "likelihood": likelihood,
        "init": np.random.default_rng(2).uniform(size=(3, 6, 16)),
        "batch_size": 1000,
        "weights": "learned",
        "fit_intercept": True,
    }
    if likelihood in ("gaussian", "student_t"):
        params["noise_variance"] = "auto"
    weighted = small(**params).fit(X, sample_weight=weights)
    repeated = small(**params).fit(np.repeat(X, weights, axis=0))
    tolerance = 1e-9 if dtype == np.float64 else 1e-3
    for name in ("scale_", "noise_variance_", "loss_", "loss_curve_", "weights_"):
        actual, expected = getattr(weighted, name), getattr(repeated, name)
        assert actual == pytest.approx(expected, rel=tolerance)
    for name in ("dictionaries_", "intercepts_"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), atol=tolerance
        )
    for name, value in vars(weighted.likelihood_).items():
        expected = getattr(repeated.likelihood_, name)
        assert value == pytest.approx(expected, rel=max(tolerance, 1e-6))
    np.testing.assert_array_equal(weighted.predict(X), repeated.predict(X))


def test_penalty_and_linear_subspaces_are_weighted_too():
    X, weights = data(), integer_weights()
    params = {"init": X[:18].reshape(3, 6, 16), "batch_size": 1000}
    params |= {
        "fit_intercept": False,
        "image_shape": (4, 4),
        "representation": "pixels",
    }
    params["dictionary_penalty"] = 0.5
    weighted = small(**params).fit(X, sample_weight=weights)
    repeated = small(**params).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(weighted.dictionaries_, repeated.dictionaries_)
    assert weighted.loss_ == pytest.approx(repeated.loss_)
    assert weighted.loss_curve_ == pytest.approx(repeated.loss_curve_)


def test_a_start_from_a_subsample_is_that_of_repeated_rows():
    X, _ = make_blobs(90, n_features=5, random_state=0)  # far from each other
    weights = integer_weights(90)
    params = {"n_atoms": 2, "init": KMeans(3, n_init=5), "max_iter": 0}
    weighted = small(**params).fit(X, sample_weight=weights)
    repeated = small(**params).fit(np.repeat(X, weights, axis=0))
    orders = (mixmate.intercepts_[:, 0].argsort() for mixmate in (weighted, repeated))
    order, expected_order = orders
    for name in ("intercepts_", "rates_"):
        np.testing.assert_allclose(
            getattr(weighted, name)[order], getattr(repeated, name)[expected_order]
        )


# --- proportions ---------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_only_the_proportions_of_real_weights_matter(likelihood):
    X, weights = rows_for(likelihood), real_weights()
    params = {"likelihood": likelihood, "n_init": 2, "weights": "learned"}
    expected = small(**params).fit(X, sample_weight=weights)
    for factor in (2.0**-20, 1e200):
        mixmate = small(**params).fit(X, sample_weight=factor * weights)
        np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_)
        assert mixmate.loss_curve_ == pytest.approx(expected.loss_curve_)


@pytest.mark.parametrize("weight", [1, 0.3, 1.0])
def test_equal_weights_are_none_at_all(weight):
    X = data(missing=0.1)
    mixmate = small(n_init=2).fit(X, sample_weight=np.full(120, weight))
    expected = small(n_init=2).fit(X)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    assert mixmate.loss_ == expected.loss_
    np.testing.assert_array_equal(
        small().fit(X, sample_weight=1.0).scale_, mixmate.scale_
    )


# --- rows of weight zero -------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Clusters .* have no sample left")
@pytest.mark.parametrize(
    "weights", [real_weights(), 1.0 * (real_weights() > 0), integer_weights()]
)
@pytest.mark.parametrize(
    "params",
    [
        {"n_init": 2, "weights": "learned"},
        {"noise_variance": "auto", "fit_intercept": False},
        {"n_clusters": "auto", "likelihood": "student_t"},
    ],
    ids=str,
)
def test_rows_of_weight_zero_have_no_influence(params, weights):
    X, kept = data(missing=0.1), weights > 0
    X[~kept] = 1e10  # would decide everything
    mixmate = small(**params).fit(X, sample_weight=weights)
    expected = small(**params).fit(X[kept], sample_weight=weights[kept])
    for name in ("dictionaries_", "intercepts_", "weights_", "scale_", "rates_"):
        np.testing.assert_array_equal(getattr(mixmate, name), getattr(expected, name))
    assert mixmate.loss_curve_ == expected.loss_curve_
    assert mixmate.loss_ == pytest.approx(expected.loss_)
    assert len(mixmate.labels_) == len(X)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))
    np.testing.assert_array_equal(mixmate.labels_[kept], expected.labels_)


def test_images_are_recognised_and_represented_without_rows_of_weight_zero():
    X = load_digits().data[:400]
    weights = 1.0 * (np.arange(400) % 4 > 0)
    noise = X.copy()
    noise[weights == 0] = 16 * np.random.default_rng(0).uniform(size=(100, 64))
    params = {"n_clusters": 4, "max_iter": 1, "init": "kmeans"}
    mixmate = small(**params).fit(noise, sample_weight=weights)
    expected = small(**params).fit(X, sample_weight=weights)
    assert mixmate.image_shape_ == (8, 8)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    doubled = small(**params).fit(X, sample_weight=1.5 * np.arange(400) % 7)
    assert np.isfinite(doubled.loss_)


def test_rows_of_weight_zero_are_validated_before_any_work():
    X, weights = rows_for("poisson"), integer_weights()
    X[np.argmin(weights)] = -1
    with pytest.raises(ValueError, match="negative"):
        small(likelihood="poisson").fit(X, sample_weight=weights)


# --- containers and large data -------------------------------------------------------


@pytest.mark.usefixtures("small_readings")
@pytest.mark.parametrize("weights", [real_weights(), integer_weights()])
def test_weights_go_with_their_rows_in_any_container(weights, tmp_path):
    X = data(missing=0.1)
    expected = small().fit(X, sample_weight=weights)
    np.save(tmp_path / "X.npy", X)
    containers = [
        (torch.from_numpy(X), torch.from_numpy(weights)),
        (np.load(tmp_path / "X.npy", mmap_mode="r"), weights),
        (File(X, 80), weights.tolist()),
        (pd.DataFrame(X), pd.Series(weights)),
    ]
    for container, given in containers:
        mixmate = small().fit(container, sample_weight=given)
        np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
        assert mixmate.loss_curve_ == expected.loss_curve_
    mixmate = small(n_init=2).fit(File(X, 80), sample_weight=weights)
    expected = small(n_init=2).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)


def test_weights_are_not_changed():
    weights = real_weights()
    original = weights.copy()
    weights.setflags(write=False)  # as of a memory map
    small(n_init=2).fit(data(), sample_weight=weights)
    np.testing.assert_array_equal(weights, original)


def test_a_warm_start_takes_other_weights():
    X, weights = data(), integer_weights()
    mixmate = small(warm_start=True, batch_size=1000).fit(X)
    copied = pickle.loads(pickle.dumps(mixmate))
    mixmate.fit(X, sample_weight=weights)
    copied.fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(mixmate.dictionaries_, copied.dictionaries_)
    assert mixmate.loss_ == pytest.approx(copied.loss_)


# --- streams -------------------------------------------------------------------------


def streamed(X, row_weights, sizes, **params):
    mixmate, stops = small(**{"init_size": 60, **params}), np.cumsum(sizes)[:-1]
    for chunk, chunk_weights in zip(
        np.split(X, stops), np.split(row_weights, stops), strict=True
    ):
        mixmate.partial_fit(chunk, sample_weight=chunk_weights)
    return mixmate


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ([30, 70, 1, 139], real_weights(240)),
        ([100, 100, 40], integer_weights(240)),
        ([5, 50, 185], np.ones(240)),
    ],
)
def test_a_weighted_stream_does_not_depend_on_the_sizes_of_the_chunks(sizes, weights):
    X = data(240, missing=0.1)
    params = {"weights": "learned", "noise_variance": "auto"}
    whole = streamed(X, weights, [240], **params)
    assert_same_model(streamed(X, weights, sizes, **params), whole)
    assert whole.n_samples_seen_ == 240
    kept = weights > 0
    without = streamed(X[kept], weights[kept], [kept.sum()], **params)
    assert_same_model(without, whole)


def test_a_stream_of_equal_weights_is_unweighted():
    X = data()
    expected = small(init_size=60).partial_fit(X)
    assert_same_model(streamed(X, np.ones(120), [70, 50]), expected)
    mixmate = streamed(X, np.full(120, 4.0), [70, 50])
    np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_)


def test_rows_without_given_weights_have_the_weight_one():
    X, weights = data(), np.r_[np.ones(50), real_weights(70)]
    mixmate = small(init_size=60).partial_fit(X[:50])
    copied = pickle.loads(pickle.dumps(mixmate))
    for estimator in (mixmate, copied):
        estimator.partial_fit(X[50:], sample_weight=weights[50:])
        assert_same_model(estimator, streamed(X, weights, [120]))


def test_a_stream_without_weight_leaves_the_model_as_it_is():
    X = data()
    mixmate = small().fit(X)
    before = mixmate.dictionaries_
    mixmate.partial_fit(X[:40], sample_weight=np.zeros(40))
    np.testing.assert_array_equal(mixmate.dictionaries_, before)
    assert np.isnan(mixmate.loss_)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X[:40]))


def test_the_unit_of_weights_is_kept_when_a_stream_continues_a_fit():
    X, weights = data(), real_weights()
    models = [
        small(weights="learned")
        .fit(X, sample_weight=factor * weights)
        .partial_fit(X, sample_weight=factor * weights)
        for factor in (1, 256.0)
    ]
    assert_same_model(*models)


def test_the_loss_of_a_stream_is_a_weighted_mean():
    X, weights = data(), real_weights()
    mixmate = small().fit(X).partial_fit(X, sample_weight=weights)
    probabilities, energies = mixmate.predict_proba(X), mixmate.energies(X)
    losses = (probabilities * energies).sum(axis=1)
    assert mixmate.loss_ == pytest.approx(np.average(losses, weights=weights))


# --- scores --------------------------------------------------------------------------


def test_scores_and_criteria_weight_their_rows():
    X, weights = data(missing=0.1), integer_weights()
    mixmate = small().fit(X, sample_weight=weights)
    repeated = np.repeat(X, weights, axis=0)
    for method in ("score", "bic", "aic"):
        function = getattr(mixmate, method)
        expected = pytest.approx(function(repeated))
        assert function(X, sample_weight=weights) == expected
        assert function(torch.from_numpy(X), sample_weight=weights) == expected
    probabilities, energies = mixmate.predict_proba(X), mixmate.energies(X)
    losses = (probabilities * energies).sum(axis=1)
    assert mixmate.loss_ == pytest.approx(np.average(losses, weights=weights))


def test_a_sample_of_weight_zero_may_have_no_density():
    X = data()
    mixmate = small(alpha=0.75).fit(X)
    mixmate.score_samples = lambda X: np.where(np.arange(len(X)) == 3, -np.inf, 1.5)
    weights = 1.0 * (np.arange(120) != 3)
    assert mixmate.score(X) == -np.inf
    assert mixmate.score(X, sample_weight=weights) == 1.5


def test_weights_are_routed_to_fit_and_score():
    X, weights = data(), real_weights()
    with config_context(enable_metadata_routing=True):
        mixmate = small().set_fit_request(sample_weight=True)
        mixmate.set_score_request(sample_weight=True)
        result = cross_validate(
            mixmate,
            X,
            params={"sample_weight": weights},
            cv=[(np.arange(80), np.arange(80, 120))],
            return_estimator=True,
        )
        mixmate.set_partial_fit_request(sample_weight=True)
    (fitted,) = result["estimator"]
    expected = small().fit(X[:80], sample_weight=weights[:80])
    np.testing.assert_array_equal(fitted.dictionaries_, expected.dictionaries_)
    score = expected.score(X[80:], sample_weight=weights[80:])
    assert result["test_score"] == [score]


# --- invalid weights -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            np.r_[-1.0, np.ones(119)],
            "Negative values in data passed to `sample_weight`",
        ),
        (np.r_[np.nan, np.ones(119)], "sample_weight contains NaN"),
        (np.r_[np.inf, np.ones(119)], "sample_weight contains infinity"),
        (np.zeros(120), "at least one non-zero"),
        (np.ones(119), r"sample_weight.shape == \(119,\), expected \(120,\)"),
        (np.ones((120, 1)), "must be 1D"),
    ],
)
def test_invalid_weights_raise_before_any_work(weights, message, monkeypatch):
    X = data()
    fitted = small().fit(X)
    monkeypatch.setattr("skmixmate.estimators._mixmate.initialize", None)
    with pytest.raises(ValueError, match=message):
        small().fit(X, sample_weight=weights)
    for method in ("score", "bic", "aic"):
        with pytest.raises(ValueError, match=message):
            getattr(fitted, method)(X, sample_weight=weights)
    if weights.any():
        with pytest.raises(ValueError, match=message):
            small().partial_fit(X, sample_weight=weights)


def test_fewer_rows_of_positive_weight_than_clusters_raise():
    weights = 1.0 * (np.arange(120) < 2)
    with pytest.raises(ValueError, match=r"2 rows of X have.* positive sample_weight"):
        small().fit(data(), sample_weight=weights)


def test_a_stream_without_length_has_no_weights():
    with pytest.raises(ValueError, match="sample_weight should be None where X"):
        small().partial_fit(Stream(list(data())), sample_weight=np.ones(120))


# --- weights of very different magnitudes --------------------------------------------


@pytest.mark.parametrize("n_clusters", [3, "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "weights", [np.r_[1e9, np.ones(119)], np.r_[1e300, np.full(119, 1e308)]]
)
def test_extreme_weights_give_finite_models(weights, dtype, n_clusters):
    X = data().astype(dtype)
    mixmate = small(n_clusters=n_clusters).fit(X, sample_weight=weights)
    assert np.isfinite(mixmate.dictionaries_).all()
    assert np.isfinite(mixmate.loss_)


def test_copies_of_rows_do_not_disturb_the_graphs_of_the_start():
    X, y = load_iris(return_X_y=True)
    counts = np.random.default_rng(0).geometric(1 / 20, size=150)
    mixmate = MixMateClustering(3, random_state=0).fit(X, sample_weight=counts)
    assert clustering_accuracy_score(y, mixmate.labels_) > 0.9


@pytest.mark.slow
def test_weights_move_clusters_in_mini_batches():
    mixture = make_sparse_mixture(2000, 16, n_atoms=4, random_state=0)
    weights = np.where(mixture.target == 0, 10.0, 1.0)
    mixmate = small(weights="learned", max_iter=20).fit(
        mixture.data, sample_weight=weights
    )
    shares = np.bincount(mixture.target, weights=weights) / weights.sum()
    np.testing.assert_allclose(np.sort(mixmate.weights_), np.sort(shares), atol=0.02)
