import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.metrics import (
    adjusted_rand_score,
    homogeneity_score,
    normalized_mutual_info_score,
)

from skmixmate import SparseSubspaceClustering, SpectralGraphClustering
from skmixmate.cluster._eigenvectors import leading_eigenvectors
from skmixmate.cluster._graph import (
    degree_normalize,
    nearest_neighbors,
    representation_affinity,
    self_tuning_affinity,
)

from .test_ssc import subspaces


def test_affinity_matches_its_definition():
    X = np.random.default_rng(0).normal(size=(12, 3))
    affinity = self_tuning_affinity(*nearest_neighbors(X, 4)).toarray()
    distances = np.linalg.norm(X[:, None] - X[None], axis=2)
    nearest = np.sort(distances, axis=1)[:, 4]  # the first is the sample itself
    is_neighbor = (distances <= nearest[:, None]) & ~np.eye(12, dtype=bool)
    expected = np.exp(-(distances**2) / np.outer(nearest, nearest)) * is_neighbor
    np.testing.assert_allclose(affinity, (expected + expected.T) / 2)


def test_affinity_falls_with_the_rank_of_a_neighbor():
    distances, indices = np.ones((4, 3)), (np.arange(4)[:, None] + [1, 2, 3]) % 4
    plain, ranked = (
        self_tuning_affinity(distances, indices, decay).toarray() for decay in (0, 3)
    )
    expected = np.exp([0, -1, -2])  # of one sample; opposite ones have other ranks
    np.testing.assert_allclose(
        ranked[0, 1:], plain[0, 1:] * (expected + expected[::-1]) / 2
    )


def test_samples_that_coincide_have_affinity_one():
    affinity = self_tuning_affinity(*nearest_neighbors(np.zeros((4, 2)), 2))
    assert affinity.max() == 1
    assert np.isfinite(affinity.toarray()).all()


def test_normalized_affinity_has_largest_eigenvalue_one():
    X = np.random.default_rng(0).normal(size=(30, 2))
    normalized = degree_normalize(
        self_tuning_affinity(*nearest_neighbors(X, 5))
    ).toarray()
    assert np.linalg.eigvalsh(normalized)[-1] == pytest.approx(1)


@pytest.mark.parametrize("n_clusters", [5, 7])
def test_distant_clusters_are_connected_components_of_the_graph(n_clusters):
    X, y = make_blobs(1000, 10, centers=5, random_state=2)
    spectral = SpectralGraphClustering(n_clusters, random_state=2).fit(X)
    values, vectors = leading_eigenvectors(
        spectral.affinity_matrix_, n_clusters, np.random.RandomState(0)
    )
    np.testing.assert_allclose(values[-5:], 1)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(n_clusters), atol=1e-8)
    normalized = degree_normalize(spectral.affinity_matrix_)
    np.testing.assert_allclose(normalized @ vectors, vectors * values, atol=1e-8)
    # No cluster has samples of two components.
    assert homogeneity_score(y, spectral.labels_) == pytest.approx(1)


@pytest.mark.parametrize("n_samples", [200, 1000])  # dense and Lanczos
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_moons_are_separated_at_any_scale(n_samples, scale):
    X, y = make_moons(n_samples, noise=0.05, random_state=0)
    labels = SpectralGraphClustering(2, random_state=0).fit_predict(scale * X)
    assert adjusted_rand_score(y, labels) == 1


def test_digits_are_separated():
    X, y = load_digits(return_X_y=True)
    labels = SpectralGraphClustering(10, random_state=0).fit_predict(X)
    assert normalized_mutual_info_score(y, labels) > 0.85


@pytest.mark.parametrize(
    ("n_neighbors", "n_nonzero_coefs"), [(10, None), (None, 3), (10, 3)]
)
def test_affinity_is_the_sum_of_the_graphs(n_neighbors, n_nonzero_coefs):
    X, y = subspaces(n_each=100)
    graph = SpectralGraphClustering(
        3, n_neighbors=n_neighbors, n_nonzero_coefs=n_nonzero_coefs, random_state=0
    ).fit(X)
    neighbors, representation = (
        self_tuning_affinity(*nearest_neighbors(X, 10)),
        representation_affinity(X, 3),
    )
    expected = neighbors if n_neighbors else representation
    if n_neighbors and n_nonzero_coefs:
        expected = degree_normalize(neighbors) + 0.5 * degree_normalize(representation)
    assert abs(graph.affinity_matrix_ - expected).max() < 1e-12
    assert adjusted_rand_score(y, graph.labels_) > (0.9 if n_nonzero_coefs else 0.5)


@pytest.mark.parametrize(("n_clusters", "n_neighbors"), [(1, 9), (2, 8), (90, 2)])
def test_strong_edges_count_more_in_small_clusters(n_clusters, n_neighbors):
    X = np.random.default_rng(0).normal(size=(90, 5))
    check_auto(X, n_clusters, n_neighbors, decay=2, power=1.5)


def test_large_clusters_have_ten_neighbors():
    X = np.random.default_rng(0).normal(size=(200, 5))
    check_auto(X, 2, n_neighbors=10, decay=0, power=1)


def check_auto(X, n_clusters, n_neighbors, decay, power):
    graph = SpectralGraphClustering(
        n_clusters, n_neighbors="auto", n_nonzero_coefs=3, random_state=0
    ).fit(X)
    neighbors = self_tuning_affinity(*nearest_neighbors(X, n_neighbors), decay)
    representation = representation_affinity(X, 3, power=power)
    expected = degree_normalize(neighbors) + 0.5 * degree_normalize(representation)
    assert abs(graph.affinity_matrix_ - expected).max() < 1e-12


