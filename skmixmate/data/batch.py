"""Batches of rows, and the products with them that the model computes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Rows that are shifted, scaled and on the device.

    Parameters
    ----------
    rows : tensor of shape (n_rows, n_features)
        Missing entries are set to 0.
    observed : bool tensor of shape (n_rows, n_features) or None
        False where an entry is missing; None if no entry is missing.
    weights : tensor of shape (n_rows,) or None, default=None
        Each row counts as this number of rows in training; None if all weights are 1.
    labels : int64 tensor of shape (n_rows,) or None, default=None
        Cluster that a row is known to belong to, -1 where it is not known; None if no
        label is known.
    """

    rows: torch.Tensor
    observed: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    labels: torch.Tensor | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.rows.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the rows."""
        return self.rows.dtype

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        """Apply a function to every field that is not None.

        Parameters
        ----------
        function : callable
            Takes a tensor with rows first and returns one.

        Returns
        -------
        batch : Batch
        """
        fields = self._asdict().items()
        return self._replace(**{k: function(v) for k, v in fields if v is not None})

    def select(self, index: slice | torch.Tensor) -> "Batch":
        """Select rows, with all that is known about them.

        Parameters
        ----------
        index : slice or int tensor of shape (n_index,)

        Returns
        -------
        batch : Batch
        """
        return self.map(lambda field: field[index])

    def weigh(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply a value of each row by the weight of the row.

        Parameters
        ----------
        values : tensor of shape (..., n_rows)

        Returns
        -------
        weighted : tensor of shape (..., n_rows)
            `values` itself if all weights are 1.
        """
        return values if self.weights is None else values * self.weights

    def n_observed(self, dtype: torch.dtype) -> torch.Tensor:
        """Count the observed entries of each row.

        Parameters
        ----------
        dtype : torch.dtype
            The dtype of the counts.

        Returns
        -------
        counts : tensor of shape (n_rows,)
        """
        if self.observed is None:
            return self.rows.new_full((self.n_rows,), self.n_features, dtype=dtype)
        return self.observed.sum(dim=1, dtype=dtype)

    def project(self, dictionaries: torch.Tensor) -> torch.Tensor:
        """Compute the inner products of rows with atoms.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features)

        Returns
        -------
        correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        """
        correlations: torch.Tensor = dictionaries @ self.rows.mT
        return correlations

    def squared_norms(self) -> torch.Tensor:
        """Compute the squared norm of each row, of shape (n_rows,)."""
        norms: torch.Tensor = torch.linalg.vector_norm(self.rows, dim=-1)
        return norms.square()

    def weighted_sums(self, responsibilities: torch.Tensor) -> torch.Tensor:
        """Compute the sums of the rows, weighted by responsibilities.

        Parameters
        ----------
        responsibilities : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        sums : tensor of shape (n_clusters, n_features)
        """
        sums: torch.Tensor = responsibilities @ self.rows
        return sums

    def completeness_groups(
        self,
    ) -> Iterator[tuple[slice | torch.Tensor, "Batch"]]:
        """Separate the complete rows, which are faster to compute with, from others.

        Yields
        ------
        index : slice or int tensor of shape (n_index,)
            Indices of the rows in the group; an empty group is left out.
        batch : Batch
            The rows of the group; `observed` is None for the complete ones.
        """
        if self.observed is None:
            yield slice(None), self
            return
        # Faster than observed.all(dim=1).
        is_complete = self.observed.sum(dim=1) == self.n_features
        complete = is_complete.nonzero()[:, 0]
        if len(complete):
            yield complete, self._replace(observed=None).select(complete)
        incomplete = (~is_complete).nonzero()[:, 0]
        if len(incomplete) == self.n_rows:
            yield slice(None), self
        elif len(incomplete):
            yield incomplete, self.select(incomplete)
