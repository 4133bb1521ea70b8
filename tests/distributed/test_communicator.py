"""Two processes on this machine; this one is the first, another is kept beside it."""

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
from skmixmate.distributed.communicator import (
    Communicator,
    apportion,
    batch_scheduling,
    find_communicator,
)
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


def be_a_peer(folder, connection):
    warnings.simplefilter("ignore")
    join(1, folder)
    while True:
        connection.send(attempt(*connection.recv()))


class Peer:
    """The other process, and what both do together."""

    def __init__(self, folder):
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        self.process = context.Process(
            target=be_a_peer, args=(folder, there), daemon=True
        )
        self.process.start()
        join(0, folder)

    def both(self, function, *args):
        """Call a function in both; what they return."""
        here, there = self.attempts(function, *args)
        for result in (here, there):
            if isinstance(result, BaseException):
                raise result
        return here, there

    def attempts(self, function, *args):
        """Call a function in both; what they return, or what they raise."""
        self.connection.send((function, args))
        here = attempt(function, args)
        return here, self.connection.recv()

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
    """Fit the rows of this process; what was learned, and how good it is."""
    X, y = (parts[dist.get_rank()] for parts in shards(sizes, missing))
    if "likelihood" in params:
        X = np.where(np.isnan(X), X, X > 0)
    return learned(small(**params).fit(X), X, y)


def learned(mixmate, X, y):
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


# --- what is learned -----------------------------------------------------------------


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
def test_all_learn_the_same_model_and_label_their_own_rows(params, missing, peer):
    (state, own), (state_there, own_there) = peer.both(fit, params, SIZES, missing)
    assert_same(state, state_there)
    assert (len(own["labels"]), len(own_there["labels"])) == SIZES
    assert own["agrees"]
    assert own_there["agrees"]


def test_the_model_is_as_good_as_that_of_one_process(peer):
    (state, own), (_, own_there) = peer.both(fit, {"max_iter": 20})
    parts, targets = shards()
    X, y = np.concatenate(parts), np.concatenate(targets)
    expected, alone = learned(small(max_iter=20, distributed=False).fit(X), X, y)
    assert state["loss_"] == pytest.approx(expected["loss_"], rel=0.02)
    assert state["scale_"] == pytest.approx(expected["scale_"])
    labels = np.concatenate([own["labels"], own_there["labels"]])
    assert nmi(y, labels) > alone["score"] - 0.03


def test_a_mini_batch_of_all_rows_is_that_of_one_process(peer):
    params = {"batch_size": 1000, "max_iter": 3, "init": start()}
    params["noise_variance"] = "auto"
    (state, _), _ = peer.both(fit, params)
    parts, targets = shards()
    X, y = np.concatenate(parts), np.concatenate(targets)
    expected, _ = learned(small(**params, distributed=False).fit(X), X, y)
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


def test_images_share_a_representation(peer):
    X = np.random.default_rng(0).random((150, 64))
    here, there = peer.both(fit_images, X)
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(here[1], there[1])
    assert np.isfinite(here[1]).all()


class StopInOne(ScoringMonitor):
    """Stops a training after two epochs, from one process alone."""

    def __init__(self):
        super().__init__(scoring=None)
        self.n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return dist.get_rank() == 1 and self.n_epochs == 2


def fit_with_a_callback():
    X = shards()[0][dist.get_rank()]
    return small().set_callbacks(StopInOne()).fit(X).n_iter_


def test_a_callback_of_one_process_stops_all(peer):
    assert peer.both(fit_with_a_callback) == (2, 2)


# --- what goes wrong -----------------------------------------------------------------


def fit_rubbish(what):
    """One process has bad input, or a bad moment; the other has not."""
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
def test_what_is_wrong_in_one_process_ends_all(what, error, message, peer):
    here, there = peer.attempts(fit_rubbish, what)
    assert type(here) is error
    assert isinstance(there, Exception)
    with pytest.raises(error, match=message):
        raise here
    # And none is left in a state that the next fit would suffer from.
    (state, _), (state_there, _) = peer.both(fit, {"max_iter": 1})
    assert_same(state, state_there)


