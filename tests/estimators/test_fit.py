"""Fitting: recovered clusters, atoms, weights and rates."""

import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
)
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics import normalized_mutual_info_score as nmi
from sklearn.preprocessing import StandardScaler

from skmixmate import (
    MixMateClustering,
    SpectralGraphClustering,
    clustering_accuracy_score,
    load,
)
from skmixmate.datasets import make_sparse_mixture

from ..helpers import METHODS, data, load_standardized, small


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0.75},
        {"prior": "group"},
        {"fit_intercept": False},
        {"init": np.random.default_rng(0).normal(size=(3, 6, 16))},
        {"image_shape": (4, 4)},
        {"image_shape": (4, 4), "representation": "pixels"},
    ],
)
def test_a_single_rate_for_all_atoms_leaves_rates_unset(params):
    assert small(**params).fit(data()).rates_ is None


def test_initial_rates_match_the_data():
    X = np.random.default_rng(0).laplace(size=(4000, 2)) * [3, 0.5]
    mixmate = MixMateClustering(1, max_iter=0, random_state=0).fit(X)
    np.testing.assert_allclose(abs(mixmate.dictionaries_[0]), np.eye(2), atol=0.05)
    np.testing.assert_allclose(
        mixmate.rates_, [[1 / 3 / mixmate.scale_, 2 / mixmate.scale_]], rtol=0.1
    )
    # A row without codes has the energy of its log-normalizer, or 0 with a single rate.
    assert mixmate.energies(mixmate.intercepts_) > 0
    mixmate.set_params(alpha=0.75).fit(X)
    np.testing.assert_allclose(mixmate.energies(mixmate.intercepts_), 0, atol=1e-10)


def test_point_like_clusters_are_found():
    X = np.repeat(10 * np.eye(3), 20, axis=0)
    X += np.random.default_rng(0).normal(scale=0.01, size=X.shape)
    mixmate = MixMateClustering(3, random_state=0).fit(X)
    assert adjusted_rand_score(np.repeat(range(3), 20), mixmate.labels_) == 1


