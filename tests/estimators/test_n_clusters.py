"""Fits that estimate the number of clusters."""

import logging

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import skmixmate

from ..files.checkpoints import assert_same_fit
from ..helpers import assert_fitted_like, data, far_blobs, small, streamed


def auto(**params):
    return small(**{"n_clusters": "auto", "n_atoms": 2, **params})


X, y = far_blobs()


@pytest.fixture(scope="module")
def fitted():
    return auto().fit(X)


@pytest.mark.parametrize("params", [{}, {"n_init": 2, "init": "kmeans"}])
def test_the_fit_is_that_of_the_number_found(params):
    mixmate, expected = auto(**params).fit(X), small(n_atoms=2, **params).fit(X)
    assert mixmate.n_clusters_ == expected.n_clusters_ == 3
    assert_fitted_like(mixmate, expected)
    assert expected.n_clusters_scores_ is None


def test_the_highest_score_decides(fitted):
    scores = fitted.n_clusters_scores_
    assert scores["n_clusters"][scores["score"].argmax()] == fitted.n_clusters_
    assert fitted.get_params()["n_clusters"] == "auto"


def test_the_number_is_logged(caplog):
    with caplog.at_level(logging.INFO, "skmixmate"):
        auto(max_iter=0).fit(X)
    assert "the data have 3 clusters" in caplog.text


def test_digits_are_counted_within_one():
    mixmate = auto(max_iter=0).fit(load_digits().data)
    assert mixmate.image_shape_ == (8, 8)
    assert 9 <= mixmate.n_clusters_ <= 11


def test_counts_are_counted_with_a_stabilized_variance():
    rng = np.random.default_rng(0)
    means = np.exp(rng.normal(size=(4, 10)))[rng.integers(4, size=400)] * 20
    mixmate = auto(likelihood="poisson", max_iter=0).fit(rng.poisson(means))
    assert mixmate.n_clusters_ == 4


def test_rows_with_missing_entries_are_counted():
    is_missing = np.random.default_rng(0).uniform(size=X.shape) < 0.03
    incomplete = np.where(is_missing, np.nan, X)
    assert auto(max_iter=0).fit(incomplete).n_clusters_ == 3


def test_incomplete_images_are_counted_as_they_are_imputed():
    digits = load_digits(n_class=4).data
    is_missing = np.random.default_rng(0).uniform(size=digits.shape) < 0.1
    incomplete = np.where(is_missing, np.nan, digits)
    mixmate = auto(max_iter=0, image_shape=(8, 8)).fit(incomplete)
    complete = auto(max_iter=0, image_shape=(8, 8)).fit(digits)
    assert abs(mixmate.n_clusters_ - complete.n_clusters_) <= 1


def test_an_array_gives_the_number():
    weights = auto(weights=[0.4, 0.3, 0.2, 0.1]).fit(data())
    assert (weights.n_clusters_, weights.n_clusters_scores_) == (4, None)
    init = auto(init=data()[:10].reshape(5, 2, 16)).fit(data())
    assert (init.n_clusters_, init.n_clusters_scores_) == (5, None)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": "many"}, r"'n_clusters'.*'auto'.*Got 'many'"),
        ({"init": KMeans(3)}, r"n_clusters='auto'.*that init=KMeans\(.*finds"),
        ({"weights": [0.5, 0.5], "init": X[:6].reshape(3, 2, 6)}, r"init has shape"),
        ({"weights": 1.0}, r"'weights'.*Got 1.0"),
    ],
)
def test_parameters_that_leave_no_number_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        auto(**params).fit(X)


def test_a_warm_start_keeps_the_number(fitted):
    warm = clone(fitted).set_params(warm_start=True).fit(X)
    scores = warm.n_clusters_scores_
    warm.fit(X[:100])
    assert warm.n_clusters_ == 3
    assert warm.n_clusters_scores_ is scores


def test_a_stream_is_counted_when_it_starts():
    stream = streamed(X, [100, 100, 100], n_clusters="auto", n_atoms=2, init_size=150)
    assert stream.n_clusters_ == 3
    assert stream.n_clusters_scores_ is not None
    assert not hasattr(auto().partial_fit(X), "n_clusters_")  # it waits for more rows


def test_files_hold_the_evidence(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = skmixmate.load(tmp_path / "model")
    assert loaded.n_clusters_ == 3
    np.testing.assert_array_equal(loaded.predict(X), fitted.labels_)
    assert loaded.n_clusters_scores_.keys() == fitted.n_clusters_scores_.keys()
    for name, values in fitted.n_clusters_scores_.items():
        np.testing.assert_array_equal(loaded.n_clusters_scores_[name], values)


def test_a_file_with_other_evidence_is_rejected(fitted, tmp_path):
    broken = clone(fitted).fit(X)
    broken.n_clusters_scores_ = {"score": np.zeros(3)}
    with pytest.raises(ValueError, match="n_clusters_scores"):
        broken.save(tmp_path / "model")


def test_a_fit_resumes_from_a_checkpoint(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    expected = auto(max_iter=4).fit(X)
    mixmate = auto(max_iter=4, checkpoint=str(tmp_path / "checkpoint"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmixmate.training.em.ExpectationMaximization.run_epoch", stop)
        with pytest.warns(UserWarning, match="interrupted"):
            mixmate.fit(X)
    resumed = clone(mixmate).fit(X)
    assert_same_fit(resumed, expected)
    for name, values in expected.n_clusters_scores_.items():
        np.testing.assert_array_equal(resumed.n_clusters_scores_[name], values)


def test_a_search_may_try_auto():
    search = GridSearchCV(small(n_atoms=2), {"n_clusters": ["auto", 2]}, cv=2).fit(X)
    assert search.best_params_ == {"n_clusters": "auto"}


@pytest.mark.parametrize("n_samples", [1, 2, 12])
def test_few_rows_are_few_clusters(n_samples):
    assert auto(max_iter=0).fit(data()[:n_samples]).n_clusters_ <= max(1, n_samples / 5)
