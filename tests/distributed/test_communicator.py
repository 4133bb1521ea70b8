"""Fits of two processes on this machine: the process of the tests and a peer."""

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score as nmi
from torch import distributed as dist
from torch import multiprocessing

import skmixmate
from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.distributed.communicator import Communicator, apportion
from skmixmate.distributed.connection import batch_scheduling
from skmixmate.distributed.launch import find_communicator
from skmixmate.model.priors import Laplace
from skmixmate.training.em import ExpectationMaximization

from .. import helpers
from ..helpers import Outside

pytestmark = pytest.mark.skipif(
    not dist.is_available() or os.name != "posix", reason="needs gloo"
)

SIZES = (180, 120)  # rows of the two processes


def join(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # the tests stay on this machine
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )


def attempt(function, args):
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt) as error:
        return error


def run_peer(folder, connection):
    warnings.simplefilter("ignore")
    join(1, folder)
    while True:
        connection.send(attempt(*connection.recv()))


class Peer:
    """The other process, and calls of functions in both."""

    def __init__(self, folder):
        context = multiprocessing.get_context("spawn")
        self.connection, peer_connection = context.Pipe()
        self.process = context.Process(
            target=run_peer, args=(folder, peer_connection), daemon=True
        )
        self.process.start()
        join(0, folder)

    def both(self, function, *args):
        """Call a function in both processes, and return both results."""
        results = self.attempts(function, *args)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def attempts(self, function, *args):
        """Call a function in both processes, and return both results or errors."""
        self.connection.send((function, args))
        result = attempt(function, args)
        return result, self.connection.recv()

    def close(self):
        self.process.kill()
        self.process.join()
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    n_threads = torch.get_num_threads()
    peer = Peer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.close()
    torch.set_num_threads(n_threads)


def shards(sizes=SIZES, missing=0.0):
    mixture = make_sparse_mixture(
        sum(sizes), 16, n_atoms=4, missing=missing, random_state=0
    )
    return (
        np.split(mixture.data, np.cumsum(sizes)[:-1]),
        np.split(mixture.target, np.cumsum(sizes)[:-1]),
    )


small = partial(helpers.small, max_iter=4, batch_size=30)


def fit(params, sizes=SIZES, missing=0.0):
    """Fit the rows of this process; return attributes, and scores of its labels."""
    X, y = (shard[dist.get_rank()] for shard in shards(sizes, missing))
    if "likelihood" in params:
        X = np.where(np.isnan(X), X, X > 0)
    return evaluate(small(**params).fit(X), X, y)


def evaluate(mixmate, X, y):
    names = ("dictionaries_", "intercepts_", "weights_", "noise_variance_")
    names = (*names, "scale_", "loss_curve_")
    state = {name: getattr(mixmate, name) for name in names}
    own = {
        "agrees": np.array_equal(mixmate.predict(X), mixmate.labels_),
        "score": nmi(y, mixmate.labels_),
        "labels": mixmate.labels_,
    }
    return state | {"loss_": mixmate.loss_}, own


def assert_same(one, other):
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


# --- fitted models -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({}, 0.0),
        ({"weights": "learned", "n_init": 2, "init": "kmeans"}, 0.0),
        ({"fit_intercept": False, "random_state": None}, 0.3),
        ({"init": MixMateClustering(3, n_atoms=4, max_iter=1, tol=0)}, 0.0),
        ({"noise_variance": "auto"}, 0.1),
        ({"likelihood": "bernoulli", "weights": "learned"}, 0.1),
    ],
)
def test_all_fit_the_same_model_and_label_their_own_rows(params, missing, peer):
    (state, own), (peer_state, peer_own) = peer.both(fit, params, SIZES, missing)
    assert_same(state, peer_state)
    assert (len(own["labels"]), len(peer_own["labels"])) == SIZES
    assert own["agrees"]
    assert peer_own["agrees"]


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


def fit_images(X):
    own = np.array_split(X, [100])[dist.get_rank()]
    mixmate = MixMateClustering(
        2, image_shape=(8, 8), n_atoms=5, max_iter=1, tol=0, random_state=0
    )
    return mixmate.fit(own).dictionaries_, mixmate.reconstruct(X[:5])


