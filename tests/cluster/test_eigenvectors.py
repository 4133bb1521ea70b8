import numpy as np
import pytest
from scipy import sparse

from skmixmate.cluster._eigenvectors import leading_eigenvectors, spectral_embedding
from skmixmate.cluster._graph import (
    degree_normalize,
    nearest_neighbors,
    self_tuning_affinity,
)

TRIANGLE = [(0, 1), (0, 2), (1, 2)]


def triangles(n_triangles, bridge):
    """A chain of triangles that edges of weight `bridge` connect."""
    n_nodes = 3 * n_triangles
    edges = [(3 * t + i, 3 * t + j) for t in range(n_triangles) for i, j in TRIANGLE]
    bridges = [(node, node + 1) for node in range(2, n_nodes - 1, 3)]
    weights = np.repeat([1.0, bridge], [len(edges), len(bridges)])
    rows, columns = np.transpose(edges + bridges)
    upper = sparse.csr_array((weights, (rows, columns)), shape=(n_nodes, n_nodes))
    return upper + upper.T


# Without a limit, Lanczos iterations did not converge for weights up to 1e-6.
@pytest.mark.parametrize("bridge", [1e-14, 1e-8, 1e-6, 1e-4, 1e-2])
def test_eigenvectors_of_many_parts_that_hardly_anything_connects(bridge):
    affinity = triangles(150, bridge)
    values, vectors = leading_eigenvectors(affinity, 6, np.random.RandomState(0))
    assert values.shape == (6,)
    np.testing.assert_allclose(values, 1, atol=2 * bridge + 1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(6), atol=1e-6)
    residuals = degree_normalize(affinity) @ vectors - vectors * values
    assert np.linalg.norm(residuals, axis=0).max() < 2e-3


def test_negligible_edges_do_not_connect_parts():
    _, vectors = leading_eigenvectors(
        triangles(150, 1e-14), 6, np.random.RandomState(0)
    )
    in_triangles = vectors.reshape(150, 3, 6)
    assert np.ptp(in_triangles, axis=1).max() < 1e-9
    assert (in_triangles[:, 0] != 0).sum(axis=1).max() == 1


def test_eigenvectors_solve_the_eigenproblem_of_the_normalized_affinity():
    X = np.random.default_rng(0).normal(size=(500, 3))
    affinity = self_tuning_affinity(*nearest_neighbors(X, 250))  # connected
    values, vectors = leading_eigenvectors(affinity, 4, np.random.RandomState(0))
    normalized = degree_normalize(affinity)
    np.testing.assert_allclose(normalized @ vectors, vectors * values, atol=1e-9)
    deflated, rest = leading_eigenvectors(
        affinity, 3, np.random.RandomState(0), deflate=True
    )
    np.testing.assert_allclose(deflated, values[:3], atol=1e-9)
    np.testing.assert_allclose(np.abs(rest), np.abs(vectors[:, :3]), atol=1e-6)


@pytest.mark.parametrize(("n_steps", "n_vectors"), [(None, 4), (3, 6)])
def test_embedding_has_unit_rows_of_weighted_eigenvectors(n_steps, n_vectors):
    X = np.random.default_rng(0).normal(size=(60, 3))
    affinity = self_tuning_affinity(*nearest_neighbors(X, 5))
    check_embedding(affinity, n_steps, n_vectors, n_steps or 0)


@pytest.mark.parametrize(("length", "n_vectors", "power"), [(8, 6, 4), (30, 12, 16)])
def test_walks_have_more_steps_where_clusters_are_long(length, n_vectors, power):
    check_embedding(triangles(length, bridge=1), "auto", n_vectors, power)


def check_embedding(affinity, n_steps, n_vectors, power):
    """Compare the angles between nodes with those of 4 clusters' eigenvectors."""
    points = spectral_embedding(affinity, 4, np.random.RandomState(0), n_steps)
    values, vectors = leading_eigenvectors(
        affinity, n_vectors, np.random.RandomState(0), deflate=n_steps is not None
    )
    expected = vectors * values**power
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(points @ points.T, expected @ expected.T, atol=1e-9)
