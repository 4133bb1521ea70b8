"""The published formulation, step by step in pixel space under autograd."""

import math

import torch


def soft_threshold(points, threshold):
    return points.sign() * (points.abs() - threshold).clamp_min(0)


def codes(rows, dictionaries, step, alpha, n_layers, observed=None):
    """Eq. 4; ``step`` broadcasts to (n_clusters, n_rows, n_atoms)."""
    mask = 1 if observed is None else observed.to(rows.dtype)
    n_clusters, n_atoms, _ = dictionaries.shape
    code = rows.new_zeros(n_clusters, len(rows), n_atoms)
    point, t_old = code, 1.0
    for _ in range(n_layers):
        residual = mask * (rows - point @ dictionaries)
        point = point + step * (residual @ dictionaries.mT)
        previous, code = code, soft_threshold(point, step * alpha)
        t_new = (1 + math.sqrt(1 + 4 * t_old**2)) / 2
        point = code + (t_old - 1) / t_new * (code - previous)
        t_old = t_new
    return code


def energies(rows, dictionaries, step, alpha, n_layers, weights, observed=None):
    """Eq. 5, of shape (n_clusters, n_rows)."""
    mask = 1 if observed is None else observed.to(rows.dtype)
    code = codes(rows, dictionaries, step, alpha, n_layers, observed)
    residual = mask * (rows - code @ dictionaries)
    return (
        residual.square().sum(dim=2)
        + alpha * code.abs().sum(dim=2)
        - weights.log()[:, None]
    )


def loss(energies):
    """Eq. 8, averaged over the rows."""
    return (energies * torch.softmax(-energies, dim=0)).sum(dim=0).mean()
