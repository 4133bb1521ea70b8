import numpy as np
import pytest
from scipy import sparse

from skmixmate.cluster._graph import degree_normalize, leading_eigenvectors

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
