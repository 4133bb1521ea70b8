"""Connections between the processes of a fit, and how a failure ends it in all of them.

Collectives only work if all processes call the same ones in the same order. A process
that fails or is interrupted may leave a collective unfinished, so the others must learn
of it in another way:

- Each fit has its own connections, a backend of torch that is made when all processes
  have called `fit`. The process group of the program is used to find the other
  processes and never for a collective, so that no failure of a fit can bring it out of
  step.
- A process that fails writes its error into the store of the process group, a table of
  keys and values that each process accesses independently. Then it closes its
  connections, which ends all collectives that wait for it. The other processes find the
  error in the store. Deleting a gloo backend is not enough: it waits for the collective
  that is running.
- No process waits inside torch for longer than a fraction of a second without checking
  the store and signals. So it also ends if the connections stay open, which some
  backends and versions of torch do not close at once.
- A process that is killed writes no error, but the operating system closes its
  connections: to the process group of the program and, once it is connected, to the
  fit.
- The fits of each process are numbered in the store, before anything else is done, and
  all keys start with the number. A fit that one process has aborted is aborted for all
  processes, whenever they start it, and then they agree on the next one.
- After an interrupt of the training all processes reconnect as at the start of a fit,
  since they have to finish it together: the next phase of the fit.

Python may raise KeyboardInterrupt after any call. All that a process does when it fails
can therefore be repeated, and is repeated if a second interrupt stops it.
"""

import contextlib
import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import torch
from torch import distributed as dist

# Seconds between two checks of the store while a process waits: for the others to start
# the fit, at first and at most; and for a collective.
_FIRST_WAIT, _MAX_WAIT, _COLLECTIVE_WAIT = 0.001, 0.1, 0.1

# Seconds between two checks that processes which have not started the fit are alive.
_CHECK_INTERVAL = 1

# Largest number of characters of an error that are sent to the other processes.
_MAX_ERROR_LENGTH = 10_000

# Tag of messages that are never sent, only waited for.
_UNUSED_TAG = 2**30 + 19


