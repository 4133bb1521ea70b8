r"""The encoder of rows with missing entries.

If entries of y are missing, the Gram matrix is different for each row,
:math:`G_i = A\,\mathrm{diag}(m_i)\,A^T` with the mask :math:`m_i`. It is never formed:
some layers apply its factors, the others approximate it by the shared G.
"""

from typing import NamedTuple

import torch

from .fista import cluster_chunks, momenta
from .native import binding
from .prior import Prior

# This layer, and from it on one in so many, have the exact gradient.
_FIRST_EXACT, _EXACT_EVERY = 4, 6

# Eigenvalues of a Gram matrix, as a fraction of the largest, that may be rounding
# errors.
_NEGLIGIBLE = 1e-6


class IncompleteCodes(NamedTuple):
    """Codes of rows with missing entries, and inner products of the rows they impute.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products of the atoms with the imputed rows.
    squared_residuals : tensor of shape (n_clusters, n_rows)
        Squared errors of the observed entries; imputed entries have none.
    squared_norms : tensor of shape (n_clusters, n_rows)
        Of the imputed rows.
    """

    codes: torch.Tensor
    correlations: torch.Tensor
    squared_residuals: torch.Tensor
    squared_norms: torch.Tensor


def encode_incomplete(
    targets: torch.Tensor,
    observed: torch.Tensor,
    dictionaries: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    prior: Prior,
    n_layers: int,
) -> IncompleteCodes:
    r"""Compute the sparse codes of rows with missing entries, Psi A in place of A.

    Only the fourth layer and every sixth one after it have the gradient of Eq. 4 for
    Psi A, which takes two products with all features. The others approximate the Gram
    matrix of row i by

    .. math:: d_i G + (G_i - d_i G) \frac{p p^T G}{p^T G p}

    with the points p of the last exact layer, where this is exact: what their products
    lack is added to those of other points in proportion to how much of p these contain.
    If entries are missing at random, :math:`G_i` is :math:`f_i G` on average, where
    :math:`f_i` is the fraction of observed entries; but it may be as large as G, and
    with the momentum :math:`\beta` a layer is stable for at most
    :math:`2 (1 + \beta) / (1 + 2 \beta)` times the curvature of its step size. Hence
    :math:`d_i = \max(f_i, (1 + 2 \beta) / (2 + 2 \beta))`. With up to four layers,
    all are exact.

    Parameters
    ----------
    targets : tensor of shape (n_features, n_rows) or \
            (n_clusters, n_features, n_rows)
        The rows minus the intercept; 0 where an entry is missing.
    observed : tensor of shape (n_features, n_rows)
        1 where an entry is observed, 0 where it is missing; the mask Psi in the
        section on incomplete data of the paper.
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    gram, step, prior, n_layers
        As in :func:`skmixmate.model.fista.encode`.

    Returns
    -------
    codes : IncompleteCodes
        Not differentiable.
    """
    exact = _exact_layers(n_layers)
    correlations = dictionaries @ targets
    fractions = observed.mean(dim=0)  # (n_rows,)
    thresholds = prior.thresholds
    if thresholds is not None and binding.can_run(correlations):
        data = (correlations, targets, observed, fractions, dictionaries)
        layers = (gram, step, thresholds, momenta(n_layers), exact)
        return IncompleteCodes(*binding.encode_incomplete(*data, *layers))
    scaled_gram = step * gram
    # In units of the step size, as in `fista.unroll`.
    codes = prior.prox_scaled(correlations, step, out=torch.empty_like(correlations))
    previous, propagated = codes.clone(), torch.empty_like(codes)
    # Of the last exact layer: what its gradient lacks in the approximation, and what
    # other points are multiplied by to tell how much of its points they contain.
    correction, projection = torch.zeros_like(codes), torch.zeros_like(codes)
    for momentum, is_exact in zip(momenta(n_layers), exact, strict=True):
        points = torch.lerp(previous, codes, 1 + momentum, out=previous)
        torch.bmm(scaled_gram, points, out=propagated)
        damping = fractions.clamp_min((1 + 2 * momentum) / (2 + 2 * momentum))
        if is_exact:
            correction, _ = _correlate_residuals(
                targets, observed, dictionaries, points * step
            )
            correction.sub_(correlations).addcmul_(propagated, damping)
            projection = propagated / _squared_norms(points, propagated)
        shares = (projection * points).sum(dim=1, keepdim=True)
        points.addcmul_(propagated, damping, value=-1)
        points.add_(correlations).addcmul_(correction, shares)
        previous, codes = codes, points
        prior.prox_scaled(points, step, out=codes)
    codes.mul_(step)
    # An imputed row is A^T x + r, with the residual r of the observed entries.
    correlations, squares = _correlate_residuals(targets, observed, dictionaries, codes)
    imputed = torch.baddbmm(correlations, gram, codes)
    norms = squares + (codes * correlations.add_(imputed)).sum(dim=1)
    return IncompleteCodes(codes, imputed, squares, norms)


def _squared_norms(points: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Squared norms in the metric of the scaled Gram matrix, made safe to divide by."""
    squares = points.square().sum(dim=1, keepdim=True)
    smallest = _NEGLIGIBLE * squares + torch.finfo(points.dtype).tiny
    return (points * products).sum(dim=1, keepdim=True).maximum(smallest)


def _exact_layers(n_layers: int) -> list[bool]:
    """Tell which layers after the first have the exact gradient."""
    return [
        n_layers <= _FIRST_EXACT or (layer - _FIRST_EXACT) % _EXACT_EVERY == 0
        for layer in range(1, n_layers)
    ]


def _correlate_residuals(
    targets: torch.Tensor,
    observed: torch.Tensor,
    dictionaries: torch.Tensor,
    codes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply the atoms by the residuals of the observed entries.

    Parameters
    ----------
    targets, observed, dictionaries
        As in :func:`encode_incomplete`.
    codes : tensor of shape (n_clusters, n_atoms, n_rows)

    Returns
    -------
    products : tensor of shape (n_clusters, n_atoms, n_rows)
    squared_norms : tensor of shape (n_clusters, n_rows)
        Of the residuals.
    """
    targets = targets.expand(len(codes), *observed.shape)
    products = torch.empty_like(codes)
    squared_norms = codes.new_empty(len(codes), codes.shape[2])
    for chunk in cluster_chunks(codes, observed.numel()):
        # (n_chunk, n_features, n_rows)
        residual = dictionaries[chunk].mT @ codes[chunk]
        torch.addcmul(targets[chunk], residual, observed, value=-1, out=residual)
        torch.bmm(dictionaries[chunk], residual, out=products[chunk])
        squared_norms[chunk] = torch.linalg.vector_norm(residual, dim=1).square_()
    return products, squared_norms
