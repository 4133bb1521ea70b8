"""Examples of data that are not in memory: a file, datasets and a stream."""

import weakref

from torch.utils.data import Dataset, IterableDataset


class File:
    """An array in a file, which counts the rows that were read and are in memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    max_rows : int
        Slices of more rows raise an error.

    Attributes
    ----------
    n_read : int
        Number of rows read so far.
    n_alive, most_alive : int
        Number of rows that were read and are still in memory: now, and at most.
    """

    def __init__(self, X, max_rows):
        self.X, self.max_rows = X, max_rows
        self.shape, self.dtype = X.shape, X.dtype
        self.n_alive = self.most_alive = self.n_read = 0

    def __getitem__(self, index):
        assert isinstance(index, slice)
        assert index.step is None
        assert 0 <= index.start < index.stop <= len(self.X)
        rows = self.X[index].copy()
        assert len(rows) <= self.max_rows
        self.n_read += len(rows)
        self._count(len(rows))
        weakref.finalize(rows, self._count, -len(rows))
        return rows

    def _count(self, n_rows):
        self.n_alive += n_rows
        self.most_alive = max(self.most_alive, self.n_alive)

    def __array__(self, *args, **kwargs):
        raise AssertionError("the file was read as a whole")


class Pairs(Dataset):
    """A dataset whose items are pairs of a row and None, which cannot be collated."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index], None


class Listed(Dataset):
    """A dataset of the items of a list."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    """An iterable dataset of the items of a list."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)
