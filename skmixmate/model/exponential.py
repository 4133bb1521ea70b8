r"""The mixture for entries that are drawn one by one, such as counts and binary data.

The negative log-likelihood replaces the squared error of Eq. 5,

.. math:: \sum_j B(z_j) - y_j z_j, \qquad z = b + A^T x.

Its gradient in the code is :math:`-A (y - B'(z))`: the encoder is that of Eq. 4 with
B', in most cases the mean of y, in place of the reconstruction. Inner products alone do
not determine it; a layer takes two products with all features. The curvature,
:math:`A\,\mathrm{diag}(B''(z)) A^T`, depends on the code, and for counts it has no
bound. So each row has its own step size, which shrinks where the gradient changes
faster than the step size allows.

Encoder and energy have the same objective here, without the factor of one half between
Eq. 4 and Eq. 5 of the paper.

References
----------
B. Tolooshams, A. H. Song, S. Temereanca and D. Ba, Convolutional Dictionary Learning
Based Auto-Encoders for Natural Exponential-Family Distributions, ICML 2020.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..data.batch import Batch
from .active_rows import ActiveRows
from .elbo import log_evidence
from .fista import cluster_chunks
from .likelihood import EntrywiseLikelihood
from .mixture import EStep, Mixture, Statistics
from .posterior import loss_gradient
from .prior import Prior
from .proximal_gradient import UnrolledProximalGradient, proximal_gradient

# Largest change of an intercept in one mini-batch, in units of the natural parameter:
# steps of Newton's method from far away are too long.
_MAX_NEWTON_STEP = 1.0

# Iterations of the quadratic functions that replace the penalty on codes.
_N_MM_ITERATIONS = 3


@dataclass
class ExponentialMixture(Mixture):
    """A mixture of sparse dictionary models of natural parameters.

    Parameters
    ----------
    dictionaries, intercepts, weights, prior, n_layers
        As in :class:`Mixture`; ``intercept_k + A_k x`` are natural parameters.
    likelihood : EntrywiseLikelihood
    noise_variance : float, default=0.5
        Without meaning here.

    Examples
    --------
    Two kinds of coins, thrown twice each:

    >>> import torch
    >>> from skmixmate.data.batch import Batch
    >>> from skmixmate.model.exponential import ExponentialMixture
    >>> from skmixmate.model.likelihoods import Bernoulli
    >>> from skmixmate.model.posterior import posterior
    >>> from skmixmate.model.priors import Laplace
    >>> mixture = ExponentialMixture(
    ...     dictionaries=torch.zeros(2, 0, 2),
    ...     intercepts=torch.tensor([[2.0, 2.0], [-2.0, -2.0]]),
    ...     weights=torch.full((2,), 0.5), prior=Laplace(1.0), n_layers=1,
    ...     likelihood=Bernoulli(),
    ... )
    >>> e_step = mixture.e_step(Batch(torch.tensor([[1.0, 1.0], [1.0, 0.0]])))
    >>> posterior(e_step.energies)
    tensor([[0.9820, 0.5000],
            [0.0180, 0.5000]])
    """

    likelihood: EntrywiseLikelihood

    def precompute(self) -> None:
        """Return None: nothing depends on the dictionaries only."""

    def e_step(self, batch: Batch, precomputed: None = None) -> EStep:
        """Compute codes and energies under every cluster.

        Parameters
        ----------
        batch : Batch
        precomputed : None

        Returns
        -------
        e_step : EStep
        """
        targets, observed = _rows_last(batch)
        codes = targets.new_empty(*self.dictionaries.shape[:2], batch.n_rows)
        energies = targets.new_empty(len(codes), batch.n_rows)
        for part in cluster_chunks(codes, batch.rows.numel()):
            prior = self.prior[part]
            codes[part], natural = proximal_gradient(
                self.dictionaries[part],
                self._intercept_columns(part),
                targets,
                observed,
                self.likelihood,
                prior,
                self.n_layers,
            )
            energies[part] = self._energies(
                targets, observed, natural, codes[part], prior
            )
        return EStep(codes, energies - self.weights.log()[:, None])

    def add_gradient(
        self,
        gradient: torch.Tensor,
        batch: Batch,
        e_step: EStep,
        responsibilities: torch.Tensor,
        precomputed: None,
    ) -> None:
        """Add the gradient of the weighted loss in the dictionaries through all layers.

        Parameters
        ----------
        gradient, batch, e_step, responsibilities, precomputed
            As in :meth:`Mixture.add_gradient`.
        """
        grad_energies = loss_gradient(e_step.energies, responsibilities)
        for blocks, targets, observed in _iter_active_blocks(batch, responsibilities):
            cluster_ids = blocks.cluster_ids
            prior = self.prior[cluster_ids]
            intercepts = self._intercept_columns(cluster_ids)
            with torch.enable_grad():
                dictionaries = self.dictionaries[cluster_ids].detach().requires_grad_()
                codes = UnrolledProximalGradient.apply(  # type: ignore[no-untyped-call]
                    dictionaries,
                    intercepts,
                    targets,
                    observed,
                    self.likelihood,
                    prior,
                    self.n_layers,
                )
                natural = intercepts + dictionaries.mT @ codes
                energies = self._energies(targets, observed, natural, codes, prior)
                (block_gradient,) = torch.autograd.grad(
                    energies, dictionaries, blocks.gather(grad_energies)
                )
            gradient.index_add_(0, cluster_ids, block_gradient)

    def statistics(
        self,
        batch: Batch,
        e_step: EStep,
        responsibilities: torch.Tensor,
        *,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
    ) -> Statistics:
        """Sum what a step of Newton's method on the intercepts needs.

        Parameters
        ----------
        batch, e_step, responsibilities, learn_likelihood
            As in :meth:`Mixture.statistics`.
        learn_noise : bool, default=False
            Without meaning here.

        Returns
        -------
        statistics : Statistics
            Intercept counts are second derivatives of the negative log-likelihood of
            the observed entries, weighted by the posterior. Intercept sums are counts
            times the intercepts, plus the weighted residuals.
        """
        statistics = Statistics(responsibilities.sum(dim=1))
        if self.intercepts is not None:
            sums, counts = self._intercept_statistics(
                batch, e_step.codes, responsibilities
            )
            statistics = statistics._replace(
                intercept_sums=sums, intercept_counts=counts
            )
        if learn_likelihood:
            statistics = statistics._replace(
                likelihood=self._likelihood_statistics(batch, e_step, responsibilities)
            )
        return statistics

    def _intercept_statistics(
        self, batch: Batch, codes: torch.Tensor, responsibilities: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum gradients and second derivatives of the likelihood in the intercepts."""
        assert self.intercepts is not None
        counts, sums = (torch.zeros_like(self.intercepts) for _ in range(2))
        for blocks, targets, observed in _iter_active_blocks(batch, responsibilities):
            cluster_ids = blocks.cluster_ids
            explained = self.dictionaries[cluster_ids].mT @ blocks.gather(codes)
            natural = self._intercept_columns(cluster_ids) + explained
            grad = self.likelihood.cumulant_grad(natural, targets)
            hess = self.likelihood.cumulant_hess(grad, targets)
            weights = blocks.gather(responsibilities)[:, None]
            weights = weights if observed is None else weights * observed
            counts.index_add_(0, cluster_ids, (hess * weights).sum(dim=2))
            sums.index_add_(0, cluster_ids, ((targets - grad) * weights).sum(dim=2))
        return sums.addcmul_(counts, self.intercepts), counts

    def _likelihood_statistics(
        self, batch: Batch, e_step: EStep, responsibilities: torch.Tensor
    ) -> torch.Tensor:
        """Sum the statistics of the likelihood over rows and clusters.

        Of single codes the residuals would be too small: codes fit the noise as well.

        Returns
        -------
        statistics : float64 tensor of shape (n_statistics,)
        """
        n_atoms, n_features = self.dictionaries.shape[1:]
        n_entries = n_atoms * (n_atoms + n_features)
        total = batch.rows.new_zeros(self.likelihood.n_statistics, dtype=torch.float64)
        for k, index, atoms, prior in self.iter_active(responsibilities > 0, n_entries):
            targets = batch.rows[index].double()
            codes = e_step.codes[k, :, index].mT.double()
            intercept = self._intercept_columns(slice(k, k + 1))[0, :, 0].double()
            natural = intercept + codes @ atoms
            grad = self.likelihood.cumulant_grad(natural, targets)
            hess = self.likelihood.cumulant_hess(grad, targets)
            weights = responsibilities[k, index, None].double()
            residual = targets - grad
            if batch.observed is not None:
                observed = batch.observed[index]
                weights, hess = weights * observed, hess * observed
                residual = residual * observed
            means, variances = _code_posteriors(codes, atoms, hess, residual, prior)
            total += self.likelihood.statistics(
                intercept + means @ atoms, variances, targets, weights
            )
        return total

    def expected_statistics(
        self,
        n_rows: float,
        *,
        learn_noise: bool = False,
        learn_likelihood: bool = False,
    ) -> Statistics:
        """Compute statistics which the M-step maps to the parameters as they are.

        Rows have the means of their clusters without any code.

        Parameters
        ----------
        n_rows, learn_noise, learn_likelihood
            As in :meth:`statistics`.

        Returns
        -------
        statistics : Statistics
        """
        counts = n_rows * self.weights
        natural = self._intercept_columns(slice(None))[:, :, 0]
        sums = intercept_counts = likelihood = None
        if self.intercepts is not None:
            mean = self.likelihood.mean(natural)
            hess = self.likelihood.cumulant_hess(mean, mean)
            intercept_counts = torch.empty_like(self.intercepts)
            intercept_counts.copy_(counts[:, None] * hess)
            sums = intercept_counts * self.intercepts
        if learn_likelihood:
            likelihood = self.likelihood.expected_statistics(natural, counts[:, None])
            likelihood = likelihood.to(counts.dtype)
        return Statistics(counts, sums, intercept_counts, likelihood=likelihood)

    def m_step_intercepts(
        self, sums: torch.Tensor, counts: torch.Tensor
    ) -> torch.Tensor:
        """Update intercepts by a step of Newton's method of limited length.

        Each cluster has one more row, of one half everywhere: a feature without events
        in its rows would have no finite parameter.

        Parameters
        ----------
        sums, counts : tensors of shape (n_clusters, n_features)
            As in :meth:`Mixture.m_step_intercepts`.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
        """
        assert self.intercepts is not None
        grad = self.likelihood.cumulant_grad(self.intercepts, 0.5)
        hess = self.likelihood.cumulant_hess(grad, 0.5)
        sums = sums + hess * self.intercepts + 0.5 - grad
        tiny = torch.finfo(sums.dtype).tiny
        steps = sums / (counts + hess).clamp_min(tiny) - self.intercepts
        return self.intercepts + steps.clamp(-_MAX_NEWTON_STEP, _MAX_NEWTON_STEP)

    def evidence_lower_bounds(
        self, batch: Batch, e_step: EStep, active: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Compute lower bounds of the log-density under single clusters.

        Parameters
        ----------
        batch, e_step, active
            As in :meth:`Mixture.evidence_lower_bounds`.

        Yields
        ------
        k, index, bounds
            As in :meth:`Mixture.evidence_lower_bounds`.
        """
        n_atoms, n_features = self.dictionaries.shape[1:]
        n_entries = n_atoms * (n_atoms + n_features)
        for k, index, atoms, prior in self.iter_active(active, n_entries):
            targets = batch.rows[index].double()
            observed = torch.ones_like(targets)
            if batch.observed is not None:
                observed = batch.observed[index].double()
            bounds = log_evidence(
                targets,
                observed,
                self._intercept_columns(slice(k, k + 1))[0, :, 0].double(),
                atoms,
                e_step.codes[k, :, index].mT.double(),
                self.likelihood,
                prior,
            )
            yield k, index, bounds

    def _intercept_columns(self, part: slice | torch.Tensor) -> torch.Tensor:
        """Select intercepts of some clusters, in shape (n_part, n_features, 1)."""
        if self.intercepts is None:
            n_clusters, _, n_features = self.dictionaries.shape
            return self.dictionaries.new_zeros(n_clusters, n_features, 1)[part]
        return self.intercepts[part, :, None]

    def _energies(
        self,
        targets: torch.Tensor,
        observed: torch.Tensor | None,
        natural: torch.Tensor,
        codes: torch.Tensor,
        prior: Prior,
    ) -> torch.Tensor:
        """Compute energies without the weights, of shape (n_part, n_rows)."""
        losses = self.likelihood.cumulant(natural, targets) - targets * natural
        losses = losses - self.likelihood.log_base_measure(targets)
        losses = losses if observed is None else losses * observed
        return losses.sum(dim=1) + prior.value(codes)


def _iter_active_blocks(
    batch: Batch, responsibilities: torch.Tensor
) -> Iterator[tuple[ActiveRows, torch.Tensor, torch.Tensor | None]]:
    """Iterate over the rows for which clusters are responsible, in chunks.

    Yields
    ------
    blocks : ActiveRows
        Some of the blocks.
    targets : tensor of shape (n_blocks, n_features, n_block)
        Their rows.
    observed : tensor of the same shape, or None
        1 where an entry was observed, 0 where it is missing.
    """
    active = ActiveRows.from_responsibilities(responsibilities)
    n_entries = batch.n_features * active.index.shape[1]
    for part in cluster_chunks(active.index, n_entries):
        blocks, observed = active[part], None
        if batch.observed is not None:
            observed = blocks.gather_rows(batch.observed).mT.to(batch.rows.dtype)
        yield blocks, blocks.gather_rows(batch.rows).mT, observed


def _code_posteriors(
    codes: torch.Tensor,
    atoms: torch.Tensor,
    hess: torch.Tensor,
    residual: torch.Tensor,
    prior: Prior,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Approximate the posterior of codes by a normal distribution, given a cluster.

    The negative log-likelihood is replaced by its quadratic approximation at the codes,
    the penalty by a quadratic function that touches it at the second moments.

    Parameters
    ----------
    codes : float64 tensor of shape (n_rows, n_atoms)
    atoms : float64 tensor of shape (n_atoms, n_features)
    hess, residual : float64 tensors of shape (n_rows, n_features)
        Second derivatives and negative derivatives of the negative log-likelihood in
        the natural parameters; 0 for missing entries.
    prior : Prior

    Returns
    -------
    means : float64 tensor of shape (n_rows, n_atoms)
        Means of the codes.
    natural_variances : float64 tensor of shape (n_rows, n_features)
        Variances of the natural parameters.
    """
    precision = (atoms * hess[:, None]) @ atoms.mT  # (n_rows, n_atoms, n_atoms)
    linear_term = residual @ atoms.mT + (precision @ codes[..., None])[..., 0]
    diagonal = precision.diagonal(dim1=1, dim2=2)
    # Rounding may make the product indefinite.
    eps = torch.finfo(codes.dtype).eps * max(1, len(atoms))
    smallest = eps * (1 + diagonal.sum(dim=1, keepdim=True))
    means, variances = codes, (diagonal + smallest).reciprocal()
    covariances, ones = torch.zeros_like(precision), codes.new_ones(1, len(codes))
    for _ in range(_N_MM_ITERATIONS):
        moments = (means.square() + variances).sqrt()
        tangents = prior.value_grad(moments.mT[None], ones)[0].mT / moments
        tangents = tangents.maximum(smallest)
        factors, _ = torch.linalg.cholesky_ex(precision + torch.diag_embed(tangents))
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=1, dim2=2)
        means = (covariances @ linear_term[..., None])[..., 0]
    return means, ((covariances @ atoms) * atoms).sum(dim=1)


def _rows_last(batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Lay out rows and mask with rows last."""
    observed = None
    if batch.observed is not None:
        observed = batch.observed.mT.to(batch.rows.dtype).contiguous()
    return batch.rows.mT.contiguous(), observed
