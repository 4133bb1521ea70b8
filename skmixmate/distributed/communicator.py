"""Communication between processes that fit one model together.

All processes have the same parameters, and each has its own rows. Everything that they
exchange goes through a :class:`Communicator`; a single process exchanges nothing, at no
cost. See :mod:`skmixmate.distributed.connection` for what happens if one of them fails.
"""

import contextvars
import pickle
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import distributed as dist

from .connection import Connection
from .reducer import AllReducer

# Whether the first process calls a function while the others wait for its result. A fit
# inside of that function, such as by a clusterer for the initialization, is not shared.
rank0_only: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "rank0_only", default=False
)

_Value = TypeVar("_Value")


class Communicator:
    """Collectives of all processes of one fit.

    The processes are connected within the context of this object. If one of them
    fails, all fail.

    Parameters
    ----------
    group : ProcessGroup or None, default=None
        The process group of torch, used to find the other processes; None for a single
        process.

    Attributes
    ----------
    size : int
        Number of processes.
    rank : int
        Number of this process.
    """

    def __init__(self, group: "dist.ProcessGroup | None" = None) -> None:
        self._group = group
        self.size = 1 if group is None else dist.get_world_size(group)
        self.rank = 0 if group is None else dist.get_rank(group)
        self._connection: Any = None if group is None else Connection(group)

    def __enter__(self) -> Self:
        if self.size > 1:
            try:
                self._connection.open()
            except BaseException as error:
                self.__exit__(type(error), error, None)
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interrupt = None
        while self.size > 1:
            try:
                self._connection.close(error)
                break
            except KeyboardInterrupt as another:
                interrupt = another
        if interrupt is not None:
            raise interrupt

    def reconnect(self, interrupt: KeyboardInterrupt, value: _Value) -> list[_Value]:
        """Interrupt all processes as this one was, and connect to them again.

        Parameters
        ----------
        interrupt : KeyboardInterrupt
        value : object
            Of a type that JSON can represent.

        Returns
        -------
        values : list
            One value from each process.

        Raises
        ------
        RuntimeError
            If another process has failed, or cannot be reached.
        KeyboardInterrupt
            If another process was interrupted where it does not call this method.
        """
        if self.size == 1:
            return [value]
        values: list[_Value] = self._connection.reopen(interrupt, value)
        return values

    def all_gather(self, value: _Value) -> list[_Value]:
        """Send a value to all processes, and return the values of all.

        Parameters
        ----------
        value : object
            Must be picklable.

        Returns
        -------
        values : list
            One value from each process.

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
        buffers = self._all_gather(padded)
        return [
            pickle.loads(buffer[:size].numpy().tobytes())
            for buffer, size in zip(buffers, sizes, strict=True)
        ]

    def _all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        tensors = [torch.empty_like(tensor) for _ in range(self.size)]
        backend = self._connection.backends["cpu"]
        self._connection.wait_for(backend.allgather([tensors], [tensor]), backend)
        return tensors

    def broadcast(self, function: Callable[[], Any]) -> Any:
        """Call a function in the first process, and return its result in all.

        Parameters
        ----------
        function : callable

        Returns
        -------
        value : object
            The result in the first process, a copy of it in the others.
        """
        if self.size == 1:
            return function()
        token = rank0_only.set(True)
        try:
            value = function() if self.rank == 0 else None
        finally:
            rank0_only.reset(token)
        return self.all_gather(value)[0]

    def all_reduce(self, value: Any) -> Any:
        """Sum a number, array or tensor over all processes, in the order of ranks.

        Parameters
        ----------
        value : number, ndarray or tensor

        Returns
        -------
        total : number, ndarray or tensor
            Bit-identical in all processes.
        """
        if self.size == 1:
            return value
        is_tensor = isinstance(value, torch.Tensor)
        total, *others = self.all_gather(value.cpu() if is_tensor else value)
        for other in others:
            total = total + other
        return total.to(value.device) if is_tensor else total

    def rank_generator(self, generator: torch.Generator) -> torch.Generator:
        """Return a generator that differs between processes, to shuffle their rows.

        Parameters
        ----------
        generator : torch.Generator
            In the same state in all processes, both before and after the call.

        Returns
        -------
        generator : torch.Generator
            A single process gets `generator` back.
        """
        if self.size == 1:
            return generator
        seed = torch.randint(2**62, (), generator=generator)
        return torch.Generator().manual_seed(int(seed) + self.rank)

    def reducer(self, n_entries: int, like: torch.Tensor) -> AllReducer:
        """Return an all-reducer for the tensors of training steps.

        Parameters
        ----------
        n_entries : int
            Largest total number of entries of the tensors of one step.
        like : tensor
            Has the dtype and device of the tensors.

        Returns
        -------
        reducer : AllReducer
        """
        if self.size > 1:
            kinds = set(self.all_gather(like.device.type))
            if kinds == {"cuda"} and self._connection.has_nccl():
                self._connection.add_nccl_backend()
        return AllReducer(self, n_entries, like)

    def all_reduce_in_place(self, buffer: torch.Tensor) -> None:
        """Sum a tensor over all processes.

        Parameters
        ----------
        buffer : tensor
            Of the same shape in all processes; overwritten.
        """
        backends = self._connection.backends
        backend = backends.get(buffer.device.type, backends["cpu"])
        self._connection.wait_for(backend.allreduce([buffer]), backend)


def apportion(n: int, counts: Sequence[int]) -> np.ndarray:
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
    weights = np.asarray(counts, dtype=np.int64)
    total = max(1, int(weights.sum()))
    shares: np.ndarray
    shares, remainders = np.divmod(n * weights, total)
    largest = np.argsort(-remainders, kind="stable")
    shares[largest[: n - shares.sum()]] += 1
    return shares
