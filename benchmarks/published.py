"""The published formulation of a training step: autograd through Eq. 4 in pixels."""

import math

import torch


def published_step(
    dictionaries, rows, optimizer, *, alpha, n_layers, observed=None, step_size=0.04
):
    """Take one training step.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
        Changed in place.
    rows : tensor of shape (n_rows, n_features)
        0 where an entry is missing.
    optimizer : torch.optim.Optimizer
        Of the dictionaries.
    alpha : float
    n_layers : int
    observed : tensor of shape (n_rows, n_features), default=None
        1 where an entry was observed, Psi in the paper.
    step_size : float
        That of the published code.
    """
    codes = rows.new_zeros(len(dictionaries), len(rows), dictionaries.shape[1])
    points, t_old = codes, 1.0

    def residuals(codes):
        left = rows - codes @ dictionaries  # (n_clusters, n_rows, n_features)
        return left if observed is None else left * observed

    for _ in range(n_layers):
        ascent = step_size * residuals(points) @ dictionaries.mT
        previous, codes = (
            codes,
            torch.nn.functional.softshrink(points + ascent, step_size * alpha),
        )
        t_new = (1 + math.sqrt(1 + 4 * t_old**2)) / 2
        points = codes + (t_old - 1) / t_new * (codes - previous)
        t_old = t_new
    squares = residuals(codes).square().sum(dim=2)
    energies = squares + alpha * codes.abs().sum(dim=2)
    loss = (energies * torch.softmax(-energies, dim=0)).sum(dim=0).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        dictionaries /= dictionaries.norm(dim=2, keepdim=True)
