"""All-reduce of the tensors of a training step."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class _Communicator(Protocol):
    """The part of a communicator that an all-reducer uses."""

    size: int
    rank: int

    def all_gather(self, value: object) -> list[Any]: ...

    def all_reduce_in_place(self, buffer: torch.Tensor) -> None: ...


class AllReducer:
    """Sums tensors over all processes, in one collective for several tensors.

    Parameters
    ----------
    communicator : Communicator
    n_entries : int
        Largest total number of entries of the tensors of one collective.
    like : tensor
        Has the dtype and device of the tensors.
    """

    def __init__(
        self, communicator: _Communicator, n_entries: int, like: torch.Tensor
    ) -> None:
        self._communicator = communicator
        self._buffer = like.new_empty(n_entries) if communicator.size > 1 else None

    def all_reduce(self, *tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        """Sum tensors over all processes.

        Parameters
        ----------
        *tensors : tensors
            Of the same shapes in all processes.

        Returns
        -------
        totals : sequence of tensors
            Valid until the next collective. A single process gets `tensors` back.

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
        totals = zip(torch.split(entries, sizes), tensors, strict=True)
        return [total.view_as(tensor) for total, tensor in totals]

    def broadcast(self, *tensors: torch.Tensor) -> Sequence[torch.Tensor]:
        """Copy tensors from the first process to all.

        Parameters
        ----------
        *tensors : tensors

        Returns
        -------
        tensors : sequence of tensors
            Valid until the next collective, as from :meth:`all_reduce`.
        """
        if self._communicator.rank == 0:
            return self.all_reduce(*tensors)
        return self.all_reduce(*(torch.zeros_like(tensor) for tensor in tensors))

    def any(self, flag: bool) -> bool:
        """Return whether a flag is True in any process.

        Parameters
        ----------
        flag : bool

        Returns
        -------
        flag : bool
        """
        if self._buffer is None:
            return flag
        (n_flags,) = self.all_reduce(self._buffer.new_tensor([float(bool(flag))]))
        return bool(n_flags > 0)

    def close(self) -> None:
        """Wait until all processes have called this method."""
        self._communicator.all_gather(None)
