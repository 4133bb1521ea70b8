import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN, KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixmate.initialization.atoms import (
    canonicalize_scale,
    cluster_subsample,
    dictionaries_from_array,
    dictionaries_from_labels,
    draw_subsample,
    fill_with_means,
    mean_abs_projections,
)


def blobs(n_each=30, seed=0):
    rng = np.random.default_rng(seed)
    centers = 10 * np.eye(3, 6)
    X = np.vstack([center + rng.normal(size=(n_each, 6)) for center in centers])
    return X, np.repeat(np.arange(3), n_each)


def random_state(seed=0):
    return np.random.RandomState(seed)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_subsample_takes_complete_rows_where_there_are_enough(as_tensor):
    X, _ = blobs()
    X[::2, 0] = np.nan
    n_missing = np.isnan(X).sum(axis=1)
    data = torch.from_numpy(X) if as_tensor else X
    drawn, sample = draw_subsample(data, n_missing, 20, 10, random_state())
    assert sample.shape == (20, 6)
    complete = {tuple(row) for row in X[1::2]}
    assert {tuple(row) for row in sample} <= complete
    assert len({tuple(row) for row in sample}) == 20
    np.testing.assert_array_equal(sample, X[drawn])


def test_subsample_fills_rows_where_complete_ones_are_too_few():
    X, _ = blobs()
    X[3:, 0] = np.nan
    X[5] = np.nan
    drawn, sample = draw_subsample(X, np.isnan(X).sum(axis=1), 1000, 10, random_state())
    assert sample.shape == (89, 6)
    assert 5 not in drawn  # nothing is observed of it
    assert np.isfinite(sample).all()
    assert np.isnan(X[3:, 0]).all()  # X itself is left alone


def test_fill_with_means():
    nan = np.nan
    sample = np.array([[1.0, nan, nan], [3.0, 4.0, nan], [nan, 6.0, nan]])
    expected = [[1, 5, 0], [3, 4, 0], [2, 6, 0]]
    np.testing.assert_array_equal(fill_with_means(sample), expected)


@pytest.mark.parametrize(
    "init",
    [
        "auto",
        "spectral",
        "kmeans",
        KMeans(3, n_init=1),
        make_pipeline(StandardScaler(), KMeans(3, n_init=1)),
    ],
)
def test_initial_clustering_is_reproducible(init):
    X, y = blobs()
    labels = cluster_subsample(X, init, 3, random_state())
    assert len(set(zip(labels, y, strict=True))) == 3  # one to one with the blobs
    again = cluster_subsample(X, init, 3, random_state())
    np.testing.assert_array_equal(labels, again)


def test_random_initial_clustering_is_balanced():
    labels = cluster_subsample(np.zeros((31, 2)), "random", 3, random_state())
    assert sorted(np.bincount(labels)) == [10, 10, 11]


def test_one_cluster_needs_no_clustering():
    assert not cluster_subsample(np.zeros((5, 2)), "auto", 1, random_state()).any()


def test_clusterer_is_cloned_and_noise_is_left_out():
    X, y = blobs()
    X = np.vstack([X, np.full((1, 6), 100.0)])
    init = DBSCAN(eps=5)
    labels = cluster_subsample(X, init, 3, random_state())
    assert labels[-1] == -1
    np.testing.assert_array_equal(labels[:-1], y)
    assert not hasattr(init, "labels_")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1e-3, 1e3, 1e20])
def test_units_do_not_matter_to_named_starts(factor, dtype):
    X = np.random.default_rng(0).integers(0, 5, size=(200, 6)).astype(dtype)
    plain, scaled = canonicalize_scale(X), canonicalize_scale(X * dtype(factor))
    assert plain.dtype == dtype
    np.testing.assert_array_equal(plain, scaled)
    np.testing.assert_allclose(np.sqrt(np.mean(plain**2)), 1, rtol=1e-3)
    assert len(np.unique(plain)) == 5
    assert not canonicalize_scale(np.zeros((3, 2))).any()