def test_all_use_the_same_representation_of_images(peer):
    X = np.random.default_rng(0).random((150, 64))
    result, peer_result = peer.both(fit_images, X)
    np.testing.assert_array_equal(result[0], peer_result[0])
    np.testing.assert_array_equal(result[1], peer_result[1])
    assert np.isfinite(result[1]).all()


class StopInOne(ScoringMonitor):
    """Stops the training of one process after two epochs."""

    def __init__(self):
        super().__init__(scoring=None)
        self.n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return dist.get_rank() == 1 and self.n_epochs == 2


def fit_with_a_callback():
    X = shards()[0][dist.get_rank()]
    return small().set_callbacks(StopInOne()).fit(X).n_iter_


def test_a_callback_in_one_process_stops_all(peer):
    assert peer.both(fit_with_a_callback) == (2, 2)


# --- errors, interrupts and kills ----------------------------------------------------


def fit_with_an_error(what):
    """Fit with bad input or a failing callback in one of the processes."""
    (X, other), _ = shards()
    mixmate = small()
    if dist.get_rank() == 1:
        X = other
        if what == "infinity":
            X = np.where(X[0, 0] < X, np.inf, X)
        elif what == "features":
            X = X[:, :-1]
        elif what == "dtype":
            X = X.astype(np.float32)
        elif what == "rows":
            X = X[:2]
        elif what == "parameters":
            mixmate.set_params(n_layers=7)
        elif what == "training":
            mixmate.set_callbacks(FailInOne())
        else:
            mixmate.set_params(n_layers=0)
    return mixmate.fit(X)


class FailInOne(StopInOne):
    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            raise ZeroDivisionError("what is this?")


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (
            "infinity",
            RuntimeError,
            r"1 of 2 .* process 1: ValueError: Input X con.* inf",
        ),
        ("features", ValueError, "same n_features, .* 16 in process 0 and 15"),
        ("dtype", ValueError, "same dtype, .* 'float64' in process 0 and 'float32'"),
        ("rows", ValueError, "Process 1 has 2 of 182 rows, less than one in each"),
        ("parameters", ValueError, "same n_layers, .* 15 in process 0 and 7 in proc"),
        ("training", RuntimeError, r"1 of 2 .* ZeroDivisionError: what is this\?"),
        ("range", RuntimeError, r"process 1: InvalidParameterError: .* 'n_layers'"),
    ],
)
def test_an_error_in_one_process_ends_all(what, error, message, peer):
    result, peer_result = peer.attempts(fit_with_an_error, what)
    assert type(result) is error
    assert isinstance(peer_result, Exception)
    with pytest.raises(error, match=message):
        raise result
    # The next fit is not affected.
    (state, _), (peer_state, _) = peer.both(fit, {"max_iter": 1})
    assert_same(state, peer_state)


def fit_interrupted(n_steps):
    """Interrupt one of the processes in the third epoch."""
    X, step, steps = shards()[0][dist.get_rank()], ExpectationMaximization.step, []

    def interrupted(em, *batch):
        steps.append(None)
        if dist.get_rank() == 1 and len(steps) == n_steps:
            raise KeyboardInterrupt
        return step(em, *batch)

    ExpectationMaximization.step = interrupted
    try:
        with pytest.warns(UserWarning, match="interrupted after 2 whole epochs"):
            mixmate = small().fit(X)
    finally:
        ExpectationMaximization.step = step
    return mixmate.dictionaries_


@pytest.mark.parametrize("n_steps", [21, 25, 30])
def test_an_interrupt_in_one_process_restores_the_last_epoch_in_all(n_steps, peer):
    result, peer_result = peer.both(fit_interrupted, n_steps)
    np.testing.assert_array_equal(result, peer_result)
    (two_epochs, _), _ = peer.both(fit, {"max_iter": 2})
    np.testing.assert_array_equal(result, two_epochs["dictionaries_"])


