"""The published formulation: Eq. 4 step by step on rows, differentiated by autograd."""

import math

import torch


def soft_threshold(points, threshold):
    """Shrink points by a threshold, a number or a tensor."""
    return points - points.clamp(-threshold, threshold)


def masked_residuals(rows, codes, dictionaries, observed=None):
    """Residuals of the rows, 0 where an entry is missing.

    Of shape (n_clusters, n_rows, n_features).
    """
    residuals = rows - codes @ dictionaries
    return residuals if observed is None else residuals * observed.to(rows.dtype)


def codes(rows, dictionaries, step, alpha, n_layers, observed=None):
    """Codes of Eq. 4, of shape (n_clusters, n_rows, n_atoms).

    `step` broadcasts to this shape; `observed` is 1 where an entry is observed, Psi in
    the paper.
    """
    n_clusters, n_atoms, _ = dictionaries.shape
    code = rows.new_zeros(n_clusters, len(rows), n_atoms)
    point, t = code, 1.0
    for _ in range(n_layers):
        residuals = masked_residuals(rows, point, dictionaries, observed)
        point = point + step * residuals @ dictionaries.mT
        previous, code = code, soft_threshold(point, step * alpha)
        t_next = (1 + math.sqrt(1 + 4 * t**2)) / 2
        point = code + (t - 1) / t_next * (code - previous)
        t = t_next
    return code


def energies(rows, dictionaries, step, alpha, n_layers, weights, observed=None):
    """Energies of Eq. 5, of shape (n_clusters, n_rows)."""
    code = codes(rows, dictionaries, step, alpha, n_layers, observed)
    residuals = masked_residuals(rows, code, dictionaries, observed)
    penalties = alpha * code.abs().sum(dim=2)
    return residuals.square().sum(dim=2) + penalties - weights.log()[:, None]


def loss(energies):
    """Loss of Eq. 8, averaged over the rows."""
    return (energies * torch.softmax(-energies, dim=0)).sum(dim=0).mean()
