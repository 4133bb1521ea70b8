import os
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score as nmi
from torch import distributed as dist

from skmixmate import MixMateClustering
from skmixmate.distributed.communicator import Communicator, apportion
from skmixmate.distributed.launch import find_communicator
from skmixmate.initialization import sparse as sparse_start
from skmixmate.model.likelihoods import NegativeBinomial
from skmixmate.model.priors import Laplace

from ..helpers import DuckNet
from .peer import SIZES, StopInOne, assert_same, evaluate, fit, shards, small

pytestmark = pytest.mark.skipif(
    not dist.is_available() or os.name != "posix", reason="needs gloo"
)

# --- fitted models -------------------------------------------------------------------


@pytest.mark.combinations(3)
@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({}, 0.0),
        ({"weights": "learned", "n_init": 2, "init": "kmeans"}, 0.0),
        ({"fit_intercept": False, "random_state": None}, 0.3),
        ({"n_clusters": "auto", "n_init": 2}, 0.0),
        ({"init": MixMateClustering(3, n_atoms=4, max_iter=1, tol=0)}, 0.0),
        ({"noise_variance": "auto"}, 0.1),
        ({"likelihood": "bernoulli", "weights": "learned"}, 0.1),
        ({"likelihood": "student_t", "noise_variance": "auto"}, 0.1),
        ({"likelihood": NegativeBinomial(), "weights": "learned"}, 0.1),
    ],
)
def test_all_fit_the_same_model_and_label_their_own_rows(params, missing, peer):
    (state, own), (peer_state, peer_own) = peer.both(fit, params, SIZES, missing)
    assert_same(state, peer_state)
    assert (len(own["labels"]), len(peer_own["labels"])) == SIZES
    assert own["agrees"]
    assert peer_own["agrees"]


def fit_sparse(params, missing):
    X, y = (shard[dist.get_rank()] for shard in shards(missing=missing))
    rows = sparse.csr_array(np.where(np.abs(X) < 0.5, 0, X))
    return evaluate(small(**params).fit(rows), rows, y)


@pytest.mark.combinations(3)
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("few_entries", [0, 2**21])
def test_sparse_rows(few_entries, missing, peer, monkeypatch):
    # With 0 the first process starts from components of the gathered rows.
    monkeypatch.setattr(sparse_start, "_DENSE_ENTRIES", few_entries)
    monkeypatch.setattr(sparse_start, "_FEW_FEATURES", few_entries)
    params = {"n_init": 2, "init": "kmeans", "weights": "learned"}
    (state, own), (peer_state, peer_own) = peer.both(fit_sparse, params, missing)
    assert_same(state, peer_state)
    assert own["agrees"]
    assert peer_own["agrees"]


def fit_to_labels():
    """Fit, with known labels in the first process only."""
    X, y = (shard[dist.get_rank()] for shard in shards())
    known = np.where(np.arange(len(y)) < 30, y, -1) if dist.get_rank() == 0 else None
    mixmate = small(supervision="auto").fit(X, known)
    state, own = evaluate(mixmate, X, y)
    return state, own | {"accuracy": np.mean(mixmate.labels_ == y)}


def test_labels_that_are_known_in_one_process_serve_in_all(peer):
    (state, own), (peer_state, peer_own) = peer.both(fit_to_labels)
    assert_same(state, peer_state)
    assert min(own["accuracy"], peer_own["accuracy"]) > 0.85


@pytest.mark.slow
def test_the_model_is_as_good_as_with_one_process(peer):
    (state, own), (_, peer_own) = peer.both(fit, {"max_iter": 20})
    X, y = map(np.concatenate, shards())
    expected, single = evaluate(small(max_iter=20, distributed=False).fit(X), X, y)
    assert state["loss_"] == pytest.approx(expected["loss_"], rel=0.02)
    assert state["scale_"] == pytest.approx(expected["scale_"])
    labels = np.concatenate([own["labels"], peer_own["labels"]])
    assert nmi(y, labels) > single["score"] - 0.03


def test_full_batches_give_the_model_of_one_process(peer):
    params = {"batch_size": 1000, "max_iter": 3, "init": start()}
    params["noise_variance"] = "auto"
    (state, _), _ = peer.both(fit, params)
    X, y = map(np.concatenate, shards())
    expected, _ = evaluate(small(**params, distributed=False).fit(X), X, y)
    for name in ("dictionaries_", "intercepts_", "noise_variance_", "loss_curve_"):
        np.testing.assert_allclose(state[name], expected[name], atol=1e-6)


def start():
    return np.random.default_rng(0).standard_normal((3, 6, 16))


