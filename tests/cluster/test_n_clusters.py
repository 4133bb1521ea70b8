"""The number of clusters."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.datasets import make_blobs as blobs

from skmixmate.cluster import estimate_n_clusters
from skmixmate.cluster._gaussian import mixture_criteria
from skmixmate.datasets import make_sparse_mixture

from ..helpers import load_standardized


def estimate(X, **params):
    return estimate_n_clusters(X, random_state=0, **params)[0]


@pytest.mark.combinations(3)
@pytest.mark.parametrize(
    ("n_clusters", "n_features", "spreads"),
    [
        (2, 2, 1.0),
        (4, 2, [0.5, 1.0, 1.5, 0.7]),
        (10, 3, 0.7),
        (6, 5, [0.5, 1.0, 2.0, 0.5, 1.0, 2.0]),
        (3, 10, 1.0),
        (9, 20, 1.0),
    ],
)
def test_blobs_are_counted(n_clusters, n_features, spreads):
    X, _ = blobs(
        600, n_features, centers=n_clusters, cluster_std=spreads, random_state=1
    )
    assert estimate(X) == n_clusters


def test_blobs_of_unequal_size_are_counted():
    X, _ = blobs([500, 200, 100, 60, 40], 5, random_state=3)
    assert estimate(X) == 5


@pytest.mark.combinations(3)
@pytest.mark.parametrize(
    ("n_clusters", "n_features", "n_atoms"), [(5, 32, 4), (3, 64, 8), (7, 64, 3)]
)
def test_dictionaries_are_counted(n_clusters, n_features, n_atoms):
    X = make_sparse_mixture(
        1000,
        n_features,
        n_clusters=n_clusters,
        n_atoms=n_atoms,
        noise=0.2,
        random_state=0,
    ).data
    assert estimate(X) == n_clusters


@pytest.mark.parametrize("noise", [0.3, 0.8])
def test_tight_directions_in_many_dimensions_are_counted(noise):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(10, 384))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    X = np.repeat(centers, np.linspace(20, 180, 10).astype(int), axis=0)
    X = X + noise * rng.normal(size=X.shape) / np.sqrt(384)
    assert estimate(X / np.linalg.norm(X, axis=1, keepdims=True)) == 10


@pytest.mark.parametrize(
    ("load", "least", "most"),
    [(load_iris, 2, 4), (load_wine, 2, 4), (load_breast_cancer, 1, 3)],
)
def test_classes_of_bundled_data_are_counted_within_one(load, least, most):
    assert least <= estimate(load_standardized(load)[0]) <= most


def test_digits_are_counted_within_one():
    assert 9 <= estimate(load_digits().data) <= 11


@pytest.mark.combinations(3)
@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("n_features", [2, 5, 20])
def test_data_without_clusters_are_one_cluster(draw, n_features):
    rng = np.random.default_rng(0)
    X = getattr(rng, draw)(size=(500, n_features))
    assert estimate(X) == 1


def test_scores_hold_the_evidence_of_each_candidate():
    X, _ = blobs(300, 5, centers=4, random_state=0)
    n_clusters, scores = estimate_n_clusters(X, max_clusters=7, random_state=0)
    np.testing.assert_array_equal(scores["n_clusters"], range(1, 8))
    assert n_clusters == scores["n_clusters"][scores["score"].argmax()] == 4
    assert scores["mixture_loss"][3] == 0
    assert scores["neighbors_gap"].argmax() == 3
    np.testing.assert_array_equal(scores["directions_gap"], 0)  # of few features


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_and_origin_do_not_matter(scale):
    X, _ = blobs(300, 10, centers=4, random_state=0)
    scores, others = (
        estimate_n_clusters(rows, random_state=0)[1] for rows in (X, scale * (X + 8))
    )
    np.testing.assert_allclose(scores["score"], others["score"], atol=1e-3)


@pytest.mark.parametrize("X", [np.ones((50, 3)), np.zeros((1, 4)), np.eye(4)])
def test_few_or_equal_samples_are_one_cluster(X):
    assert estimate(X) == 1


def test_samples_that_repeat_are_clusters():
    assert estimate(np.repeat(np.eye(3), 9, axis=0)) == 3


def test_invalid_input_is_named():
    with pytest.raises(ValueError, match=r"'max_clusters'.*Got 0"):
        estimate(np.eye(4), max_clusters=0)
    with pytest.raises(ValueError, match="NaN"):
        estimate(np.full((4, 2), np.nan))


@pytest.mark.parametrize("covariance", ["spherical", "diag", "full"])
def test_criteria_of_one_normal_distribution_are_those_of_the_formula(covariance):
    X = np.random.default_rng(0).normal(size=(400, 3)) @ np.triu(np.ones((3, 3)))
    X -= X.mean(axis=0)
    sigma = X.T @ X / 400
    if covariance != "full":
        sigma = np.diag(np.diag(sigma))
    if covariance == "spherical":
        sigma = np.eye(3) * np.trace(sigma) / 3
    n_params = 3 + {"spherical": 1, "diag": 3, "full": 6}[covariance]
    log_det = np.linalg.slogdet(2 * np.pi * sigma)[1]
    expected = 400 * (log_det + 3) + n_params * np.log(400)
    bic, icl = mixture_criteria(X, np.zeros(400, int), 1, covariance)
    assert bic == icl == pytest.approx(expected, rel=1e-3)


def test_components_that_overlap_are_penalized():
    X = np.random.default_rng(0).uniform(size=(400, 2)) - 0.5
    labels = (X[:, 0] > 0).astype(int)
    bic, icl = mixture_criteria(X, labels, 2, "full")
    assert icl > bic + 50
    X[labels == 1] += 9
    bic, icl = mixture_criteria(X, labels, 2, "full")
    assert icl == pytest.approx(bic)
