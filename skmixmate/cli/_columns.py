"""Columns of a table: which of them are used, and how."""

import csv
import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

# Text that marks a missing entry, as pandas reads it.
MISSING = frozenset(
    ["", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)

# Columns that a message names.
_MAX_NAMED = 20


@dataclasses.dataclass(frozen=True)
class Roles:
    """Positions of the columns of a table, by what they are used for.

    Parameters
    ----------
    numbers, categories : list of int
    index : int or None
        The column that names the rows.
    """

    numbers: list[int]
    categories: list[int]
    index: int | None


@dataclasses.dataclass(frozen=True)
class Columns:
    """Options about the columns of a table.

    A column is its name in the header of the file, or its number from 1 on if there is
    no header.

    Parameters
    ----------
    include : sequence of str
        The only columns to use; empty for all.
    drop : sequence of str
        Columns to leave out.
    index : str or None
        Column that names the rows.
    categorical : sequence of str
        Columns of categories.
    missing : frozenset of str
        Text that marks a missing entry.
    """

    include: Sequence[str] = ()
    drop: Sequence[str] = ()
    index: str | None = None
    categorical: Sequence[str] = ()
    missing: frozenset[str] = MISSING

    def find(self, path: str, names: Sequence[str] | None, n_columns: int) -> Roles:
        """Find the columns in a table.

        Parameters
        ----------
        path : str
            For messages.
        names : sequence of str or None
            Of all columns; None if the file has no header.
        n_columns : int

        Returns
        -------
        roles : Roles
            Columns for numbers are in the order of `include`, or of the table.

        Raises
        ------
        ValueError
            If a column is not in the table, or no column is left.
        """
        labels = [str(i + 1) for i in range(n_columns)] if names is None else names
        found = {label: i for i, label in reversed(list(enumerate(labels)))}

        def positions(columns: Sequence[str]) -> list[int]:
            for column in columns:
                if column not in found:
                    raise ValueError(_unknown_column(path, column, names, labels))
            return [found[column] for column in columns]

        categories = positions(self.categorical)
        (index,) = [None] if self.index is None else positions([self.index])
        dropped = {*positions(self.drop), *categories, index}
        used = positions(self.include) if self.include else range(n_columns)
        numbers = [i for i in dict.fromkeys(used) if i not in dropped]
        if not numbers and not categories:
            raise ValueError(f"{path} has no columns left to cluster.")
        return Roles(numbers, categories, index)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it is in a file.

    Parameters
    ----------
    numbers : ndarray or CSR array of shape (n_samples, n_numbers)
        NaN is missing.
    names : list of str or None
        Names of these columns; None if the file has none.
    categories : dict of str to list
        Columns of text, by name; None is missing.
    index : tuple of str and list of str, or None
        The name of the column that names the rows, and the names.
    """

    numbers: np.ndarray | sparse.csr_array
    names: list[str] | None = None
    categories: dict[str, list[str | None]] = dataclasses.field(default_factory=dict)
    index: tuple[str, list[str]] | None = None

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.numbers.shape[0])

    @property
    def n_columns(self) -> int:
        """Number of columns, not counting the index."""
        return int(self.numbers.shape[1]) + len(self.categories)


def parse_names(text: str) -> list[str]:
    """Split an option at its commas; a name with a comma is in double quotes.

    Parameters
    ----------
    text : str

    Returns
    -------
    names : list of str
    """
    return [
        name for name in next(csv.reader([text], skipinitialspace=True), []) if name
    ]


def label_of(names: Sequence[str] | None, position: int) -> str:
    """Return the name of a column, or its number.

    Parameters
    ----------
    names : sequence of str or None
    position : int

    Returns
    -------
    label : str
    """
    return str(position + 1) if names is None else names[position]


def _unknown_column(
    path: str, column: str, names: Sequence[str] | None, labels: Sequence[str]
) -> str:
    if names is None:
        return (
            f"{path} has no header, and no column {column!r}: its columns have the "
            f"numbers 1 to {len(labels)}."
        )
    shown = ", ".join(labels[:_MAX_NAMED]) + ", ..." * (len(labels) > _MAX_NAMED)
    return f"{path} has no column {column!r}. Its columns are {shown}."