def fit_weighted(weights, params):
    """Fit the rows of this process with their weights, None if they have none."""
    rank = dist.get_rank()
    X, y = (shard[rank] for shard in shards())
    mixmate = small(**params).fit(X, sample_weight=weights[rank])
    score = mixmate.score(X, sample_weight=weights[rank])
    return evaluate(mixmate, X, y), mixmate._mean_weight, score


def weights_of_both(kind):
    rng = np.random.default_rng(0)
    weights = {"integer": rng.integers(0, 4, size=300), "real": rng.lognormal(size=300)}
    weights["equal"] = np.full(300, 0.3)
    return np.split(weights[kind], SIZES[:1])


@pytest.mark.parametrize("kind", ["integer", "real", "equal"])
def test_weighted_full_batches_give_the_model_of_one_process(kind, peer):
    params = {"batch_size": 1000, "max_iter": 3, "init": start()}
    params |= {"noise_variance": "auto", "weights": "learned"}
    weights = weights_of_both(kind)
    results = peer.both(fit_weighted, weights, params)
    ((state, own), unit, _), ((peer_state, _), peer_unit, _) = results
    assert_same(state, peer_state)
    assert unit == peer_unit
    assert own["agrees"]
    X, y = map(np.concatenate, shards())
    mixmate = small(**params, distributed=False)
    mixmate.fit(X, sample_weight=np.concatenate(weights))
    expected, _ = evaluate(mixmate, X, y)
    for name in ("dictionaries_", "intercepts_", "weights_", "scale_", "loss_curve_"):
        np.testing.assert_allclose(state[name], expected[name], rtol=1e-6)
    assert state["loss_"] == pytest.approx(expected["loss_"])


@pytest.mark.parametrize("kind", ["integer", "real"])
@pytest.mark.parametrize("params", [{}, {"n_clusters": "auto", "n_init": 2}])
def test_weights_are_used_in_the_common_initialisation(kind, params, peer):
    weights = weights_of_both(kind)
    results = peer.both(fit_weighted, weights, params)
    ((state, own), _, score), ((peer_state, _), _, _) = results
    assert_same(state, peer_state)
    assert own["agrees"]
    assert np.isfinite(score)


def test_all_have_weights_or_none(peer):
    results = peer.attempts(fit_weighted, [np.ones(180), None], {})
    for error in results:
        with pytest.raises(ValueError, match="same use of sample_weight"):
            raise error


def fit_images(X):
    own = np.array_split(X, [100])[dist.get_rank()]
    mixmate = MixMateClustering(2, n_atoms=5, max_iter=1, tol=0, random_state=0)
    mixmate.fit(own)
    assert mixmate.image_shape_ == (8, 8)
    return mixmate.dictionaries_, mixmate.reconstruct(X[:5])


@pytest.mark.parametrize("is_incomplete", [False, True])
def test_all_use_the_same_representation_of_images(is_incomplete, peer):
    X = load_digits().data[:150]  # few enough to be recognised only together
    if is_incomplete:
        X[:90:7, 20:30] = np.nan  # in the first process only
        X[110] = np.nan
    result, peer_result = peer.both(fit_images, X)
    np.testing.assert_array_equal(result[0], peer_result[0])
    np.testing.assert_array_equal(result[1], peer_result[1])
    assert np.isfinite(result[1]).all()


def fit_with_a_callback():
    X = shards()[0][dist.get_rank()]
    return small().set_callbacks(StopInOne()).fit(X).n_iter_


def test_a_callback_in_one_process_stops_all(peer):
    assert peer.both(fit_with_a_callback) == (2, 2)


# --- parameters of all processes -----------------------------------------------------


