"""The rows that contribute to the gradient of each cluster.

Most rows belong to one cluster, and to the others with a responsibility below machine
epsilon (see :func:`~skmixmate.model.posterior.thresholded_responsibilities`). Only
rows with a positive responsibility take part in the gradient of a cluster.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch

from ..data.batch import Batch
from ..data.sparse_batch import SparseBatch
from .fista import cluster_chunks
from .native import binding

# Smallest number of rows in a block: a product with fewer rows takes as long.
_MIN_BLOCK_ROWS = 16

# Fixed cost of a block, expressed as a number of rows.
_BLOCK_OVERHEAD = 32

# On a GPU, up to this many clusters process all rows: that is faster than waiting for
# the host to learn which rows are active.
_MAX_DENSE_CLUSTERS = 64


def use_dense_rows(n_clusters: int, device: torch.device) -> bool:
    """Decide whether every cluster processes all rows, active or not.

    Parameters
    ----------
    n_clusters : int
    device : torch.device

    Returns
    -------
    use_dense : bool
        If True, the host does not need to read the posterior.
    """
    return device.type != "cpu" and n_clusters <= _MAX_DENSE_CLUSTERS


@dataclass(frozen=True)
class ActiveRows:
    """Blocks of equal size with the active rows of each cluster.

    Clusters have different numbers of active rows, and each has as many blocks as it
    needs. Only these blocks are encoded with a tape and differentiated.

    Parameters
    ----------
    cluster_ids : int tensor of shape (n_blocks,)
        Cluster of each block, in ascending order.
    index : int tensor of shape (n_blocks, n_block)
        Rows of each block. Blocks are filled up with rows whose responsibility, and
        hence gradient, is 0; no row occurs twice in a cluster.
    """

    cluster_ids: torch.Tensor
    index: torch.Tensor

    @classmethod
    def from_responsibilities(cls, responsibilities: torch.Tensor) -> Self:
        """Collect all rows with a positive responsibility.

        Parameters
        ----------
        responsibilities : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        blocks : ActiveRows
        """
        n_clusters, n_rows = responsibilities.shape
        device = responsibilities.device
        if use_dense_rows(n_clusters, device):
            index = torch.arange(n_rows, device=device).expand(n_clusters, -1)
            return cls(torch.arange(n_clusters, device=device), index)
        active = responsibilities > 0
        counts = active.sum(dim=1)
        n_splits, size = _choose_block_size(counts.tolist(), n_rows)
        index = active.to(torch.uint8).topk(n_splits * size, dim=1).indices
        starts = torch.arange(n_splits, device=device) * size
        nonempty = (starts < counts[:, None]).view(-1).nonzero()[:, 0]
        index = index.view(n_clusters * n_splits, size).index_select(0, nonempty)
        return cls(nonempty.div(n_splits, rounding_mode="floor"), index)

    def __getitem__(self, chunk: slice) -> "ActiveRows":
        """Select a slice of the blocks."""
        return ActiveRows(self.cluster_ids[chunk], self.index[chunk])

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Select the rows of each block from a tensor with an entry per cluster.

        Parameters
        ----------
        tensor : tensor of shape (n_clusters, n_rows) or (n_clusters, n_atoms, n_rows)

        Returns
        -------
        gathered : tensor of shape (n_blocks, n_block) or (n_blocks, n_atoms, n_block)
        """
        index = self.index
        if tensor.dim() == 3:
            index = index[:, None].expand(-1, tensor.shape[1], -1)
        return tensor.index_select(0, self.cluster_ids).gather(-1, index)

    def scatter(
        self, blocks: torch.Tensor, n_clusters: int, n_rows: int
    ) -> torch.Tensor:
        """Put the entries of blocks back to their clusters and rows.

        Parameters
        ----------
        blocks : tensor of shape (n_blocks, n_block) or (n_blocks, n_atoms, n_block)
        n_clusters, n_rows : int

        Returns
        -------
        whole : tensor of shape (n_clusters, n_rows) or (n_clusters, n_atoms, n_rows)
            0 for rows that are in no block of the cluster.
        """
        whole = blocks.new_zeros((n_clusters, *blocks.shape[1:-1], n_rows))
        clusters = self.cluster_ids[:, None]
        # Dimensions that are indexed come first: blocks.mT has the atoms last.
        if blocks.dim() == 3:
            whole[clusters, :, self.index] = blocks.mT
        else:
            whole[clusters, self.index] = blocks
        return whole

    def gather_rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """Select the rows of each block from a tensor that all clusters share.

        Parameters
        ----------
        tensor : tensor of shape (n_rows, n_features)

        Returns
        -------
        rows : tensor of shape (n_blocks, n_block, n_features)
        """
        # Copies whole rows, which is faster than tensor[self.index].
        rows = tensor.index_select(0, self.index.reshape(-1))
        return rows.view(*self.index.shape, -1)

    def add_gradient_products(
        self,
        gradient: torch.Tensor,
        grad_correlations: torch.Tensor,
        batch: Batch,
    ) -> None:
        """Add the products of gradients with rows to the gradient of the dictionaries.

        Parameters
        ----------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
            Changed in place.
        grad_correlations : tensor of shape (n_blocks, n_atoms, n_block)
            Gradient with respect to the inner products of atoms and rows.
        batch : Batch
            Without missing entries.
        """
        if isinstance(batch, SparseBatch):
            batch.add_gradient_products(
                gradient, grad_correlations, self.cluster_ids, self.index
            )
            return
        rows = batch.rows
        if binding.can_run(grad_correlations):
            binding.add_gradient_products(
                gradient, grad_correlations, rows, self.cluster_ids, self.index
            )
            return
        for chunk in cluster_chunks(self.index, self.index.shape[1] * rows.shape[1]):
            blocks = self[chunk]
            products = grad_correlations[chunk] @ blocks.gather_rows(rows)
            gradient.index_add_(0, blocks.cluster_ids, products)


def _choose_block_size(counts: list[int], n_rows: int) -> tuple[int, int]:
    """Choose the block size with the lowest total cost.

    Parameters
    ----------
    counts : list of int
        Number of active rows of each cluster.
    n_rows : int

    Returns
    -------
    n_splits : int
        Number of blocks of the cluster with the most active rows.
    size : int
        Number of rows in a block; ``n_splits * size <= n_rows``.
    """
    largest = max(counts)
    costs = {}
    for n_splits in range(1, max(1, largest // _MIN_BLOCK_ROWS) + 1):
        size = math.ceil(largest / n_splits)
        if n_splits * size <= n_rows:
            n_blocks = sum(math.ceil(count / size) for count in counts if count)
            costs[n_splits, size] = n_blocks * (size + _BLOCK_OVERHEAD)
    return min(costs, key=costs.__getitem__)
