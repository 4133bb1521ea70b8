r"""Lower bounds of the evidence of a row under one cluster.

The code x is integrated out of Eq. 1. With a normal distribution
:math:`q = \mathcal N(m, V)` over the code, Jensen's inequality gives

.. math:: \log \int p(y, x)\,dx \ge \mathbb E_q \log p(y, x) - \mathbb E_q \log q(x),

for any m and V. Both expectations have a closed form. The expected squared error is
:math:`\|y - A^T m\|^2 + \mathrm{tr}(G V)`. :meth:`Likelihood.expectations` computes the
expectations of other likelihoods, and :meth:`Prior.expected_value` the expected
penalty. The density at a single code is not a lower bound, whatever the code: a density
may exceed its integral.

Majorise-minimise iterations find a good q. A penalty that is concave in the squares of
the entries is bounded by its tangent in the squares, which is quadratic in the code.
With the tangent in place of the penalty, the optimal q is normal with the precision
:math:`G / \sigma^2 + \mathrm{diag}(r)`, where r is twice the derivative of the penalty
with respect to the squares, at the second moments of the previous q. Each iteration
increases the bound with the tangents, from any starting point. For other likelihoods, a
quadratic model of the expected log-likelihood at the previous q is used as well, as in
Newton's method. Then the bound may decrease: in that case q is kept, and the next step
is a quarter as long.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .likelihood import EntrywiseLikelihood
from .priors import Prior

# Majorise-minimise iterations from the code of the encoder. More of them increase the
# bound by a few hundredths.
_N_MM_ITERATIONS = 5

# Newton iterations for likelihoods that are not normal.
_N_NEWTON_ITERATIONS = 9


def code_posterior(
    correlations: torch.Tensor,
    codes: torch.Tensor,
    norms: torch.Tensor,
    gram: torch.Tensor,
    prior: Prior,
    noise_variance: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit a normal distribution q to the posterior of the code of each row.

    Parameters
    ----------
    correlations : float64 tensor of shape (n_rows, n_atoms)
        Inner products of the atoms with the rows, over observed entries.
    codes : float64 tensor of shape (n_rows, n_atoms)
        Initial mean of q.
    norms : float64 tensor of shape (n_rows,)
        Squared norms of the rows, over observed entries.
    gram : float64 tensor of shape (n_atoms, n_atoms) or (n_rows, n_atoms, n_atoms)
        Inner products of the atoms, over the same entries.
    prior : Prior
        Its `log_normalizer` must not be None.
    noise_variance : float

    Returns
    -------
    squares : tensor of shape (n_rows,)
        Expected squared error under q.
    divergences : tensor of shape (n_rows,)
        Kullback-Leibler divergence of q from the prior, or an upper bound of it if
        `prior.expected_value` is one. ``-squares / (2 * noise_variance) - divergences``
        is a lower bound of the evidence, up to the constant of the normal density.

    References
    ----------
    M. Girolami, A variational method for learning sparse and overcomplete
    representations, Neural Computation 13, 2001.

    Examples
    --------
    One atom and a row that is twice the atom, for which the integral is known:

    >>> import torch
    >>> from skmixmate.model.elbo import code_posterior
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> squares, divergences = code_posterior(
    ...     2 * one, one, 4 * one[0], one, Laplace(0.75), noise_variance=0.5
    ... )
    >>> x = torch.linspace(-20, 20, 10_001, dtype=torch.float64)
    >>> density = 0.75 / 2 * torch.exp(-0.75 * x.abs() - (2 - x) ** 2)
    >>> evidence = torch.trapezoid(density, x).log()
    >>> bool(0 < evidence - (-squares - divergences) < 0.01)
    True
    """
    precision = gram / noise_variance
    linear_term = correlations / noise_variance
    # The Gram matrix may be rank-deficient, and rounding may make it indefinite, in
    # proportion to its size and to its trace, which is at most its size.
    smallest = torch.finfo(gram.dtype).eps * gram.shape[-1] ** 2 / noise_variance
    means, variances = codes, torch.full_like(codes, noise_variance)
    for _ in range(_N_MM_ITERATIONS):
        second_moments = means.square() + variances
        tangents = _tangent_precisions(prior, second_moments).clamp_min(smallest)
        factors = torch.linalg.cholesky(precision + torch.diag_embed(tangents))
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        means = (covariances @ linear_term[..., None])[..., 0]
    explained = (gram @ means[..., None])[..., 0]
    squares = norms + (means * (explained - 2 * correlations)).sum(dim=1)
    squares = squares + (gram * covariances).sum(dim=(1, 2))
    return squares, _divergences(prior, means, variances, factors)


