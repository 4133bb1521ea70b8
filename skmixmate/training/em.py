"""Training: EM as gradient steps through the unrolled graph.

One mini-batch is one E-step, the forward pass, and one M-step: a step of Adam
on the dictionaries through all layers of the encoder, after which every atom
is put back on the unit sphere, and the closed-form updates of the intercepts and of
a noise variance that is learned.
Learned weights are updated after every epoch, in a stream after every mini-batch.
"""

import logging
import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import torch

from ..data.batch import Batch
from ..distributed.communicator import Communicator, apportion
from ..model.posterior import loss, thresholded_responsibilities
from .adam import Adam
from .cuda_graph import CudaGraphStep, cuda_graph_capturer

logger = logging.getLogger("skmixmate")

# Smallest noise variance that is learned, in units of the last digit beside 1: what the
# Gram form can tell of the squared errors of scaled rows.
_LEAST_NOISE = 1000


class ExpectationMaximization:
    """The state of a training run, and one epoch of it.

    Parameters
    ----------
    mixture : Mixture
        Trained in place.
    rows : Rows
    members : slice(None) or int tensor of shape (n_members,)
        Rows to train on.
    batch_size : int
        Rows in a mini-batch, those of all processes together. The last, incomplete
        one of an epoch is left out, unless it is the only one.
    learning_rate : float
        Of Adam; atoms have norm 1, so it does not depend on the data.
    learn_weights : bool
        Whether to update the weights of the mixture.
    generator : torch.Generator
        On the CPU; shuffles the rows.
    learn_noise : bool, default=False
        Whether to update the noise variance of the mixture.
    n_window : int, default=None
        Rows in the sliding window of the intercepts and of the noise variance, and in
        a stream of learned weights; at least `batch_size`. By default as many as there
        are.
    penalty : Smoothness or None, default=None
        Of the dictionaries; added to the loss.
    processes : Processes, default=None
        That train together, each on rows of its own; by default this one alone. A
        mini-batch has of each as many rows as in proportion it has.

    Raises
    ------
    ValueError
        If a process has too few rows for one in each mini-batch.
    """

    def __init__(
        self,
        mixture,
        rows,
        members,
        *,
        batch_size,
        learning_rate,
        learn_weights,
        generator,
        learn_noise=False,
        n_window=None,
        penalty=None,
        communicator=None,
    ):
        self.mixture = mixture
        self.rows = rows
        self.members = members
        self.learn_weights = learn_weights
        self.generator = generator
        self.penalty = penalty
        self.communicator = communicator or Communicator()
        counts = self.communicator.all_gather(rows.count_rows(members))
        self.batch_size = min(batch_size, sum(counts))
        self.n_window = n_window or sum(counts)
        self._share_rows(counts)
        self.optimizer = Adam(mixture.dictionaries, learning_rate)
        self._gradient = torch.zeros_like(mixture.dictionaries)
        self._counts = self._sums = None
        if mixture.intercepts is not None:
            # As if the window had been seen with the intercepts as they are.
            shares = self.n_window * mixture.weights[:, None]
            self._counts = torch.empty_like(mixture.intercepts)
            self._counts.copy_(shares * mixture.intercept_fisher_information())
            self._sums = self._counts * mixture.intercepts
        self._squares = None
        if learn_noise:
            n_seen = float(self.n_window * rows.X.shape[1])
            self._squares = mixture.weights.new_tensor(
                [n_seen * mixture.noise_variance, n_seen]
            )
        n_entries = mixture.dictionaries.numel() + len(mixture.weights) + 1
        if mixture.intercepts is not None:
            n_entries += 2 * mixture.intercepts.numel()
        n_entries += 2 * learn_noise
        self.reducer = self.communicator.reducer(n_entries, mixture.dictionaries)
        self._captured = None
        record = cuda_graph_capturer(mixture.dictionaries.device)
        is_alone = self.communicator.size == 1
        if record and is_alone and mixture.is_sync_free and not learn_noise:
            self._captured = CudaGraphStep(record)

    def _share_rows(self, counts):
        shares = apportion(self.batch_size, counts)
        if shares.min() == 0:
            rank = int(shares.argmin())
            raise ValueError(
                f"Process {rank} has {counts[rank]} of {sum(counts)} rows, less than "
                f"one in each mini-batch of {self.batch_size}. Spread the rows more "
                "evenly over the processes, or raise batch_size."
            )
        self._n_own = int(shares[self.communicator.rank])
        # Rows that are left over are others in each epoch.
        self._n_batches = min(
            count // int(share) for count, share in zip(counts, shares, strict=True)
        )

    def run_epoch(self):
        """Pass once over the rows.

        Returns
        -------
        loss : float
            Mean of Eq. 8 over the rows, each as its mini-batch was met; with the
            penalty, if there is one.
        """
        total, counts = 0.0, torch.zeros_like(self.mixture.weights)
        rank_generator = self.communicator.rank_generator(self.generator)
        batches = self.rows.batches(self.members, self._n_own, rank_generator)
        for batch in islice(batches, self._n_batches):
            if self._captured is None:
                losses, responsibilities = self.step(*batch)
            else:
                losses, responsibilities = self._captured(self.step, *batch)
            total = total + losses
            counts += responsibilities
        if self.learn_weights:
            self._set_weights(counts)
        self._synchronize()
        return float(total) / (self._n_batches * self.batch_size)

    def _synchronize(self):
        """Take the parameters of the first process, down to the last bit.

        Processors of another make may round otherwise.
        """
        if self.communicator.size == 1:
            return
        mixture = self.mixture
        intercepts = [] if mixture.intercepts is None else [mixture.intercepts]
        dictionaries, mixture.weights, *intercepts = (
            tensor.clone()
            for tensor in self.reducer.broadcast(
                mixture.dictionaries, mixture.weights, *intercepts
            )
        )
        mixture.dictionaries.copy_(dictionaries)
        if intercepts:
            mixture.intercepts.copy_(intercepts[0])

    def run_stream(self):
        """Pass once over all rows in their order, in whole mini-batches.

        A stream has no epochs: learned weights are updated after each mini-batch,
        from the posterior over the sliding window.

        Returns
        -------
        loss : float
            As from :meth:`run_epoch`.
        """
        total = 0.0
        for block in self.rows.chunks(self.batch_size):
            losses, counts = self.step(*self.rows.load(block))
            total = total + losses
            if self.learn_weights:
                n_kept = self.n_window - self.batch_size
                self._set_weights(n_kept * self.mixture.weights + counts)
        return float(total) / len(self.rows)

    def _set_weights(self, counts):
        # The M-step of Eq. 2; a weight of zero would have no logarithm.
        counts = counts.clamp_min(torch.finfo(counts.dtype).tiny)
        self.mixture.weights.copy_(counts / counts.sum())

    @torch.no_grad()
    def step(self, batch, mask):
        """Take one mini-batch.

        What changes is changed in place: a step that is captured knows tensors by
        where they are.

        Parameters
        ----------
        batch : tensor of shape (n_rows, n_features)
            What this process has of it.
        mask : bool tensor of shape (n_rows, n_features) or None
            False where an entry is missing; None if nothing is.

        Returns
        -------
        total : tensor, a number
            Sum of the loss over the rows of all processes, each with the penalty if
            there is one.
        counts : tensor of shape (n_clusters,)
            Sum of the posterior over these.
        """
        mixture, precomputed = self.mixture, self.mixture.precompute()
        total, counts, intercept_statistics, squares = 0.0, 0.0, [], 0.0
        gradient = self._gradient.zero_()
        for rows, observed in self._parts(batch, mask):
            inferred = mixture.e_step(rows, observed, precomputed)
            *_, codes, energies = inferred
            responsibilities = thresholded_responsibilities(energies)
            mixture.add_gradient(
                gradient, rows, observed, inferred, responsibilities, precomputed
            )
            total = total + loss(energies).sum()
            counts = counts + responsibilities.sum(dim=1)
            if mixture.intercepts is not None:
                intercept_statistics.append(
                    mixture.intercept_statistics(
                        rows, codes, responsibilities, observed
                    )
                )
            if self._squares is not None:
                squares = squares + mixture.expected_squared_error(
                    rows, observed, codes, responsibilities
                )
        sums = _summed(intercept_statistics)
        if self._squares is not None:
            n_observed = batch.numel() if mask is None else int(mask.sum())
            sums = [*sums, counts.new_tensor([float(squares), n_observed])]
        gradient, total, counts, *sums = self.reducer.all_reduce(
            gradient, total, counts, *sums
        )
        gradient.div_(self.batch_size)
        if self.penalty is not None:
            total = total + self.batch_size * self.penalty.value(mixture.dictionaries)
            gradient += self.penalty.gradient(mixture.dictionaries)
        self.optimizer.step(gradient)
        normalize_atoms(mixture.dictionaries)
        if self._squares is not None:
            self._update_noise(sums.pop())
        if mixture.intercepts is not None:
            self._update_intercepts(*sums)
        return total, counts

    def _parts(self, batch, mask):
        """Part complete rows, which take less time, if the host need not wait."""
        if self.mixture.is_sync_free:
            return [(batch, mask)]
        return [group for _, group in Batch(batch, mask).completeness_groups()]

    def _update_intercepts(self, sums, counts):
        """Move each intercept to where it explains most of what its dictionary leaves.

        The sums are over a sliding window of `n_window` rows. With all of them in
        one mini-batch, and normal entries, it is the mean over these rows: with no
        atoms, Lloyd's iteration of k-means.
        """
        keep = 1 - self.batch_size / self.n_window
        self._sums.mul_(keep).add_(sums)
        self._counts.mul_(keep).add_(counts)
        self.mixture.intercepts.copy_(
            self.mixture.m_step_intercepts(self._sums, self._counts)
        )

    def _update_noise(self, squares):
        """Set the noise variance to the mean expected squared error of an entry.

        The mean is over the sliding window of the intercepts.
        """
        keep = 1 - self.batch_size / self.n_window
        self._squares = keep * self._squares + squares
        least = _LEAST_NOISE * torch.finfo(self._squares.dtype).eps
        mean = float(self._squares[0] / self._squares[1])
        self.mixture.noise_variance = max(mean, least)

    def mean_loss(self):
        """Mean of Eq. 8 over the rows of this process, under one set of parameters.

        With the penalty of the dictionaries, if there is one.

        Returns
        -------
        loss : float
        """
        precomputed = self.mixture.precompute()
        members = torch.arange(len(self.rows))[self.members]
        total = 0.0
        with torch.no_grad():
            for batch in members.split(self._n_own):
                for _, group in self.rows.load(batch).completeness_groups():
                    total = (
                        total + loss(self.mixture.infer(*group, precomputed)[1]).sum()
                    )
        mean = float(total) / len(members)
        if self.penalty is not None:
            mean += float(self.penalty.value(self.mixture.dictionaries))
        return mean

    def state_dict(self):
        """Copy all that training changes, and what the rows are shifted by.

        Returns
        -------
        state : dict
            Of tensors on the CPU, numbers, None, and dictionaries of these.
        """
        return _copied(
            {
                "dictionaries": self.mixture.dictionaries,
                "intercepts": self.mixture.intercepts,
                "weights": self.mixture.weights,
                "location": self.rows.location,
                "sums": self._sums,
                "counts": self._counts,
                "noise_variance": self.mixture.noise_variance,
                "squares": self._squares,
                "moments": self.optimizer.moments,
                "generator": self.generator.get_state(),
            },
            "cpu",
        )

    def load_state_dict(self, state):
        """Go on from where another run was; settings stay as they are.

        Parameters
        ----------
        state : dict
            What :meth:`state_dict` gave; it is copied.
        """
        self.generator.set_state(state["generator"])
        state = _copied(state, self.mixture.dictionaries.device)
        self.rows.location = state["location"]
        self.mixture.noise_variance = state["noise_variance"]
        if self._squares is not None and state["squares"] is not None:
            self._squares = state["squares"]
        mixture, moments = self.mixture, self.optimizer.moments
        for tensor, value in [
            (mixture.dictionaries, state["dictionaries"]),
            (mixture.weights, state["weights"]),
            (mixture.intercepts, state["intercepts"]),
            (self._sums, state["sums"]),
            (self._counts, state["counts"]),
            *((moments[name], state["moments"][name]) for name in moments),
        ]:
            if tensor is not None:
                tensor.copy_(value)


