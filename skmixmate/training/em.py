"""Expectation-maximisation by gradient steps through the unrolled encoder.

Each mini-batch is one E-step, the forward pass, and one M-step: a step of Adam on the
dictionaries through all layers of the encoder, after which every atom is scaled back
to norm 1, and closed-form updates of the intercepts, of a learned noise variance and of
learned parameters of the likelihood. Learned weights are updated after every epoch, in
a stream after every mini-batch.

A row of weight w counts as w rows: its loss and its responsibilities are multiplied by
the weight, and with them all sums over rows. The gradient of a mini-batch is divided by
the sum of weights that is expected of it, so that on average it is that of the weighted
mean of the loss. The posterior of a row whose label is known is 1 in its cluster.
"""

from dataclasses import asdict, replace
from itertools import islice
from typing import Any

import torch

from ..data.batch import Batch
from ..data.loader import RowLoader
from ..distributed.communicator import Communicator, apportion
from ..model.mixture import Mixture, Statistics
from ..model.penalties import Smoothness
from ..model.posterior import (
    loss,
    thresholded_responsibilities,
)
from .adam import Adam
from .cuda_graph import CudaGraphStep, cuda_graph_capturer


class ExpectationMaximization:
    """A training run: parameters, statistics, and one epoch after the other.

    Parameters
    ----------
    mixture : Mixture
        Trained in place.
    rows : RowLoader
    indices : slice(None) or int tensor of shape (n_indices,)
        Rows to train on.
    batch_size : int
        Rows in a mini-batch, summed over all processes. The last, incomplete
        mini-batch of an epoch is left out, unless it is the only one.
    learning_rate : float
        Learning rate of Adam; atoms have norm 1, so it does not depend on the data.
    learn_weights : bool
        Whether to update the weights of the mixture.
    generator : torch.Generator
        Shuffles the rows; on the CPU.
    learn_noise : bool, default=False
        Whether to update the noise variance of the mixture.
    learn_likelihood : bool, default=False
        Whether to update the parameters of the likelihood of the mixture.
    n_window : int, default=None
        Rows in the sliding window over which the statistics of the M-step are summed,
        those of learned weights only in a stream; at least `batch_size`. By default
        the number of rows.
    mean_weight : float, default=None
        Mean weight of the rows. By default that of `rows` at `indices`, over all
        processes: either all of them have weights, or none.
    penalty : Smoothness or None, default=None
        Penalty of the dictionaries; added to the loss.
    communicator : Communicator, default=None
        Connects the processes that train together, each on its own rows; by default
        this process is alone. Each process contributes to a mini-batch in proportion
        to its number of rows.

    Raises
    ------
    ValueError
        If a process has too few rows to contribute one to each mini-batch.
    """

    def __init__(
        self,
        mixture: Mixture,
        rows: RowLoader,
        indices: slice | torch.Tensor,
        *,
        batch_size: int,
        learning_rate: float,
        learn_weights: bool,
        generator: torch.Generator,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
        n_window: int | None = None,
        mean_weight: float | None = None,
        penalty: Smoothness | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        self.mixture = mixture
        self.rows = rows
        self.indices = indices
        self.learn_weights = learn_weights
        self.generator = generator
        self.penalty = penalty
        self.communicator = communicator or Communicator()
        counts = self.communicator.all_gather(rows.count_rows(indices))
        self.batch_size = min(batch_size, sum(counts))
        self.n_window = n_window or sum(counts)
        self._apportion_batches(counts)
        if mean_weight is None:
            mean_weight = self._find_mean_weight()
        self.mean_weight = mean_weight
        self.optimizer = Adam(mixture.dictionaries, learning_rate)
        self._gradient = torch.zeros_like(mixture.dictionaries)
        self._learned = {
            "learn_noise": learn_noise,
            "learn_likelihood": learn_likelihood,
        }
        # As if the rows of the window fitted the initial parameters exactly.
        self._window = mixture.expected_statistics(
            self.n_window * mean_weight, **self._learned
        )
        n_entries = mixture.dictionaries.numel() + 1  # the gradient and the loss
        n_entries += sum(tensor.numel() for tensor in self._window.tensors())
        self.reducer = self.communicator.reducer(n_entries, mixture.dictionaries)
        self._captured = None
        capture = cuda_graph_capturer(mixture.dictionaries.device)
        is_alone = self.communicator.size == 1
        needs_host = not mixture.is_sync_free or any(self._learned.values())
        if capture and is_alone and not needs_host:
            self._captured = CudaGraphStep(capture)

    def _apportion_batches(self, counts: list[int]) -> None:
        """Set how many rows this process contributes to a mini-batch."""
        shares = apportion(self.batch_size, counts)
        if shares.min() == 0:
            rank = int(shares.argmin())
            raise ValueError(
                f"Process {rank} has {counts[rank]} of {sum(counts)} rows, less than "
                f"one in each mini-batch of {self.batch_size}. Spread the rows more "
                "evenly over the processes, or raise batch_size."
            )
        self._n_own = int(shares[self.communicator.rank])
        # A different remainder is left out in each epoch.
        self._n_batches: int = min(
            count // int(share) for count, share in zip(counts, shares, strict=True)
        )

    def _find_mean_weight(self) -> float:
        """Compute the mean weight of the rows of all processes."""
        if self.rows.sample_weight is None:
            return 1.0
        weights = self.rows.sample_weight[self.indices]
        total, count = self.communicator.all_reduce(
            torch.stack((weights.sum(), weights.new_tensor(len(weights))))
        ).tolist()
        return float(total / count)

    def run_epoch(self) -> float:
        """Pass once over the rows.

        Returns
        -------
        loss : float
            Weighted mean of Eq. 8 over the rows, each under the parameters that its
            mini-batch started from; including the penalty.
        """
        total: torch.Tensor | float = 0.0
        counts = torch.zeros_like(self.mixture.weights)
        rank_generator = self.communicator.rank_generator(self.generator)
        batches = self.rows.batches(self.indices, self._n_own, rank_generator)
        for batch in islice(batches, self._n_batches):
            if self._captured is None:
                losses, batch_counts = self.step(batch)
            else:
                losses, batch_counts = self._captured(self.step, batch)
            total = total + losses
            counts += batch_counts
        if self.learn_weights:
            self._set_weights(counts)
        self._synchronize()
        return self._mean_of_total(total, counts, self._n_batches * self.batch_size)

    def _synchronize(self) -> None:
        """Copy the parameters of the first process to all others.

        Processors of different makes may round differently.
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
        if mixture.intercepts is not None:
            mixture.intercepts.copy_(intercepts[0])

    def run_stream(self) -> float:
        """Pass once over all rows in their order, in whole mini-batches.

        A stream has no epochs: learned weights are updated after each mini-batch,
        from the posterior over the sliding window.

        Returns
        -------
        loss : float
            As :meth:`run_epoch` returns it.
        """
        total: torch.Tensor | float = 0.0
        counts = torch.zeros_like(self.mixture.weights)
        n_kept = (self.n_window - self.batch_size) * self.mean_weight
        for index in self.rows.chunks(self.batch_size):
            losses, batch_counts = self.step(self.rows.load(index))
            total = total + losses
            counts += batch_counts
            if self.learn_weights:
                self._set_weights(n_kept * self.mixture.weights + batch_counts)
        return self._mean_of_total(total, counts, len(self.rows))

    def _mean_of_total(
        self, total: torch.Tensor | float, counts: torch.Tensor, n_rows: int
    ) -> float:
        """Divide the sum of the loss over rows by their number, or their weight."""
        if self.rows.sample_weight is None:
            return float(total) / n_rows
        return float(total) / float(counts.sum())

    def _set_weights(self, counts: torch.Tensor) -> None:
        """Set the weights from counts: the M-step of Eq. 2."""
        # A weight of zero would have no logarithm.
        counts = counts.clamp_min(torch.finfo(counts.dtype).tiny)
        self.mixture.weights.copy_(counts / counts.sum())

    @torch.no_grad()
    def step(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Train on one mini-batch.

        Tensors are changed in place, because a CUDA graph records their addresses.

        Parameters
        ----------
        batch : Batch
            The rows that this process contributes.

        Returns
        -------
        total : tensor, a number
            Weighted sum of the loss over the rows of all processes, each including the
            penalty.
        counts : tensor of shape (n_clusters,)
            Weighted sums of the posterior over these rows.
        """
        mixture, precomputed = self.mixture, self.mixture.precompute()
        total, parts = torch.zeros_like(mixture.weights[0]), []
        gradient = self._gradient.zero_()
        for group in self._completeness_groups(batch):
            e_step = mixture.e_step_given_labels(group, precomputed)
            responsibilities = group.weigh(
                thresholded_responsibilities(e_step.energies)
            )
            shares = responsibilities / (self.batch_size * self.mean_weight)
            mixture.add_gradient(gradient, group, e_step, shares, precomputed)
            total = total + group.weigh(loss(e_step.energies)).sum()
            parts.append(
                mixture.statistics(group, e_step, responsibilities, **self._learned)
            )
        statistics = Statistics.total(parts)
        gradient, total, *tensors = self.reducer.all_reduce(
            gradient, total, *statistics.tensors()
        )
        statistics = statistics.replace_tensors(tensors)
        if self.penalty is not None:
            n_rows: torch.Tensor | int = self.batch_size
            if batch.weights is not None:
                n_rows = statistics.counts.sum()
            total = total + n_rows * self.penalty.value(mixture.dictionaries)
            gradient += self.penalty.gradient(mixture.dictionaries)
        self.optimizer.step(gradient)
        normalize_atoms(mixture.dictionaries)
        self._window.decay_(1 - self.batch_size / self.n_window, statistics)
        mixture.m_step(self._window)
        return total, statistics.counts

    def _completeness_groups(self, batch: Batch) -> list[Batch]:
        """Separate complete rows, which take less time, if that needs no waiting."""
        if self.mixture.is_sync_free:
            return [batch]
        return [group for _, group in batch.completeness_groups()]

    def mean_loss(self) -> float:
        """Compute the weighted mean of Eq. 8 over the rows of this process.

        Returns
        -------
        loss : float
            Under the present parameters, including the penalty.
        """
        precomputed = self.mixture.precompute()
        indices = torch.arange(len(self.rows))[self.indices]
        total = torch.zeros_like(self.mixture.weights[0])
        with torch.no_grad():
            for index in torch.split(indices, self._n_own):
                for _, group in self.rows.load(index).completeness_groups():
                    e_step = self.mixture.e_step_given_labels(group, precomputed)
                    total = total + group.weigh(loss(e_step.energies)).sum()
        weights = self.rows.sample_weight
        n_rows = len(indices) if weights is None else float(weights[indices].sum())
        mean = float(total) / n_rows
        if self.penalty is not None:
            mean += float(self.penalty.value(self.mixture.dictionaries))
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Copy all that training changes, and the location of the rows.

        Returns
        -------
        state : dict
            Values are tensors on the CPU, numbers, None, and dictionaries of these.
            "likelihood" and "likelihood_statistics" are included if the likelihood is
            learned.
        """
        mixture, window = self.mixture, self._window
        state = {
            "dictionaries": mixture.dictionaries,
            "intercepts": mixture.intercepts,
            "weights": mixture.weights,
            "location": self.rows.location,
            "sums": window.intercept_sums,
            "counts": window.intercept_counts,
            "noise_variance": mixture.noise_variance,
            "squares": window.noise,
            "moments": self.optimizer.moments,
            "generator": self.generator.get_state(),
        }
        if window.likelihood is not None:
            state["likelihood"] = asdict(mixture.likelihood)
            state["likelihood_statistics"] = window.likelihood
        return _copy_to(state, "cpu")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another run; settings stay as they are.

        Parameters
        ----------
        state : dict
            As :meth:`state_dict` returned it; it is copied. Statistics of the noise
            and of the likelihood may be missing.
        """
        self.generator.set_state(state["generator"])
        state = _copy_to(state, self.mixture.dictionaries.device)
        self.rows.location = state["location"]
        mixture, window = self.mixture, self._window
        moments = self.optimizer.moments
        mixture.noise_variance = state["noise_variance"]
        if window.likelihood is not None and "likelihood" in state:
            mixture.likelihood = replace(mixture.likelihood, **state["likelihood"])
        for tensor, value in [
            (mixture.dictionaries, state["dictionaries"]),
            (mixture.weights, state["weights"]),
            (mixture.intercepts, state["intercepts"]),
            (window.intercept_sums, state["sums"]),
            (window.intercept_counts, state["counts"]),
            *((moments[name], state["moments"][name]) for name in moments),
        ]:
            if tensor is not None:
                tensor.copy_(value)
        for tensor, value in [
            (window.noise, state["squares"]),
            (window.likelihood, state.get("likelihood_statistics")),
        ]:
            if tensor is not None and value is not None:
                tensor.copy_(value)


def _copy_to(state: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Copy tensors, also those in nested dictionaries, to a device."""
    copies = dict(state)
    for name, value in state.items():
        if isinstance(value, dict):
            copies[name] = _copy_to(value, device)
        elif isinstance(value, torch.Tensor):
            copies[name] = value.to(device, copy=True)
    return copies


def normalize_atoms(dictionaries: torch.Tensor) -> None:
    """Scale every atom to norm 1, in place.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    """
    norms = torch.linalg.vector_norm(dictionaries, dim=2, keepdim=True)
    dictionaries.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny))
