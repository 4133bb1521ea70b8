"""Processes that fit one model together, on torch's distributed engine.

Each process has its own rows, and all have the same parameters. This module contains
everything that they exchange; a process alone exchanges nothing, at no cost.

Collectives only work if all processes call the same ones in the same order. A process
that fails or is interrupted may have left any collective half done, so it must not need
another one to tell the others:

- Each fit has connections of its own, a backend of torch that is made when all
  processes have come to `fit`. The process group of the program serves to find the
  others and is never used for a collective, so that nothing that happens in a fit
  brings it out of step.
- A process that fails writes why into the store of the process group (keys and values,
  which any process reads and writes by itself) and then closes its connections, by
  which all collectives that wait for it end at once. The others read in the store why.
  To drop a backend of gloo is not enough: it waits for the collective under way.
- No process waits inside torch for longer than a fraction of a second without looking
  into the store, and at signals, so that it also ends if the connections stay open:
  torch does not close those of all backends at once, nor of all versions.
- A process that is killed writes nothing, but the system closes its connections, and
  before the fit is connected those of the process group of the program.
- The fits of each process are numbered in the store, before anything else is done, and
  all keys start with the number. A fit that was aborted by one is so for all, whenever
  they come to it, and the next ones of all belong together again.
- After an interrupt of the training all processes connect anew, as they do at the
  beginning of a fit, since they have to finish it together: the next phase of the fit.

Python may raise KeyboardInterrupt after any call. What a process does when it fails
can therefore be repeated, and is repeated if a second interrupt cuts it.
"""

import atexit
import contextlib
import contextvars
import datetime
import json
import multiprocessing
import os
import pickle
import threading
import time
from concurrent import futures

import numpy as np
import torch
from torch import distributed as dist

# Minutes to wait for the others where it is us who bring the processes together; one of
# them may be clustering the rows that the fit starts from.
_TIMEOUT = datetime.timedelta(minutes=60)

# Seconds between two looks into the store while a process waits: for the others to come
# to the fit at first and at most, and for a collective.
_FIRST_WAIT, _LONGEST_WAIT, _COLLECTIVE_WAIT = 0.001, 0.1, 0.1

# Seconds between two checks that the others, which have not come to the fit yet, live.
_CHECK_INTERVAL = 1

# Characters of an error that are handed on to the other processes.
_LONGEST_ERROR = 10_000

# Of messages that are never sent; see where they are used.
_UNUSED_TAG = 2**30 + 19

# Whether the first process does something that the others wait for; a fit inside of
# that, such as that of a clusterer which starts another, has nobody to go with.
_rank0_only = contextvars.ContextVar("is_apart", default=False)


