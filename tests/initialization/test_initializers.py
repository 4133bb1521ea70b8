import numpy as np
import pytest
from sklearn.cluster import DBSCAN, KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixmate.initialization.initializers import (
    canonicalize_scale,
    cluster_subsample,
)

from .blobs import blobs, random_state


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


@pytest.mark.parametrize("init", ["auto", "spectral", "kmeans"])
def test_named_starts_of_images_see_their_features(init):
    (features, y), images = blobs(), np.zeros((90, 64))
    labels = cluster_subsample(images, init, 3, random_state(), image_features=features)
    assert len(set(zip(labels, y, strict=True))) == 3


def test_other_clusterers_see_pixels():
    (images, y), features = blobs(), np.zeros((90, 5))
    labels = cluster_subsample(
        images, KMeans(3), 3, random_state(), image_features=features
    )
    assert len(set(zip(labels, y, strict=True))) == 3


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
