import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import Bunch

from skmixmate import datasets
from skmixmate.datasets import (
    load_fashion_mnist,
    load_mnist,
    load_usps,
    make_sparse_mixture,
)


def write(folder, name="mnist", shape=(28, 28)):
    X = np.random.default_rng(0).integers(0, 256, size=(5, *shape), dtype=np.uint8)
    X[0, 0, :2] = 0, 255
    np.savez(folder / f"{name}.npz", X=X, y=np.arange(5, dtype=np.uint8))
    return X


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize(
    ("load", "name", "shape"),
    [
        (load_mnist, "mnist", (28, 28)),
        (load_fashion_mnist, "fashion_mnist", (28, 28)),
        (load_usps, "usps", (16, 16)),
    ],
)
def test_files_are_read(load, name, shape, by_variable, tmp_path, monkeypatch):
    X = write(tmp_path, name, shape)
    monkeypatch.setenv("SKMIXMATE_DATA", str(tmp_path if by_variable else "nowhere"))
    bunch = load() if by_variable else load(data_home=tmp_path)
    assert bunch.data.dtype == np.float32
    np.testing.assert_allclose(bunch.images, X / 255, rtol=1e-6)
    assert np.shares_memory(bunch.data, bunch.images)
    np.testing.assert_array_equal(bunch.target, np.arange(5))


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0)])
def test_data_are_downloaded_if_there_is_no_file(low, high, tmp_path, monkeypatch):
    requests = []

    def fetch(name, **kwargs):
        requests.append((name, kwargs["data_home"]))
        pixels = np.full((4, 256), low)
        pixels[0, 0] = high
        return Bunch(data=pixels, target=np.array(["1", "10", "2", "3"]))

    monkeypatch.setattr(datasets, "fetch_openml", fetch)
    bunch = load_usps(data_home=tmp_path)
    assert requests == [("USPS", tmp_path)]
    assert (bunch.data.min(), bunch.data.max()) == (0, 1)
    assert bunch.target.dtype == np.int64


def test_without_file_or_network_the_message_names_the_file(tmp_path, monkeypatch):
    def fail(name, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "fetch_openml", fail)
    with pytest.raises(FileNotFoundError, match=r"(?s)no network.*mnist\.npz.*keys X"):
        load_mnist(data_home=tmp_path)
    monkeypatch.delenv("SKMIXMATE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="named by SKMIXMATE_DATA"):
        load_mnist()


@pytest.mark.parametrize(
    ("load", "n_samples", "n_features"),
    [
        (load_mnist, 70000, 784),
        (load_fashion_mnist, 70000, 784),
        (load_usps, 9298, 256),
    ],
)
def test_real_data(load, n_samples, n_features):
    name = load.__name__.removeprefix("load_")
    folder = os.environ.get("SKMIXMATE_DATA", "")
    if not os.path.exists(os.path.join(folder, f"{name}.npz")):
        pytest.skip(f"{name}.npz is not in the folder named by SKMIXMATE_DATA")
    bunch = load()
    assert bunch.data.shape == (n_samples, n_features)
    assert (bunch.data.min(), bunch.data.max()) == (0, 1)
    assert np.unique(bunch.target).tolist() == list(range(10))


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 30),
    n_features=st.integers(1, 10),
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 6),
    sparse=st.booleans(),
    missing=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 99),
)
def test_sampler_draws_what_it_says(
    n_samples, n_features, n_clusters, n_atoms, sparse, missing, seed
):
    bunch = make_sparse_mixture(
        n_samples,
        n_features,
        n_clusters=n_clusters,
        n_atoms=n_atoms,
        n_nonzero=1 if sparse else None,
        noise=0,
        missing=missing,
        random_state=seed,
    )
    assert bunch.dictionaries.shape == (n_clusters, n_atoms, n_features)
    np.testing.assert_allclose(np.linalg.norm(bunch.dictionaries, axis=2), 1)
    assert bunch.codes.shape == (n_samples, n_atoms)
    assert (np.count_nonzero(bunch.codes, axis=1) == (1 if sparse else n_atoms)).all()
    expected = np.einsum("nd,ndm->nm", bunch.codes, bunch.dictionaries[bunch.target])
    observed = ~np.isnan(bunch.data)
    np.testing.assert_allclose(bunch.data[observed], expected[observed])
    assert missing or observed.all()


def test_samples_have_the_distribution_of_the_parameters():
    bunch = make_sparse_mixture(
        20000,
        10,
        n_nonzero=2,
        alpha=0.5,
        noise=0.3,
        missing=0.25,
        weights=[0.6, 0.3, 0.1],
        random_state=0,
    )
    frequencies = np.bincount(bunch.target) / 20000
    np.testing.assert_allclose(frequencies, [0.6, 0.3, 0.1], atol=0.01)
    assert np.isnan(bunch.data).mean() == pytest.approx(0.25, abs=0.005)
    magnitudes = abs(bunch.codes[bunch.codes != 0])
    assert magnitudes.mean() == pytest.approx(2, rel=0.02)
    means = np.einsum("nd,ndm->nm", bunch.codes, bunch.dictionaries[bunch.target])
    assert np.nanstd(bunch.data - means) == pytest.approx(0.3, rel=0.02)


def test_samples_are_reproducible_and_independent_of_the_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (make_sparse_mixture(random_state=0).data for _ in range(2))
    make_sparse_mixture()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_samples": 0}, r"'n_samples'.*Got 0"),
        ({"n_nonzero": 9}, r"n_nonzero=9 should be <= n_atoms=8"),
        ({"missing": 1.0}, r"'missing'.*Got 1.0"),
        ({"weights": [0.5, 0.5]}, r"weights=\[0.5, 0.5\] should be n_clusters=3"),
        ({"weights": [0.5, 0.6, 0.1]}, r"that sum to 1"),
        ({"weights": [0.5, 0.6, -0.1]}, r"non-negative"),
    ],
)
def test_invalid_parameters_are_rejected(params, message):
    with pytest.raises(ValueError, match=message):
        make_sparse_mixture(**params)
