r"""The evidence of a row under one cluster: a lower bound in closed form.

The code is integrated out of Eq. 1. With a normal distribution
:math:`q = \mathcal N(m, V)` over the code, by Jensen's inequality,

.. math:: \log \int p(y, x)\,dx \ge \mathbb E_q \log p(y, x) - \mathbb E_q \log q(x),

whatever m and V are. Both expectations have a closed form: that of the squared error is
:math:`\|y - A^T m\|^2 + \mathrm{tr}(G V)`, and that of the prior is its `mean_value`. A
value at a single code, however good, is no bound: a density may exceed its integral.

A good q is found by majorisation. A penalty that is concave in the squares of a code
lies below its tangent in these, which is quadratic in the code: against the tangent the
best q is normal, with the precision :math:`G / \sigma^2 + \mathrm{diag}(r)`, where r
is twice the slope of the penalty at the second moments of the q before. Every step
raises the bound that is made of tangents, from wherever it starts.
"""

import math

import torch

# Steps from the code that the encoder gives; with more the bound rises by a few
# hundredths.
_N_STEPS = 5


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
        Of q from the prior, or more where the prior only bounds its `mean_value`.
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
    >>> from skmixmate.model.evidence import code_posterior
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
    precision, pulls = gram / noise_variance, correlations / noise_variance
    # The Gram matrix may have no full rank, and in floats less than none.
    least = torch.finfo(gram.dtype).eps * len(gram.mT) / noise_variance
    means, variances = codes, torch.full_like(codes, noise_variance)
    for _ in range(_N_STEPS):
        rates = _tangent_rates(prior, means.square() + variances).clamp_min(least)
        factors = torch.linalg.cholesky(precision + torch.diag_embed(rates))
        covariances = torch.cholesky_inverse(factors)
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        means = (covariances @ pulls[..., None])[..., 0]
    explained = (gram @ means[..., None])[..., 0]
    squares = norms + (means * (explained - 2 * correlations)).sum(dim=1)
    squares = squares + (gram * covariances).sum(dim=(1, 2))
    log_roots = factors.diagonal(dim1=-2, dim2=-1).log().sum(dim=1)
    n_atoms = codes.shape[1]
    entropies = n_atoms * (math.log(2 * math.pi) + 1) / 2 - log_roots
    penalties = prior.mean_value(means.mT[None], variances.mT[None])[0]
    return squares, penalties + prior.log_normalizer(n_atoms) - entropies


def _tangent_rates(prior, second_moments):
    """Twice the slopes of the penalty in the squares of the code."""
    with torch.enable_grad():
        second_moments = second_moments.detach().requires_grad_()
        penalties = prior.value(second_moments.sqrt().mT[None])
        (slopes,) = torch.autograd.grad(penalties.sum(), second_moments)
    return 2 * slopes
