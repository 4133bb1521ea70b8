"""A training step launched at once.

On a GPU the hundreds of calls that make a step take longer than what they do. A CUDA
graph has them recorded, with the memory they work in, and launches all in one call.
"""

import threading

import torch

# Of a process only one thread at a time may record.
_RECORDING = threading.Lock()

# Steps that are taken call by call first: libraries set themselves up in them.
_N_WARM = 3


class CudaGraphStep:
    """Training steps, of which one is recorded and then played back.

    Complete and incomplete mini-batches are two kinds of steps, each with a recording.

    Parameters
    ----------
    record : callable
        Is given a function without arguments, records what it does, and returns a
        callable that does it again, and what the function gave.

    Examples
    --------
    A recording that does nothing but call again:

    >>> import torch
    >>> from skmixmate.training.cuda_graph import CudaGraphStep
    >>> captured = CudaGraphStep(lambda function: (function, function()))
    >>> for _ in range(5):
    ...     (total,) = captured(lambda rows, _: (rows.sum(),), torch.ones(2, 3), None)
    >>> total
    tensor(6.)
    """

    def __init__(self, record):
        self._record = record
        self._n_warm = {False: 0, True: 0}
        self._recorded = {}

    def __call__(self, step, rows, observed):
        """Take a step.

        Parameters
        ----------
        step : callable
            The same each time; ``step(rows, observed)`` gives a tuple of tensors. What
            it changes it changes in place, and it never waits for the device.
        rows : tensor of shape (n_rows, n_features)
            As many rows as in the other steps.
        observed : bool tensor of shape (n_rows, n_features) or None

        Returns
        -------
        *outputs : tensors
            What the step gives. The next one overwrites it.
        """
        kind = observed is None
        if self._n_warm[kind] < _N_WARM:
            self._n_warm[kind] += 1
            return step(rows, observed)
        if kind not in self._recorded:
            inputs = rows.clone(), None if kind else observed.clone()
            play, outputs = self._record(lambda: step(*inputs))
            self._recorded[kind] = inputs, play, outputs
        (near_rows, near_observed), play, outputs = self._recorded[kind]
        near_rows.copy_(rows)
        if not kind:
            near_observed.copy_(observed)
        play()
        return outputs


def cuda_graph_capturer(device):
    """Give what records on a device.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    record : callable or None
        As :class:`CudaGraphStep` wants it; None where nothing can be recorded.
    """
    if device.type != "cuda":
        return None

    def record(function):
        graph = torch.cuda.CUDAGraph()
        capture = torch.cuda.graph(
            graph,
            stream=torch.cuda.Stream(device),
            # Other threads may go on, with starts of their own.
            capture_error_mode="thread_local",
        )
        with _RECORDING, capture:  # what is recorded is not done yet
            outputs = function()
        return graph.replay, outputs

    return record
