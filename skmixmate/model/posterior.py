"""The posterior over clusters, and the loss (Eq. 7 and 8).

They follow from the energies alone, whatever the mixture. Most rows belong to one
cluster, and to the others with a probability that a float cannot hold beside 1: here is
also how to leave out what does not count.
"""

import math
from dataclasses import dataclass

import torch

from .fista import cluster_chunks
from .native import binding as compiled

# Rows in the smallest block: products with fewer take as long.
_LEAST_BLOCK = 16

# What a block takes whatever its size, in rows.
_BLOCK_COST = 32

# On a GPU up to so many clusters take all rows: it is done before the host, which would
# have to wait, knew which of them count.
_FEW_CLUSTERS = 64


def posterior(energies):
    """Probability of each cluster given the row (Eq. 7).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    posterior : tensor of shape (n_clusters, n_rows)
        Columns sum to 1.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import posterior
    >>> posterior(torch.tensor([[0.0], [0.0]]))
    tensor([[0.5000],
            [0.5000]])
    """
    return torch.softmax(-energies, dim=0)


def thresholded_responsibilities(energies):
    """Posterior (Eq. 7) without what a float cannot hold beside 1.

    That needs no gradient; besides, the tail of a softmax is in part denormal
    numbers, which would slow down all that follows many times over.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    responsibilities : tensor of shape (n_clusters, n_rows)
    """
    responsibilities = posterior(energies)
    is_negligible = responsibilities < torch.finfo(energies.dtype).eps
    return responsibilities.masked_fill_(is_negligible, 0)


def use_dense_rows(n_clusters, device):
    """Tell whether clusters have a gradient from all rows, whether they count or not.

    Parameters
    ----------
    n_clusters : int
    device : torch.device

    Returns
    -------
    take_all : bool
        If so the host need not know what the posterior is.
    """
    return device.type != "cpu" and n_clusters <= _FEW_CLUSTERS


@dataclass(frozen=True)
class ActiveRows:
    """The rows that clusters have a gradient from, in blocks of one size.

    Only they have to go forward with a tape, and backward. Clusters share the rows
    unevenly: each has as many blocks as it needs.

    Parameters
    ----------
    owners : int tensor of shape (n_blocks,)
        The cluster of each block, in order.
    index : int tensor of shape (n_blocks, n_block)
        Rows of each block. Clusters with too few are topped up with rows whose
        responsibility, and so whose gradient, is 0; none has a row twice.
    """

    cluster_ids: torch.Tensor
    index: torch.Tensor

    @classmethod
    def from_responsibilities(cls, responsibilities):
        """Find them.

        Parameters
        ----------
        responsibilities : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        blocks : Blocks
            With all rows of positive responsibility.
        """
        n_clusters, n_rows = responsibilities.shape
        device = responsibilities.device
        if use_dense_rows(n_clusters, device):
            index = torch.arange(n_rows, device=device).expand(n_clusters, -1)
            return cls(torch.arange(n_clusters, device=device), index)
        counting = responsibilities > 0
        counts = counting.sum(dim=1)
        n_splits, size = _block_size(counts.tolist(), n_rows)
        index = counting.to(torch.uint8).topk(n_splits * size, dim=1).indices
        starts = torch.arange(n_splits, device=device) * size
        used = (starts < counts[:, None]).view(-1).nonzero()[:, 0]
        index = index.view(n_clusters * n_splits, size).index_select(0, used)
        return cls(used.div(n_splits, rounding_mode="floor"), index)

    def __getitem__(self, part):
        """Give some of the blocks."""
        return ActiveRows(self.cluster_ids[part], self.index[part])

    def take(self, tensor):
        """Give each block its rows of what its cluster has.

        Parameters
        ----------
        tensor : tensor of shape (n_clusters, n_rows) or (n_clusters, n_atoms, n_rows)

        Returns
        -------
        taken : tensor of shape (n_blocks, n_block) or (n_blocks, n_atoms, n_block)
        """
        index = self.index
        if tensor.dim() == 3:
            index = index[:, None].expand(-1, tensor.shape[1], -1)
        return tensor.index_select(0, self.cluster_ids).gather(-1, index)

    def rows(self, tensor):
        """Give each block its rows of what all clusters share.

        Parameters
        ----------
        tensor : tensor of shape (n_rows, n_features)

        Returns
        -------
        rows : tensor of shape (n_blocks, n_block, n_features)
        """
        # Whole rows are copied, faster than by tensor[self.index].
        rows = tensor.index_select(0, self.index.reshape(-1))
        return rows.view(*self.index.shape, -1)

    def add_products(self, gradient, slopes, rows):
        """Add products of slopes with rows to the gradient of clusters.

        Parameters
        ----------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
        slopes : tensor of shape (n_blocks, n_atoms, n_block)
        rows : tensor of shape (n_rows, n_features)
        """
        if compiled.can_run(slopes):
            compiled.add_products(gradient, slopes, rows, self)
            return
        for part in cluster_chunks(self.index, self.index.shape[1] * rows.shape[1]):
            some = self[part]
            gradient.index_add_(0, some.cluster_ids, slopes[part] @ some.rows(rows))


def _block_size(counts, n_rows):
    """Split clusters such that there is least to do.

    Parameters
    ----------
    counts : list of int
        Rows that count for each cluster.
    n_rows : int

    Returns
    -------
    n_splits : int
        Blocks of the cluster with the most rows.
    size : int
        Rows in a block. As many blocks have no more than `n_rows`.
    """
    most = max(counts)
    costs = {}
    for n_splits in range(1, max(1, most // _LEAST_BLOCK) + 1):
        size = math.ceil(most / n_splits)
        if n_splits * size <= n_rows:
            n_blocks = sum(math.ceil(count / size) for count in counts if count)
            costs[n_splits, size] = n_blocks * (size + _BLOCK_COST)
    return min(costs, key=costs.get)


def loss(energies):
    """Take the expected energy of each row under its posterior (Eq. 8).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    loss : tensor of shape (n_rows,)

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import loss
    >>> loss(torch.tensor([[2.0], [2.0]]))
    tensor([2.])
    """
    return (energies * posterior(energies)).sum(dim=0)


def loss_gradient(energies, responsibilities):
    """Gradient of :func:`loss` with respect to the energies.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)
    responsibilities : tensor of shape (n_clusters, n_rows)
        Their posterior, some small entries of which may be set to 0.

    Returns
    -------
    gradient : tensor of shape (n_clusters, n_rows)
        Exactly 0 where the responsibility is.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import loss_gradient, posterior
    >>> energies = torch.tensor([[2.0], [2.0]])
    >>> loss_gradient(energies, posterior(energies))
    tensor([[0.5000],
            [0.5000]])
    """
    return responsibilities * (1 - energies + loss(energies))