class Communicator:
    """All processes of one fit, as one of them sees them.

    They are connected inside the context of this object. It makes sure that if one
    process fails all do.

    Parameters
    ----------
    group : ProcessGroup or None, default=None
        The process group of torch to find the others with; None for a process alone.

    Attributes
    ----------
    size : int
        How many processes there are.
    rank : int
        Which of them this is.
    """

    def __init__(self, group=None):
        self._group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)
        self._store = None
        self._number = None  # of the fit, among those of this process
        self._phase = 0
        self._backends = {}  # by type of device
        self._next_check = time.monotonic() + _CHECK_INTERVAL

    def __enter__(self):
        if self.size > 1:
            try:
                self._begin()
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(self, kind, error, traceback):
        interrupt = None
        while self.size > 1:
            try:
                self._end(error)
                break
            except KeyboardInterrupt as another:
                interrupt = another
        if interrupt is not None:
            raise interrupt

    def _begin(self):
        """Give the fit its number, and connect to the other processes."""
        # Torch has no public way to it in all versions that we work with.
        store = dist.distributed_c10d._get_default_store()
        self._store = dist.PrefixStore("skmixmate", store)
        # Known before it is written, so that a process which is interrupted meanwhile
        # can still say of which fit.
        with self._wrap_errors():
            self._number = self._store.add(self._counter(), 0) + 1
        self._connect(None)

    def _end(self, error):
        """Close the connections; after an error, make the fit fail in all processes."""
        if error is not None and self._number is not None:
            # Others may have gone on to the next phase without this process.
            self._abort(error, self._phase, self._phase + 1)
        self._backends = {}

    def _counter(self):
        return f"number of fits of process {self.rank}"

    def _key(self, name, phase=None):
        phase = self._phase if phase is None else phase
        return f"fit {self._number}, phase {phase}: {name}"

    def _connect(self, value):
        """Wait for all processes, connect to them, and return what each has brought."""
        keys = [self._key(f"process {rank}") for rank in range(self.size)]
        with self._wrap_errors():
            self._store.set(self._counter(), str(self._number))
            self._store.set(keys[self.rank], json.dumps(value))
        ends = time.monotonic() + self._store.timeout.total_seconds()

        def are_here(seconds):
            if self._store.check(keys):
                return True
            if time.monotonic() > ends:
                raise RuntimeError(f"{self._store.timeout} have passed")
            self._check_connections()
            time.sleep(seconds)
            return False

        self._wait(are_here)
        self._backends = {"cpu": self._new_backend()}
        with self._wrap_errors():
            return [json.loads(self._store.get(key)) for key in keys]

    def _new_backend(self):
        """Make connections that collectives of tensors on the CPU can use.

        Made in a thread: if another process ends at this moment, torch waits for half a
        minute, in which it sees neither signals nor the store.
        """
        made = futures.Future()
        store = dist.PrefixStore(self._key("gloo"), self._store)
        store = _Rendezvous(self._wait, store)

        def make():
            try:
                with batch_scheduling():
                    backend = dist.ProcessGroupGloo(
                        store, self.rank, self.size, self._store.timeout
                    )
                made.set_result(backend)
            except BaseException as error:
                made.set_exception(error)

        threading.Thread(target=make, daemon=True).start()

        def is_made(seconds):
            self._check_connections()
            return bool(futures.wait([made], seconds).done)

        self._wait(is_made)
        with self._wrap_errors():
            return made.result()

    def _check_connections(self):
        """Raise RuntimeError if another process, which may not fit yet, has ended.

        Torch refuses to receive on the connection that the process group of the program
        has to it. Nothing is ever sent to what is received here.
        """
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_INTERVAL
        if "cpu:gloo" not in dist.get_backend_config(self._group):
            return
        for rank in self._others():
            dist.irecv(torch.empty(1), rank, group=self._group, tag=_UNUSED_TAG)

    def _others(self):
        return [rank for rank in range(self.size) if rank != self.rank]

    def _wait(self, is_over, seconds=_FIRST_WAIT):
        """Wait for something for as long as no process has aborted the fit.

        Parameters
        ----------
        is_over : callable
            Called with a number of seconds, for which it may wait; returns whether what
            is waited for has come.
        seconds : float
            To begin with.
        """
        with self._wrap_errors():
            while not is_over(seconds):
                if self._is_aborted():
                    break
                seconds = min(2 * seconds, _LONGEST_WAIT)
            else:
                return
        raise self._reason()

    @contextlib.contextmanager
    def _wrap_errors(self):
        """Raise the documented error if torch cannot reach the others."""
        try:
            yield
        except RuntimeError as error:
            raise self._reason(error) from error

    def _is_aborted(self):
        return self._store.check([self._key("aborted")])

    def _reason(self, failure=None):
        """Return the error that says why the fit cannot go on in this process."""
        with contextlib.suppress(RuntimeError):  # the store may be gone as well
            if self._is_aborted():
                text = self._store.get(self._key("aborted"))
                rank, is_interrupt, error = json.loads(text)
                if is_interrupt:
                    return KeyboardInterrupt(
                        f"process {rank} of {self.size} was interrupted"
                    )
                return RuntimeError(
                    f"The fit has failed in 1 of {self.size} processes, and so in all. "
                    f"process {rank}: {error}"
                )
        return RuntimeError(
            f"Process {self.rank} of {self.size} can no longer reach the others: "
            f"one has ended, or has not come to the fit in time ({failure})."
        )

    def _abort(self, error, *phases):
        """Write why this process fails, unless another has before, and close all."""
        text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        is_interrupt = isinstance(error, KeyboardInterrupt)
        message = json.dumps([self.rank, is_interrupt, text])
        # Not to be reached any more is less of a matter than what has happened here.
        with contextlib.suppress(RuntimeError):
            self._store.set(self._counter(), str(self._number))
            for phase in phases:
                self._store.compare_set(self._key("aborted", phase), "", message)
        for backend in self._backends.values():
            if isinstance(backend, dist.ProcessGroupGloo):
                self._close(backend)
            else:
                abort = getattr(backend, "abort", None)  # not in torch 2.4
                (abort or backend._shutdown)()
        self._backends = {}

    def _close(self, backend):
        """Close all connections of gloo, and so end what is under way on them.

        Gloo cannot be told so, but does it when a message does not come in time.
        """
        for rank in self._others():
            with contextlib.suppress(RuntimeError):
                receipt = backend.recv([torch.empty(1)], rank, _UNUSED_TAG)
                receipt.wait(datetime.timedelta(milliseconds=1))

    def reconnect(self, interrupt, value):
        """Interrupt all processes as this one was, and connect to them anew.

        Parameters
        ----------
        interrupt : KeyboardInterrupt
        value : object
            Anything that JSON can hold.

        Returns
        -------
        values : list
            One for each process.

        Raises
        ------
        RuntimeError
            If another process has failed, or cannot be reached.
        KeyboardInterrupt
            If another process was interrupted elsewhere than where it calls this.
        """
        if self.size == 1:
            return [value]
        self._abort(interrupt, self._phase)
        self._phase += 1
        return self._connect(value)

    def all_gather(self, value):
        """Give a value to all processes, and get theirs.

        Parameters
        ----------
        value : object
            Anything that can be pickled.

        Returns
        -------
        values : list
            One for each process.

        Raises
        ------
        RuntimeError
            If another process has failed, or cannot be reached.
        KeyboardInterrupt
            If another process was interrupted.
        """
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = [int(size) for size in self._all_gather(torch.tensor([len(data)]))]
        padded = data.new_zeros(max(sizes))
        padded[: len(data)] = data
        parts = self._all_gather(padded)
        return [
            pickle.loads(part[:size].numpy().tobytes())
            for part, size in zip(parts, sizes, strict=True)
        ]

    def _all_gather(self, tensor):
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        backend = self._backends["cpu"]
        self._complete(backend.allgather([parts], [tensor]), backend)
        return parts

    def _complete(self, work, backend):
        """Wait for a collective that has begun."""

        def is_complete_on_host(seconds):
            try:
                work.wait(datetime.timedelta(seconds=seconds))
            except RuntimeError:
                if not work.is_completed():
                    return False
                work.wait()  # raises if it has failed
            return True

        def is_complete_on_device(seconds):
            # After a wait that is not long enough NCCL closes the connections.
            ends = time.monotonic() + seconds
            while not work.is_completed():
                if time.monotonic() > ends:
                    return False
            work.wait()
            return True

        is_gloo = isinstance(backend, dist.ProcessGroupGloo)
        is_complete = is_complete_on_host if is_gloo else is_complete_on_device
        self._wait(is_complete, _COLLECTIVE_WAIT)

    def broadcast(self, function):
        """Call a function in the first process, and give all what it returned.

        Parameters
        ----------
        function : callable

        Returns
        -------
        value : object
            The same in all processes; elsewhere than in the first, a copy.
        """
        if self.size == 1:
            return function()
        token = _rank0_only.set(True)
        try:
            value = function() if self.rank == 0 else None
        finally:
            _rank0_only.reset(token)
        return self.all_gather(value)[0]

    def all_reduce(self, value):
        """Add up a number, array or tensor over all processes, in their order.

        Parameters
        ----------
        value : number, ndarray or tensor

        Returns
        -------
        total : number, ndarray or tensor
            The same in all processes to the last bit.
        """
        if self.size == 1:
            return value
        is_tensor = isinstance(value, torch.Tensor)
        total, *others = self.all_gather(value.cpu() if is_tensor else value)
        for other in others:
            total = total + other
        return total.to(value.device) if is_tensor else total

    def rank_generator(self, generator):
        """Give the generator that shuffles the rows of this process.

        Parameters
        ----------
        generator : torch.Generator
            In the same state in all processes, as it will be after this.

        Returns
        -------
        generator : torch.Generator
            Another in each; of a process alone the one given.
        """
        if self.size == 1:
            return generator
        seed = torch.randint(2**62, (), generator=generator)
        return torch.Generator().manual_seed(int(seed) + self.rank)

    def reducer(self, n_entries, like):
        """Begin to sum tensors, as training does step by step.

        Parameters
        ----------
        n_entries : int
            The most that are summed at a time.
        like : tensor
            Of the dtype and device of what is summed.

        Returns
        -------
        exchange : Exchange
        """
        if self.size > 1:
            kinds = set(self.all_gather(like.device.type))
            backends = str(dist.get_backend_config(self._group))
            if kinds == {"cuda"} and "cuda:nccl" in backends:
                self._backends["cuda"] = self._new_nccl_backend()
        return AllReducer(self, n_entries, like)

    def _new_nccl_backend(self):
        store = dist.PrefixStore(self._key("nccl"), self._store)
        options = dist.ProcessGroupNCCL.Options()
        options._timeout = self._store.timeout
        return dist.ProcessGroupNCCL(store, self.rank, self.size, options)

    def all_reduce_in_place(self, buffer):
        """Add up a tensor over all processes.

        Parameters
        ----------
        buffer : tensor
            Of the same shape in all; overwritten.
        """
        backend = self._backends.get(buffer.device.type, self._backends["cpu"])
        self._complete(backend.allreduce([buffer]), backend)


