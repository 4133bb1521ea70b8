"""The posterior of codes under spherical noise, cluster by cluster."""

from collections.abc import Iterator

import torch

from ..data.batch import Batch
from .centered import center_targets
from .elbo import code_posterior
from .mixture import EStep, Mixture


def iter_code_posteriors(
    mixture: Mixture, batch: Batch, e_step: EStep, active: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Integrate the code out, for the active rows of each cluster.

    Parameters
    ----------
    mixture : SphericalMixture
    batch : Batch
    e_step : EStep
        Of the same batch.
    active : bool tensor of shape (n_clusters, n_rows)

    Yields
    ------
    k : int
        A cluster.
    index : int tensor of shape (n_index,)
        Some of the rows for which it is active.
    squares, divergences : float64 tensors of shape (n_index,)
        As :func:`code_posterior` returns them; squares are those of the rows, without
        their weights.
    """
    n_atoms, n_features = mixture.dictionaries.shape[1:]
    n_entries = n_atoms**2
    correlations, squared_norms = e_step.correlations, e_step.squared_norms
    if batch.observed is not None:  # imputed entries do not count
        targets, _ = center_targets(batch, mixture.intercepts)
        correlations = mixture.dictionaries @ targets
        squared_norms = targets.square().sum(dim=-2).expand(len(e_step.codes), -1)
        n_entries += n_atoms * n_features
    assert correlations is not None
    assert squared_norms is not None
    for k, index, atoms, prior in mixture.iter_active(active, n_entries):
        masked_atoms = atoms
        if batch.observed is not None:
            # (n_index, n_atoms, n_features)
            masked_atoms = atoms * batch.observed[index, None]
        terms = (
            correlations[k, :, index].mT.double(),
            squared_norms[k, index].double(),
            masked_atoms @ atoms.mT,
        )
        row_weights = None
        if e_step.row_weights is not None:
            row_weights = e_step.row_weights[k, index].double()
            terms = _weight(*terms, row_weights)
        products, norms, gram = terms
        squares, divergences = code_posterior(
            products,
            e_step.codes[k, :, index].mT.double(),
            norms,
            gram,
            prior,
            mixture.noise_variance,
        )
        if row_weights is not None:
            squares = squares / row_weights
        yield k, index, squares, divergences


def _weight(
    correlations: torch.Tensor,
    squared_norms: torch.Tensor,
    gram: torch.Tensor,
    row_weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Multiply the terms of the squared error of each row by its weight."""
    return (
        correlations * row_weights[:, None],
        squared_norms * row_weights,
        gram * row_weights[:, None, None],
    )