def fit_interrupted_in_collective(function, n_calls):
    """Interrupt one process in a collective for which the other one is late.

    The collective is call number `n_calls` of a function of torch.
    """
    rank, n_events = dist.get_rank(), {"c_call": 0, "c_return": 0}

    def profile(frame, event, called):
        if event in n_events and called.__name__ == function:
            n_events[event] += 1
            if event == "c_call" and rank == 0 and n_events[event] == n_calls:
                time.sleep(0.5)
            if event == "c_return" and rank == 1 and n_events[event] == n_calls:
                raise KeyboardInterrupt

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sys.setprofile(profile)
        try:
            mixmate = small().fit(shards()[0][rank])
        finally:
            sys.setprofile(None)
    return mixmate.dictionaries_, str(caught[-1].message)


def test_an_interrupt_during_an_all_reduce_restores_the_last_epoch_in_all(peer):
    results = peer.both(
        fit_interrupted_in_collective, "allreduce", 30
    )  # 10 steps + 2 per epoch
    (two_epochs, _), _ = peer.both(fit, {"max_iter": 2})
    for dictionaries, warned in results:
        np.testing.assert_array_equal(dictionaries, two_epochs["dictionaries_"])
        assert warned.startswith("The fit was interrupted after 2 whole epochs")


@pytest.mark.parametrize("n_calls", [1, 2, 7, 8])
def test_an_interrupt_during_an_all_gather_interrupts_all(n_calls, peer):
    result, peer_result = peer.attempts(
        fit_interrupted_in_collective, "allgather", n_calls
    )
    assert isinstance(peer_result, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt, match="process 1 of 2 was interrupted"):
        raise result
    (state, _), (peer_state, _) = peer.both(fit, {"max_iter": 1})
    assert_same(state, peer_state)


def fit_interrupted_an_epoch_behind():
    """Interrupt one process when the other one has finished the next epoch."""
    state_dict, n_states = ExpectationMaximization.state_dict, []

    def interrupted(em):
        n_states.append(None)
        if dist.get_rank() == 1 and len(n_states) == 3:
            raise KeyboardInterrupt
        return state_dict(em)

    ExpectationMaximization.state_dict = interrupted
    try:
        with pytest.warns(UserWarning, match="interrupted after 1 whole epochs"):
            return small().fit(shards()[0][dist.get_rank()]).dictionaries_
    finally:
        ExpectationMaximization.state_dict = state_dict


def test_a_process_an_epoch_ahead_of_an_interrupted_one_is_rolled_back(peer):
    result, peer_result = peer.both(fit_interrupted_an_epoch_behind)
    np.testing.assert_array_equal(result, peer_result)
    (one_epoch, _), _ = peer.both(fit, {"max_iter": 1})
    np.testing.assert_array_equal(result, one_epoch["dictionaries_"])


def fit_interrupted_at_once():
    step = ExpectationMaximization.step

    def interrupted(em, *batch):
        signal.raise_signal(signal.SIGINT)
        return step(em, *batch)

    ExpectationMaximization.step = interrupted
    try:
        with pytest.warns(UserWarning, match="interrupted after 0 whole epochs"):
            return small().fit(shards()[0][dist.get_rank()]).dictionaries_
    finally:
        ExpectationMaximization.step = step


def test_an_interrupt_of_all_processes_at_once(peer):
    result, peer_result = peer.both(fit_interrupted_at_once)
    np.testing.assert_array_equal(result, peer_result)


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
        ("prior", Outside(torch.tensor(0.1)), Outside(torch.tensor(0.2))),
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
        ("prior", Outside(torch.tensor(0.1)), Outside(torch.tensor(0.1))),
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
    prior = Outside()
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
        ((True, False), False, "same dictionaries_ to go on from, .* True .* False in"),
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


