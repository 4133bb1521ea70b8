"""The mixture protocol: an E-step, its gradient, sufficient statistics, an M-step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch

from ..data.batch import Batch
from .active_rows import use_dense_rows
from .likelihood import Likelihood
from .posterior import posterior, with_known_labels
from .prior import Prior

# Number of entries in the covariances of codes that are computed at a time.
_COVARIANCE_ENTRIES = 2**20


class EStep(NamedTuple):
    """Codes and energies of a batch in every cluster, and the terms they consist of.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    energies : tensor of shape (n_clusters, n_rows)
    correlations : tensor of shape (n_clusters, n_atoms, n_rows), default=None
        Inner products of the atoms with the rows less the intercepts. Missing entries
        are imputed by each cluster. None if the mixture needs more than these.
    squared_norms : tensor of shape (n_clusters, n_rows), default=None
        Squared norms of the same rows.
    row_weights : tensor of shape (n_clusters, n_rows), default=None
        Weights of the squared errors; None if all are 1.
    """

    codes: torch.Tensor
    energies: torch.Tensor
    correlations: torch.Tensor | None = None
    squared_norms: torch.Tensor | None = None
    row_weights: torch.Tensor | None = None

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "EStep":
        """Apply a function to every field that is not None."""
        fields = self._asdict().items()
        return self._replace(**{k: function(v) for k, v in fields if v is not None})


class Statistics(NamedTuple):
    """Sufficient statistics of rows for the M-step; None for parameters that are fixed.

    Parameters
    ----------
    counts : tensor of shape (n_clusters,)
        Sums of the responsibilities.
    intercept_sums, intercept_counts : tensors of shape (n_clusters, n_features)
        Sums that :meth:`Mixture.m_step_intercepts` takes.
    noise : tensor of shape (2,)
        Expected squared error, and number of entries.
    likelihood : tensor of shape (n_statistics,)
        Sums that :meth:`Likelihood.m_step` takes.
    """

    counts: torch.Tensor
    intercept_sums: torch.Tensor | None = None
    intercept_counts: torch.Tensor | None = None
    noise: torch.Tensor | None = None
    likelihood: torch.Tensor | None = None

    def tensors(self) -> list[torch.Tensor]:
        """Return the statistics that are not None."""
        return [tensor for tensor in self if tensor is not None]

    def replace_tensors(self, tensors: Iterable[torch.Tensor]) -> "Statistics":
        """Replace the statistics that are not None, in the order of :meth:`tensors`."""
        names = [name for name, value in self._asdict().items() if value is not None]
        return self._replace(**dict(zip(names, tensors, strict=True)))

    @classmethod
    def total(cls, parts: list["Statistics"]) -> "Statistics":
        """Add up statistics of several groups of rows, in the dtype of the counts."""
        dtype = parts[0].counts.dtype
        columns = zip(*(part.tensors() for part in parts), strict=True)
        totals = (reduce(torch.add, column).to(dtype) for column in columns)
        return parts[0].replace_tensors(totals)

    def decay_(self, factor: float, new: "Statistics") -> None:
        """Multiply by a factor and add new statistics, in place."""
        for tensor, increment in zip(self.tensors(), new.tensors(), strict=True):
            tensor.mul_(factor).add_(increment)


@dataclass
class Mixture(ABC):
    """A mixture of sparse dictionary models (Eq. 1).

    Training calls the methods of this class and no others.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
        The atoms are the rows, of norm 1; A_k^T in the paper.
    intercepts : tensor of shape (n_clusters, n_features) or None
        Offset of each cluster, ``intercept_k + A_k x``; none in the paper.
    weights : tensor of shape (n_clusters,)
        Prior probability of each cluster, pi in the paper.
    prior : Prior
        Distribution of the codes.
    n_layers : int
        Number of layers of the encoder.
    likelihood : Likelihood
        Distribution of the data given ``intercept_k + A_k x``, without "auto".
    noise_variance : float, default=0.5
        Noise variance of every entry, the same in all clusters, if the likelihood
        has one. One half is the paper's value: the energy then contains the squared
        error without a factor.
    """

    dictionaries: torch.Tensor
    intercepts: torch.Tensor | None
    weights: torch.Tensor
    prior: Prior
    n_layers: int
    likelihood: Likelihood
    noise_variance: float = 0.5

    @property
    def is_sync_free(self) -> bool:
        """Whether a training step runs without synchronising host and device."""
        return use_dense_rows(len(self.dictionaries), self.dictionaries.device)

    @abstractmethod
    def precompute(self) -> Any:
        """Compute quantities that depend on the dictionaries only; None if none do."""

    @abstractmethod
    def e_step(self, batch: Batch, precomputed: Any = None) -> EStep:
        """Compute codes and energies under every cluster (Eq. 3-5).

        Parameters
        ----------
        batch : Batch
        precomputed : default=None
            What :meth:`precompute` returned; computed if None.

        Returns
        -------
        e_step : EStep
        """

    def e_step_given_labels(self, batch: Batch, precomputed: Any = None) -> EStep:
        """Compute codes and energies under the clusters that rows may belong to.

        Parameters
        ----------
        batch, precomputed
            As in :meth:`e_step`.

        Returns
        -------
        e_step : EStep
            The energies of labelled rows are those of :func:`with_known_labels`. What
            the other fields contain for clusters that are excluded is not defined, but
            finite.
        """
        e_step = self.e_step(batch, precomputed)
        return e_step._replace(
            energies=with_known_labels(e_step.energies, batch.labels)
        )

    @abstractmethod
    def add_gradient(
        self,
        gradient: torch.Tensor,
        batch: Batch,
        e_step: EStep,
        responsibilities: torch.Tensor,
        precomputed: Any,
    ) -> None:
        """Add the gradient of the weighted loss in the dictionaries through all layers.

        A row contributes nothing to the gradient of clusters without responsibility
        for it. Only the other pairs of row and cluster run forward again, and
        backward.

        Parameters
        ----------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
            Changed in place: with many clusters, allocating a new tensor would take
            longer than computing it.
        batch, precomputed
            As in :meth:`e_step`.
        e_step : EStep
            Of the same batch.
        responsibilities : tensor of shape (n_clusters, n_rows)
            As :func:`thresholded_responsibilities` returns them, times the weight of
            each row in the loss.
        """

    @abstractmethod
    def statistics(
        self,
        batch: Batch,
        e_step: EStep,
        responsibilities: torch.Tensor,
        *,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
    ) -> Statistics:
        """Sum the sufficient statistics of a batch.

        Parameters
        ----------
        batch, e_step, responsibilities
            As in :meth:`add_gradient`.
        learn_noise, learn_likelihood : bool, default=False
            Which statistics to include besides those of counts and intercepts.

        Returns
        -------
        statistics : Statistics
        """

    @abstractmethod
    def expected_statistics(
        self,
        n_rows: float,
        *,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
    ) -> Statistics:
        """Compute statistics which the M-step maps to the parameters as they are.

        Parameters
        ----------
        n_rows : float
            Number of rows that they stand for.
        learn_noise, learn_likelihood : bool, default=False
            As in :meth:`statistics`.

        Returns
        -------
        statistics : Statistics
        """

    def m_step(self, statistics: Statistics) -> None:
        """Update intercepts, noise variance and likelihood.

        Intercepts are changed in place.

        Parameters
        ----------
        statistics : Statistics
            Of many rows; parameters whose statistics are None stay as they are.
        """
        if statistics.noise is not None:
            self.noise_variance = self.m_step_noise(statistics.noise)
        if statistics.intercept_sums is not None:
            assert self.intercepts is not None
            assert statistics.intercept_counts is not None
            self.intercepts.copy_(
                self.m_step_intercepts(
                    statistics.intercept_sums, statistics.intercept_counts
                )
            )
        if statistics.likelihood is not None:
            self.likelihood = self.likelihood.m_step(statistics.likelihood)

    @abstractmethod
    def m_step_intercepts(
        self, sums: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Minimise, or at least decrease, the expected energy over the intercepts.

        Parameters
        ----------
        sums, counts : tensors of shape (n_clusters, n_features)
            `intercept_sums` and `intercept_counts` of the statistics. Counts are the
            Fisher information of the rows on the intercepts; sums are counts times
            the estimate of the intercept from each row.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
        """

    def m_step_noise(self, noise: torch.Tensor) -> float:
        """Compute the noise variance; only for likelihoods that have one.

        Parameters
        ----------
        noise : tensor of shape (2,)
            As in the statistics.

        Returns
        -------
        noise_variance : float
        """
        raise TypeError(f"likelihood={self.likelihood!r} has no noise variance.")

    def combine_atoms(self, codes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Combine the atoms of given clusters, without their intercepts.

        Parameters
        ----------
        codes : tensor of shape (n_rows, n_atoms)
            Code of each row in the dictionary of its label.
        labels : int tensor of shape (n_rows,)

        Returns
        -------
        combinations : tensor of shape (n_rows, n_features)
        """
        combinations = codes.new_empty(len(codes), self.dictionaries.shape[2])
        for label in torch.unique(labels):
            is_label = labels == label
            combinations[is_label] = codes[is_label] @ self.dictionaries[label]
        return combinations

    def decode(self, codes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Reconstruct rows from their codes in given clusters (the decoder).

        Parameters
        ----------
        codes, labels
            As in :meth:`combine_atoms`.

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
            Means of the entries.
        """
        natural = self.combine_atoms(codes, labels)
        if self.intercepts is not None:
            natural = natural + self.intercepts[labels]
        return self.likelihood.mean(natural)

    def outlier_scores(self, batch: Batch, e_step: EStep | None = None) -> torch.Tensor:
        """Score how badly the best clusters explain each row.

        Parameters
        ----------
        batch : Batch
        e_step : EStep, default=None
            Of the same batch; computed if None.

        Returns
        -------
        scores : tensor of shape (n_rows,)
            Inverse of the expected weight of the row: near 1 for typical rows, large
            for rows that no cluster explains. Exactly 1 if the likelihood weights all
            rows equally.
        """
        e_step = e_step or self.e_step(batch)
        if e_step.row_weights is None:
            return torch.ones_like(e_step.energies[0])
        weights = posterior(e_step.energies) * e_step.row_weights
        tiny = torch.finfo(weights.dtype).tiny
        return weights.sum(dim=0).clamp_min(tiny).reciprocal()

    def log_evidence(self, batch: Batch, e_step: EStep) -> torch.Tensor:
        """Compute a lower bound of the log-density of rows.

        Parameters
        ----------
        batch : Batch
        e_step : EStep
            Of the same batch.

        Returns
        -------
        log_evidence : tensor of shape (n_rows,)
            Of the observed entries. Clusters whose posterior is below machine epsilon
            are left out, which lowers the bound. If the density of the prior is not
            known, the logarithm of the evidence of Eq. 6, up to a constant.
        """
        energies = e_step.energies
        if self.prior.log_normalizer(1) is None:
            return (-energies).logsumexp(dim=0)
        bounds = torch.full_like(energies, -math.inf, dtype=torch.float64)
        active = posterior(energies) > torch.finfo(energies.dtype).eps
        for k, index, values in self.evidence_lower_bounds(batch, e_step, active):
            bounds[k, index] = values
        bounds += self.weights.log()[:, None]
        return bounds.logsumexp(dim=0).to(batch.dtype)

    @abstractmethod
    def evidence_lower_bounds(
        self, batch: Batch, e_step: EStep, active: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Compute lower bounds of the log-density under single clusters.

        The code is integrated out.

        Parameters
        ----------
        batch, e_step
            As in :meth:`log_evidence`.
        active : bool tensor of shape (n_clusters, n_rows)
            For which clusters and rows.

        Yields
        ------
        k : int
            A cluster.
        index : int tensor of shape (n_index,)
            Some of the rows for which it is active.
        bounds : float64 tensor of shape (n_index,)
        """

    def iter_active(
        self, active: torch.Tensor, n_entries: int
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, Prior]]:
        """Iterate over the active rows of each cluster in chunks.

        Parameters
        ----------
        active : bool tensor of shape (n_clusters, n_rows)
        n_entries : int
            Size of the arrays that are computed for each row.

        Yields
        ------
        k : int
            A cluster.
        index : int tensor of shape (n_index,)
            Some of the rows for which it is active.
        atoms : float64 tensor of shape (n_atoms, n_features)
            Its dictionary.
        prior : Prior
            The prior of its codes.
        """
        size = max(1, _COVARIANCE_ENTRIES // max(1, n_entries))
        for k, atoms in enumerate(self.dictionaries.double()):
            for index in torch.split(active[k].nonzero()[:, 0], size):
                yield k, index, atoms, self.prior[slice(k, k + 1)]
