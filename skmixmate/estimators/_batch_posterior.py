"""Codes, energies and labels of a batch: what the methods of an estimator return."""

import math
from functools import cached_property

import numpy as np
import torch

from ..data.batch import Batch
from ..data.containers import as_numpy
from ..data.loader import RowLoader
from ..data.sparse_batch import SparseBatch
from ..model.entry_energies import entry_energies
from ..model.mixture import EStep, Mixture
from ..model.posterior import loss, posterior, union_energies
from ._state import ModelState


class BatchPosterior:
    """Codes, energies and labels of a batch, in the units of X.

    Parameters
    ----------
    state : ModelState
        The mixture as arrays.
    mixture : Mixture
    loader : RowLoader
        That the batch is from.
    batch : Batch
        All rows complete, or none.
    e_step : EStep
    """

    def __init__(
        self,
        state: ModelState,
        mixture: Mixture,
        loader: RowLoader,
        batch: Batch,
        e_step: EStep,
    ) -> None:
        # (n_rows,), of lowest energy; `argmin` takes seven times as long on a CPU
        self.components = e_step.energies.min(dim=0).indices
        self._state = state
        self._mixture = mixture
        self._loader = loader
        self._batch = batch
        self._e_step = e_step

    @cached_property
    def codes(self) -> torch.Tensor:
        """Codes in the units of X, of shape (n_components, n_atoms, n_rows)."""
        return self._e_step.codes / self._loader.scale + 0.0  # no negative zeros

    @property
    def labels(self) -> torch.Tensor:
        """Clusters of the components of lowest energy, of shape (n_rows,)."""
        return self._clusters(self.components)

    @property
    def energies(self) -> torch.Tensor:
        """Energies of the clusters, of shape (n_clusters, n_rows)."""
        clusters = self._state.component_labels
        energies = self._e_step.energies
        if clusters is None:
            return energies
        return union_energies(energies, torch.from_numpy(clusters).to(energies.device))

    @property
    def component_margins(self) -> torch.Tensor:
        """Energies above the lowest one, of shape (n_components, n_rows)."""
        return self._e_step.energies - self._e_step.energies.amin(dim=0)

    @property
    def responsibilities(self) -> torch.Tensor:
        """Posterior probabilities of the clusters, of shape (n_clusters, n_rows)."""
        return posterior(self.energies)

    @property
    def runners_up(self) -> torch.Tensor:
        """Clusters that come next to the labels, of shape (n_rows,)."""
        return self._clusters(self._next_components)

    @property
    def margins(self) -> torch.Tensor:
        """Energies of the clusters that come next, less those of the labels."""
        pairs = torch.stack((self.labels, self.runners_up))
        first, second = self.energies.gather(0, pairs)
        return second - first

    def divide_margins(self) -> torch.Tensor:
        """Return the parts of entries in the margins, of shape (n_rows, n_features)."""
        batch = self._batch
        if isinstance(batch, SparseBatch):
            batch = batch.to_dense()
        index = torch.arange(len(self.components))
        second, first = (
            entry_energies(
                self._mixture, batch, self._e_step.codes[parts, :, index], parts
            )
            for parts in (self._next_components, self.components)
        )
        return second - first

    @property
    def _next_components(self) -> torch.Tensor:
        """Components of lowest energy that are not of the same cluster, (n_rows,)."""
        energies = self._e_step.energies
        clusters = self._clusters(torch.arange(len(energies), device=energies.device))
        is_own = clusters[:, None] == self.labels
        return energies.masked_fill(is_own, math.inf).argmin(dim=0)

    def _clusters(self, components: torch.Tensor) -> torch.Tensor:
        """Clusters that components belong to."""
        clusters = self._state.component_labels
        if clusters is None:
            return components
        return torch.from_numpy(clusters).to(components.device)[components]

    @property
    def losses(self) -> torch.Tensor:
        """Loss of the rows, of shape (n_rows,): merging of clusters has no effect."""
        return loss(self._e_step.energies)

    @property
    def assigned_codes(self) -> torch.Tensor:
        """Codes in the components of lowest energy, of shape (n_rows, n_atoms)."""
        return self.codes[self.components, :, torch.arange(len(self.components))]

    @property
    def block_codes(self) -> torch.Tensor:
        """Assigned codes, zeros elsewhere, (n_rows, n_components * n_atoms)."""
        n_components, n_atoms, n_rows = self.codes.shape
        assigned = self.assigned_codes
        if self._mixture.intercepts is not None:
            # A row of zeros would leave open which intercept it stands for.
            mark = self._state.mark
            is_empty = (assigned.abs() <= mark).all(dim=1, keepdim=True)
            assigned.masked_fill_(is_empty, 0)
            assigned[:, :1].masked_fill_(is_empty, mark)
        blocks = assigned.new_zeros(n_rows, n_components, n_atoms)
        blocks[torch.arange(n_rows), self.components] = assigned
        return blocks.flatten(1)

    @property
    def log_evidence(self) -> torch.Tensor:
        """Lower bound of the log-density of the rows, of shape (n_rows,)."""
        scale = self._loader.scale
        bounds = self._mixture.log_evidence(self._batch, self._e_step)
        n_observed: int | torch.Tensor = self._batch.n_features
        if self._batch.observed is not None:
            n_observed = self._batch.n_observed(bounds.dtype)
        return bounds + math.log(scale) * n_observed

    @property
    def code_density(self) -> torch.Tensor:
        """Fraction of the assigned codes that is not zero, of shape (n_rows,)."""
        return (self.assigned_codes != 0).to(self.codes.dtype).mean(dim=1)

    def reconstruct(self) -> np.ndarray:
        """Reconstruct rows from the codes in their clusters, (n_rows, n_features)."""
        codes = self.assigned_codes * self._loader.scale
        rows = self._loader.to_data_units(self._mixture.decode(codes, self.components))
        return self._state.to_data_space(as_numpy(rows))

    @property
    def outlier_scores(self) -> torch.Tensor:
        """Inverse of the weights that robust noise gives the rows, (n_rows,)."""
        return self._mixture.outlier_scores(self._batch, self._e_step)