def fit_interrupted(n_steps):
    """Interrupt one of the processes, as by Ctrl-C, in the third epoch."""
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
def test_an_interrupt_of_one_process_leaves_all_at_the_last_epoch(n_steps, peer):
    here, there = peer.both(fit_interrupted, n_steps)
    np.testing.assert_array_equal(here, there)
    (two_epochs, _), _ = peer.both(fit, {"max_iter": 2})
    np.testing.assert_array_equal(here, two_epochs["dictionaries_"])


def fit_cut(function, n_calls):
    """Interrupt one process when it has begun a collective that the other is late for.

    The collective is a function of torch that has been called so many times.
    """
    rank, n_begun = dist.get_rank(), {"c_call": 0, "c_return": 0}

    def profile(frame, event, called):
        if event in n_begun and called.__name__ == function:
            n_begun[event] += 1
            if event == "c_call" and rank == 0 and n_begun[event] == n_calls:
                time.sleep(0.5)
            if event == "c_return" and rank == 1 and n_begun[event] == n_calls:
                raise KeyboardInterrupt

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sys.setprofile(profile)
        try:
            mixmate = small().fit(shards()[0][rank])
        finally:
            sys.setprofile(None)
    return mixmate.dictionaries_, str(caught[-1].message)


def test_an_interrupt_while_a_sum_is_under_way_leaves_all_at_the_last_epoch(peer):
    results = peer.both(fit_cut, "allreduce", 30)  # ten steps and two more an epoch
    (two_epochs, _), _ = peer.both(fit, {"max_iter": 2})
    for dictionaries, warned in results:
        np.testing.assert_array_equal(dictionaries, two_epochs["dictionaries_"])
        assert warned.startswith("The fit was interrupted after 2 whole epochs")


@pytest.mark.parametrize("n_calls", [1, 2, 7, 8])
def test_an_interrupt_while_values_are_gathered_interrupts_all(n_calls, peer):
    here, there = peer.attempts(fit_cut, "allgather", n_calls)
    assert isinstance(there, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt, match="process 1 of 2 was interrupted"):
        raise here
    (state, _), (state_there, _) = peer.both(fit, {"max_iter": 1})
    assert_same(state, state_there)


def fit_interrupted_behind():
    """Interrupt one process when the other has the parameters of the next epoch."""
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


def test_a_process_that_is_an_epoch_ahead_of_an_interrupted_one_goes_back(peer):
    here, there = peer.both(fit_interrupted_behind)
    np.testing.assert_array_equal(here, there)
    (one_epoch, _), _ = peer.both(fit, {"max_iter": 1})
    np.testing.assert_array_equal(here, one_epoch["dictionaries_"])


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
    here, there = peer.both(fit_interrupted_at_once)
    np.testing.assert_array_equal(here, there)


def fit_with(name, *values):
    """Fit with a parameter that each process has its own value of."""
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
def test_parameters_that_differ_are_refused(name, first, second, peer):
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
def test_long_parameters_that_differ_are_refused(name, first, second, peer):
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
def test_parameters_of_equal_value_are_the_same(name, first, second, peer):
    here, there = peer.both(fit_with, name, first, second)
    assert_same(here, there)


def test_a_parameter_that_cannot_be_compared_is_refused(peer):
    errors = peer.attempts(fit_with_a_function)
    assert ValueError in map(type, errors)  # the other may hear of it before
    for error in errors:
        assert re.search(r"prior=.* since it cannot be pickled", str(error))


def fit_with_a_function():
    prior = Outside()
    prior.note = lambda: None
    return fit({"prior": prior})


def fit_on(goes_on, path):
    """Fit with other things that processes have to do in step."""
    rank, X = dist.get_rank(), shards()[0][dist.get_rank()]
    mixmate = small(warm_start=True, distributed=False, max_iter=1)
    if goes_on[rank]:
        mixmate.fit(X)
    checkpoint = path if rank == 1 else None
    return mixmate.set_params(distributed=True, checkpoint=checkpoint).fit(X)