def _summed(intercept_statistics):
    """Add up the intercept statistics of the parts of a mini-batch."""
    if not intercept_statistics:
        return []
    sums, counts = (sum(parts) for parts in zip(*intercept_statistics, strict=True))
    # Of one shape, whether or not there are rows with missing entries here.
    return sums, counts.expand_as(sums)


def _copied(state, device):
    """Copy tensors, in dictionaries or not, to a device."""
    if isinstance(state, dict):
        return {name: _copied(value, device) for name, value in state.items()}
    return state.to(device, copy=True) if isinstance(state, torch.Tensor) else state


def normalize_atoms(dictionaries):
    """Scale every atom to norm 1, in place.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    """
    norms = torch.linalg.vector_norm(dictionaries, dim=2, keepdim=True)
    dictionaries.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny))


@dataclass
class History:
    """What a training run went through.

    Attributes
    ----------
    losses : list of float
        Mean loss of every whole epoch.
    converged : bool
        Whether the loss stopped falling.
    stopped : bool
        Whether the monitor ended the run.
    interrupted : bool
        Whether the run was cut short by a KeyboardInterrupt.
    diverged : bool
        Whether the last loss is not finite.
    """

    losses: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    interrupted: bool = False

    @property
    def diverged(self):
        """Whether the last loss is not finite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])

    def has_stalled(self, tol, n_iter_no_change):
        """Tell whether the last epochs did not better the ones before them.

        Parameters
        ----------
        tol : float
            Smallest part of the loss by which an epoch is an improvement.
        n_iter_no_change : int
            Number of last epochs looked at.

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


