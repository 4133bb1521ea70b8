"""Clusters that are merged after the fit, and their tree."""

import pickle

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

import skmixmate
from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

from ..helpers import METHODS, data, far_blobs, small, streamed


@pytest.fixture(scope="module")
def fitted():
    """Return an estimator with six clusters of data that have three."""
    return small(n_clusters=6).fit(data())


@pytest.fixture(scope="module")
def merged(fitted):
    return fitted.merge(1, 4)


# --- the tree ------------------------------------------------------------------------


def test_the_tree_is_one_that_scipy_draws(fitted):
    assert is_valid_linkage(fitted.linkage_)
    assert fitted.linkage_.shape == (5, 4)
    assert fitted.linkage_[-1, 3] == 6


def test_overlaps_are_of_the_samples_of_each_cluster(fitted):
    assert (fitted.overlaps_ >= 0).all()
    shares = np.bincount(fitted.labels_) / len(fitted.labels_)
    np.testing.assert_allclose(fitted.overlaps_.sum(axis=1), shares)


def test_halves_of_a_cluster_merge_first():
    X, y = far_blobs()
    mixmate = small(n_clusters=4, n_atoms=2, init=KMeans(4, random_state=0)).fit(X)
    assert adjusted_rand_score(y, mixmate.labels_) < 0.95
    assert adjusted_rand_score(y, mixmate.cut(3).labels_) == 1
    low, *high = mixmate.linkage_[:, 2]
    assert low < 1 < min(high)


def test_a_cluster_of_weight_zero_merges_first(fitted):
    mixmate = pickle.loads(pickle.dumps(fitted))
    mixmate.weights_ = np.array([0.2, 0.2, 0.0, 0.2, 0.2, 0.2])
    mixmate.set_params(weights="learned", warm_start=True, max_iter=0)
    with pytest.warns(UserWarning, match=r"Clusters \[2\] have no sample"):
        mixmate.fit(data())
    assert np.isfinite(mixmate.linkage_).all()
    assert 2 in mixmate.linkage_[0, :2]


def test_of_large_data_some_rows_are_enough(fitted, monkeypatch):
    monkeypatch.setattr("skmixmate.estimators._inference._MARGIN_ENTRIES", 6 * 60)
    mixmate = small(n_clusters=6).fit(data())
    energies = mixmate.energies(data())[::2]
    shares = np.bincount(energies.argmin(axis=1), minlength=6) / len(energies)
    np.testing.assert_allclose(mixmate.overlaps_.sum(axis=1), shares)


def test_one_cluster_is_a_tree_without_merges(fitted):
    one = fitted.cut(1)
    assert one.linkage_.shape == (0, 4)
    assert one.cut(1).n_clusters_ == 1


def test_the_tree_after_a_cut_is_the_rest_of_the_tree(fitted):
    np.testing.assert_allclose(fitted.cut(4).linkage_[:, 2], fitted.linkage_[2:, 2])
    np.testing.assert_array_equal(fitted.cut(4).cut(2).labels_, fitted.cut(2).labels_)


def test_an_estimator_that_is_not_fitted_has_no_tree():
    assert not hasattr(small(), "linkage_")
    with pytest.raises(NotFittedError):
        small().cut(2)


# --- cutting and merging -------------------------------------------------------------


@pytest.mark.parametrize("n_clusters", [5, 6])
def test_too_many_clusters_are_cut_to_the_true_ones(n_clusters):
    bunch = make_sparse_mixture(600, 32, n_atoms=4, noise=0.1, random_state=0)
    mixmate = MixMateClustering(
        n_clusters, n_atoms=4, init="ssc", max_iter=5, tol=0, random_state=0
    ).fit(bunch.data)
    assert adjusted_rand_score(bunch.target, mixmate.labels_) < 0.9
    assert adjusted_rand_score(bunch.target, mixmate.cut(3).labels_) > 0.98


def test_a_cut_to_as_many_clusters_changes_nothing(fitted):
    same = fitted.cut(6)
    np.testing.assert_array_equal(same.component_labels_, np.arange(6))
    for method in METHODS:
        expected = getattr(fitted, method)(data())
        np.testing.assert_array_equal(getattr(same, method)(data()), expected)


