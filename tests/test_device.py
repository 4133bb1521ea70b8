"""Devices other than the host's, by one that stands in for them."""

import numpy as np
import pytest
import torch

from skmixmate import (
    MixMateClustering,
    ScatteringTransform,
)
from skmixmate.data import loader as _rows
from skmixmate.data.loader import RowLoader
from skmixmate.datasets import make_sparse_mixture
from skmixmate.model.priors import Laplace
from skmixmate.model.spherical import SphericalMixture
from skmixmate.training import em as training
from skmixmate.training.em import ExpectationMaximization

try:
    from .stand_in import StandIn
except ImportError:
    pytest.skip("torch has no devices written in Python", allow_module_level=True)

N_CLUSTERS, N_FEATURES, BATCH_SIZE = 3, 12, 32


@pytest.fixture
def stand_in(monkeypatch):
    def cuda_graph_capturer(device):
        return mode.record if device == mode.device else None

    monkeypatch.setattr(training, "cuda_graph_capturer", cuda_graph_capturer)
    # Threads for the devices there are, autograd has from its first use on.
    with StandIn() as mode, torch.autograd.set_multithreading_enabled(False):
        yield mode


def data(missing=0.0, n_samples=200, dtype=np.float32):
    X = make_sparse_mixture(
        n_samples,
        n_clusters=N_CLUSTERS,
        n_atoms=4,
        n_features=N_FEATURES,
        random_state=0,
    ).data
    rng = np.random.default_rng(0)
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X.astype(dtype)


def answers(estimator, X):
    """All that an estimator says of rows, as arrays."""
    estimator.fit(X)
    return [
        estimator.dictionaries_,
        estimator.intercepts_,
        estimator.weights_,
        estimator.predict_proba(X),
        estimator.transform(X),
        estimator.reconstruct(X),
        estimator.energies(X),
        estimator.score_samples(X),
    ]


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.combinations(3)
@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"fit_intercept": False, "alpha": 0.3},
        {"weights": "learned", "noise_variance": "auto"},
        {"prior": "group", "alpha": 0.5},
        {"prior": "nonnegative", "alpha": 0.3},
        {"likelihood": "poisson"},
        {"likelihood": "bernoulli"},
        {"likelihood": "negative_binomial"},
        {"likelihood": "student_t", "noise_variance": "auto"},
    ],
    ids=str,
)
def test_device_results_equal_those_of_the_host(stand_in, params, missing):
    X = data(missing)
    if params.get("likelihood", "student_t") != "student_t":
        X = np.where(np.isnan(X), np.nan, X > 0).astype(np.float32)
    params = {"n_atoms": 4, "max_iter": 2, "tol": 0, "random_state": 0, **params}
    params["batch_size"] = BATCH_SIZE
    there = MixMateClustering(N_CLUSTERS, device=stand_in.device, **params)
    here = MixMateClustering(N_CLUSTERS, device="cpu", **params)
    assert_same(answers(there, X), answers(here, X))


def test_results_for_a_tensor_stay_on_its_device(stand_in):
    X = data()
    params = {"n_atoms": 4, "max_iter": 2, "tol": 0, "random_state": 0}
    there = MixMateClustering(N_CLUSTERS, **params).fit(
        torch.from_numpy(X).to(stand_in.device)
    )
    here = MixMateClustering(N_CLUSTERS, **params).fit(X)
    codes = there.transform(torch.from_numpy(X).to(stand_in.device))
    assert codes.device == stand_in.device
    np.testing.assert_allclose(codes.cpu(), here.transform(X), rtol=1e-4, atol=1e-5)


def test_scattering_on_a_device(stand_in, monkeypatch):
    # In which torch has no views of tensors that stand in for others.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    X = np.random.default_rng(0).uniform(size=(20, 64)).astype(np.float32)
    features = [
        ScatteringTransform((8, 8), device=device).fit_transform(X)
        for device in (stand_in.device, "cpu")
    ]
    np.testing.assert_allclose(*features, rtol=1e-4, atol=1e-5)