@pytest.mark.parametrize(
    ("goes_on", "has_checkpoint", "message"),
    [
        ((True, False), False, "same dictionaries_ to go on from, .* True .* False in"),
        ((True, True), True, "same use of checkpoint, but it is False .* True in"),
    ],
)
def test_all_go_on_and_keep_checkpoints_or_none(
    goes_on, has_checkpoint, message, peer, tmp_path
):
    path = str(tmp_path / "checkpoint") if has_checkpoint else None
    for error in peer.attempts(fit_on, goes_on, path):
        with pytest.raises(ValueError, match=message):
            raise error


def fit_part():
    return small().partial_fit(shards()[0][dist.get_rank()])


def test_partial_fit_is_refused(peer):
    for error in peer.attempts(fit_part):
        with pytest.raises(ValueError, match="should be False for partial_fit"):
            raise error


def die(rank, folder, queue, moment):
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
def test_where_a_process_is_killed_the_others_end_with_an_error(moment, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [
        context.Process(target=die, args=(rank, tmp_path, queue, moment))
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


# --- who takes part ------------------------------------------------------------------


def fit_alone():
    X = shards()[0][0]
    return small(distributed=False).fit(X).dictionaries_


def test_a_process_may_fit_alone(peer):
    here, there = peer.both(fit_alone)
    np.testing.assert_array_equal(here, there)


def test_clone_keeps_it():
    assert clone(small(distributed=False)).distributed is False


RESTARTING = """
    import os, signal, sys
    import numpy as np
    from skmixmate import MixMateClustering
    from skmixmate.files import checkpoint as _checkpoint
    from skmixmate.training.em import ExpectationMaximization
    from skmixmate.datasets import make_sparse_mixture

    folder, dies = sys.argv[1], sys.argv[2] == "dies"
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    _checkpoint._INTERVAL = 0
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
    """Run a program by torchrun in two processes, and wait for them."""
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


def fits_that(how, folder):
    launch(folder, RESTARTING, how)
    return [np.load(folder / f"{how}{rank}.npz") for rank in range(2)]


@pytest.mark.slow
def test_torchrun_goes_on_from_a_checkpoint_after_a_process_was_killed(tmp_path):
    restarted, unbroken = (fits_that(how, tmp_path) for how in ("dies", "lives"))
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
def test_threads_of_torch_wait_their_turn_and_end_before_the_program(tmp_path):
    """One that waited for Python's lock as Python ended would abort the program."""
    launch(tmp_path, ENDING)
    for rank in "01":
        (own, *others), left = json.loads((tmp_path / rank).read_text())
        assert own == os.SCHED_OTHER
        assert set(others) == {os.SCHED_BATCH}
        assert left == []


def test_where_a_policy_may_not_be_chosen_none_is(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    entered = []
    with batch_scheduling():
        entered.append(True)
    assert entered


# --- the parts -----------------------------------------------------------------------


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**9), min_size=1).filter(any))
def test_shares_are_proportional(n, counts):
    shares = apportion(n, counts)
    assert shares.sum() == n
    exact = n * np.array(counts) / sum(counts)
    assert np.abs(shares - exact).max() < 1 + 1e-6


def test_a_process_alone_keeps_what_it_has():
    communicator, tensor = Communicator(), torch.ones(3)
    generator = torch.Generator()
    assert communicator.rank_generator(generator) is generator
    assert communicator.all_reduce(tensor) is tensor
    (total,) = communicator.reducer(3, tensor).add(tensor)
    assert total is tensor


def sum_of_both():
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


def test_sums_are_over_all(peer):
    for total, tensor, number in peer.both(sum_of_both):
        assert total.tolist() == [[3, 3], [3, 3]]
        assert tensor.tolist() == [1]
        assert number == 4