def test_neighbors_of_small_clusters_are_not_of_others():
    rng = np.random.default_rng(2)
    ends = rng.normal(size=(20, 2, 10))  # each cluster is a line of ten samples
    steps = np.linspace(0, 1, 10)[:, None, None]
    X = np.concatenate(ends[:, 0] * (1 - steps) + ends[:, 1] * steps)
    y = np.tile(np.arange(20), 10)
    scores = [
        adjusted_rand_score(
            y,
            SpectralGraphClustering(20, n_neighbors=n_neighbors, random_state=0)
            .fit(X)
            .labels_,
        )
        for n_neighbors in (10, "auto")
    ]
    assert scores[0] < 0.85
    assert scores[1] > 0.95


def test_whitening_finds_clusters_that_differ_in_small_components():
    X, y = make_blobs(300, 2, centers=[[0, 0], [9, 9]], random_state=0)
    wide = np.random.default_rng(0).normal(scale=100, size=(300, 2))
    X = np.hstack([X, wide])
    scores = [
        adjusted_rand_score(
            y,
            SpectralGraphClustering(2, whitening=whitening, random_state=0)
            .fit(X)
            .labels_,
        )
        for whitening in (0, 1)
    ]
    assert scores[0] < 0.2
    assert scores[1] == 1


def test_whitened_neighbors_do_not_depend_on_the_scale_of_components():
    X = np.random.default_rng(0).normal(size=(60, 3))
    graphs = [
        SpectralGraphClustering(2, whitening=1.0, random_state=0).fit(rows)
        for rows in (X, X @ np.diag([1, 10, 100]))
    ]
    assert abs(graphs[0].affinity_matrix_ - graphs[1].affinity_matrix_).max() < 1e-9


def test_constant_samples_can_be_whitened():
    spectral = SpectralGraphClustering(2, whitening=0.5, random_state=0)
    labels = spectral.fit_predict(np.ones((20, 3)))
    assert set(labels) <= {0, 1}


def test_cosine_metric_ignores_norms():
    X, _ = subspaces(n_each=100)
    norms = np.random.default_rng(0).uniform(0.1, 10, size=(len(X), 1))
    graphs = [
        SpectralGraphClustering(3, metric="cosine", random_state=0).fit(rows)
        for rows in (X, norms * X)
    ]
    assert abs(graphs[0].affinity_matrix_ - graphs[1].affinity_matrix_).max() < 1e-9
    np.testing.assert_array_equal(graphs[0].labels_, graphs[1].labels_)


def unequally_spaced_blobs(n_each=150):
    """Return two clusters close to each other, and a third one far from both."""
    rng = np.random.default_rng(0)
    centers = np.array([[0, 0, 0], [4.5, 0, 0], [40, 0, 0]])
    X = np.vstack([center + rng.normal(size=(n_each, 3)) for center in centers])
    return X, np.repeat([0, 1, 2], n_each)


@pytest.mark.parametrize("n_each", [100, 400])  # dense and Lanczos
@pytest.mark.parametrize("n_steps", [None, 1, 4, "auto"])
def test_diffusion_on_a_disconnected_graph(n_each, n_steps):
    X, y = unequally_spaced_blobs(n_each)
    graph = SpectralGraphClustering(3, n_steps=n_steps, random_state=0)
    assert adjusted_rand_score(y, graph.fit_predict(X)) > 0.95


def test_at_least_one_graph_is_required():
    with pytest.raises(ValueError, match="leave no graph"):
        SpectralGraphClustering(2, n_neighbors=None).fit(np.eye(5))


def test_labels_are_reproducible_and_independent_of_the_global_state():
    X, _ = load_digits(return_X_y=True)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (
        SpectralGraphClustering(10, random_state=3).fit_predict(X) for _ in range(2)
    )
    SpectralGraphClustering(10).fit(X)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_fewer_samples_than_clusters_are_rejected():
    with pytest.raises(ValueError, match=r"n_samples=4 should be >= n_clusters=8"):
        SpectralGraphClustering(8).fit(np.eye(4))


@pytest.mark.parametrize(
    "estimator", [SpectralGraphClustering, SparseSubspaceClustering]
)
def test_incomplete_complex_and_sparse_data_are_rejected(estimator):
    X = np.arange(40.0).reshape(20, 2)
    for data, error, message in (
        (np.ma.array(X, mask=X == 7), ValueError, "X contains NaN"),
        (torch.from_numpy(X) * 1j, ValueError, "Complex data not supported"),
        (torch.from_numpy(X).to_sparse(), TypeError, "Sparse data was passed for X"),
    ):
        with pytest.raises(error, match=message):
            estimator(2).fit(data)


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize(
    ("dtype", "offset", "factor"),
    [
        (np.float64, 1e9, 1),
        (np.float64, 1e12, 1),
        (np.float32, 1e6, 1),
        (np.float64, 0, 1e300),
        (np.float64, 0, 1e-200),
        (np.float32, 0, 1e36),
        (np.float32, 0, 1e-36),
    ],
)
def test_labels_are_invariant_to_offset_and_scale(dtype, offset, factor, refine):
    X, y = make_blobs(150, 4, centers=3, random_state=0)
    X = (X * factor + offset).astype(dtype)
    labels = SpectralGraphClustering(3, refine=refine, random_state=0).fit_predict(X)
    assert adjusted_rand_score(y, labels) > 0.95


@pytest.mark.parametrize("factor", [1e300, 1e-200])
def test_self_representation_is_invariant_to_scale(factor):
    X, _ = subspaces()
    plain, scaled = (
        SpectralGraphClustering(
            3, n_nonzero_coefs=4, metric="cosine", random_state=0
        ).fit(data)
        for data in (X, X * factor)
    )
    assert adjusted_rand_score(plain.labels_, scaled.labels_) == 1