def recovered_atoms(mixmate, bunch):
    """Return the cosine of each true atom with the learned atom matched to it."""
    pairs = np.abs(
        np.einsum("kdm,lem->klde", mixmate.dictionaries_, bunch.dictionaries)
    )
    matched = np.zeros(pairs.shape[:2])
    for k, row in enumerate(pairs):
        for j, cosines in enumerate(row):
            matched[k, j] = cosines[linear_sum_assignment(-cosines)].mean()
    return np.concatenate(
        [
            pairs[k, j][linear_sum_assignment(-pairs[k, j])]
            for k, j in zip(*linear_sum_assignment(-matched), strict=True)
        ]
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_clusters_and_atoms_of_the_model_are_recovered(missing):
    bunch = make_sparse_mixture(
        3000, n_atoms=6, n_nonzero=3, alpha=0.4, missing=missing, random_state=1
    )
    mixmate = MixMateClustering(
        3, n_atoms=6, learning_rate=5e-3, fit_intercept=False, tol=0, random_state=0
    ).fit(bunch.data)
    assert adjusted_rand_score(bunch.target, mixmate.labels_) > 0.95
    assert recovered_atoms(mixmate, bunch).min() > 0.97


def test_learned_weights_are_the_sizes_of_the_clusters():
    sizes = [0.7, 0.2, 0.1]
    bunch = make_sparse_mixture(3000, weights=sizes, random_state=0)
    mixmate = MixMateClustering(
        3, n_atoms=8, weights="learned", max_iter=10, tol=0, random_state=0
    ).fit(bunch.data)
    assert adjusted_rand_score(bunch.target, mixmate.labels_) > 0.95
    np.testing.assert_allclose(np.sort(mixmate.weights_)[::-1], sizes, atol=0.02)
    assert mixmate.weights_.sum() == pytest.approx(1)


def test_without_atoms_the_result_equals_kmeans():
    X = load_digits().data
    start = KMeans(10, init=X[:10], n_init=1, max_iter=2)
    labels = clone(start).fit_predict(X)
    centers = np.stack([X[labels == k].mean(axis=0) for k in range(10)])
    kmeans = KMeans(10, init=centers, n_init=1, tol=0).fit(X)
    assert kmeans.n_iter_ > 3
    # A large scale makes the posterior one-hot, as in k-means.
    mixmate = MixMateClustering(
        10,
        n_atoms=0,
        scale=1e3,
        batch_size=5000,
        max_iter=100,
        tol=0,
        init=start,
        image_shape=None,
    ).fit(X)
    np.testing.assert_array_equal(mixmate.labels_, kmeans.labels_)
    np.testing.assert_allclose(mixmate.intercepts_, kmeans.cluster_centers_, atol=1e-10)


@pytest.mark.parametrize(
    ("load", "n_clusters"),
    [
        (load_wine, 3),
        (load_breast_cancer, 2),
        (load_iris, 3),
        pytest.param(load_digits, 10, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:The loss was still falling")
def test_training_keeps_the_accuracy_of_the_initial_clustering(load, n_clusters):
    X, y = load(return_X_y=True)
    if load is not load_digits:
        X = StandardScaler().fit_transform(X)
    scores = []
    for seed in range(3):
        initial = SpectralGraphClustering(n_clusters, random_state=seed)
        mixmate = MixMateClustering(n_clusters, image_shape=None, random_state=seed)
        kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
        scores.append([nmi(y, e.fit_predict(X)) for e in (initial, mixmate, kmeans)])
    initial, trained, kmeans = np.mean(scores, axis=0)
    assert trained > initial - 0.03
    if load is load_digits:
        assert trained > kmeans + 0.1


def stretched(seed):
    """Draw blobs that are stretched and rotated alike."""
    X, y = make_blobs(600, 2, centers=3, random_state=seed)
    return X @ np.array([[0.6, -0.6], [-0.4, 0.8]]), y


@pytest.mark.parametrize(
    ("sample", "n_clusters", "floor"),
    [
        (load_standardized(load_iris), 3, 0.95),  # with one rate for all atoms .82
        (load_standardized(load_wine), 3, 0.96),  # .95
        (stretched(170), 3, 0.99),  # .93
        (make_blobs(600, cluster_std=[1, 2.5, 0.5], random_state=170), 3, 0.97),  # .94
    ],
    ids=["iris", "wine", "stretched", "sizes"],
)
def test_clusters_of_any_shape_and_size(sample, n_clusters, floor):
    X, y = sample
    mixmate = MixMateClustering(n_clusters, random_state=0).fit(X)
    assert clustering_accuracy_score(y, mixmate.labels_) > floor
    incomplete = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    assert clustering_accuracy_score(y, mixmate.predict(incomplete)) > floor - 0.1


@pytest.mark.parametrize(
    ("params", "n_atoms"),
    [
        ({"image_shape": None}, 50),
        ({}, 100),
        ({"image_shape": (8, 8)}, 100),
        ({"image_shape": (8, 8), "representation": "pixels"}, 7),  # 64 // 9
    ],
)
def test_default_number_of_atoms(params, n_atoms):
    mixmate = small(n_atoms="auto", max_iter=0, **params)
    assert mixmate.fit(load_digits().data[:400]).dictionaries_.shape[1] == n_atoms


def test_no_more_atoms_than_features_of_tabular_data():
    mixmate = small(n_atoms="auto", max_iter=0).fit(data())
    assert mixmate.dictionaries_.shape == (3, 16, 16)


def test_number_of_atoms_follows_the_init_array():
    X = load_digits().data[:400]
    params = {"init": X[:12].reshape(3, 4, 64), "image_shape": None}
    mixmate = small(n_atoms="auto", warm_start=True, **params)
    for _ in range(2):  # from the array, then from the previous fit
        assert mixmate.fit(X).dictionaries_.shape == (3, 4, 64)


def test_random_state_determines_the_fit_and_global_states_are_unchanged():
    X = data(missing=0.1)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    first, second = small(random_state=5).fit(X), small(random_state=5).fit(X)
    small(random_state=None).fit(X)
    np.testing.assert_array_equal(first.dictionaries_, second.dictionaries_)
    assert first.loss_curve_ == second.loss_curve_
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
    generator = np.random.RandomState(5)
    third = small(random_state=generator).fit(X)
    np.testing.assert_array_equal(first.dictionaries_, third.dictionaries_)


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 3.0},
        {"prior": "nonnegative"},
        {"likelihood": "poisson"},
        {"n_layers": 1},
        {"step_size": 1e-3},
        {"noise_variance": "auto"},
        {"weights": "learned"},
        {"n_clusters": 5, "n_atoms": 2, "scale": 7.0, "fit_intercept": False},
    ],
)
def test_set_params_affects_only_the_next_fit(params, tmp_path):
    X = data()
    mixmate = small().fit(X)
    expected = {m: getattr(mixmate, m)(X) for m in METHODS} | {"bic": mixmate.bic(X)}
    mixmate.set_params(**params)
    mixmate.save(tmp_path / "model")
    copies = [load(tmp_path / "model"), pickle.loads(pickle.dumps(mixmate)), mixmate]
    for copied in copies:
        for method, result in expected.items():
            np.testing.assert_array_equal(getattr(copied, method)(X), result)
        assert {**copied.get_params(), **params} == copied.get_params()


def test_batch_size_true_equals_1():
    X = load_digits().data[:40]
    params = {"image_shape": (8, 8), "init_size": 30, "random_state": 0}
    streams = [MixMateClustering(1, batch_size=b, **params) for b in (True, 1)]
    one, other = (stream.partial_fit(X).dictionaries_ for stream in streams)
    np.testing.assert_array_equal(one, other)
