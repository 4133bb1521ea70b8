r"""The evidence of a row under one cluster: a lower bound.

The code is integrated out of Eq. 1. With a normal distribution
:math:`q = \mathcal N(m, V)` over the code, by Jensen's inequality,

.. math:: \log \int p(y, x)\,dx \ge \mathbb E_q \log p(y, x) - \mathbb E_q \log q(x),

whatever m and V are. Both expectations have a closed form: that of the squared error is
:math:`\|y - A^T m\|^2 + \mathrm{tr}(G V)`, that of another likelihood goes by its
`expectations`, and that of the prior is its `expected_value`. A value at a single code,
however good, is no bound: a density may exceed its integral.

A good q is found by majorisation. A penalty that is concave in the squares of a code
lies below its tangent in these, which is quadratic in the code: against the tangent the
best q is normal, with the precision :math:`G / \sigma^2 + \mathrm{diag}(r)`, where r
is twice the slope of the penalty at the second moments of the q before. Every step
raises the bound that is made of tangents, from wherever it starts. Where entries are
not normal, a square stands for their expected likelihood too, with its slope and its
curvature at the q before: Newton's method. There the bound need not rise: where it
falls q stays, and goes only a quarter as far next time.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .likelihood import EntrywiseLikelihood
from .priors import Prior

# Steps from the code that the encoder gives; with more the bound rises by a few
# hundredths.
_N_STEPS = 5

# The same, where entries are not normal.
_N_MOVES = 9


def code_posterior(correlations, codes, norms, gram, prior, noise_variance):
    """Find a normal q over the code of each row in one dictionary.

    Parameters
    ----------
    correlations : float64 tensor of shape (n_rows, n_atoms)
        Inner products of the atoms with the rows, over observed entries.
    codes : float64 tensor of shape (n_rows, n_atoms)
        Where the mean of q starts.
    norms : float64 tensor of shape (n_rows,)
        Squared norms of the rows, over observed entries.
    gram : float64 tensor of shape (n_atoms, n_atoms) or (n_rows, n_atoms, n_atoms)
        Inner products of the atoms, over the same entries.
    prior : Prior
        One that has a `log_normalizer`.
    noise_variance : float

    Returns
    -------
    squares : tensor of shape (n_rows,)
        Expected squared error under q.
    divergences : tensor of shape (n_rows,)
        Of q from the prior, or more where the prior only bounds its `expected_value`.
        ``-squares / (2 * noise_variance) - divergences`` is a bound of the evidence,
        up to the constant of the normal density.

    References
    ----------
    M. Girolami, A variational method for learning sparse and overcomplete
    representations, Neural Computation 13, 2001.

    Examples
    --------
    One atom, and a row twice as long; the integral is known:

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
    precision, residual_correlations = (
        gram / noise_variance,
        correlations / noise_variance,
    )
    # The Gram matrix may have no full rank, and in floats less than none: by rounding
    # in proportion to its size and to its trace, which is no more than the size.
    least = torch.finfo(gram.dtype).eps * gram.shape[-1] ** 2 / noise_variance
    means, variances = codes, torch.full_like(codes, noise_variance)
    for _ in range(_N_STEPS):
        rates = _tangent_rates(prior, means.square() + variances).clamp_min(least)
        factors = torch.linalg.cholesky(precision + torch.diag_embed(rates))
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        means = (covariances @ residual_correlations[..., None])[..., 0]
    explained = (gram @ means[..., None])[..., 0]
    squares = norms + (means * (explained - 2 * correlations)).sum(dim=1)
    squares = squares + (gram * covariances).sum(dim=(1, 2))
    return squares, _divergences(prior, means, variances, factors)