def test_a_cut_takes_equal_distances_one_by_one(fitted):
    mixmate = pickle.loads(pickle.dumps(fitted))
    mixmate.overlaps_ = np.full((6, 6), 1 / 36)
    assert [mixmate.cut(n).n_clusters_ for n in range(1, 7)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("n_clusters", [0, 7, 2.0, "auto"])
def test_a_cut_needs_a_number_of_clusters_that_exists(fitted, n_clusters):
    with pytest.raises((ValueError, TypeError), match="n_clusters"):
        fitted.cut(n_clusters)


@pytest.mark.parametrize("clusters", [(), (1,), (1, 1), (0, 6), (-1, 2), (0, 1.0)])
def test_merge_needs_different_clusters_that_exist(fitted, clusters):
    with pytest.raises(ValueError, match="two different integers from 0 to 5"):
        fitted.merge(*clusters)


def test_the_merged_cluster_has_the_lowest_number(merged, fitted):
    assert merged.component_labels_.tolist() == [0, 1, 2, 3, 1, 4]
    assert fitted.merge(5, 2, 0).component_labels_.tolist() == [0, 1, 0, 2, 3, 0]
    assert merged.merge(0, 4).component_labels_.tolist() == [0, 1, 2, 3, 1, 0]


def test_merging_returns_a_new_estimator(merged, fitted):
    assert fitted.component_labels_ is None
    assert fitted.n_clusters_ == 6
    assert merged.n_clusters_ == 5
    assert merged.get_params() == fitted.get_params()


def test_labels_are_those_of_the_parts(merged, fitted):
    expected = merged.component_labels_[fitted.labels_]
    np.testing.assert_array_equal(merged.labels_, expected)
    np.testing.assert_array_equal(merged.predict(data()), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_sums(merged, fitted, dtype):
    X = data().astype(dtype)
    parts, whole = fitted.predict_proba(X), merged.predict_proba(X)
    assert whole.dtype == dtype
    np.testing.assert_allclose(whole[:, 1], parts[:, 1] + parts[:, 4], rtol=1e-5)
    np.testing.assert_allclose(whole[:, 4], parts[:, 5], rtol=1e-5)
    np.testing.assert_allclose(
        merged.energies(X)[:, 1],
        -np.logaddexp(*-fitted.energies(X)[:, [1, 4]].T),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(merged.energies(X)[:, 4], fitted.energies(X)[:, 5])


@pytest.mark.parametrize("method", ["encode", "transform", "reconstruct"])
def test_codes_and_reconstructions_do_not_change(merged, fitted, method):
    expected = getattr(fitted, method)(data())
    np.testing.assert_array_equal(getattr(merged, method)(data()), expected)


def test_codes_are_decoded_and_named_by_component(merged, fitted):
    codes = merged.transform(data())
    np.testing.assert_array_equal(
        merged.inverse_transform(codes), fitted.inverse_transform(codes)
    )
    names = merged.get_feature_names_out()
    assert len(names) == codes.shape[1]
    assert names[-1] == "component5_atom5"


def test_the_density_does_not_change(merged, fitted):
    np.testing.assert_array_equal(
        merged.score_samples(data()), fitted.score_samples(data())
    )
    assert merged.bic(data()) == fitted.bic(data())


def test_samples_have_the_labels_of_merged_clusters(merged, fitted):
    X, labels = merged.sample(50, random_state=0)
    expected, components = fitted.sample(50, random_state=0)
    np.testing.assert_array_equal(X, expected)
    np.testing.assert_array_equal(labels, merged.component_labels_[components])


def test_rows_of_any_kind(merged):
    X = data()
    X[0, 3] = np.nan
    X[1] = np.nan  # its probabilities are the weights
    proba = merged.predict_proba(X)
    np.testing.assert_allclose(proba[1], [1 / 6, 2 / 6, 1 / 6, 1 / 6, 1 / 6])
    tensor = torch.from_numpy(X)
    assert torch.equal(merged.predict_proba(tensor), torch.from_numpy(proba))
    batches = list(merged.predict_batches(X, "predict_proba", batch_size=50))
    np.testing.assert_array_equal(np.concatenate(batches), proba)
    far = X.astype(np.float32)
    far[2] = 1e20  # its squares exceed float32
    assert merged.predict(far)[2] in range(5)


# --- fitting further, files and pickles ----------------------------------------------


def test_warm_starts_train_all_components(merged, fitted):
    further = pickle.loads(pickle.dumps(merged)).set_params(warm_start=True).fit(data())
    expected = pickle.loads(pickle.dumps(fitted)).set_params(warm_start=True)
    expected.fit(data())
    np.testing.assert_array_equal(further.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(further.component_labels_, merged.component_labels_)
    np.testing.assert_array_equal(further.labels_, further.predict(data()))
    assert further.loss_ == expected.loss_


def test_streams_go_on(merged):
    further = pickle.loads(pickle.dumps(merged)).partial_fit(data())
    assert further.n_clusters_ == 5
    np.testing.assert_array_equal(further.labels_, further.predict(data()))


def test_a_stream_can_be_cut():
    mixmate = streamed(data(), [60, 60], n_clusters=4)
    assert mixmate.cut(2).n_clusters_ == 2


def test_a_new_fit_forgets_the_merge(merged):
    again = pickle.loads(pickle.dumps(merged)).fit(data())
    assert again.component_labels_ is None
    assert again.n_clusters_ == 6


def test_a_checkpoint_of_a_warm_start_keeps_the_merge(merged, tmp_path):
    further = pickle.loads(pickle.dumps(merged))
    further.set_params(warm_start=True, checkpoint=tmp_path / "checkpoint").fit(data())
    assert further.n_clusters_ == 5


def test_files_keep_the_merge_and_the_tree(merged, tmp_path):
    merged.save(tmp_path / "model")
    loaded = skmixmate.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(data()), merged.labels_)
    np.testing.assert_array_equal(loaded.linkage_, merged.linkage_)
    loaded.cut(2).save(tmp_path / "model")
    assert skmixmate.load(tmp_path / "model").n_clusters_ == 2


def test_the_tree_of_a_fit_by_an_earlier_version_asks_for_a_fit(fitted):
    state = fitted.__getstate__()
    earlier = MixMateClustering.__new__(MixMateClustering)
    new = ("component_labels_", "overlaps_")
    earlier.__setstate__({k: v for k, v in state.items() if k not in new})
    assert earlier.merge(0, 1).n_clusters_ == 5
    with pytest.raises(AttributeError, match="Fit it again"):
        earlier.cut(2)
