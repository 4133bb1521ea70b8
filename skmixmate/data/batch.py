"""Batches of rows, and the products with them that the model computes."""

from collections.abc import Iterator
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
    """

    rows: torch.Tensor
    observed: torch.Tensor | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.rows.shape[1]

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
            yield complete, Batch(self.rows[complete])
        incomplete = (~is_complete).nonzero()[:, 0]
        if len(incomplete) == self.n_rows:
            yield slice(None), self
        elif len(incomplete):
            yield incomplete, Batch(self.rows[incomplete], self.observed[incomplete])