def test_clusterer_that_finds_another_number_of_clusters():
    with pytest.raises(ValueError, match=r"found 3 clusters.*n_clusters=4"):
        cluster_subsample(blobs()[0], DBSCAN(eps=5), 4, random_state())


@pytest.mark.parametrize("n_atoms", [0, 7, 50])  # 50: more than samples
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_atoms_are_directions_of_samples_of_the_cluster(n_atoms, fit_intercept):
    X, y = blobs()
    dictionaries, intercepts = dictionaries_from_labels(
        X, y, 3, n_atoms, fit_intercept, random_state()
    )
    assert dictionaries.shape == (3, n_atoms, 6)
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    for k in range(3):
        members = X[y == k]
        mean = members.mean(axis=0) if fit_intercept else np.zeros(6)
        np.testing.assert_allclose(intercepts[k], mean)
        directions = (members - mean) / np.linalg.norm(members - mean, axis=1)[:, None]
        cosines = dictionaries[k] @ directions.T
        np.testing.assert_allclose(cosines.max(axis=1)[:30], 1)


def test_cluster_without_samples_or_without_spread_has_random_atoms():
    dictionaries, intercepts = dictionaries_from_labels(
        np.ones((4, 3)), np.array([0, 0, 0, 0]), 2, 5, True, random_state()
    )
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    np.testing.assert_allclose(intercepts, 1)


