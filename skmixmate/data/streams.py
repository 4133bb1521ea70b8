"""Streams of rows: datasets without length, order or random access."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from .collate import collate_rows, flatten_items, stack_rows
from .images import ExpectedShape, restore_images
from .readers import ITEMS_PER_BATCH
from .validation import as_floats

# Entries in a chunk.
_CHUNK_ENTRIES = 2**22


def stream_chunks(
    X: Any, expected: ExpectedShape, *, chunk_entries: int | None = None
) -> Iterator[npt.NDArray[Any]]:
    """Yield the rows of a stream in chunks, in the order in which they arrive.

    Parameters
    ----------
    X : IterableDataset or DataLoader
    expected : tuple of int, "auto" or None
        The shape of items that are not one-dimensional; "auto" for images of any
        shape, None if they are no images.
    chunk_entries : int, default=None
        A chunk is complete when it has this number of entries; 2**22 by default.

    Yields
    ------
    rows : ndarray of shape (n_chunk, n_features)
        Or (n_chunk, height, width) or (n_chunk, height, width, n_channels), if items
        are images.

    Raises
    ------
    ValueError
        If the stream is empty, or its items are not rows.
    """
    chunk_entries = chunk_entries or _CHUNK_ENTRIES
    if isinstance(X, IterableDataset):
        X = DataLoader(
            X,
            batch_size=ITEMS_PER_BATCH,
            collate_fn=stack_rows,
            generator=torch.Generator(),
        )
    elif X.collate_fn is default_collate and not X.persistent_workers:
        X = copy.copy(X)
        X.collate_fn = collate_rows
    buffer: list[npt.NDArray[Any]] = []
    n_rows = 0
    for batch in X:
        rows, image_shape = flatten_items(batch, expected)
        buffer.append(restore_images(as_floats(rows), image_shape))
        n_rows += len(buffer[-1])
        if sum(rows.size for rows in buffer) >= chunk_entries:
            yield np.concatenate(buffer)
            buffer = []
    if buffer:
        yield np.concatenate(buffer)
    if n_rows == 0:
        raise ValueError("X yielded no rows; it should yield at least one.")
