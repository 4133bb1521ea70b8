"""The mixture for additive spherical noise, with the energies of Eq. 5.

Codes minimise Eq. 3 whatever the likelihood: the encoder, the gradient and the M-step
need inner products of rows and atoms only. A likelihood other than the Gaussian one
replaces the squared error in the energy by a function of it, whose derivative weights
the squared error of each row in the gradient and in the M-step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from ..data.batch import Batch
from .active_rows import ActiveRows
from .centered import (
    add_imputed_products,
    center_gradient,
    center_targets,
    intercept_statistics,
    project_centered,
)
from .code_posteriors import iter_code_posteriors
from .fista import (
    encode_with_energy_drop,
    lipschitz_bound,
    unroll,
)
from .incomplete import encode_incomplete
from .likelihood import SphericalLikelihood
from .likelihoods import Gaussian
from .mixture import EStep, Mixture, Statistics
from .posterior import is_excluded, loss_gradient, with_known_labels
from .prior import Prior

# Smallest noise variance that is learned, in multiples of machine epsilon: the accuracy
# of the squared errors of scaled rows in the Gram form.
_MIN_NOISE_EPS = 1000

# Pairs of rows and clusters that labels do not exclude, at most, as a fraction of all,
# if only these are to be encoded: they are gathered first.
_MAX_POSSIBLE = 0.5


class Precomputed(NamedTuple):
    """Terms of the encoder that depend on the dictionaries only.

    Parameters
    ----------
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        Inner products of the atoms of each dictionary.
    step : tensor of shape (n_clusters, 1, 1)
        Step sizes, eta in the paper.
    """

    gram: torch.Tensor
    step: torch.Tensor


@dataclass
class SphericalMixture(Mixture):
    """A mixture of sparse dictionary models with additive noise (Eq. 1).

    Parameters
    ----------
    dictionaries, intercepts, weights, prior, n_layers, noise_variance
        As in :class:`Mixture`; ``y = intercept_k + A_k x + noise``.
    likelihood : SphericalLikelihood, default=Gaussian()
        Distribution of the noise.
    step_size : float or None, default=None
        Step size of the encoder; None for the inverse of (an upper bound of)
        the largest eigenvalue of each Gram matrix.

    Examples
    --------
    Two clusters, one atom each, along the two axes:

    >>> import torch
    >>> from skmixmate.data.batch import Batch
    >>> from skmixmate.model.posterior import posterior
    >>> from skmixmate.model.priors import Laplace
    >>> from skmixmate.model.spherical import SphericalMixture
    >>> mixture = SphericalMixture(
    ...     dictionaries=torch.eye(2)[:, None], intercepts=None,
    ...     weights=torch.full((2,), 0.5), prior=Laplace(0.75), n_layers=15,
    ... )
    >>> e_step = mixture.e_step(Batch(torch.tensor([[3.0, 0.0]])))
    >>> posterior(e_step.energies).argmax(dim=0)
    tensor([0])
    """

    likelihood: SphericalLikelihood = field(default_factory=Gaussian)
    step_size: float | None = None

    def precompute(self) -> Precomputed:
        """Compute the Gram matrices of the dictionaries and the step sizes.

        Returns
        -------
        precomputed : Precomputed
        """
        gram = self.dictionaries @ self.dictionaries.mT
        if self.step_size is None:
            return Precomputed(gram, lipschitz_bound(gram).reciprocal())
        return Precomputed(gram, gram.new_full((len(gram), 1, 1), self.step_size))

    def e_step(self, batch: Batch, precomputed: Precomputed | None = None) -> EStep:
        """Compute codes and energies under every cluster.

        Parameters
        ----------
        batch, precomputed
            As in :meth:`Mixture.e_step`.

        Returns
        -------
        e_step : EStep
            Each cluster imputes missing entries by its own reconstruction, so that
            they add nothing to its energy.
        """
        precomputed = precomputed or self.precompute()
        if batch.observed is None:
            products = project_centered(batch, self.dictionaries, self.intercepts)
            return self.energies_from_gram(*products, precomputed)
        n_observed = batch.n_observed(batch.rows.dtype)
        targets, observed = center_targets(batch, self.intercepts)
        encoder = (*precomputed, self._penalty(self.prior), self.n_layers)
        codes, correlations, squares, norms = encode_incomplete(
            targets, observed, self.dictionaries, *encoder
        )
        residuals = squares / (2 * self.noise_variance)
        row_weights = self.likelihood.row_weights(residuals, n_observed)
        energies = self.likelihood.energy(residuals, n_observed)
        energies = energies + self.prior.value(codes)
        energies = energies + self._constants(n_observed, self.dictionaries, observed)
        return EStep(codes, energies, correlations, norms, row_weights)

    def e_step_given_labels(
        self, batch: Batch, precomputed: Precomputed | None = None
    ) -> EStep:
        """Compute codes and energies under the clusters that rows may belong to.

        Complete rows are not encoded by clusters that their labels exclude.

        Parameters
        ----------
        batch, precomputed
            As in :meth:`e_step`.

        Returns
        -------
        e_step : EStep
            As :meth:`Mixture.e_step_given_labels` returns it.
        """
        n_clusters = len(self.dictionaries)
        if batch.labels is None or batch.observed is not None or self.is_sync_free:
            return super().e_step_given_labels(batch, precomputed)
        is_possible = ~is_excluded(batch.labels, n_clusters)
        if is_possible.sum() > _MAX_POSSIBLE * is_possible.numel():
            return super().e_step_given_labels(batch, precomputed)
        blocks = ActiveRows.from_responsibilities(is_possible)
        of_blocks = self._of_clusters(blocks.cluster_ids)
        precomputed = precomputed or self.precompute()
        found = of_blocks.e_step(
            Batch(blocks.gather_rows(batch.rows)),
            Precomputed(*(whole[blocks.cluster_ids] for whole in precomputed)),
        )
        whole = found.map(lambda field: blocks.scatter(field, n_clusters, batch.n_rows))
        return whole._replace(energies=with_known_labels(whole.energies, batch.labels))

    def _of_clusters(self, ids: torch.Tensor) -> "SphericalMixture":
        """Select clusters, one of them several times if its number is repeated."""
        return replace(
            self,
            dictionaries=self.dictionaries[ids],
            intercepts=None if self.intercepts is None else self.intercepts[ids],
            weights=self.weights[ids],
            prior=self.prior[ids],
        )

    def _penalty(self, prior: Prior) -> Prior:
        """Scale the penalty on the codes to half the squared error, as in Eq. 4."""
        return prior.scaled(2 * self.noise_variance)

    def _constants(
        self, n_observed: int | torch.Tensor, *observed: torch.Tensor
    ) -> torch.Tensor:
        """Compute the part of the energies that does not depend on codes.

        The normal density has a part that grows with its width; it is 0 for the
        noise variance of the paper.
        """
        log_widths = math.log(2 * self.noise_variance) / 2 * n_observed
        in_noise = self.prior.scaled(math.sqrt(2 * self.noise_variance))
        log_volumes = in_noise.log_normalizer_ratio(*observed)
        return log_widths + log_volumes - self.weights.log()[:, None]

    def energies_from_gram(
        self,
        correlations: torch.Tensor,
        squared_norms: torch.Tensor,
        precomputed: Precomputed,
    ) -> EStep:
        """Compute codes and energies of complete rows from inner products alone.

        Parameters
        ----------
        correlations, squared_norms
            As :func:`project_centered` returns them.
        precomputed : Precomputed

        Returns
        -------
        e_step : EStep
            Codes and energies are differentiable in the correlations and Gram
            matrices.
        """
        encoder = (*precomputed, self._penalty(self.prior), self.n_layers)
        codes, explained_energy = encode_with_energy_drop(correlations, *encoder)
        # Rounding may make it negative.
        squares = (squared_norms - explained_energy).clamp_min(0)
        residuals = squares / (2 * self.noise_variance)
        n_features = self.dictionaries.shape[2]
        row_weights = self.likelihood.row_weights(residuals, n_features)
        energies = self.likelihood.energy(residuals, n_features)
        energies = energies + self.prior.value(codes) + self._constants(n_features)
        return EStep(codes, energies, correlations, squared_norms, row_weights)

    def add_gradient(
        self,
        gradient: torch.Tensor,
        batch: Batch,
        e_step: EStep,
        responsibilities: torch.Tensor,
        precomputed: Precomputed,
    ) -> None:
        """Add the gradient of the weighted loss in the dictionaries through all layers.

        Parameters
        ----------
        gradient, batch, e_step, responsibilities, precomputed
            As in :meth:`Mixture.add_gradient`.
        """
        blocks = ActiveRows.from_responsibilities(responsibilities)
        grad_energies = blocks.gather(loss_gradient(e_step.energies, responsibilities))
        grad_residuals = grad_energies
        if e_step.row_weights is not None:
            grad_residuals = grad_energies * blocks.gather(e_step.row_weights)
        assert e_step.correlations is not None
        grad_correlations, grad_gram = self._backward(
            blocks.gather(e_step.correlations),
            grad_energies,
            grad_residuals,
            Precomputed(*(whole[blocks.cluster_ids] for whole in precomputed)),
            self.prior[blocks.cluster_ids],
        )
        if batch.observed is None:
            blocks.add_gradient_products(gradient, grad_correlations, batch)
            center_gradient(
                gradient, grad_correlations, blocks.cluster_ids, self.intercepts
            )
        else:
            add_imputed_products(
                gradient,
                grad_correlations,
                batch,
                e_step.codes,
                self.dictionaries,
                self.intercepts,
                blocks,
            )
        totals = torch.zeros_like(precomputed.gram)
        totals.index_add_(0, blocks.cluster_ids, grad_gram)
        gradient.baddbmm_(totals + totals.mT, self.dictionaries)

    def _backward(
        self,
        correlations: torch.Tensor,
        grad_energies: torch.Tensor,
        grad_residuals: torch.Tensor,
        precomputed: Precomputed,
        prior: Prior,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Differentiate the loss in inner products, with hand-written derivatives.

        Parameters
        ----------
        correlations : tensor of shape (n_blocks, n_atoms, n_block)
        grad_energies : tensor of shape (n_blocks, n_block)
            Gradient of the loss in the energies.
        grad_residuals : tensor of shape (n_blocks, n_block)
            Gradient of the loss in the scaled squared residuals.
        precomputed, prior
            Of the cluster of each block.

        Returns
        -------
        grad_correlations : tensor of shape (n_blocks, n_atoms, n_block)
        grad_gram : tensor of shape (n_blocks, n_atoms, n_atoms)
        """
        encoder = (*precomputed, self._penalty(prior), self.n_layers)
        codes, tape = unroll(correlations, *encoder, keep_tape=True)
        grad_codes = prior.value_grad(codes, grad_energies)
        # The residual is ||y||^2 + x.(G x - 2 C) over twice the noise variance.
        grad_scaled = grad_residuals[:, None] / self.noise_variance
        residual_corr = torch.baddbmm(correlations, precomputed.gram, codes, beta=-1)
        grad_codes = torch.addcmul(grad_codes, residual_corr, grad_scaled)
        assert tape is not None
        grad_correlations, grad_gram = tape.backward(grad_codes)
        weighted_codes = codes * grad_scaled
        grad_gram.baddbmm_(weighted_codes, codes.mT, alpha=0.5)
        return grad_correlations.sub_(weighted_codes), grad_gram

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
        batch, e_step, responsibilities, learn_noise, learn_likelihood
            As in :meth:`Mixture.statistics`.

        Returns
        -------
        statistics : Statistics
        """
        statistics = Statistics(responsibilities.sum(dim=1))
        if self.intercepts is not None:
            weights = responsibilities
            if e_step.row_weights is not None:
                weights = weights * e_step.row_weights
            sums, counts = intercept_statistics(
                batch, e_step.codes, self.dictionaries, weights
            )
            statistics = statistics._replace(
                intercept_sums=sums, intercept_counts=counts
            )
        if learn_noise or learn_likelihood:
            noise, likelihood = self._noise_statistics(batch, e_step, responsibilities)
            statistics = statistics._replace(
                noise=noise if learn_noise else None,
                likelihood=likelihood if learn_likelihood else None,
            )
        return statistics

    def _noise_statistics(
        self, batch: Batch, e_step: EStep, responsibilities: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum squared errors and the statistics of the likelihood over rows.

        The squared errors are expected values over the posterior of the codes. Divided
        by the number of entries, their sum is the noise variance that maximises the
        evidence bound given the responsibilities: the M-step of Eq. 2 in closed form.
        Those of single codes, which fit the noise as well, would be too small.

        Returns
        -------
        noise : float64 tensor of shape (2,)
        statistics : float64 tensor of shape (n_statistics,)
        """
        likelihood, n_observed = self.likelihood, batch.n_observed(torch.float64)
        responsibilities = responsibilities.double()
        total = torch.zeros_like(n_observed[:1]).sum()
        if self.prior.log_normalizer(1) is None:  # the code has no known posterior
            row_weights = e_step.row_weights
            row_weights = None if row_weights is None else row_weights.double()
            return total.expand(2), likelihood.statistics(
                row_weights, n_observed, responsibilities
            )
        statistics = total.new_zeros(likelihood.n_statistics)
        for k, index, squares, _ in iter_code_posteriors(
            self, batch, e_step, responsibilities > 0
        ):
            shares, counts = responsibilities[k, index], n_observed[index]
            row_weights = likelihood.row_weights(
                squares / (2 * self.noise_variance), counts
            )
            if row_weights is not None:
                squares = row_weights * squares
            total = total + shares @ squares
            statistics += likelihood.statistics(row_weights, counts, shares)
        n_entries = batch.weigh(n_observed).sum()
        return torch.stack((total, n_entries)), statistics

    def expected_statistics(
        self,
        n_rows: float,
        *,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
    ) -> Statistics:
        """Compute statistics; see :meth:`Mixture.expected_statistics`."""
        counts = n_rows * self.weights
        sums = intercept_counts = noise = likelihood = None
        if self.intercepts is not None:
            # In units of the inverse noise variance, a row has Fisher information 1.
            intercept_counts = torch.empty_like(self.intercepts)
            intercept_counts.copy_(counts[:, None])
            sums = intercept_counts * self.intercepts
        if learn_noise:
            n_entries = float(n_rows * self.dictionaries.shape[2])
            noise = counts.new_tensor([n_entries * self.noise_variance, n_entries])
        if learn_likelihood:
            likelihood = counts.new_tensor(self.likelihood.expected_statistics(n_rows))
        return Statistics(counts, sums, intercept_counts, noise, likelihood)

    def m_step_intercepts(
        self, sums: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Minimise the expected energy over the intercepts.

        Parameters
        ----------
        sums, counts : tensors of shape (n_clusters, n_features)
            As in :meth:`Mixture.m_step_intercepts`.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
            Unchanged where counts are 0.
        """
        assert self.intercepts is not None
        return torch.where(counts > 0, sums / counts, self.intercepts)

    def m_step_noise(self, noise: torch.Tensor) -> float:
        """Compute the noise variance as the mean squared error of an entry.

        Parameters
        ----------
        noise : tensor of shape (2,)

        Returns
        -------
        noise_variance : float
            At least a small multiple of machine epsilon.
        """
        minimum = _MIN_NOISE_EPS * torch.finfo(noise.dtype).eps
        return max(float(noise[0] / noise[1]), minimum)

    def evidence_lower_bounds(
        self, batch: Batch, e_step: EStep, active: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Compute lower bounds of the log-density under single clusters.

        By Jensen's inequality the energy at the expected squared error bounds the
        expected energy from above.

        Parameters
        ----------
        batch, e_step, active
            As in :meth:`Mixture.evidence_lower_bounds`.

        Yields
        ------
        k, index, bounds
            As in :meth:`Mixture.evidence_lower_bounds`.
        """
        n_observed = batch.n_observed(torch.float64)
        log_widths = math.log(2 * math.pi * self.noise_variance) / 2 * n_observed
        for k, index, squares, divergences in iter_code_posteriors(
            self, batch, e_step, active
        ):
            residuals = squares / (2 * self.noise_variance)
            energies = self.likelihood.energy(residuals, n_observed[index])
            yield k, index, -energies - divergences - log_widths[index]