def train(em, *, max_iter, tol, n_iter_no_change, monitor, history=None):
    """Run epochs until the loss stops falling or `max_iter` are done.

    A KeyboardInterrupt ends the run; all is then as it was after the last whole
    epoch, in several processes the last that all of them have run.

    Parameters
    ----------
    em : ExpectationMaximization
    max_iter : int
        Largest number of epochs.
    tol : float
        Smallest part of the loss by which an epoch is an improvement; 0 runs
        all epochs.
    n_iter_no_change : int
        Epochs without an improvement after which to stop.
    monitor : object
        ``monitor.begin()`` is called before each epoch, ``monitor.end()`` after
        it; training stops if that returns True. ``monitor.keep(state, history)``
        is called then, with what a run can go on from.
    history : History, default=None
        Of a run that was cut short, and that this one goes on with.

    Returns
    -------
    history : History
    """
    history = history or History()
    # Another process may be interrupted an epoch behind this one.
    n_kept = min(2, em.communicator.size)
    kept = deque([(history.losses, em.state_dict())], maxlen=n_kept)

    def is_over():
        history.converged = history.has_stalled(tol, n_iter_no_change)
        is_done = len(history.losses) == max_iter or history.diverged
        return is_done or history.converged or history.stopped

    try:
        while not is_over():
            monitor.begin()
            epoch_loss = em.run_epoch()
            # At once, so that an interrupt finds both or neither.
            kept.append(([*history.losses, epoch_loss], em.state_dict()))
            history.losses, state = kept[-1]
            epoch = len(history.losses)
            logger.info("epoch %d of %d: loss %.6g", epoch, max_iter, epoch_loss)
            history.stopped = em.reducer.any(monitor.end())
            monitor.keep(state, history)
        em.reducer.close()  # another process may yet be interrupted here
    except KeyboardInterrupt as interrupt:
        history.interrupted = True
        n_epochs = min(em.communicator.reconnect(interrupt, len(kept[-1][0])))
        history.losses, state = next(
            (losses, state) for losses, state in kept if len(losses) == n_epochs
        )
        em.load_state_dict(state)
    return history
