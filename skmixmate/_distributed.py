"""Processes that fit one model together, on torch's distributed engine.

Each has rows of its own, and all have the same parameters. What they say to one
another is said here; a process that goes alone talks to nobody, at no cost.

A process that fails tells the others, and all fail: they agree on what is said next,
a gathering or, while they train, a sum of which each knows the size, so that what the
one says in its place reaches the others wherever they are.
"""

import atexit
import contextlib
import contextvars
import datetime
import multiprocessing
import os

import numpy as np
import torch
from torch import distributed as dist

# Minutes to wait for the others where it is us who bring the processes together; one of
# them may be clustering the rows that the fit starts from.
_TIMEOUT = datetime.timedelta(minutes=60)

# Whether the first process does something that the others wait for; a fit inside of
# that, such as that of a clusterer which starts another, has nobody to go with.
_is_apart = contextvars.ContextVar("is_apart", default=False)


class Processes:
    """All processes of one fit, as one of them sees them.

    As a context it makes sure that if a process fails all do.

    Parameters
    ----------
    group : ProcessGroup or None, default=None
        None for a process alone.

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
        self._exchange = None  # while it is open, it is there that others listen
        self._is_over = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not self._is_over and self.size > 1:
            self._tell(kind, error)
        # An exchange knows its processes. While anything does, torch cannot end the
        # threads of a group, and one that outlives Python aborts the program.
        self._exchange = None

    def _tell(self, kind, error):
        if error is None:
            self.gather(None)  # one of the others may yet fail
            return
        # Not to be reached any more is less of a matter than what has happened here.
        with contextlib.suppress(RuntimeError):
            if self._exchange is not None and self._exchange.is_open:
                self._exchange.leave()
            self.gather(None, f"{kind.__name__}: {error}")

    def gather(self, value, error=None):
        """Give a value to all processes, and get theirs.

        Parameters
        ----------
        value : object
            Anything that can be pickled.
        error : str or None, default=None
            What has gone wrong, if this is the last that is heard of the process.

        Returns
        -------
        values : list
            One for each process.

        Raises
        ------
        RuntimeError
            If another process has failed, or cannot be reached.
        """
        if self.size == 1:
            return [value]
        told = [None] * self.size
        with self.reaching():
            dist.all_gather_object(told, (error, value), group=self._group)
        errors = [
            f"process {rank}: {text}" for rank, (text, _) in enumerate(told) if text
        ]
        self._is_over = bool(errors)
        if errors and error is None:
            raise RuntimeError(
                f"The fit has failed in {len(errors)} of {self.size} processes, and so "
                f"in all. {'; '.join(errors)}"
            )
        return [value for _, value in told]

    def first(self, function):
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
        token = _is_apart.set(True)
        try:
            value = function() if self.rank == 0 else None
        finally:
            _is_apart.reset(token)
        return self.gather(value)[0]

    def sum(self, value):
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
        total, *others = self.gather(value.cpu() if is_tensor else value)
        for other in others:
            total = total + other
        return total.to(value.device) if is_tensor else total

    def shuffler(self, generator):
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

    def exchange(self, n_entries, like):
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
        self.gather(None)  # from here on all listen there
        self._exchange = Exchange(self, n_entries, like)
        return self._exchange

    def sum_in_place(self, buffer):
        """Add up a tensor over all processes.

        Parameters
        ----------
        buffer : tensor
            Of the same shape in all; overwritten.
        """
        with self.reaching():
            dist.all_reduce(buffer, group=self._group)

    @contextlib.contextmanager
    def reaching(self):
        """Say what it means if torch cannot reach the others."""
        try:
            yield
        except RuntimeError as error:
            self._is_over = True
            raise RuntimeError(
                f"Process {self.rank} of {self.size} can no longer reach the others: "
                "one has ended, or has not come to the fit in time. torch says: "
                f"{error}"
            ) from error


class Exchange:
    """Sums of tensors over processes, any of which may leave.

    All sums are of one size, with one entry more for the number of processes that
    leave: one that does so takes part in a last sum, whichever it is to the others.

    Parameters
    ----------
    processes : Processes
    n_entries : int
    like : tensor
        As for :meth:`Processes.exchange`.

    Attributes
    ----------
    is_open : bool
        Whether others listen here; to a process alone nobody does.
    """

    def __init__(self, processes, n_entries, like):
        self._processes = processes
        self.is_open = processes.size > 1
        self._buffer = like.new_zeros(n_entries + 1) if self.is_open else None

    def add(self, *tensors):
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
        entries, rest = self._buffer.split([sum(sizes), len(self._buffer) - sum(sizes)])
        torch.cat([tensor.flatten() for tensor in tensors], out=entries)
        rest.zero_()
        self._processes.sum_in_place(self._buffer)
        if self._buffer[-1] > 0:
            self.is_open = False
            self._processes.gather(None)  # raises if it was an error
            raise KeyboardInterrupt
        parts = zip(entries.split(sizes), tensors, strict=True)
        return [part.view_as(tensor) for part, tensor in parts]

    def first(self, *tensors):
        """Give all processes the tensors of the first.

        Parameters
        ----------
        *tensors : tensors

        Returns
        -------
        tensors : sequence of tensors
            As from :meth:`add`.
        """
        if self._processes.rank == 0:
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

    def leave(self):
        """Take part in a last sum, by which others know that this process leaves."""
        self.is_open = False
        self._buffer.zero_()[-1] = 1
        self._processes.sum_in_place(self._buffer)

    def interrupt(self):
        """Let all processes be interrupted as this one was."""
        if self.is_open:
            self.leave()
            self._processes.gather(None)

    def close(self):
        """End the sums, once all processes have come so far."""
        if self.is_open:
            self.any(False)
            self.is_open = False


def find_processes(distributed):
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
    processes = Processes()
    if distributed is False or _is_apart.get():
        return processes
    if dist.is_available():
        if not dist.is_initialized() and _is_launched():
            _meet()
            atexit.register(_part)
        if dist.is_initialized() and dist.get_world_size() > 1:
            processes = Processes(dist.group.WORLD)
    if distributed is True and processes.size == 1:
        raise ValueError(
            "distributed=True, but this process is alone; launch the program by "
            "torchrun, call torch.distributed.init_process_group before, or let "
            "distributed be 'auto'."
        )
    return processes


def _is_launched():
    """Tell whether torchrun has started this process, and not one that it did."""
    is_launched = dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
    return is_launched and multiprocessing.parent_process() is None


def _meet():
    store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart it still has the addresses of processes that are no more.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with new_threads_waiting_their_turn():
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT
        )


@contextlib.contextmanager
def new_threads_waiting_their_turn():
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


def _part():
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
    >>> from skmixmate._distributed import apportion
    >>> apportion(256, [1000, 1000, 500])
    array([103, 102,  51])
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = max(1, int(counts.sum()))
    shares, remainders = np.divmod(n * counts, total)
    largest = np.argsort(-remainders, kind="stable")
    shares[largest[: n - shares.sum()]] += 1
    return shares
