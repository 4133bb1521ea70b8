"""Preparation of a table for the estimator, and the part of a model file about it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from ._columns import Columns, Table

# A column of text with more different values is not taken for categories.
_MAX_CATEGORIES = 100

# Rows whose sums are computed at a time.
_CHUNK_ROWS = 2**14


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Features of a model, computed from the columns of a table.

    Numbers come first, standardised if that was asked for. Each category is a column of
    0 and 1; where a category is missing, or was not there in fit, all columns of the
    variable are missing.

    Parameters
    ----------
    names : list of str or None
        Names of the columns of numbers; None if the table had none.
    n_numbers : int
    means, scales : list of float or None
        Of the columns of numbers; None if they are not standardised.
    categories : dict of str to list of str
        Categories of each column of text.
    """

    names: list[str] | None
    n_numbers: int
    means: list[float] | None
    scales: list[float] | None
    categories: dict[str, list[str]]

    @classmethod
    def fit(cls, path: str, table: Table, standardize: bool) -> Self:
        """Learn means, standard deviations and categories.

        Parameters
        ----------
        path : str
            For messages.
        table : Table
        standardize : bool

        Returns
        -------
        preparation : Preparation

        Raises
        ------
        ValueError
            If a column of text has too many different values, or a sparse matrix should
            be standardised.
        """
        means = scales = None
        n_numbers = int(table.numbers.shape[1])
        if standardize and n_numbers:
            if sparse.issparse(table.numbers):
                raise ValueError(
                    f"{path} holds a sparse matrix, which --standardize would make "
                    "dense. Scale its columns before, without moving their means."
                )
            scaler = StandardScaler()
            for start in range(0, table.n_samples, _CHUNK_ROWS):
                scaler.partial_fit(table.numbers[start : start + _CHUNK_ROWS])
            means, scales = scaler.mean_.tolist(), scaler.scale_.tolist()
        categories = {}
        for name, texts in table.categories.items():
            values = sorted({text for text in texts if text is not None})
            if not 1 <= len(values) <= _MAX_CATEGORIES:
                raise ValueError(
                    f"{path} has {len(values)} different values in the column {name}, "
                    f"but --categorical is for 1 to {_MAX_CATEGORIES}. Leave the "
                    f"column out by --drop {name}."
                )
            categories[name] = values
        return cls(table.names, n_numbers, means, scales, categories)

    @property
    def is_trivial(self) -> bool:
        """Whether the features are the columns of a table without names."""
        return self.names is None and self.means is None and not self.categories

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the features, None if the table had no names."""
        if self.names is None and not self.categories:
            return None
        numbers = self.names or [f"x{i}" for i in range(self.n_numbers)]
        one_hot = [
            f"{name}={value}"
            for name, values in self.categories.items()
            for value in values
        ]
        return [*numbers, *one_hot]

    def columns(self, options: Columns) -> Columns:
        """Return the columns that a table needs for this model.

        Parameters
        ----------
        options : Columns
            Options of the command line, of which `index` and `missing` are kept.

        Returns
        -------
        columns : Columns
        """
        if self.names is None and not self.categories:
            return options
        categorical = list(self.categories)
        include = [*(self.names or options.include), *categorical]
        return dataclasses.replace(options, include=include, categorical=categorical)

    def transform(self, path: str, table: Table) -> np.ndarray | sparse.csr_array:
        """Compute the features of the rows of a table.

        Parameters
        ----------
        path : str
            For messages.
        table : Table

        Returns
        -------
        X : ndarray or CSR array of shape (n_samples, n_features)

        Raises
        ------
        ValueError
            If the table has another number of columns.
        """
        numbers: Any = table.numbers
        if numbers.shape[1] != self.n_numbers:
            raise ValueError(
                f"{path} has {numbers.shape[1]} columns of numbers, but the model was "
                f"fitted to {self.n_numbers}."
            )
        if self.means is not None:
            numbers = (numbers - np.array(self.means)) / np.array(self.scales)
        blocks = [
            _one_hot(table.categories[name], values)
            for name, values in self.categories.items()
        ]
        return np.hstack([numbers, *blocks]) if blocks else numbers

    def to_dict(self) -> dict[str, Any]:
        """Return the values for a model file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Restore a preparation from a model file, and check it.

        Parameters
        ----------
        values : mapping
            Of a file that anyone may have written.

        Returns
        -------
        preparation : Preparation

        Raises
        ------
        ValueError
            If :meth:`to_dict` does not return such values.
        """
        try:
            restored = cls(**values)
            _check(restored)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"invalid columns of a table: {error}") from error
        return restored


def _check(preparation: Preparation) -> None:
    """Raise an error if values are not as `Preparation.fit` returns them."""
    n_numbers, categories = preparation.n_numbers, preparation.categories
    names = [*(preparation.names or []), *categories]
    names += [value for values in categories.values() for value in values]
    is_valid = all(isinstance(name, str) for name in names) and n_numbers >= 0
    if preparation.names is not None:
        is_valid = is_valid and len(preparation.names) == n_numbers
    for moments in (preparation.means, preparation.scales):
        if moments is not None:
            shape = np.shape(np.array(moments, dtype=np.float64))
            is_valid = is_valid and shape == (n_numbers,)
    if not is_valid or (preparation.means is None) != (preparation.scales is None):
        raise ValueError("lengths or types do not fit together")


def _one_hot(texts: list[str | None], values: list[str]) -> np.ndarray:
    """Encode categories as 0 and 1, and others as missing.

    Parameters
    ----------
    texts : list of str or None, of length n_samples
    values : list of str
        The categories.

    Returns
    -------
    columns : ndarray of shape (n_samples, n_categories)
    """
    positions = {value: i for i, value in enumerate(values)}
    codes = np.array([positions.get(text, -1) for text in texts])  # type: ignore[arg-type]
    columns: np.ndarray = np.where(
        codes[:, None] < 0, np.nan, np.eye(len(values))[codes]
    )
    return columns