def log_evidence(
    targets: torch.Tensor,
    observed: torch.Tensor,
    intercept: torch.Tensor,
    atoms: torch.Tensor,
    codes: torch.Tensor,
    likelihood: EntrywiseLikelihood,
    prior: Prior,
) -> torch.Tensor:
    """Bound the evidence of rows under one dictionary of natural parameters.

    Parameters
    ----------
    targets : float64 tensor of shape (n_rows, n_features)
        The rows.
    observed : float64 tensor of shape (n_rows, n_features)
        1 where an entry is observed, 0 where it is missing.
    intercept : float64 tensor of shape (n_features,)
        Intercept of the cluster.
    atoms : float64 tensor of shape (n_atoms, n_features)
    codes : float64 tensor of shape (n_rows, n_atoms)
        Initial mean of q.
    likelihood : EntrywiseLikelihood
    prior : Prior
        Its `log_normalizer` must not be None.

    Returns
    -------
    log_evidence : tensor of shape (n_rows,)
        Lower bound of the log-density of the observed entries.

    References
    ----------
    M. Opper and C. Archambeau, The variational Gaussian approximation revisited,
    Neural Computation 21, 2009.

    Examples
    --------
    One atom, one entry and a count of seven, for which the integral is known:

    >>> import torch
    >>> from skmixmate.model.elbo import log_evidence
    >>> from skmixmate.model.likelihoods import Poisson
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> bound = log_evidence(
    ...     7 * one, one, 0 * one[0], one, one, Poisson(), Laplace(1.0)
    ... )
    >>> x = torch.linspace(-20, 20, 10_001, dtype=torch.float64)
    >>> density = torch.exp(7 * x - x.exp() - x.abs()) / 2
    >>> evidence = torch.trapezoid(density, x).log() - torch.tensor(8.0).lgamma()
    >>> bool(0 < evidence - bound < 0.02)
    True
    """
    rows = _NaturalRows(targets, observed, intercept, atoms, likelihood, prior)
    eta = intercept + codes @ atoms
    _, *moments = likelihood.expectations(eta, torch.zeros_like(eta), targets)
    precision, _ = rows.quadratic_model(codes, torch.ones_like(codes), *moments)
    q = rows.evaluate(codes, precision)
    step_lengths = torch.ones_like(q.bounds)
    for _ in range(_N_NEWTON_ITERATIONS):
        precision, newton_step = rows.quadratic_model(
            q.means, q.variances, q.expected_mean, q.hessian_diag
        )
        candidate = rows.evaluate(
            q.means + step_lengths[:, None] * newton_step,
            torch.lerp(q.precision, precision, step_lengths[:, None, None]),
        )
        accept = candidate.bounds > q.bounds
        q = _Normal(
            *(
                torch.where(accept.view(-1, *[1] * (new.dim() - 1)), new, old)
                for new, old in zip(candidate, q, strict=True)
            )
        )
        step_lengths = torch.where(accept, 1, step_lengths / 4)
    return q.bounds + (observed * likelihood.log_base_measure(targets)).sum(dim=1)


