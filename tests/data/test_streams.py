import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skmixmate.data.collate import stack_rows
from skmixmate.data.readers import is_stream
from skmixmate.data.streams import stream_chunks

from ..sources import Stream
from .test_readers import data


def chunks_of(stream):
    """Return the chunks of a stream, of 25 rows of 5 features or a batch more."""
    return list(stream_chunks(stream, None, chunk_entries=5 * 25))


@pytest.mark.parametrize("n_samples", [3, 100, 60])
def test_chunks_contain_all_rows_in_order(n_samples):
    X = data(n_samples)
    pairs = Stream([(row, None) for row in X])
    for stream, max_rows in (
        (pairs, 256),
        (DataLoader(pairs, 10, collate_fn=stack_rows), 30),
        (DataLoader(Stream(X.reshape(-1, 1, 5)), 10), 30),
    ):
        assert is_stream(stream)
        chunks = chunks_of(stream)
        np.testing.assert_array_equal(np.concatenate(chunks), X)
        assert max(map(len, chunks)) <= max_rows


@pytest.mark.parametrize("splits", [[10, 50], [10, 10]])  # with an empty batch
def test_a_stream_may_consist_of_batches(splits):
    X = data()
    stream = DataLoader(Stream(np.split(X, splits)), batch_size=None)
    np.testing.assert_array_equal(np.concatenate(chunks_of(stream)), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_masked_entries_of_items_are_missing(dtype):
    X = data()
    X[~np.isnan(X)] = X[~np.isnan(X)].astype(dtype)
    masked = np.ma.array(np.nan_to_num(X, nan=99).astype(dtype), mask=np.isnan(X))
    rows = list(masked)
    for stream in (Stream(rows), DataLoader(Stream(rows), 7)):
        np.testing.assert_array_equal(np.concatenate(chunks_of(stream)), X)


def test_streams_do_not_draw_from_the_global_generator():
    before = torch.random.get_rng_state()
    chunks_of(Stream(data()))
    assert before.equal(torch.random.get_rng_state())


def test_an_empty_stream_is_rejected():
    with pytest.raises(ValueError, match="X yielded no rows"):
        chunks_of(Stream([]))
