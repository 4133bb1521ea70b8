"""Training steps as CUDA graphs.

On a GPU, launching the hundreds of kernels of a step takes longer than running them. A
CUDA graph records them, with the addresses of their tensors, and launches all at once.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from ..data.batch import Batch

# Only one thread of a process at a time may capture a graph.
_CAPTURING = threading.Lock()

# Number of steps before the capture, in which libraries initialise themselves.
_N_WARMUP = 3

# Runs a function while recording it; returns a function that replays the recording, and
# the outputs of the function.
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], Any], Any]]


class CudaGraphStep:
    """Training steps, of which one is captured and then replayed.

    Steps on mini-batches with different fields, such as complete and incomplete ones,
    are captured separately.

    Parameters
    ----------
    capture : callable
        Takes a function without arguments, records it, and returns a function that
        replays the recording, and the outputs of the function.

    Examples
    --------
    A capture that calls the function again:

    >>> import torch
    >>> from skmixmate.data.batch import Batch
    >>> from skmixmate.training.cuda_graph import CudaGraphStep
    >>> captured = CudaGraphStep(lambda function: (function, function()))
    >>> batch = Batch(torch.ones(2, 3))
    >>> for _ in range(5):
    ...     (total,) = captured(lambda batch: (batch.rows.sum(),), batch)
    >>> total
    tensor(6.)
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        # By which fields of a batch are None.
        self._n_warmup: Counter[tuple[bool, ...]] = Counter()
        self._graphs: dict[tuple[bool, ...], tuple[Batch, Callable[[], Any], Any]] = {}

    def __call__(self, step: Callable[[Batch], Any], batch: Batch) -> Any:
        """Take a step.

        Parameters
        ----------
        step : callable
            The same function each time; ``step(batch)`` returns a tuple of tensors. It
            changes tensors only in place, and never synchronises with the device.
        batch : Batch
            Of the same number of rows each time.

        Returns
        -------
        *outputs : tensors
            The outputs of the step. The next step overwrites them.
        """
        kind = tuple(field is None for field in batch)
        if self._n_warmup[kind] < _N_WARMUP:
            self._n_warmup[kind] += 1
            return step(batch)
        if kind not in self._graphs:
            static = batch.map(torch.clone)
            replay, outputs = self._capture(lambda: step(static))
            self._graphs[kind] = static, replay, outputs
        static, replay, outputs = self._graphs[kind]
        for target, field in zip(static, batch, strict=True):
            if target is not None and field is not None:
                target.copy_(field)
        replay()
        return outputs


def cuda_graph_capturer(device: torch.device) -> Capture | None:
    """Return a function that captures CUDA graphs on a device.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    capture : callable or None
        As :class:`CudaGraphStep` takes it; None unless the device is a GPU.
    """
    if device.type != "cuda":
        return None

    def capture(function: Callable[[], Any]) -> tuple[Callable[[], Any], Any]:
        graph = torch.cuda.CUDAGraph()
        context = torch.cuda.graph(
            graph,
            stream=torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
            # Other threads may continue, and capture their own graphs.
            capture_error_mode="thread_local",
        )
        with _CAPTURING, context:  # records kernels without running them
            outputs = function()
        return graph.replay, outputs

    return capture
