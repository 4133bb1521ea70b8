"""A batch: some rows on a device, and the products that the model needs of them."""

from collections.abc import Iterator
from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Rows as the model takes them: shifted, scaled and on the device.

    Parameters
    ----------
    rows : tensor of shape (n_rows, n_features)
        Missing entries hold 0.
    observed : bool tensor of shape (n_rows, n_features) or None
        False where an entry is missing; None if none is.
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
            Of the counts.

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
        return dictionaries @ self.rows.mT

    def squared_norms(self) -> torch.Tensor:
        """Compute the squared norm of each row, of shape (n_rows,)."""
        return torch.linalg.vector_norm(self.rows, dim=-1).square()

    def weighted_sums(self, responsibilities: torch.Tensor) -> torch.Tensor:
        """Sum the rows with weights.

        Parameters
        ----------
        responsibilities : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        sums : tensor of shape (n_clusters, n_features)
        """
        return responsibilities @ self.rows

    def completeness_groups(
        self,
    ) -> Iterator[tuple[slice | torch.Tensor, "Batch"]]:
        """Separate the complete rows, which take less time, from the others.

        Yields
        ------
        index : slice or int tensor of shape (n_index,)
            Which rows these are; a group without rows is left out.
        batch : Batch
            These rows; `observed` is None for the complete ones.
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