class _Rendezvous(dist.Store if dist.is_available() else object):  # type: ignore[misc]
    """A store where this process waits for others only until the fit is aborted.

    Parameters
    ----------
    wait : callable
        Waits as :meth:`Communicator._wait` does.
    store : Store
        Where all is kept.
    """

    def __init__(self, wait, store):
        super().__init__()
        self._wait = wait
        self._store = store

    def set(self, key, value):
        """Set what is kept for a key."""
        self._store.set(key, value)

    def get(self, key):
        """Return what is kept for a key, once there is something."""
        self.wait([key])
        return self._store.get(key)

    def check(self, keys):
        """Return whether something is kept for each key."""
        return self._store.check(keys)

    def wait(self, keys, timeout=None):
        """Wait until something is kept for each key."""

        def are_set(seconds):
            if self._store.check(keys):
                return True
            time.sleep(seconds)
            return False

        self._wait(are_set)


class AllReducer:
    """Sums of tensors over processes, as training needs them step by step.

    Parameters
    ----------
    processes : Processes
    n_entries : int
    like : tensor
        As for :meth:`Communicator.reducer`.
    """

    def __init__(self, communicator, n_entries, like):
        self._communicator = communicator
        self._buffer = like.new_empty(n_entries) if communicator.size > 1 else None

    def all_reduce(self, *tensors):
        """Sum tensors over the processes.

        Parameters
        ----------
        *tensors : tensors
            Of the same shapes in all processes.

        Returns
        -------
        totals : sequence of tensors
            They stand until the next sum. Of a process alone, the tensors given.

        Raises
        ------
        RuntimeError
            If another process has failed, or cannot be reached.
        KeyboardInterrupt
            If another process was interrupted.
        """
        if self._buffer is None:
            return tensors
        sizes = [tensor.numel() for tensor in tensors]
        entries = self._buffer[: sum(sizes)]
        torch.cat([tensor.flatten() for tensor in tensors], out=entries)
        self._communicator.all_reduce_in_place(entries)
        parts = zip(entries.split(sizes), tensors, strict=True)
        return [part.view_as(tensor) for part, tensor in parts]

    def broadcast(self, *tensors):
        """Give all processes the tensors of the first.

        Parameters
        ----------
        *tensors : tensors

        Returns
        -------
        tensors : sequence of tensors
            As from :meth:`add`.
        """
        if self._communicator.rank == 0:
            return self.add(*tensors)
        return self.add(*(torch.zeros_like(tensor) for tensor in tensors))

    def any(self, flag):
        """Tell whether something holds in any process.

        Parameters
        ----------
        flag : bool

        Returns
        -------
        flag : bool
        """
        if self._buffer is None:
            return flag
        (n_flags,) = self.add(self._buffer.new_tensor([float(bool(flag))]))
        return bool(n_flags > 0)

    def close(self):
        """Wait until all processes have come so far."""
        self._communicator.all_gather(None)


