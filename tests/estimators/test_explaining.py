import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

BLOCK = 4


@pytest.fixture(scope="module")
def blocks():
    """Return rows of three clusters, each with four features of its own, and labels."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 3 * BLOCK)), np.arange(300) % 3
    for k in range(3):
        X[y == k, k * BLOCK : (k + 1) * BLOCK] += 6
    return X, y


@pytest.fixture(scope="module")
def fitted(blocks):
    return MixMateClustering(3, random_state=0).fit(blocks[0])


def features_of(k):
    return set(range(k * BLOCK, (k + 1) * BLOCK))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"likelihood": "student_t"},
        {"likelihood": "poisson"},
        {"likelihood": "bernoulli"},
        {"prior": "elastic_net", "fit_intercept": False},
        {"noise_variance": "auto", "weights": "learned"},
    ],
)
@pytest.mark.parametrize("is_incomplete", [False, True])
def test_the_parts_of_the_features_sum_to_the_margin(params, is_incomplete):
    X = np.abs(make_sparse_mixture(300, random_state=0).data).round()
    X = X.clip(max=1) if params.get("likelihood") == "bernoulli" else X
    if is_incomplete:
        X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    mixmate = MixMateClustering(3, n_atoms=8, random_state=0, **params).fit(X)
    explanation = mixmate.explain(X)
    first, second = np.sort(mixmate.energies(X), axis=1)[:, :2].T
    np.testing.assert_allclose(explanation.margins, second - first, atol=1e-10)
    total = explanation.contributions.sum(axis=1) + explanation.offsets
    np.testing.assert_allclose(total, second - first, atol=1e-9)
    assert (explanation.contributions[np.isnan(X)] == 0).all()
    np.testing.assert_array_equal(explanation.labels, mixmate.labels_)
    assert (explanation.labels != explanation.runners_up).all()


def test_nearly_all_of_the_margin_is_divided_among_features(fitted, blocks):
    explanation = fitted.explain(blocks[0])
    assert np.abs(explanation.offsets).mean() < 0.05 * explanation.margins.mean()


def test_the_features_that_make_a_cluster_come_first(fitted, blocks):
    X, y = blocks
    explanation = fitted.explain(X)
    for row in range(3):
        # Features of the other cluster speak against it as much.
        other = y[fitted.labels_ == explanation.runners_up[row]][0]
        largest = np.argsort(-explanation.contributions[row])[: 2 * BLOCK]
        assert set(largest) == features_of(y[row]) | features_of(other)


def test_a_profile_tells_clusters_apart(fitted, blocks):
    X, _ = blocks
    profile = fitted.profile(X, n_features=BLOCK)
    for k, rows in profile.groupby("cluster"):
        members = fitted.labels_ == k
        assert (rows["size"] == members.sum()).all()
        features = [int(name[1:]) for name in rows["feature"]]
        np.testing.assert_allclose(rows["mean"], X[members][:, features].mean(axis=0))
        np.testing.assert_allclose(
            rows["mean_of_others"], X[~members][:, features].mean(axis=0)
        )
        assert (np.diff(rows["contribution"]) <= 0).all()
        margins = fitted.explain(X[members]).margins
        np.testing.assert_allclose(rows["margin"], margins.mean())


def test_a_profile_uses_the_names_of_the_features():
    X = load_iris(as_frame=True).data
    profile = MixMateClustering(3, random_state=0).fit(X).profile(X, n_features=1)
    assert set(profile["feature"]) <= set(X.columns)


def test_a_profile_without_pandas_is_a_dictionary(fitted, blocks, monkeypatch):
    profile = fitted.profile(blocks[0])
    monkeypatch.setitem(sys.modules, "pandas", None)
    columns = fitted.profile(blocks[0])
    assert isinstance(columns, dict)
    for name, values in columns.items():
        np.testing.assert_array_equal(values, profile[name])


def test_missing_entries_are_left_out_of_the_means(fitted, blocks):
    X = blocks[0].copy()
    X[::2, 0] = np.nan
    profile = fitted.profile(X, n_features=3 * BLOCK)
    rows = profile[profile["feature"] == "x0"]
    labels = fitted.predict(X)
    expected = [np.nanmean(X[labels == k, 0]) for k in rows["cluster"]]
    np.testing.assert_allclose(rows["mean"], expected)


def test_typical_digits_are_rarely_wrong_and_doubtful_ones_often():
    X, y = load_digits(return_X_y=True)
    mixmate = MixMateClustering(10, random_state=0).fit(X)
    found = mixmate.representatives(X, n=8)
    is_wrong = np.empty(len(X), dtype=bool)
    for k in range(10):
        members = mixmate.labels_ == k
        assert members[found.typical[k]].all()
        assert members[found.doubtful[k]].all()
        is_wrong[members] = y[members] != np.bincount(y[members]).argmax()
    assert is_wrong[found.typical].mean() < is_wrong.mean()
    assert is_wrong[found.doubtful].mean() > 3 * is_wrong.mean()


def test_representatives_of_small_clusters_end_early(fitted, blocks):
    X, y = blocks
    rows = np.flatnonzero(y == 0)[:3]
    found = fitted.representatives(X[rows], n=5)
    k = fitted.predict(X[rows])[0]
    assert sorted(found.doubtful[k]) == [-1, -1, 0, 1, 2]
    assert (found.typical[k] >= 0).sum() == 2
    others = np.delete(found.typical, k, axis=0)
    assert (others == -1).all()


def test_a_single_cluster_has_representatives_but_no_explanation(blocks):
    X = blocks[0]
    mixmate = MixMateClustering(1, random_state=0).fit(X)
    assert (mixmate.representatives(X).typical >= 0).all()
    for method in (mixmate.explain, mixmate.profile):
        with pytest.raises(ValueError, match="n_clusters_=1"):
            method(X)


def test_scattering_coefficients_are_not_explained():
    X = load_digits().data[:300]
    mixmate = MixMateClustering(10, max_iter=0, image_shape=(8, 8)).fit(X)
    for method in (mixmate.explain, mixmate.profile):
        with pytest.raises(ValueError, match="representation='pixels'"):
            method(X)


@pytest.mark.parametrize("method", ["explain", "profile", "representatives"])
def test_an_unfitted_estimator_explains_nothing(method, blocks):
    with pytest.raises(NotFittedError):
        getattr(MixMateClustering(3), method)(blocks[0])


def test_numbers_that_are_no_counts_are_refused(fitted, blocks):
    with pytest.raises(ValueError, match="n == 0"):
        fitted.representatives(blocks[0], n=0)
    with pytest.raises(TypeError, match="n_features"):
        fitted.profile(blocks[0], n_features=2.5)


def test_rows_in_a_memory_map_are_explained(fitted, blocks, tmp_path):
    np.save(tmp_path / "X.npy", blocks[0])
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert fitted.profile(mapped).equals(fitted.profile(blocks[0]))