class Connection:
    """Connections of this process to the other processes of one fit.

    Parameters
    ----------
    group : ProcessGroup
        The process group of torch, of at least two processes.

    Attributes
    ----------
    size : int
        Number of processes.
    rank : int
        Number of this process.
    number : int or None
        Number of the fit among the fits of this process; None before :meth:`open`.
    backends : dict of str to backend
        Backends of torch by type of device; empty while the connection is not open.
    """

    def __init__(self, group: "dist.ProcessGroup") -> None:
        self._group = group
        self.size = dist.get_world_size(group)
        self.rank = dist.get_rank(group)
        self._store: Any = None
        self.number: int | None = None
        self._phase = 0
        self.backends: dict[str, Any] = {}
        self._next_check = time.monotonic() + _CHECK_INTERVAL

    def open(self) -> None:
        """Assign a number to the fit, and connect to the other processes."""
        # Not all supported versions of torch have a public function for it.
        store = dist.distributed_c10d._get_default_store()
        self._store = dist.PrefixStore("skmixmate", store)
        # The number is known before it is written, so that a process which is
        # interrupted in between can abort the right fit.
        with self._wrap_errors():
            self.number = self._store.add(self._counter_key(), 0) + 1
        self._connect(None)

    def close(self, error: BaseException | None) -> None:
        """Close the connections; after an error, make the fit fail in all processes.

        Parameters
        ----------
        error : BaseException or None
        """
        if error is not None and self.number is not None:
            # Others may have started the next phase without this process.
            self._abort(error, self._phase, self._phase + 1)
        self.backends = {}

    def reopen(self, interrupt: BaseException, value: Any) -> list[Any]:
        """Interrupt all processes, connect to them again, and exchange values.

        Parameters
        ----------
        interrupt : KeyboardInterrupt
        value : object
            Of a type that JSON can represent.

        Returns
        -------
        values : list
            One value from each process.
        """
        self._abort(interrupt, self._phase)
        self._phase += 1
        return self._connect(value)

    def _counter_key(self) -> str:
        return f"number of fits of process {self.rank}"

    def _key(self, name: str, phase: int | None = None) -> str:
        phase = self._phase if phase is None else phase
        return f"fit {self.number}, phase {phase}: {name}"

    def _connect(self, value: Any) -> list[Any]:
        """Wait for all processes, connect to them, and return a value from each."""
        keys = [self._key(f"process {rank}") for rank in range(self.size)]
        with self._wrap_errors():
            self._store.set(self._counter_key(), str(self.number))
            self._store.set(keys[self.rank], json.dumps(value))
        deadline = time.monotonic() + self._store.timeout.total_seconds()

        def have_started(seconds: float) -> bool:
            if self._store.check(keys):
                return True
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._store.timeout} have passed")
            self._check_peers()
            time.sleep(seconds)
            return False

        self._wait(have_started)
        self.backends = {"cpu": self._new_gloo_backend()}
        with self._wrap_errors():
            return [json.loads(self._store.get(key)) for key in keys]

    def _new_gloo_backend(self) -> Any:
        """Make a backend for collectives of tensors on the CPU.

        It is made in a thread: if another process ends at this moment, torch waits for
        half a minute, and meanwhile checks neither signals nor the store.
        """
        result: futures.Future[Any] = futures.Future()
        store = dist.PrefixStore(self._key("gloo"), self._store)
        store = _InterruptibleStore(self._wait, store)

        def make() -> None:
            try:
                with batch_scheduling():
                    backend = dist.ProcessGroupGloo(
                        store, self.rank, self.size, self._store.timeout
                    )
                result.set_result(backend)
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=make, daemon=True).start()

        def is_made(seconds: float) -> bool:
            self._check_peers()
            return bool(futures.wait([result], seconds).done)

        self._wait(is_made)
        with self._wrap_errors():
            return result.result()

    def add_nccl_backend(self) -> None:
        """Make a backend for collectives of tensors on CUDA devices."""
        store = dist.PrefixStore(self._key("nccl"), self._store)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = self._store.timeout
        self.backends["cuda"] = dist.ProcessGroupNCCL(
            store, self.rank, self.size, options
        )

    def has_nccl(self) -> bool:
        """Return whether the process group of the program uses NCCL."""
        return "cuda:nccl" in str(dist.get_backend_config(self._group))

    def _check_peers(self) -> None:
        """Raise RuntimeError if another process has ended, even before its fit.

        Torch refuses to receive on a connection of the process group of the program
        that is closed. Nothing is ever sent with this tag.
        """
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_INTERVAL
        if "cpu:gloo" not in dist.get_backend_config(self._group):
            return
        for rank in self._other_ranks():
            dist.irecv(torch.empty(1), rank, group=self._group, tag=_UNUSED_TAG)

    def _other_ranks(self) -> list[int]:
        return [rank for rank in range(self.size) if rank != self.rank]

    def _wait(
        self, is_over: Callable[[float], bool], seconds: float = _FIRST_WAIT
    ) -> None:
        """Wait for an event as long as no process has aborted the fit.

        Parameters
        ----------
        is_over : callable
            Returns whether the event has occurred; called with the number of seconds
            for which it may wait.
        seconds : float
            Seconds of the first call; they are doubled after each.
        """
        with self._wrap_errors():
            while not is_over(seconds):
                if self._is_aborted():
                    break
                seconds = min(2 * seconds, _MAX_WAIT)
            else:
                return
        raise self._make_error()

    def wait_for(self, work: Any, backend: Any) -> None:
        """Wait for a collective that has been started.

        Parameters
        ----------
        work : Work
        backend : backend
            The backend of torch that runs it.
        """

        def is_complete_on_host(seconds: float) -> bool:
            try:
                work.wait(datetime.timedelta(seconds=seconds))
            except RuntimeError:
                if not work.is_completed():
                    return False
                work.wait()  # raises if it has failed
            return True

        def is_complete_on_device(seconds: float) -> bool:
            # NCCL closes the connections if a wait times out.
            deadline = time.monotonic() + seconds
            while not work.is_completed():
                if time.monotonic() > deadline:
                    return False
            work.wait()
            return True

        is_gloo = isinstance(backend, dist.ProcessGroupGloo)
        is_complete = is_complete_on_host if is_gloo else is_complete_on_device
        self._wait(is_complete, _COLLECTIVE_WAIT)

    @contextlib.contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        """Raise the documented error if torch cannot reach the other processes."""
        try:
            yield
        except RuntimeError as error:
            raise self._make_error(error) from error

    def _is_aborted(self) -> bool:
        return bool(self._store.check([self._key("aborted")]))

    def _make_error(self, error: BaseException | None = None) -> BaseException:
        """Return the error that says why the fit fails in this process."""
        with contextlib.suppress(RuntimeError):  # the store may be lost as well
            if self._is_aborted():
                text = self._store.get(self._key("aborted"))
                rank, is_interrupt, message = json.loads(text)
                if is_interrupt:
                    return KeyboardInterrupt(
                        f"process {rank} of {self.size} was interrupted"
                    )
                return RuntimeError(
                    f"The fit has failed in 1 of {self.size} processes, and so in all. "
                    f"process {rank}: {message}"
                )
        return RuntimeError(
            f"Process {self.rank} of {self.size} can no longer reach the others: one "
            f"has ended, or has not started the fit in time ({error})."
        )

    def _abort(self, error: BaseException, *phases: int) -> None:
        """Announce an error, and end all collectives."""
        self._announce_error(error, *phases)
        for backend in self.backends.values():
            if isinstance(backend, dist.ProcessGroupGloo):
                self._close_gloo(backend)
            else:
                abort = getattr(backend, "abort", None)  # not in torch 2.4
                (abort or backend._shutdown)()
        self.backends = {}

    def _announce_error(self, error: BaseException, *phases: int) -> None:
        """Write an error into the store, unless another process has written one."""
        text = f"{type(error).__name__}: {error}"[:_MAX_ERROR_LENGTH]
        is_interrupt = isinstance(error, KeyboardInterrupt)
        message = json.dumps([self.rank, is_interrupt, text])
        # A lost connection to the store must not hide the original error.
        with contextlib.suppress(RuntimeError):
            self._store.set(self._counter_key(), str(self.number))
            for phase in phases:
                self._store.compare_set(self._key("aborted", phase), "", message)

    def _close_gloo(self, backend: Any) -> None:
        """Close all connections of gloo, which ends the collective that is running.

        Gloo has no function for it, but closes them when a receive times out.
        """
        for rank in self._other_ranks():
            with contextlib.suppress(RuntimeError):
                receipt = backend.recv([torch.empty(1)], rank, _UNUSED_TAG)
                receipt.wait(datetime.timedelta(milliseconds=1))