def fit_and_die(rank, folder, queue, moment):
    warnings.simplefilter("ignore")
    join(rank, folder)
    if rank == 1:
        kind, name = {
            "before": (MixMateClustering, "fit"),
            "training": (ExpectationMaximization, "run_epoch"),
        }[moment]
        setattr(kind, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    result = attempt(fit, ({},))
    queue.put((time.time(), f"{type(result).__name__}: {result}"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "training"])
def test_if_a_process_is_killed_the_others_raise(moment, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [
        context.Process(target=fit_and_die, args=(rank, tmp_path, queue, moment))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    both[1].join()
    killed = time.time()
    ended, text = queue.get(timeout=60)
    both[0].join()
    assert both[1].exitcode == -signal.SIGKILL
    assert ended - killed < 10
    assert text.startswith("RuntimeError: Process 0 of 2 can no longer reach")


# --- processes and torchrun ----------------------------------------------------------


def fit_on_its_own():
    X = shards()[0][0]
    return small(distributed=False).fit(X).dictionaries_


def test_distributed_false_fits_each_process_separately(peer):
    result, peer_result = peer.both(fit_on_its_own)
    np.testing.assert_array_equal(result, peer_result)


def test_clone_keeps_distributed():
    assert clone(small(distributed=False)).distributed is False


RESTARTING = """
    import os, signal, sys
    import numpy as np
    from skmixmate import MixMateClustering
    from skmixmate.files import checkpoint
    from skmixmate.training.em import ExpectationMaximization
    from skmixmate.datasets import make_sparse_mixture

    folder, dies = sys.argv[1], sys.argv[2] == "dies"
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    checkpoint._INTERVAL = 0
    run_epoch, epochs = ExpectationMaximization.run_epoch, []

    def run(em):
        epochs.append(None)
        if dies and rank == "1" and attempt == "0" and len(epochs) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_epoch(em)

    ExpectationMaximization.run_epoch = run
    X = make_sparse_mixture(300, 16, n_atoms=4, random_state=0).data
    mixmate = MixMateClustering(
        3, n_atoms=6, max_iter=5, tol=0, batch_size=32, random_state=0,
        checkpoint=os.path.join(folder, "checkpoint"),
    ).fit(X[int(rank)::2])
    name = f"{sys.argv[2]}{rank}.npz"
    np.savez(os.path.join(folder, name), dictionaries=mixmate.dictionaries_,
             n_epochs=len(epochs), losses=mixmate.loss_curve_)
"""


def launch(folder, program, *args):
    """Run a program with torchrun in two processes, and wait for them."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    command += ["--max-restarts=1", "--monitor-interval=0.1"]
    command += [str(script), str(folder), *args]
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(skmixmate.__file__).parents[1]),
    }
    done = subprocess.run(
        command, timeout=240, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def launch_fits(fate, folder):
    launch(folder, RESTARTING, fate)
    return [np.load(folder / f"{fate}{rank}.npz") for rank in range(2)]


@pytest.mark.slow
def test_torchrun_resumes_from_a_checkpoint_after_a_kill(tmp_path):
    restarted, unbroken = (launch_fits(fate, tmp_path) for fate in ("dies", "lives"))
    for fit in restarted:
        np.testing.assert_array_equal(fit["dictionaries"], unbroken[0]["dictionaries"])
        np.testing.assert_array_equal(fit["losses"], unbroken[0]["losses"])
    assert [int(fit["n_epochs"]) for fit in restarted] == [3, 3]
    assert [int(fit["n_epochs"]) for fit in unbroken] == [5, 5]
    assert not (tmp_path / "checkpoint").exists()


ENDING = """
    import atexit, gc, json, os, sys
    from pathlib import Path

    def threads_of_gloo():
        threads = Path("/proc/self/task").iterdir()
        return [int(t.name) for t in threads if "gloo" in (t / "comm").read_text()]

    def record():
        Path(sys.argv[1], os.environ["RANK"]).write_text(
            json.dumps([policies, threads_of_gloo()])
        )

    atexit.register(record)  # is called last
    import numpy as np
    from skmixmate import MixMateClustering

    gc.disable()
    X = np.random.default_rng(int(os.environ["RANK"])).normal(size=(60, 8))
    MixMateClustering(2, n_atoms=3, max_iter=2).fit(X)
    policies = [os.sched_getscheduler(thread) for thread in (0, *threads_of_gloo())]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_gloo_threads_are_batch_scheduled_and_end_before_the_program(tmp_path):
    """A thread that waits for the lock of an ending interpreter aborts the program."""
    launch(tmp_path, ENDING)
    for rank in "01":
        (own, *others), remaining = json.loads((tmp_path / rank).read_text())
        assert own == os.SCHED_OTHER
        assert set(others) == {os.SCHED_BATCH}
        assert remaining == []


def test_batch_scheduling_does_nothing_if_not_permitted(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    entered = []
    with batch_scheduling():
        entered.append(True)
    assert entered


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
