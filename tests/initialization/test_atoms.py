import numpy as np
import pytest

from skmixmate.initialization.atoms import (
    dictionaries_from_array,
    dictionaries_from_labels,
    mean_abs_projections,
)

from .blobs import blobs, random_state


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
        X, labels, 1, 2, True, random_state(), atoms="pca"
    )
    np.testing.assert_allclose(abs(dictionaries[0]), np.eye(3)[[1, 2]], atol=0.05)
    reaches = mean_abs_projections(X, labels, dictionaries, intercepts)
    np.testing.assert_allclose(reaches, [[5, 3]], rtol=0.05)


@pytest.mark.parametrize("n_members", [0, 1, 2, 4])
def test_clusters_without_directions_get_some(n_members):
    X = np.ones((5, 6))
    labels = (np.arange(5) >= n_members).astype(int)
    dictionaries, intercepts = dictionaries_from_labels(
        X, labels, 2, 4, True, random_state(), atoms="pca"
    )
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    assert not mean_abs_projections(X, labels, dictionaries, intercepts).any()


@pytest.mark.parametrize(
    ("dtype", "factor"), [(np.float32, 1e37), (np.float32, 1e-37), (np.float64, 1e300)]
)
def test_atoms_of_data_in_extreme_units(dtype, factor):
    X, y = blobs()
    X = (X / 16).astype(dtype)
    extreme = X * dtype(2.0 ** round(np.log2(factor)))
    for how in ({"atoms": "pca"}, {}):
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