class _Normal(NamedTuple):
    """Normal distributions over the codes of rows, and their lower bounds."""

    bounds: torch.Tensor  # (n_rows,), without the base measure of the likelihood
    means: torch.Tensor  # (n_rows, n_atoms)
    variances: torch.Tensor  # (n_rows, n_atoms)
    precision: torch.Tensor  # (n_rows, n_atoms, n_atoms)
    expected_mean: torch.Tensor  # of each entry, (n_rows, n_features)
    hessian_diag: torch.Tensor  # expected variance of each entry, of the same shape


@dataclass
class _NaturalRows:
    """Rows under one dictionary of natural parameters; see `log_evidence`."""

    targets: torch.Tensor
    observed: torch.Tensor
    intercept: torch.Tensor
    atoms: torch.Tensor
    likelihood: EntrywiseLikelihood
    prior: Prior

    def quadratic_model(
        self,
        means: torch.Tensor,
        variances: torch.Tensor,
        expected_mean: torch.Tensor,
        hessian_diag: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the precision and the Newton step of a quadratic model at q.

        Returns
        -------
        precision : tensor of shape (n_rows, n_atoms, n_atoms)
        newton_step : tensor of shape (n_rows, n_atoms)
            Difference of the optimal means of the model and the means of q.
        """
        precision = (self.atoms * (self.observed * hessian_diag)[:, None]) @ (
            self.atoms.mT
        )
        tangents = _tangent_precisions(self.prior, means.square() + variances)
        # Rounding may make the product indefinite.
        scale = 1 + precision.diagonal(dim1=1, dim2=2).sum(dim=1, keepdim=True)
        tangents = tangents.maximum(
            torch.finfo(scale.dtype).eps * len(self.atoms) * scale
        )
        precision = precision + torch.diag_embed(tangents)
        residual = self.observed * (self.targets - expected_mean)
        rhs = residual @ self.atoms.mT - tangents * means
        newton_step, _ = torch.linalg.solve_ex(precision, rhs[..., None])
        return precision, newton_step[..., 0]

    def evaluate(self, means: torch.Tensor, precision: torch.Tensor) -> _Normal:
        """Compute q and its lower bound, which is minus infinity on overflow."""
        factors, _ = torch.linalg.cholesky_ex(precision)
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=1, dim2=2)
        eta = self.intercept + means @ self.atoms
        eta_variances = ((covariances @ self.atoms) * self.atoms).sum(dim=1)
        cumulants, *moments = self.likelihood.expectations(
            eta, eta_variances, self.targets
        )
        bounds = (self.observed * (self.targets * eta - cumulants)).sum(dim=1)
        bounds = bounds - _divergences(self.prior, means, variances, factors)
        bounds = bounds.nan_to_num(nan=-math.inf, neginf=-math.inf)
        return _Normal(bounds, means, variances, precision, *moments)


def _divergences(
    prior: Prior, means: torch.Tensor, variances: torch.Tensor, factors: torch.Tensor
) -> torch.Tensor:
    """Compute the divergence of normal distributions from the prior.

    Parameters
    ----------
    prior : Prior
    means, variances : tensors of shape (n_rows, n_atoms)
    factors : tensor of shape (n_rows, n_atoms, n_atoms)
        Cholesky factors of the precisions.

    Returns
    -------
    divergences : tensor of shape (n_rows,)
    """
    log_roots = factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=1)
    n_atoms = means.shape[1]
    entropies = n_atoms * (math.log(2 * math.pi) + 1) / 2 - log_roots
    penalties = prior.expected_value(means.mT[None], variances.mT[None])[0]
    log_normalizer = prior.log_normalizer(n_atoms)
    assert log_normalizer is not None
    return penalties + log_normalizer - entropies


def _tangent_precisions(prior: Prior, second_moments: torch.Tensor) -> torch.Tensor:
    """Compute twice the derivative of the penalty in the squares of the code."""
    with torch.enable_grad():
        second_moments = second_moments.detach().requires_grad_()
        penalties = prior.value(second_moments.sqrt().mT[None])
        (grad,) = torch.autograd.grad(penalties.sum(), second_moments)
    return 2 * grad
