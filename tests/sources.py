"""Data that are not in memory, as a user may have them."""

import weakref

from torch.utils.data import Dataset, IterableDataset


class File:
    """Gives slices, of no more than so many rows; counts the rows that are alive."""

    def __init__(self, X, longest):
        self.X, self.longest = X, longest
        self.shape, self.dtype = X.shape, X.dtype
        self.n_alive = self.most_alive = self.n_read = 0

    def __getitem__(self, index):
        assert isinstance(index, slice)
        assert index.step is None
        assert 0 <= index.start < index.stop <= len(self.X)
        rows = self.X[index].copy()
        assert len(rows) <= self.longest
        self.n_read += len(rows)
        self._count(len(rows))
        weakref.finalize(rows, self._count, -len(rows))
        return rows

    def _count(self, n_rows):
        self.n_alive += n_rows
        self.most_alive = max(self.most_alive, self.n_alive)

    def __array__(self, *args, **kwargs):
        raise AssertionError("was read whole")


class Pairs(Dataset):
    """Items are pairs of a row and a label that nothing can stack."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        return self.X[index], None


class Listed(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)
