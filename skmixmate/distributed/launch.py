"""Finding the processes to fit with, started by torchrun or by the program."""

import atexit
import datetime
import multiprocessing
import os

import torch
from torch import distributed as dist

from .communicator import Communicator, rank0_only
from .connection import batch_scheduling

# How long to wait for the other processes of a process group that is made here. One of
# them may be clustering the rows that the fit starts from.
_TIMEOUT = datetime.timedelta(minutes=60)


def find_communicator(distributed: bool | str) -> Communicator:
    """Return a communicator of the processes to fit with.

    Parameters
    ----------
    distributed : bool or "auto"
        The parameter of the estimator.

    Returns
    -------
    communicator : Communicator
        Of the process group of torch. If there is none, but torchrun started the
        program, a process group is made, which is destroyed when the program ends.

    Raises
    ------
    ValueError
        If `distributed` is True, but this is the only process.
    """
    communicator = Communicator()
    if distributed is False or rank0_only.get():
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
            "torchrun, call torch.distributed.init_process_group before, or set "
            "distributed='auto'."
        )
    return communicator


def _is_launched() -> bool:
    """Return whether torchrun started this process, and not one of its children."""
    is_launched = dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
    return is_launched and multiprocessing.parent_process() is None


def _init_process_group() -> None:
    store, rank, size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # After a restart the store still has the addresses of the old processes.
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with batch_scheduling():
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT
        )


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
