"""Random errors, interrupts and kills of two processes that fit together.

Whatever happens, and whenever: both end within seconds with a documented error, and fit
together again if both are still alive.
"""

import contextlib
import datetime
import faulthandler
import hashlib
import os
import random
import signal
import socket
import sys
import time
import traceback
import warnings

import numpy as np
import pytest
import torch
from sklearn.callback import ScoringMonitor
from torch import distributed as dist
from torch import multiprocessing

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.distributed.connection import Connection
from skmixmate.training.em import ExpectationMaximization

pytestmark = pytest.mark.skipif(
    not dist.is_available() or os.name != "posix", reason="needs gloo"
)

LIMIT = 10  # seconds, from the event to the end of both
SIZES = (180, 120)  # rows
PARAMS = [
    {"max_iter": 6},
    {"max_iter": 3, "weights": "learned", "init": "kmeans", "n_init": 2},
    {"max_iter": 1, "noise_variance": "auto"},
]


# --- in the two processes ------------------------------------------------------------


def work(rank, folder, connection):
    """Fit again and again, each time with another event."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    warnings.simplefilter("ignore")
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    init = {"init_method": f"file://{folder}/store"}
    if folder.endswith("tcp"):
        with open(f"{folder}/port") as file:
            init = {"init_method": f"tcp://127.0.0.1:{file.read()}"}
    timeout = datetime.timedelta(minutes=10)  # more than this test waits
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timeout, **init)
    step = ExpectationMaximization.step
    while True:
        params, event, delay = connection.recv()
        ExpectationMaximization.step = delayed(step, delay)
        ended = []
        while not ended:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                connection.send("starts")
                fit(params, event, rank, ended)
            except KeyboardInterrupt as error:
                with contextlib.suppress(
                    KeyboardInterrupt
                ):  # another one, which is ignored
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                if not ended and has_started(error):
                    ended.append(("KeyboardInterrupt", str(error), ""))
                event = ("", 0)  # it happens only once
            finally:
                sys.setprofile(None)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        connection.send(ended[0])


def has_started(error):
    """Return whether this process had started the fit; if not, the other one waits."""
    while error is not None:  # an interrupt may follow another
        for frame, _ in traceback.walk_tb(error.__traceback__):
            for value in frame.f_locals.values():
                connection = getattr(value, "_connection", value)
                number = getattr(connection, "number", None)  # maybe not yet set
                if isinstance(connection, Connection) and number is not None:
                    return True
        error = error.__context__
    return False


def delayed(step, delay):
    def slow_step(em, *batch):
        if delay and random.random() < 0.2:
            time.sleep(delay)
        return step(em, *batch)

    return slow_step


class Failing(ScoringMonitor):
    def __init__(self, n_tasks):
        super().__init__(scoring=None)
        self.n_tasks = n_tasks

    def on_fit_task_end(self, estimator, context):
        self.n_tasks -= 1
        if self.n_tasks == 0:
            raise ZeroDivisionError("what is this?")


def interrupt_after(n_calls):
    """Raise KeyboardInterrupt after `n_calls` calls, when Python checks signals."""
    n_remaining = [n_calls]

    def profile(frame, event, function):
        n_remaining[0] -= event in ("call", "c_return") and "skmixmate" in (
            frame.f_code.co_filename
        )
        if n_remaining[0] == 0:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)


def fit(params, event, rank, ended):
    """Append a digest of the model, or the error, and its text and warnings."""
    mixture = make_sparse_mixture(sum(SIZES), 16, n_atoms=4, random_state=0)
    X = np.split(mixture.data, SIZES[:1])[rank]
    mixmate = MixMateClustering(
        3, n_atoms=6, tol=0, batch_size=30, random_state=0, **params
    )
    what, n = event
    if what == "bad data":
        X[0, 0] = np.inf
    elif what == "bad parameter":
        mixmate.set_params(n_layers=0)
    elif what == "error":
        mixmate.set_callbacks(Failing(n))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if what == "interrupt at a call":
                interrupt_after(n)
            mixmate.fit(X)
            sys.setprofile(None)
            digest = hashlib.sha256()
            for name in ("dictionaries_", "intercepts_", "weights_"):
                digest.update(getattr(mixmate, name).tobytes())
            text = " ".join(str(warning.message) for warning in caught)
            ended.append(("fitted", digest.hexdigest(), text))
        except Exception as error:
            ended.append((type(error).__name__, str(error), ""))


# --- in the process of the test ------------------------------------------------------


class Pair:
    """Two processes, which are restarted if one of them has ended."""

    def __init__(self, folders):
        self.folders = folders
        self.processes = []
        self.expected = {}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["skmixmate", "sklearn.callback"])

    def start(self, store):
        self.close()
        folder = self.folders.mktemp("pair") / store
        folder.mkdir()
        (folder / "port").write_text(str(free_port()))
        self.connections, peer_connections = zip(
            *(self.context.Pipe() for _ in range(2)), strict=True
        )
        self.processes = [
            self.context.Process(
                target=work,
                args=(rank, str(folder), peer_connections[rank]),
                daemon=True,
            )
            for rank in range(2)
        ]
        for process in self.processes:
            process.start()
        for connection in peer_connections:
            connection.close()

    def is_alive(self):
        return bool(self.processes) and all(p.is_alive() for p in self.processes)

    def fit(self, params, events=(("", 0), ("", 0)), delays=(0, 0), signals=()):
        """Fit in both; send signals, each (seconds, rank, number), sorted."""
        for connection, event, delay in zip(
            self.connections, events, delays, strict=True
        ):
            connection.send((params, event, delay))
        for connection in self.connections:
            assert self.receive(connection, 60) == "starts"
        start = time.monotonic()
        for seconds, rank, number in signals:
            time.sleep(max(0, start + seconds - time.monotonic()))
            os.kill(self.processes[rank].pid, number)
        return [self.result(connection) for connection in self.connections]

    def receive(self, connection, seconds):
        if not connection.poll(seconds):
            for process in self.processes:
                os.kill(process.pid, signal.SIGUSR1)  # prints a traceback
            time.sleep(1)
            self.close()
            pytest.fail(f"a process has not ended within {seconds} seconds")
        try:
            return connection.recv()
        except (EOFError, ConnectionResetError):
            return ("killed", "", "")

    def result(self, connection):
        result = "starts"
        while result == "starts":
            result = self.receive(connection, LIMIT)
        return result

    def close(self):
        for process in self.processes:
            process.kill()
            process.join()
        self.processes = []

    def undisturbed(self, number):
        """Fit without any event; check the model, and return the seconds it takes."""
        start = time.monotonic()
        first, second = self.fit(PARAMS[number])
        assert first[0] == second[0] == "fitted", (first, second)
        digest = self.expected.setdefault(number, first[1])
        assert first[1] == second[1] == digest
        return time.monotonic() - start


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory)
    yield pair
    pair.close()


def events_of(rng, seconds):
    """Draw an event and a delay for each process, and signals."""
    events, delays = [("", 0), ("", 0)], rng.choice([0, 0, 0.03], 2).tolist()
    seconds += 20 * sum(delays)
    what = str(rng.choice(["signals", "interrupt at a call", "an error", "death"]))
    if what == "signals":
        begin, length = rng.uniform(0, seconds), rng.choice([0, 0.002, 0.05])
        signals = [
            (begin + rng.uniform(0, length), int(rng.integers(2)), signal.SIGINT)
            for _ in range(rng.integers(1, 5))
        ]
        return events, delays, sorted(signals)
    if what == "death":
        rank = int(rng.integers(2))
        return events, delays, [(rng.uniform(0, seconds), rank, signal.SIGKILL)]
    for rank in rng.permutation(2)[: rng.choice([1, 1, 2])]:
        events[rank] = (what, int(10 ** rng.uniform(0, 4.5)))
        if what == "an error":
            kind = rng.choice(["error", "bad data", "bad parameter"])
            events[rank] = (str(kind), int(rng.integers(1, 8)))
    return events, delays, []


def check(results, events, signals):
    kinds = [kind for kind, *_ in results]
    is_interrupted = ["interrupted after" in warning for *_, warning in results]
    numbers = {number for *_, number in signals}
    if kinds == ["fitted", "fitted"]:
        assert results[0][1] == results[1][1]
        assert is_interrupted[0] == is_interrupted[1]
    elif numbers == {signal.SIGKILL}:
        assert "killed" in kinds
        assert set(kinds) <= {"killed", "RuntimeError", "fitted"}
    elif signals or "interrupt at a call" in dict(events):
        # An interrupt at the very end may affect only one process.
        assert set(kinds) <= {"fitted", "KeyboardInterrupt"}
        assert not any(is_interrupted)
    else:
        failed = [bool(what) for what, _ in events]
        own = {"ZeroDivisionError", "ValueError", "InvalidParameterError"}
        for is_own, kind, (_, text, _) in zip(failed, kinds, results, strict=True):
            assert kind in own | {"RuntimeError"} if is_own else kind == "RuntimeError"
            if kind == "RuntimeError":
                assert "The fit has failed in 1 of 2 processes" in text


def test_both_end_within_seconds_and_fit_together_again(attempt, pair):
    def once(rng):
        number, store = int(rng.integers(len(PARAMS))), rng.choice(["file", "tcp"])
        if not pair.is_alive():
            pair.start(str(store))
        seconds = min(pair.undisturbed(number) for _ in range(2))
        events, delays, signals = events_of(rng, seconds)
        results = pair.fit(PARAMS[number], events, delays, signals)
        if any(number == signal.SIGKILL for *_, number in signals):
            pair.close()
        print(PARAMS[number], events, delays, signals, results)  # shown if it fails
        check(results, events, signals)

    attempt(once, cost=50)