def log_evidence(targets, seen, offset, atoms, codes, likelihood, prior):
    """Bound the evidence of rows under one dictionary of natural parameters.

    Parameters
    ----------
    targets : float64 tensor of shape (n_rows, n_features)
        The rows.
    seen : float64 tensor of the same shape
        1 where an entry was observed, 0 where it is missing.
    offset : float64 tensor of shape (n_features,)
        Intercept of the cluster.
    atoms : float64 tensor of shape (n_atoms, n_features)
    codes : float64 tensor of shape (n_rows, n_atoms)
        Where the mean of q starts.
    likelihood : EntrywiseLikelihood
    prior : Prior
        One that has a `log_normalizer`.

    Returns
    -------
    log_evidence : tensor of shape (n_rows,)
        Of the observed entries.

    References
    ----------
    M. Opper and C. Archambeau, The variational Gaussian approximation revisited,
    Neural Computation 21, 2009.

    Examples
    --------
    One atom, one entry, seven events; the integral is known:

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
    rows = _NaturalRows(targets, seen, offset, atoms, likelihood, prior)
    natural = offset + codes @ atoms
    _, *tilt = likelihood.expectations(natural, torch.zeros_like(natural), targets)
    precision, _ = rows.squared(codes, torch.ones_like(codes), *tilt)
    q = rows.judged(codes, precision)
    lengths = torch.ones_like(q.bounds)
    for _ in range(_N_MOVES):
        precision, moves = rows.squared(q.means, q.variances, q.slopes, q.curvatures)
        trial = rows.judged(
            q.means + lengths[:, None] * moves,
            torch.lerp(q.precision, precision, lengths[:, None, None]),
        )
        rises = trial.bounds > q.bounds
        q = _Normal(
            *(
                torch.where(rises.view(-1, *[1] * (new.dim() - 1)), new, old)
                for new, old in zip(trial, q, strict=True)
            )
        )
        lengths = torch.where(rises, 1, lengths / 4)
    return q.bounds + (seen * likelihood.log_base_measure(targets)).sum(dim=1)


class _Normal(NamedTuple):
    """Normal distributions over the codes of rows, and what they are worth."""

    bounds: torch.Tensor  # (n_rows,), up to the base of the likelihood
    means: torch.Tensor  # (n_rows, n_atoms)
    variances: torch.Tensor
    precision: torch.Tensor  # (n_rows, n_atoms, n_atoms)
    slopes: torch.Tensor  # of the expected cumulant, (n_rows, n_features)
    curvatures: torch.Tensor


@dataclass
class _NaturalRows:
    """Rows under one dictionary of natural parameters; see `log_evidence`."""

    targets: torch.Tensor
    seen: torch.Tensor
    offset: torch.Tensor
    atoms: torch.Tensor
    likelihood: EntrywiseLikelihood
    prior: Prior

    def squared(self, means, variances, slopes, curvatures):
        """Precisions of the best q, and the way to its means, if all was quadratic."""
        precision = (self.atoms * (self.seen * curvatures)[:, None]) @ self.atoms.mT
        rates = _tangent_rates(self.prior, means.square() + variances)
        # In floats the product may have less than no rank.
        size = 1 + precision.diagonal(dim1=1, dim2=2).sum(dim=1, keepdim=True)
        rates = rates.maximum(torch.finfo(size.dtype).eps * len(self.atoms) * size)
        precision = precision + torch.diag_embed(rates)
        residual_correlations = (
            self.seen * (self.targets - slopes)
        ) @ self.atoms.mT - rates * means
        moves, _ = torch.linalg.solve_ex(precision, residual_correlations[..., None])
        return precision, moves[..., 0]

    def judged(self, means, precision):
        """Give q and its bound, which is the least where floats do not reach."""
        factors, _ = torch.linalg.cholesky_ex(precision)
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=1, dim2=2)
        natural = self.offset + means @ self.atoms
        spread = ((covariances @ self.atoms) * self.atoms).sum(dim=1)
        cumulants, *tilt = self.likelihood.expectations(natural, spread, self.targets)
        bounds = (self.seen * (self.targets * natural - cumulants)).sum(dim=1)
        bounds = bounds - _divergences(self.prior, means, variances, factors)
        bounds = bounds.nan_to_num(nan=-math.inf, neginf=-math.inf)
        return _Normal(bounds, means, variances, precision, *tilt)


def _divergences(prior, means, variances, factors):
    """Of normal distributions from the prior.

    Parameters
    ----------
    prior : Prior
    means, variances : tensors of shape (n_rows, n_atoms)
    factors : tensor of shape (n_rows, n_atoms, n_atoms)
        Cholesky factors of the precisions.
    """
    log_roots = factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=1)
    n_atoms = means.shape[1]
    entropies = n_atoms * (math.log(2 * math.pi) + 1) / 2 - log_roots
    penalties = prior.expected_value(means.mT[None], variances.mT[None])[0]
    return penalties + prior.log_normalizer(n_atoms) - entropies


def _tangent_rates(prior, second_moments):
    """Twice the slopes of the penalty in the squares of the code."""
    with torch.enable_grad():
        second_moments = second_moments.detach().requires_grad_()
        penalties = prior.value(second_moments.sqrt().mT[None])
        (slopes,) = torch.autograd.grad(penalties.sum(), second_moments)
    return 2 * slopes