_Store: Any = dist.Store if dist.is_available() else object


class _InterruptibleStore(_Store):
    """Store in which this process waits for others only until the fit is aborted.

    Parameters
    ----------
    wait : callable
        :meth:`Connection._wait`.
    store : Store
        The store that holds all values.
    """

    def __init__(self, wait: Callable[..., None], store: Any) -> None:
        super().__init__()
        self._wait = wait
        self._store = store

    def set(self, key: str, value: Any) -> None:
        """Set the value of a key."""
        self._store.set(key, value)

    def get(self, key: str) -> Any:
        """Wait for the value of a key, and return it."""
        self.wait([key])
        return self._store.get(key)

    def check(self, keys: list[str]) -> bool:
        """Return whether all keys have a value."""
        return bool(self._store.check(keys))

    def wait(self, keys: list[str], timeout: datetime.timedelta | None = None) -> None:
        """Wait until all keys have a value."""

        def are_set(seconds: float) -> bool:
            if self._store.check(keys):
                return True
            time.sleep(seconds)
            return False

        self._wait(are_set)


@contextlib.contextmanager
def batch_scheduling() -> Iterator[None]:
    """Start threads with a scheduling policy that never preempts other threads.

    Gloo reads in one thread, which spins while another one writes. If there are no more
    cores than processes, the reader may preempt the writer and spin until its time
    slice ends, and the all-reduce of a training step takes three times as long.
    """
    try:
        is_default = os.sched_getscheduler(0) == os.SCHED_OTHER
        if is_default:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_getparam(0))
    except (AttributeError, OSError):  # not supported by the system, or not permitted
        is_default = False
    try:
        yield
    finally:
        if is_default:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_getparam(0))