def make_em(device, missing=0.0, intercepts=True, known=None, **settings):
    X = torch.from_numpy(data(missing))
    generator = torch.Generator().manual_seed(0)
    dictionaries = torch.randn(N_CLUSTERS, 4, N_FEATURES, generator=generator)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    mixture = SphericalMixture(
        dictionaries=dictionaries.to(device),
        intercepts=torch.zeros(N_CLUSTERS, N_FEATURES).to(device)
        if intercepts
        else None,
        weights=torch.full((N_CLUSTERS,), 1 / N_CLUSTERS).to(device),
        prior=Laplace(0.3),
        n_layers=15,
    )
    settings = {"learn_weights": True, **settings}
    return ExpectationMaximization(
        mixture,
        RowLoader(X.to(device), device=torch.device(device), **(known or {})),
        slice(None),
        batch_size=BATCH_SIZE,
        learning_rate=1e-2,
        generator=generator,
        **settings,
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_steps_do_not_synchronise(stand_in, missing):
    em = make_em(stand_in.device, missing)
    batches = list(em.rows.batches(em.indices, em.batch_size, em.generator))
    stand_in.waits.clear()
    for batch in batches:
        em.step(batch)
    assert stand_in.waits == []


def test_only_windows_synchronise_and_not_their_mini_batches(stand_in):
    em = make_em(stand_in.device)
    n_waits = []
    for size in (50, 10):
        stand_in.waits.clear()
        batches = list(em.rows.batches(em.indices, size, em.generator))
        assert len(batches) == 200 // size
        n_waits.append(len(stand_in.waits))
    assert n_waits[0] == n_waits[1]


def test_tensor_that_fits_a_window_is_not_copied(stand_in, monkeypatch):
    em, checked = make_em(stand_in.device), []
    monkeypatch.setattr(
        _rows,
        "has_missing",
        lambda rows: bool(checked.append(rows.host_tensor.data_ptr())),
    )
    next(em.rows.batches(em.indices, em.batch_size, em.generator))
    assert checked == [em.rows.X.host_tensor.data_ptr()]


def test_many_clusters_use_active_rows_only_on_a_device_too(stand_in, monkeypatch):
    monkeypatch.setattr("skmixmate.model.active_rows._MAX_DENSE_CLUSTERS", 2)
    em, expected = make_em(stand_in.device), make_em("cpu")
    stand_in.waits.clear()
    losses = em.run_epoch(), expected.run_epoch()
    assert len(stand_in.waits) > 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("intercepts", [False, True])
def test_captured_steps_equal_uncaptured_ones(
    stand_in, monkeypatch, missing, intercepts
):
    captured = make_em(stand_in.device, missing, intercepts)
    monkeypatch.setattr(training, "cuda_graph_capturer", lambda device: None)
    expected = make_em(stand_in.device, missing, intercepts)
    start = captured.state_dict()
    for _ in range(2):
        for _ in range(3):
            assert captured.run_epoch() == expected.run_epoch()
        torch.testing.assert_close(
            captured.state_dict(), expected.state_dict(), rtol=0, atol=0
        )
        # A recording goes on from wherever its tensors are set to.
        captured.load_state_dict(start)
        expected.load_state_dict(start)
    assert stand_in.n_recorded == 1


def test_weights_and_labels_are_captured_with_their_rows(stand_in, monkeypatch):
    known = {
        "sample_weight": np.arange(200.0),
        "labels": torch.arange(200) % (N_CLUSTERS + 1) - 1,
    }
    captured = make_em(stand_in.device, known=known)
    monkeypatch.setattr(training, "cuda_graph_capturer", lambda device: None)
    expected = make_em(stand_in.device, known=known)
    stand_in.waits.clear()
    for _ in range(2):
        assert captured.run_epoch() == expected.run_epoch()
    torch.testing.assert_close(
        captured.state_dict(), expected.state_dict(), rtol=0, atol=0
    )
    assert stand_in.n_recorded == 1


@pytest.mark.parametrize("settings", [{"learn_noise": True}, {}], ids=str)
def test_steps_that_need_the_host_are_not_captured(stand_in, monkeypatch, settings):
    if not settings:
        monkeypatch.setattr("skmixmate.model.active_rows._MAX_DENSE_CLUSTERS", 2)
    em = make_em(stand_in.device, **settings)
    assert np.isfinite([em.run_epoch() for _ in range(2)]).all()
    assert stand_in.n_recorded == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_steps_captured_on_a_gpu(monkeypatch, missing):
    captured = make_em("cuda", missing)
    monkeypatch.setattr(training, "cuda_graph_capturer", lambda device: None)
    expected = make_em("cuda", missing)
    for _ in range(3):
        assert captured.run_epoch() == pytest.approx(expected.run_epoch(), rel=1e-4)
