"""Collation of the items of a dataset to batches of rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import default_collate

from .containers import as_numpy, as_tensor, check_dense
from .images import ExpectedShape, image_shape_of_items

Row: TypeAlias = npt.NDArray[Any] | torch.Tensor


def stack_rows(items: Sequence[Any]) -> Row:
    """Stack the rows in items of a dataset.

    Parameters
    ----------
    items : list

    Returns
    -------
    rows : ndarray or tensor of shape (n_items, ...)
        A masked array if any row is one.

    Raises
    ------
    ValueError
        If the rows do not have the same shape.
    TypeError
        If the rows are sparse.
    """
    return _stack(_rows_in(items))


def collate_rows(items: Sequence[Any]) -> Row:
    """Collate the rows in items of a dataset as torch does by default.

    Unlike torch this accepts rows that are masked, read-only or of negative strides,
    and ignores everything else in the items.

    Parameters
    ----------
    items : list

    Returns
    -------
    rows : ndarray or tensor of shape (n_items, ...)
        A tensor, as from torch, unless rows are masked or of a dtype that torch does
        not have.

    Raises
    ------
    ValueError, TypeError
        See :func:`stack_rows`.
    """
    rows = _rows_in(items)
    if not all(map(_has_tensor, rows)):
        return _stack(rows)
    collated: torch.Tensor = default_collate(
        [row if isinstance(row, torch.Tensor) else as_tensor(row) for row in rows]
    )
    return collated


def _has_tensor(row: Row) -> bool:
    """Return whether a row is a tensor, or an array that can become one."""
    if isinstance(row, torch.Tensor):
        return True
    is_masked = isinstance(row, np.ma.MaskedArray)
    return not is_masked and row.dtype.kind in "biufc" and row.dtype.itemsize <= 8


def _rows_in(items: Sequence[Any]) -> list[Row]:
    """Find the row in each item, and check that all have the same shape."""
    rows = [_first(item) for item in items]
    shapes = sorted({tuple(row.shape) for row in rows})
    if len(shapes) > 1:
        raise ValueError(
            f"The items of X should all have one shape, but have {shapes}."
        )
    return rows


def _stack(rows: Sequence[Row]) -> Row:
    tensors = [row for row in rows if isinstance(row, torch.Tensor)]
    if len(tensors) == len(rows):
        return torch.stack(tensors)
    arrays = [as_numpy(row) for row in rows]
    is_masked = any(isinstance(row, np.ma.MaskedArray) for row in arrays)
    stacked: npt.NDArray[Any] = (np.ma.stack if is_masked else np.stack)(arrays)
    return stacked


def _first(entry: Any) -> Row:
    """Return the first entry of tuples, lists and dictionaries as array or tensor."""
    while isinstance(entry, (tuple, list, Mapping)):
        entries = entry.values() if isinstance(entry, Mapping) else entry
        entry = next(iter(entries), None)
    check_dense(entry)
    if isinstance(entry, (torch.Tensor, np.ma.MaskedArray)):
        return entry
    return np.asarray(entry)


def flatten_items(
    batch: Any, expected: ExpectedShape
) -> tuple[Row, tuple[int, ...] | None]:
    """Reshape a batch of items to rows.

    Parameters
    ----------
    batch : array-like, tensor, tuple, list or dict
        Its first entry has shape (n_rows, ...).
    expected : tuple of int, "auto" or None
        The shape of items that are not one-dimensional; "auto" for images of any
        shape, None if they are no images.

    Returns
    -------
    rows : ndarray or tensor of shape (n_rows, n_features)
    image_shape : tuple of int or None
        The shape of images, if they are images.

    Raises
    ------
    ValueError
        If items have no shape, or are images of another shape.
    TypeError
        If they are sparse.
    """
    rows = _first(batch)
    item_shape = tuple(rows.shape[1:])
    if not item_shape:
        raise ValueError(
            "The items of X should be rows, or have a row as their first entry, each "
            f"an array or tensor; a batch of them has shape {tuple(rows.shape)}."
        )
    image_shape = image_shape_of_items(item_shape, expected)
    return rows.reshape(len(rows), math.prod(item_shape)), image_shape