def find_communicator(distributed):
    """Find the processes to fit with.

    Parameters
    ----------
    distributed : bool or "auto"
        The parameter of the estimator.

    Returns
    -------
    processes : Processes
        Those of the process group of torch. If there is none, but the program was
        launched by torchrun, one is made, which lasts as long as the program.

    Raises
    ------
    ValueError
        If True is asked for, and there is only this process.
    """
    communicator = Communicator()
    if distributed is False or _rank0_only.get():
        return communicator
    if dist.is_available():
        if not dist.is_initialized() and _is_launched():
            atexit.register(_destroy_process_group)
            _init_process_group()
        if dist.is_initialized() and dist.get_world_size() > 1:
            communicator = Communicator(dist.group.WORLD)
    if distributed is True and communicator.size == 1:
        raise ValueError(
            "distributed=True, but this process is alone; launch the program by "
            "torchrun, call torch.distributed.init_process_group before, or let "
            "distributed be 'auto'."
        )
    return communicator


def _is_launched():
    """Tell whether torchrun has started this process, and not one that it did."""
    is_launched = dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
    return is_launched and multiprocessing.parent_process() is None


def _init_process_group():
    store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart it still has the addresses of processes that are no more.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with batch_scheduling():
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT
        )


@contextlib.contextmanager
def batch_scheduling():
    """Let threads that are begun not break in on others of the same core.

    Gloo reads in one thread, which spins while another one writes. Where there are no
    more cores than processes the first may push the second aside and spin until its
    time is over, and the sum of a training step takes three times as long.
    """
    try:
        is_usual = os.sched_getscheduler(0) == os.SCHED_OTHER
        if is_usual:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_getparam(0))
    except (AttributeError, OSError):  # not on this system, or not to this program
        is_usual = False
    try:
        yield
    finally:
        if is_usual:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_getparam(0))


def _destroy_process_group():
    if dist.is_initialized():
        dist.destroy_process_group()


def apportion(n, counts):
    """Divide a number in proportion to counts.

    Parameters
    ----------
    n : int
    counts : sequence of int

    Returns
    -------
    shares : int ndarray
        They sum to `n`; each is less than 1 away from its proportion.

    Examples
    --------
    >>> from skmixmate.distributed.communicator import apportion
    >>> apportion(256, [1000, 1000, 500])
    array([103, 102,  51])
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = max(1, int(counts.sum()))
    shares, remainders = np.divmod(n * counts, total)
    largest = np.argsort(-remainders, kind="stable")
    shares[largest[: n - shares.sum()]] += 1
    return shares
