"""The training loop: epochs until the loss stops falling."""

import logging
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from .em import ExpectationMaximization

logger = logging.getLogger("skmixmate")


@dataclass
class History:
    """The course of a training run.

    Attributes
    ----------
    losses : list of float
        Mean loss of every whole epoch.
    converged : bool
        Whether the loss stopped falling.
    stopped : bool
        Whether the monitor ended the run.
    interrupted : bool
        Whether a KeyboardInterrupt ended the run.
    diverged : bool
        Whether the last loss is not finite.
    """

    losses: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    interrupted: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the last loss is not finite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def has_stalled(self, tol: float, n_iter_no_change: int) -> bool:
        """Return whether the last epochs brought no improvement.

        Parameters
        ----------
        tol : float
            Smallest relative decrease of the loss that counts as an improvement.
        n_iter_no_change : int
            Number of last epochs that are compared with the earlier ones.

        Returns
        -------
        stalled : bool
        """
        earlier, recent = (
            self.losses[:-n_iter_no_change],
            self.losses[-n_iter_no_change:],
        )
        if not earlier or tol == 0:
            return False
        return min(recent) > min(earlier) - tol * abs(min(earlier))


class Monitor(Protocol):
    """Methods that :func:`train` calls around every epoch."""

    def begin(self) -> None:
        """Begin an epoch."""

    def end(self) -> bool:
        """End an epoch; return whether training should stop."""

    def maybe_checkpoint(self, state: dict[str, Any], history: History) -> None:
        """Receive a state from which training can resume."""


def train(
    em: ExpectationMaximization,
    *,
    max_iter: int,
    tol: float,
    n_iter_no_change: int,
    monitor: Monitor,
    history: History | None = None,
) -> History:
    """Run epochs until the loss stops falling or `max_iter` are done.

    A KeyboardInterrupt ends the run and restores the state after the last whole epoch,
    in several processes the last epoch that all of them have finished.

    Parameters
    ----------
    em : ExpectationMaximization
    max_iter : int
        Maximum number of epochs.
    tol : float
        Smallest relative decrease of the loss that counts as an improvement; 0 runs
        all epochs.
    n_iter_no_change : int
        Number of epochs without an improvement after which to stop.
    monitor : Monitor
        Called around every epoch.
    history : History, default=None
        Of an earlier run that this one resumes.

    Returns
    -------
    history : History
    """
    history = history or History()
    # An interrupt may reach another process one epoch earlier.
    n_kept = min(2, em.communicator.size)
    snapshots = deque([(history.losses, em.state_dict())], maxlen=n_kept)

    def is_over() -> bool:
        history.converged = history.has_stalled(tol, n_iter_no_change)
        is_done = len(history.losses) == max_iter or history.diverged
        return is_done or history.converged or history.stopped

    try:
        while not is_over():
            monitor.begin()
            epoch_loss = em.run_epoch()
            # In one operation, so that an interrupt finds both or neither.
            snapshots.append(([*history.losses, epoch_loss], em.state_dict()))
            history.losses, state = snapshots[-1]
            epoch = len(history.losses)
            logger.info("epoch %d of %d: loss %.6g", epoch, max_iter, epoch_loss)
            history.stopped = em.reducer.any(monitor.end())
            monitor.maybe_checkpoint(state, history)
        em.reducer.close()  # another process may still be interrupted here
    except KeyboardInterrupt as interrupt:
        history.interrupted = True
        n_epochs = min(em.communicator.reconnect(interrupt, len(snapshots[-1][0])))
        history.losses, state = next(
            (losses, state) for losses, state in snapshots if len(losses) == n_epochs
        )
        em.load_state_dict(state)
    return history
