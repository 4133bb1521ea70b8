"""Batches of sparse rows, and the products with them that the model computes."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch

from .batch import Batch
from .native import binding
from .sparse import SparseRows

# Entries of rows with missing entries that are made dense at a time.
_DENSE_ENTRIES = 2**20


class SparseBatch(Batch):
    """Sparse rows on the host, scaled, with the products of a :class:`Batch`.

    `rows` are :class:`~skmixmate.data.sparse.SparseRows` in place of a tensor, in which
    a missing entry is NaN, and `observed` is None. :meth:`completeness_groups` has to
    be called before any product: rows with missing entries become dense batches.
    """

    @classmethod
    def from_rows(
        cls,
        rows: SparseRows,
        weights: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> "SparseBatch":
        """Make a batch of rows.

        Parameters
        ----------
        rows : SparseRows
            In memory.
        weights, labels
            As in :class:`Batch`.

        Returns
        -------
        batch : SparseBatch
        """
        return cls(cast(torch.Tensor, rows), None, weights, labels)

    @property
    def sparse_rows(self) -> SparseRows:
        """The rows."""
        return cast(SparseRows, self.rows)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows, as torch names it."""
        return cast(torch.dtype, getattr(torch, self.sparse_rows.dtype.name))

    def n_observed(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the number of features for each row."""
        return torch.full((self.n_rows,), self.n_features, dtype=dtype)

    def project(self, dictionaries: torch.Tensor) -> torch.Tensor:
        """Compute the inner products of rows with atoms; see :meth:`Batch.project`."""
        n_clusters, n_atoms, n_features = dictionaries.shape
        if binding.can_run(dictionaries):
            products = binding.project(
                self.sparse_rows.csr, dictionaries.reshape(-1, n_features)
            )
            return products.mT.reshape(n_clusters, n_atoms, self.n_rows)
        # One row for each feature, of which products take the stored ones.
        columns = dictionaries.reshape(-1, n_features).mT.contiguous()
        products = torch.from_numpy(self.sparse_rows.csr @ columns.numpy())
        return products.mT.reshape(n_clusters, n_atoms, self.n_rows)

    def squared_norms(self) -> torch.Tensor:
        """Compute the squared norm of each row, of shape (n_rows,)."""
        rows = self.sparse_rows
        squares = rows.with_entries(np.square(rows.entries)).csr
        return torch.from_numpy(np.asarray(squares.sum(axis=1)).reshape(-1))

    def weighted_sums(self, responsibilities: torch.Tensor) -> torch.Tensor:
        """Compute weighted sums of the rows; see :meth:`Batch.weighted_sums`."""
        if binding.can_run(responsibilities):
            n_clusters, n_rows = responsibilities.shape
            totals = responsibilities.new_zeros(n_clusters, 1, self.n_features)
            index = torch.arange(n_rows).expand(n_clusters, -1)
            self.add_gradient_products(
                totals, responsibilities[:, None], torch.arange(n_clusters), index
            )
            return totals[:, 0]
        sums = self.sparse_rows.csr.T @ responsibilities.mT.contiguous().numpy()
        return torch.from_numpy(sums).mT.contiguous()

    def add_gradient_products(
        self,
        gradient: torch.Tensor,
        grad_correlations: torch.Tensor,
        cluster_ids: torch.Tensor,
        index: torch.Tensor,
    ) -> None:
        """Add the products of gradients with rows to the gradient of the dictionaries.

        Parameters
        ----------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
            Changed in place.
        grad_correlations : tensor of shape (n_blocks, n_atoms, n_block)
        cluster_ids : int tensor of shape (n_blocks,)
            Cluster of each block.
        index : int tensor of shape (n_blocks, n_block)
            Rows of each block.
        """
        csr = self.sparse_rows.csr
        if binding.can_run(gradient) and gradient.is_contiguous():
            binding.add_gradient_products(
                csr, gradient, grad_correlations, cluster_ids, index
            )
            return
        for k, rows, grad in zip(
            cluster_ids.tolist(), index.numpy(), grad_correlations, strict=True
        ):
            products = csr[rows].T @ grad.mT.contiguous().numpy()
            gradient[k] += torch.from_numpy(products).mT

    def select(self, index: slice | torch.Tensor) -> "SparseBatch":
        """Select rows; see :meth:`Batch.select`."""
        return SparseBatch.from_rows(
            self.sparse_rows[index],
            None if self.weights is None else self.weights[index],
            None if self.labels is None else self.labels[index],
        )

    def completeness_groups(self) -> Iterator[tuple[slice | torch.Tensor, Batch]]:
        """Separate the complete rows from others, which become dense.

        Yields
        ------
        index, batch
            As :meth:`Batch.completeness_groups`; the incomplete rows in several groups,
            so that few are dense at a time.
        """
        rows = self.sparse_rows
        is_missing = np.isnan(rows.entries)
        if not is_missing.any():
            yield slice(None), self
            return
        n_missing = rows.with_entries(is_missing.astype(np.int64)).csr.sum(axis=1)
        is_complete = torch.from_numpy(np.asarray(n_missing).reshape(-1) == 0)
        complete = is_complete.nonzero()[:, 0]
        if len(complete):
            yield complete, self.select(complete)
        size = max(1, _DENSE_ENTRIES // self.n_features)
        for index in torch.split((~is_complete).nonzero()[:, 0], size):
            yield index, self.select(index).to_dense()

    def to_dense(self) -> Batch:
        """Make a dense batch of the rows, with a mask of the missing entries."""
        values = torch.from_numpy(self.sparse_rows.toarray())
        observed = values == values
        return Batch(values.nan_to_num_(nan=0.0), observed, self.weights, self.labels)


def scaled(rows: SparseRows, scale: float) -> SparseRows:
    """Multiply all entries by a number."""
    return rows.with_entries(rows.entries * rows.dtype.type(scale))


def entries_with_zero(rows: SparseRows) -> torch.Tensor:
    """Return all values that occur in the rows, one in each row of a column.

    Parameters
    ----------
    rows : SparseRows
        In memory.

    Returns
    -------
    values : tensor of shape (n_stored + 1, 1)
        The observed stored entries, and 0.
    """
    entries: Any = rows.entries
    values = np.append(entries[~np.isnan(entries)], entries.dtype.type(0))
    return torch.from_numpy(values)[:, None]
