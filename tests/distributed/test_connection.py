import os
import signal
import sys
import time
import warnings

import numpy as np
import pytest
from torch import distributed as dist
from torch import multiprocessing

from skmixmate import MixMateClustering
from skmixmate.distributed.connection import batch_scheduling
from skmixmate.training.em import ExpectationMaximization

from .peer import StopInOne, assert_same, attempt, fit, join, shards, small

pytestmark = pytest.mark.skipif(
    not dist.is_available() or os.name != "posix", reason="needs gloo"
)


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
    # Programs that a shell runs in the background ignore this signal.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.warns(UserWarning, match="interrupted after 0 whole epochs"):
            return small().fit(shards()[0][dist.get_rank()]).dictionaries_
    finally:
        ExpectationMaximization.step = step
        signal.signal(signal.SIGINT, handler)


def test_an_interrupt_of_all_processes_at_once(peer):
    result, peer_result = peer.both(fit_interrupted_at_once)
    np.testing.assert_array_equal(result, peer_result)


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


def test_batch_scheduling_does_nothing_if_not_permitted(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    entered = []
    with batch_scheduling():
        entered.append(True)
    assert entered