def test_atoms_of_images_are_samples_less_their_own_mean():
    X, y = blobs()
    dictionaries, intercepts = dictionaries_from_labels(
        X, y, 3, 7, False, random_state(), center=True
    )
    np.testing.assert_allclose(dictionaries.mean(axis=2), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    assert not intercepts.any()


@pytest.mark.parametrize("init", ["auto", "spectral", "ssc", "kmeans"])
def test_named_starts_of_images_see_scattering_features(init, monkeypatch):
    seen = []

    def features(images, image_shape):
        seen.append((images, image_shape))
        return blobs()[0]

    monkeypatch.setattr("skmixmate.initialization.atoms.graph_features", features)
    images, y = np.zeros((90, 64)), blobs()[1]
    labels = cluster_subsample(images, init, 3, random_state(), image_shape=(8, 8))
    assert [image_shape for _, image_shape in seen] == [(8, 8)]
    if init != "ssc":
        assert len(set(zip(labels, y, strict=True))) == 3
    cluster_subsample(images, KMeans(1), 1, random_state(), image_shape=(8, 8))
    assert len(seen) == 1


def test_array_is_made_into_atoms_in_its_order():
    init = np.random.default_rng(0).normal(size=(2, 3, 4))
    dictionaries, intercepts = dictionaries_from_array(init, False, random_state())
    assert not intercepts.any()
    for given, atoms in zip(init, dictionaries, strict=True):
        np.testing.assert_allclose(
            atoms, given / np.linalg.norm(given, axis=1)[:, None]
        )
    _, intercepts = dictionaries_from_array(init, True, random_state())
    np.testing.assert_allclose(intercepts, init.mean(axis=1))


def test_principal_directions_and_how_far_samples_reach():
    rng = np.random.default_rng(0)
    X = rng.laplace(size=(9000, 3)) * [1, 5, 3] + 7
    labels = np.zeros(9000, dtype=int)
    dictionaries, intercepts = dictionaries_from_labels(
        X, labels, 1, 2, True, random_state(), principal=True
    )
    np.testing.assert_allclose(abs(dictionaries[0]), np.eye(3)[[1, 2]], atol=0.05)
    reaches = mean_abs_projections(X, labels, dictionaries, intercepts)
    np.testing.assert_allclose(reaches, [[5, 3]], rtol=0.05)


@pytest.mark.parametrize("n_members", [0, 1, 2, 4])
def test_clusters_without_directions_get_some(n_members):
    X = np.ones((5, 6))
    labels = (np.arange(5) >= n_members).astype(int)
    dictionaries, intercepts = dictionaries_from_labels(
        X, labels, 2, 4, True, random_state(), principal=True
    )
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    assert not mean_abs_projections(X, labels, dictionaries, intercepts).any()


def test_an_offset_is_no_part_of_a_named_start():
    X, y = blobs()
    for offset, dtype in ((1e6, np.float32), (1e12, np.float64), (-1e9, np.float64)):
        for init in ("auto", "spectral", "kmeans"):
            far = (X + offset * np.arange(6)).astype(dtype)
            labels = cluster_subsample(far, init, 3, random_state())
            assert len(set(zip(labels, y, strict=True))) == 3


@pytest.mark.parametrize("constant", [1e7, 1e30])
def test_a_large_constant_column_is_no_part_of_a_named_start(constant):
    X, y = blobs()
    X = np.column_stack([X, np.full(len(X), constant)]).astype(np.float32)
    labels = cluster_subsample(X, "auto", 3, random_state())
    assert len(set(zip(labels, y, strict=True))) == 3


def test_subspaces_and_other_clusterers_see_rows_where_they_are():
    class Spy(KMeans):
        def fit_predict(self, X, y=None):
            seen.append(X)
            return super().fit_predict(X)

    X, seen = blobs()[0] + 1e6, []
    cluster_subsample(X, Spy(3, n_init=1), 3, random_state())
    np.testing.assert_array_equal(seen[0], X)
    angles = np.repeat([0.1, 0.3, 0.5], 30)  # lines through the origin, all far away
    lines = np.random.default_rng(0).uniform(1e3, 1e3 + 1, size=(90, 1))
    lines = lines * np.column_stack([np.cos(angles), np.sin(angles)])
    labels = cluster_subsample(lines, "ssc", 3, random_state())
    assert len(set(zip(labels, angles, strict=True))) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_far_from_the_origin_have_all_digits(dtype):
    rng = np.random.default_rng(0)
    X = (1e6 + rng.integers(-8, 9, size=(4001, 2))).astype(dtype)
    labels = np.zeros(len(X), dtype=int)
    dictionaries, intercepts = dictionaries_from_labels(
        X, labels, 1, 2, True, random_state(), principal=True
    )
    expected = X.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(intercepts[0], expected, rtol=0, atol=1e-4)
    deviations = np.abs((X - expected) @ dictionaries[0].T).mean(axis=0)
    reaches = mean_abs_projections(X, labels, dictionaries, intercepts)
    np.testing.assert_allclose(reaches[0], deviations, rtol=1e-5)
    X[::7, 0] = np.nan
    filled = fill_with_means(X.copy())[0, 0]
    assert filled == pytest.approx(np.nanmean(X[:, 0].astype(np.float64)), abs=0.07)


@pytest.mark.parametrize(
    ("dtype", "factor"), [(np.float32, 1e37), (np.float32, 1e-37), (np.float64, 1e300)]
)
def test_atoms_of_data_in_extreme_units(dtype, factor):
    X, y = blobs()
    X = (X / 16).astype(dtype)
    extreme = X * dtype(2.0 ** round(np.log2(factor)))
    for how in ({"principal": True}, {}):
        plain, scaled = (
            dictionaries_from_labels(data, y, 3, 4, True, random_state(), **how)
            for data in (X, extreme)
        )
        np.testing.assert_allclose(scaled[0], plain[0], atol=1e-5)
        factor = extreme[0, 0] / X[0, 0]
        np.testing.assert_allclose(scaled[1] / factor, plain[1], atol=1e-6)
        reaches, expected = (
            mean_abs_projections(data, y, *start)
            for data, start in ((extreme, scaled), (X, plain))
        )
        np.testing.assert_allclose(reaches / factor, expected, rtol=1e-4)
