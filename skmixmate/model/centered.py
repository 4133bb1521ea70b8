"""Rows less the intercepts of each cluster, without n_clusters copies of the rows."""

import torch

from ..data.batch import Batch
from ..data.sparse_batch import SparseBatch
from .active_rows import ActiveRows
from .fista import cluster_chunks
from .native import binding


def project_centered(
    batch: Batch, dictionaries: torch.Tensor, intercepts: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute inner products of complete rows, less the intercepts, with atoms.

    Parameters
    ----------
    batch : Batch
        Without missing entries.
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    intercepts : tensor of shape (n_clusters, n_features) or None

    Returns
    -------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products with the atoms.
    squared_norms : tensor of shape (n_clusters, n_rows)
        Squared norms of the rows less the intercepts.
    """
    correlations = batch.project(dictionaries)
    squared_norms = batch.squared_norms().expand(len(correlations), -1)
    if intercepts is None:
        return correlations, squared_norms
    columns = intercepts[:, :, None]  # (n_clusters, n_features, 1)
    shifts = columns.mT @ columns - 2 * batch.project(columns.mT)
    squared_norms = squared_norms + shifts[:, 0]
    if not isinstance(batch, SparseBatch):
        return correlations - dictionaries @ columns, squared_norms
    # Of many features this takes a tenth of the time of the product above, which would
    # be as long as that with the rows.
    offsets = [
        atoms.mv(row) for atoms, row in zip(dictionaries, intercepts, strict=True)
    ]
    return correlations - torch.stack(offsets)[:, :, None], squared_norms


def center_targets(
    batch: Batch, intercepts: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay out incomplete rows less the intercepts, and their mask, with rows last.

    Parameters
    ----------
    batch : Batch
        With missing entries.
    intercepts : tensor of shape (n_clusters, n_features) or None

    Returns
    -------
    targets : tensor of shape (n_features, n_rows) or (n_clusters, n_features, n_rows)
        0 where an entry is missing.
    observed : tensor of shape (n_features, n_rows)
        1 where an entry was observed, 0 where it is missing.
    """
    assert batch.observed is not None
    rows = batch.rows
    # Contiguous, like the residuals they are combined with.
    targets, observed = (
        rows.new_empty(whole.mT.shape).copy_(whole.mT)
        for whole in (rows, batch.observed)
    )
    if intercepts is None:
        return targets, observed
    return targets - intercepts[:, :, None] * observed, observed


def center_gradient(
    gradient: torch.Tensor,
    grad_correlations: torch.Tensor,
    cluster_ids: torch.Tensor,
    intercepts: torch.Tensor | None,
) -> None:
    """Correct products of gradients with rows for the intercepts, in place.

    Parameters
    ----------
    gradient : tensor of shape (n_clusters, n_atoms, n_features)
        Changed in place.
    grad_correlations : tensor of shape (n_blocks, n_atoms, n_block)
        Gradient in the inner products with rows less the intercepts.
    cluster_ids : int tensor of shape (n_blocks,)
    intercepts : tensor of shape (n_clusters, n_features) or None
    """
    if intercepts is not None:
        sums = torch.zeros_like(gradient[:, :, :1])
        sums.index_add_(0, cluster_ids, grad_correlations.sum(dim=2, keepdim=True))
        gradient.baddbmm_(sums, intercepts[:, None], alpha=-1)


def explain(
    codes: torch.Tensor, dictionaries: torch.Tensor, blocks: ActiveRows
) -> torch.Tensor:
    """Combine the atoms of the cluster of each block by codes.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    blocks : ActiveRows

    Returns
    -------
    explained : tensor of shape (n_blocks, n_block, n_features)
    """
    return blocks.gather(codes).mT @ dictionaries[blocks.cluster_ids]


def add_imputed_products(
    gradient: torch.Tensor,
    grad_correlations: torch.Tensor,
    batch: Batch,
    codes: torch.Tensor,
    dictionaries: torch.Tensor,
    intercepts: torch.Tensor | None,
    blocks: ActiveRows,
) -> None:
    """Add the products of gradients with rows that are imputed and centered.

    Parameters
    ----------
    gradient : tensor of shape (n_clusters, n_atoms, n_features)
        Changed in place.
    grad_correlations : tensor of shape (n_blocks, n_atoms, n_block)
        Gradient in the inner products with imputed rows less the intercepts.
    batch : Batch
        With missing entries, which each cluster imputes by its own reconstruction.
    codes, dictionaries, blocks
        As in :func:`explain`.
    intercepts : tensor of shape (n_clusters, n_features) or None
    """
    assert batch.observed is not None
    rows, observed = batch.rows, batch.observed.to(batch.rows.dtype)
    if binding.can_run(grad_correlations):
        binding.add_gradient_products(
            gradient,
            grad_correlations,
            rows,
            blocks.cluster_ids,
            blocks.index,
            observed=observed,
            codes=blocks.gather(codes),
            dictionaries=dictionaries,
            intercepts=intercepts,
        )
        return
    for part in cluster_chunks(blocks.index, blocks.index.shape[1] * batch.n_features):
        chunk = blocks[part]
        imputed = chunk.gather_rows(rows)
        if intercepts is not None:
            imputed.sub_(intercepts[chunk.cluster_ids, None])
        explained = explain(codes, dictionaries, chunk)
        # Selects as torch.where does, in a tenth of the time.
        mask = chunk.gather_rows(observed)
        torch.lerp(explained, imputed, mask, out=imputed)
        gradient.index_add_(0, chunk.cluster_ids, grad_correlations[part] @ imputed)


def intercept_statistics(
    batch: Batch,
    codes: torch.Tensor,
    dictionaries: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the parts of rows that the dictionaries do not explain.

    Divided by the counts these are the intercepts that minimise the expected energy
    given codes, posterior and row weights: the M-step of Eq. 2 in closed form.

    Parameters
    ----------
    batch : Batch
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    weights : tensor of shape (n_clusters, n_rows)
        Responsibilities times row weights.

    Returns
    -------
    sums : tensor of shape (n_clusters, n_features)
        Weighted sums of ``y - A_k x`` over observed entries.
    counts : tensor of shape (n_clusters, n_features)
        Sums of the weights over the same entries.
    """
    sums = batch.weighted_sums(weights)
    if batch.observed is None:
        explained = (codes @ weights[:, :, None]).mT @ dictionaries
        sums = sums - explained[:, 0]
        return sums, weights.sum(dim=1, keepdim=True).expand_as(sums)
    observed = batch.observed.to(batch.rows.dtype)
    blocks = ActiveRows.from_responsibilities(weights)
    for part in cluster_chunks(blocks.index, blocks.index.shape[1] * batch.n_features):
        chunk = blocks[part]
        explained = explain(codes, dictionaries, chunk)
        explained.mul_(chunk.gather_rows(observed))
        chunk_weights = chunk.gather(weights)[:, None]  # (n_part, 1, n_block)
        sums.index_add_(
            0, chunk.cluster_ids, (chunk_weights @ explained)[:, 0], alpha=-1
        )
    return sums, weights @ observed
