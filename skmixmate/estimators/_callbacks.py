"""Callbacks around epochs, and the checkpoint after each."""

from collections.abc import Callable
from typing import Any

from ..files.checkpoint import Checkpoint
from ..training.loop import History


class Monitor:
    """Calls scikit-learn's callbacks around each epoch, and writes checkpoints.

    Parameters
    ----------
    estimator : estimator
    task : callback context
        Of the training.
    X, y
        As given to `fit`.
    attributes : callable
        Returns the current fitted attributes, by name.
    checkpoint : Checkpoint or None, default=None
    """

    def __init__(
        self,
        estimator: Any,
        task: Any,
        X: Any,
        y: Any,
        attributes: Callable[[], dict[str, Any]],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.estimator = estimator
        self.task = task
        self.data = {"X": X, "y": y}
        self.attributes = attributes
        self.checkpoint = checkpoint
        if checkpoint is not None:
            for _ in checkpoint.history.losses:
                task.subcontext("epoch")  # that the interrupted fit has run

    def begin(self) -> None:
        """Notify callbacks of the start of an epoch."""
        self.epoch = self.task.subcontext("epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self) -> bool:
        """Notify callbacks of the end of the epoch, and return whether to stop."""
        return self.epoch.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self.attributes,
            **self.data,
        )

    def maybe_checkpoint(self, state: dict[str, Any], history: History) -> None:
        """Write a checkpoint if one is due."""
        if self.checkpoint is not None and self.checkpoint.is_due():
            self.checkpoint.write(state, history)
