"""Columns that are not numeric: what is in them, and what to do about it."""

import datetime
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

# What a column that is not numeric holds, and what to do.
_REMEDIES = {
    "categories or text": (
        "Encode categories by OneHotEncoder, in a ColumnTransformer of scikit-learn, "
        "and leave text out"
    ),
    "dates or durations": (
        "Convert dates and durations to numbers, such as days since a first day, or "
        "the month"
    ),
    "numbers and text": (
        "Replace text that marks a missing number by NaN, for example with "
        "pandas.to_numeric(column, errors='coerce')"
    ),
}
_CATEGORIES, DATES, _MIXED = _REMEDIES

# Columns that a message names, and the length of an example.
_MAX_NAMED, _MAX_LENGTH = 5, 30


def check_columns(X: Any, name: str = "X") -> None:
    """Check that the columns of a table are numeric.

    Text that is a number, such as "1.5", is left to numpy, which converts it.

    Parameters
    ----------
    X : object
        A DataFrame of pandas or polars, a table of pyarrow, an array, or a list of
        rows; anything else is ignored.
    name : str, default="X"
        Name of the parameter, for the error message.

    Raises
    ------
    ValueError
        If columns hold categories, text, dates or durations.
    """
    found = {}
    for label, values in _columns(X):
        kind, example = _inspect(values)
        if kind is not None:
            found[label] = kind, example
    if found:
        named = [
            f"{label!r} ({kind}, such as {example})"
            for label, (kind, example) in itertools.islice(found.items(), _MAX_NAMED)
        ]
        if len(found) > _MAX_NAMED:
            named.append(f"and {len(found) - _MAX_NAMED} more")
        raise ValueError(
            f"{name} has columns that are not numeric: {', '.join(named)}. "
            f"{remedies({kind for kind, _ in found.values()})}"
        )


def remedies(kinds: set[str]) -> str:
    """Say what to do about columns that are not numeric.

    Parameters
    ----------
    kinds : set of str
        From :func:`kind_of_text` or :func:`kinds_of_dtype`.

    Returns
    -------
    sentences : str
    """
    return " ".join(f"{text}." for kind, text in _REMEDIES.items() if kind in kinds)


def kind_of_text(text: str, is_numeric_elsewhere: bool) -> str:
    """Tell what a column with a text that is not a number holds.

    Parameters
    ----------
    text : str
    is_numeric_elsewhere : bool
        Whether the column has numbers, too.

    Returns
    -------
    kind : str
        For messages, and for :func:`remedies`.
    """
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return _MIXED if is_numeric_elsewhere else _CATEGORIES
    return DATES


def kinds_of_dtype(dtype: Any) -> set[str]:
    """Tell what a column of a dtype may hold.

    Parameters
    ----------
    dtype : dtype of numpy or pandas

    Returns
    -------
    kinds : set of str
        For :func:`remedies`; empty if it holds numbers or records.
    """
    if dtype.kind in "mM":
        return {DATES}
    if str(dtype) == "object":
        return {_CATEGORIES, DATES}
    return {_CATEGORIES} if dtype.kind in "OSUT" else set()


def _columns(X: Any) -> Iterator[tuple[Any, npt.NDArray[Any]]]:
    """Yield the names and values of the columns that may not be numeric."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        for i, (label, dtype) in enumerate(X.dtypes.items()):
            if dtype.kind not in "biuf":
                yield label, np.asarray(X.iloc[:, i])
    elif hasattr(X, "get_columns"):  # polars
        for series in X.get_columns():
            if not series.dtype.is_numeric():
                yield series.name, np.asarray(series)
    elif hasattr(X, "column_names"):  # pyarrow
        for label, column in zip(X.column_names, X.columns, strict=True):
            yield label, np.asarray(column)
    elif isinstance(X, (np.ndarray, list, tuple)):
        try:
            array = np.asarray(X)
        except (TypeError, ValueError, RuntimeError):  # such as rows of any length
            return
        if array.ndim == 2 and array.dtype.kind not in "biuf":
            yield from enumerate(array.T)


def _inspect(values: npt.NDArray[Any]) -> tuple[str | None, str]:
    """Return what a column holds and an example, or None if numpy can convert it."""
    if values.dtype.kind in "mM":
        example = str(values[0] if len(values) else values.dtype)
        return DATES, example.split("T00:00:00")[0]
    if values.dtype.kind not in "OSUT":
        return None, ""
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        pass
    else:
        return None, ""
    text = None
    has_numbers = False
    for value in values:
        if isinstance(value, (str, bytes)):
            is_number = _is_number(value)
            has_numbers |= is_number
            if text is None and not is_number:
                text = value
        elif _is_date(value):
            return DATES, str(value)[:_MAX_LENGTH]
        elif hasattr(value, "closed_left"):  # an interval of pandas.cut
            return _CATEGORIES, str(value)
        else:
            has_numbers |= isinstance(value, (int, float)) and value == value
        if text is not None and has_numbers:
            break
    if text is None:
        return None, ""
    kind = kind_of_text(text if isinstance(text, str) else "", has_numbers)
    return kind, repr(text[:_MAX_LENGTH])


def _is_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_date(value: Any) -> bool:
    """Return whether a value is a date, a time, a duration or a period of pandas."""
    dates = (datetime.date, datetime.time, datetime.timedelta)
    is_scalar = isinstance(value, (*dates, np.datetime64, np.timedelta64))
    return is_scalar or hasattr(value, "start_time")