def fit_with(name, *values):
    """Fit with a different value of a parameter in each process."""
    return fit({name: values[dist.get_rank()], "max_iter": 1})[0]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("prior", Laplace(0.1), Laplace(20.0)),
        ("prior", "laplace", Laplace(0.1)),
        ("weights", [0.2, 0.3, 0.5], [0.5, 0.3, 0.2]),
        ("weights", "learned", [0.5, 0.3, 0.2]),
        ("image_shape", [2, 8], [8, 2]),
        ("init", KMeans(3), KMeans(3, n_init=2)),
        ("alpha", "auto", 0.1),
    ],
)
def test_parameters_that_differ_raise(name, first, second, peer):
    message = f"same {name}, but it is {first!r} in process 0 and {second!r} in proc"
    for error in peer.attempts(fit_with, name, first, second):
        with pytest.raises(ValueError, match=re.escape(message)):
            raise error


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("init", start(), -start()),
        ("random_state", np.random.RandomState(0), np.random.RandomState(1)),
        ("prior", DuckNet(torch.tensor(0.1)), DuckNet(torch.tensor(0.2))),
    ],
)
def test_long_parameters_that_differ_are_described_by_checksums(
    name, first, second, peer
):
    message = rf"same {name}, but it is \w+.* in process 0 and \w+.* in process 1"
    for error in peer.attempts(fit_with, name, first, second):
        with pytest.raises(ValueError, match=message):
            raise error


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("image_shape", [2, 8], (2, 8)),
        ("weights", [0.25, 0.25, 0.5], np.array([0.25, 0.25, 0.5])),
        ("init", start(), np.asfortranarray(start())),
        ("random_state", np.random.RandomState(0), np.random.RandomState(0)),
        ("prior", Laplace(0.1), Laplace(0.1)),
        ("prior", DuckNet(torch.tensor(0.1)), DuckNet(torch.tensor(0.1))),
        ("n_jobs", 1, 2),
    ],
)
def test_parameters_of_equal_value_are_accepted(name, first, second, peer):
    result, peer_result = peer.both(fit_with, name, first, second)
    assert_same(result, peer_result)


def test_a_parameter_that_cannot_be_compared_raises(peer):
    errors = peer.attempts(fit_with_a_function)
    assert ValueError in map(type, errors)  # the other may get its message first
    for error in errors:
        assert re.search(r"prior=.* since it cannot be pickled", str(error))


def fit_with_a_function():
    prior = DuckNet()
    prior.note = lambda: None
    return fit({"prior": prior})


def fit_again(is_fitted, path):
    """Fit with a warm start or a checkpoint in some of the processes."""
    rank, X = dist.get_rank(), shards()[0][dist.get_rank()]
    mixmate = small(warm_start=True, distributed=False, max_iter=1)
    if is_fitted[rank]:
        mixmate.fit(X)
    checkpoint = path if rank == 1 else None
    return mixmate.set_params(distributed=True, checkpoint=checkpoint).fit(X)


@pytest.mark.parametrize(
    ("is_fitted", "has_checkpoint", "message"),
    [
        (
            (True, False),
            False,
            "same dictionaries_ to continue from, .* True .* False in",
        ),
        ((True, True), True, "same use of checkpoint, but it is False .* True in"),
    ],
)
def test_all_use_warm_starts_and_checkpoints_or_none(
    is_fitted, has_checkpoint, message, peer, tmp_path
):
    path = str(tmp_path / "checkpoint") if has_checkpoint else None
    for error in peer.attempts(fit_again, is_fitted, path):
        with pytest.raises(ValueError, match=message):
            raise error


def call_partial_fit():
    return small().partial_fit(shards()[0][dist.get_rank()])


def test_partial_fit_raises(peer):
    for error in peer.attempts(call_partial_fit):
        with pytest.raises(ValueError, match="should be False for partial_fit"):
            raise error


def fit_on_its_own():
    X = shards()[0][0]
    return small(distributed=False).fit(X).dictionaries_


def test_distributed_false_fits_each_process_separately(peer):
    result, peer_result = peer.both(fit_on_its_own)
    np.testing.assert_array_equal(result, peer_result)


def test_clone_keeps_distributed():
    assert clone(small(distributed=False)).distributed is False


# --- collectives ---------------------------------------------------------------------


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**9), min_size=1).filter(any))
def test_shares_are_proportional(n, counts):
    shares = apportion(n, counts)
    assert shares.sum() == n
    exact = n * np.array(counts) / sum(counts)
    assert np.abs(shares - exact).max() < 1 + 1e-6


def test_collectives_of_a_single_process_return_their_argument():
    communicator, tensor = Communicator(), torch.ones(3)
    generator = torch.Generator()
    assert communicator.rank_generator(generator) is generator
    assert communicator.all_reduce(tensor) is tensor
    (total,) = communicator.reducer(3, tensor).all_reduce(tensor)
    assert total is tensor


def sum_over_both():
    with find_communicator("auto") as communicator:
        reducer = communicator.reducer(4, torch.zeros(1))
        (total,) = reducer.all_reduce(torch.full((2, 2), 1.0 + communicator.rank))
        total = total.clone()
        reducer.close()
        return (
            total,
            communicator.all_reduce(torch.tensor([0.5])),
            communicator.all_reduce(2),
        )


def test_sums_are_over_all_processes(peer):
    for total, tensor, number in peer.both(sum_over_both):
        assert total.tolist() == [[3, 3], [3, 3]]
        assert tensor.tolist() == [1]
        assert number == 4
