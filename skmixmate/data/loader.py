"""Data at the edge: mini-batches of X as the model wants them."""

import math
import os

import numpy as np
import torch
from sklearn.utils.validation import validate_data

from .batch import Batch
from .containers import as_numeric, as_numpy, as_tensor, is_wrappable
from .dask_arrays import is_dask
from .readers import RowReader, as_reader

# Entries read at a time when the whole of X is looked through.
_CHUNK_ENTRIES = 2**20

# Bytes that are shuffled at a time, and that each run of rows has in which X is read
# for that. Data that fit into one window are shuffled as a whole.
_SHUFFLE_WINDOW_BYTES, _SHUFFLE_CHUNK_BYTES = 7 * 2**25, 2**20

# Sums of so many doublings of the largest float64 are possible where rows are divided
# by that before; and how often a float can be doubled at once.
_ROOM, _MOST_DOUBLINGS = 64, 1023

# Means of features so many times as large as the deviations from them are taken again,
# of these deviations.
_FAR = 1e6

# How far the square of a norm stays below the largest float, so that sums and products
# of such squares do, too.
_MARGIN = 2.0**16


def validate_rows(estimator, X, reset):
    """Check the data given to an estimator, which may miss entries.

    Parameters
    ----------
    estimator : estimator
    X : array-like, tensor or source of shape (n_samples, n_features)
        Sources are what :func:`~skmixmate.data.readers.as_reader` takes.
    reset : bool
        Whether to set the attributes that describe the features, as in fit, or
        to check X against them.

    Returns
    -------
    X : ndarray, tensor or Source of shape (n_samples, n_features)
        float32 or float64; not copied if it was. The entries of a Source are
        checked when they are read. Masked entries are missing, NaN.

    Raises
    ------
    ValueError
        If X is not two-dimensional, has infinite entries, entries that are no real
        numbers or other features than in fit.
    TypeError
        If X is sparse, is nothing that rows can be read from, or has no length.
    """
    X = as_reader(X, getattr(estimator, "image_shape", None))
    if isinstance(X, RowReader):
        _validate_shape(estimator, X, reset)
        return X
    X = as_numeric(X.compute() if is_dask(X) else X)
    if not isinstance(X, torch.Tensor):
        return _validate_array(estimator, X, reset)
    _validate_shape(estimator, X, reset)
    if X.nansum().isinf() and X.isinf().any():
        raise ValueError("Input X contains infinity; only NaN may be missing data.")
    return X


def _validate_array(estimator, X, reset):
    """Let scikit-learn check and convert what is no tensor."""
    try:
        # scikit-learn looks at the sum first, which may overflow to both sides.
        with np.errstate(invalid="ignore"):
            return validate_data(
                estimator,
                X,
                reset=reset,
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan",
            )
    except TypeError as error:
        # In lists and arrays of objects it finds no complex numbers.
        entries = np.asarray(X, dtype=object).flat
        if any(isinstance(entry, complex) for entry in entries):
            raise ValueError(
                "Complex data not supported\nX has entries that are complex numbers."
            ) from error
        has_rows = isinstance(X, (list, tuple)) or hasattr(X, "__array__")
        if not has_rows:
            raise TypeError(
                f"X is a {type(X).__name__}, but should be an array, a tensor, a list "
                "of rows, a DataFrame, or a Dataset or DataLoader of torch."
            ) from error
        raise


def _validate_shape(estimator, X, reset):
    """Let scikit-learn check the shape, on a stand-in that takes no memory."""
    stand_in = np.broadcast_to(np.float32(0), X.shape)
    validate_data(estimator, stand_in, reset=reset, ensure_all_finite=False)


def resolve_device(device, X):
    """Find the device to work on.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the device of X if it is a tensor, else a GPU if there is one.
    X : ndarray or tensor

    Returns
    -------
    device : torch.device

    Raises
    ------
    ValueError
        If torch does not find it on this machine, or it holds no data ("meta").
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, torch.Tensor):
            return X.device
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # Of several processes on a machine torchrun gives each a number.
        rank = int(os.environ.get("LOCAL_RANK", 0))
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        found = torch.device(device)
        if torch.empty(0, device=found).is_meta:
            raise NotImplementedError("tensors on it hold no data")
    # Of devices from outside torch imports a module, which may be missing.
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not to be had here; should be 'auto', "
            f"'cpu' or a device that torch finds. torch says: {error}"
        ) from error
    return found


class RowLoader:
    """The rows of X, shifted, scaled and on the device, a mini-batch at a time.

    X itself is never changed and never copied whole: what is copied is each
    mini-batch.

    Parameters
    ----------
    X : ndarray, tensor or Source of shape (n_samples, n_features)
        float32 or float64; NaN is missing.
    device : torch.device
        Where mini-batches go.
    location : tensor of shape (n_features,) or None
        Subtracted from every row.
    scale : float
        Every entry is multiplied by it, after that.
    check : callable, default=None
        Called with rows as they are read, missing entries 0, to refuse them.
    """

    def __init__(self, X, *, device, location=None, scale=1.0, check=None):
        self.X = X
        self.device = device
        self.location = location
        self.scale = scale
        self.check = check

    def __len__(self):
        return len(self.X)

    def count_rows(self, members):
        """Give the number of rows in an index, or in slice(None)."""
        return len(self) if isinstance(members, slice) else len(members)

    def load(self, index):
        """Rows by index.

        Parameters
        ----------
        index : slice or int tensor

        Returns
        -------
        batch : Batch
        """
        rows = self._read(index).to(self.device)
        return self._standardize(rows, is_complete=not has_missing(rows))

    def batches(self, members, size, generator):
        """Mini-batches of all members in random order.

        X is shuffled in windows of up to 224 MiB, each made of runs of rows from
        all over X. Of a memory map or Source, or for a GPU, a window is read once, run
        by run, and for each of its mini-batches the host need not wait for the device.
        The order does not depend on where X lies.

        Parameters
        ----------
        members : slice(None) or int tensor of shape (n_members,)
            Rows to take, in ascending order. That all are taken needs no number for
            each.
        size : int
            Rows in a mini-batch; what does not fill the last one is left out.
        generator : torch.Generator

        Yields
        ------
        batch : Batch
        """
        n_bytes = self.X.shape[1] * self.X.dtype.itemsize
        n_run = size * max(1, _SHUFFLE_CHUNK_BYTES // (n_bytes * size))
        n_window = n_run * max(1, _SHUFFLE_WINDOW_BYTES // (n_bytes * n_run))
        on_host = self.device.type == "cpu"
        is_near = on_host and not is_lazy(self.X) and not self._is_on_device()
        for window in windows(self.count_rows(members), n_run, n_window, generator):
            order = torch.randperm(len(window), generator=generator)
            order = order[: len(order) // size * size]
            if len(order) == 0:  # it may happen to the last window
                continue
            if not isinstance(members, slice):
                window = members[window]
            if is_near:
                for batch in order.split(size):
                    yield self.load(window[batch])
                continue
            # All of a tensor that is on the device already is not copied.
            is_whole = len(window) == len(self)
            near = self._read(slice(None) if is_whole else window)
            if self.device.type == "cuda" and not near.is_cuda:
                near = near.pin_memory()
            # What goes to the host would be read before it has come.
            near = near.to(self.device, non_blocking=not on_host)
            is_complete = not has_missing(near)
            for batch in order.to(self.device).split(size):
                yield self._standardize(near[batch], is_complete)
            del near  # before the next is read

    def _is_on_device(self):
        return isinstance(self.X, torch.Tensor) and self.X.device.type != "cpu"

    def _standardize(self, rows, is_complete):
        if self.location is not None:
            rows = rows - self.location
        # The first arithmetic always makes a new tensor: X is left alone.
        rows = rows * self.scale
        observed = None
        if not is_complete:
            # Only NaN differs from itself. It takes a third of the time of a mask.
            observed = rows == rows
            rows.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)
        if self.check is not None:
            self.check(rows)
        return Batch(rows, observed)

    def _read(self, index):
        if isinstance(self.X, torch.Tensor):
            # As rows of an array are: the last bits of a sum depend on the order.
            return self.X[index].contiguous()
        if isinstance(index, torch.Tensor):
            if _torch_readable(self.X):
                return torch.from_numpy(self.X).index_select(0, index)
            return as_tensor(self.X[index.numpy()])
        # A view of an array that may be read-only: torch would warn.
        return torch.from_numpy(np.array(self.X[index], order="C"))

    def to_data_units(self, rows):
        """Undo shift and scale.

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
            In the units of X.
        """
        rows = rows / self.scale
        return rows if self.location is None else rows + self.location

    def chunks(self, size=None):
        """Slices that cover all rows in order.

        Parameters
        ----------
        size : int, default=None
            Rows in each, but for the last; by default as many as have a
            million entries.

        Yields
        ------
        block : slice
        """
        size = size or max(1, _CHUNK_ENTRIES // self.X.shape[1])
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


def windows(n_rows, n_run, n_window, generator):
    """Part rows into windows, each of runs of rows drawn at random.

    Parameters
    ----------
    n_rows : int
    n_run : int
        Rows in a run.
    n_window : int
        Rows in a window, a multiple of `n_run`.
    generator : torch.Generator

    Yields
    ------
    window : int tensor of shape (at most n_window,)
        In ascending order, for the sake of the disk.
    """
    if n_rows <= n_window:
        yield torch.arange(n_rows)
        return
    runs = torch.randperm(-(-n_rows // n_run), generator=generator)
    for some in runs.split(n_window // n_run):
        starts = n_run * some.sort().values[:, None]
        window = (starts + torch.arange(n_run)).flatten()
        yield window[window < n_rows]


def has_missing(rows):
    """Tell whether any entry is NaN, in less time than it takes to look at each.

    Parameters
    ----------
    rows : tensor
        Without infinite entries.

    Returns
    -------
    has_missing : bool
    """
    return bool(rows.sum().isnan())


def concat_rows(waiting, X, members):
    """Put rows of X after those that wait for them.

    Parameters
    ----------
    waiting : tensor of shape (n_waiting, n_features)
    X : ndarray or tensor of shape (n_samples, n_features)
    members : int ndarray of shape (n_members,)
        Rows of X to take.

    Returns
    -------
    rows : tensor of shape (n_waiting + n_members, n_features)
        A copy, on the device of X and of the dtype of `waiting`.
    """
    taken = X[members]
    taken = taken if isinstance(taken, torch.Tensor) else as_tensor(taken)
    return torch.cat([waiting.to(taken.device), taken.to(waiting.dtype)])


def _torch_readable(X):
    """Tell whether torch can read an array, with all threads, which numpy does not."""
    return isinstance(X, np.ndarray) and X.flags.c_contiguous and is_wrappable(X)


def is_lazy(X):
    """Tell whether rows are read when they are asked for, as from a file.

    Parameters
    ----------
    X : ndarray, tensor or Source

    Returns
    -------
    is_mapped : bool
    """
    while isinstance(X, np.ndarray) and not isinstance(X, np.memmap):
        X = X.base
    return isinstance(X, (np.memmap, RowReader))


def missing_counts(rows):
    """Count the missing entries of every row.

    Parameters
    ----------
    rows : Rows

    Returns
    -------
    counts : ndarray of shape (n_samples,)
        Of the smallest type that holds the number of features.
    """
    counts = np.zeros(len(rows), dtype=np.min_scalar_type(rows.X.shape[1]))
    for block in rows.chunks():
        _, observed = rows.load(block)
        if observed is not None:
            counts[block] = (~observed).sum(dim=1).cpu().numpy()
    return counts


def feature_means(rows, communicator):
    """Mean of the observed entries of every feature, 0 where there are none.

    Parameters
    ----------
    rows : Rows
    processes : Processes
        The mean is over the rows of all.

    Returns
    -------
    means : float64 tensor of shape (n_features,)
    """
    means = _feature_means(rows, communicator)
    if means.isfinite().all():
        return means
    # A sum overflowed.
    return _feature_means(_rescaled(rows, -_ROOM), communicator) * 2.0**_ROOM


def _feature_means(rows, communicator):
    totals, counts = 0.0, 0.0
    for block in rows.chunks():
        values, observed = rows.load(block)
        totals = totals + values.sum(dim=0, dtype=torch.float64)
        counts = counts + (len(values) if observed is None else observed.sum(dim=0))
    totals, counts = (
        communicator.all_reduce(totals),
        communicator.all_reduce(torch.as_tensor(counts)),
    )
    return totals / counts.clamp_min(1)


def centered_norm(rows, communicator):
    """Root of the mean squared norm of the deviation of a row from the mean.

    Parameters
    ----------
    rows : Rows
        Neither shifted nor scaled.
    processes : Processes
        The means are over the rows of all.

    Returns
    -------
    norm : float
        0 if all rows are the same. Missing entries are made up for.
    """
    location = feature_means(rows, communicator)
    deviations = RowLoader(rows.X, device=rows.device, location=location)
    norm = root_mean_square_norm(deviations, communicator)
    if float(location.abs().max()) > _FAR * norm:
        # What rounding left of the means; of constant features, all of it.
        location = location + feature_means(deviations, communicator)
        deviations = RowLoader(rows.X, device=rows.device, location=location)
        norm = root_mean_square_norm(deviations, communicator)
    return norm


def root_mean_square_norm(rows, communicator):
    """Root of the mean squared norm of a row, missing entries made up for.

    Parameters
    ----------
    rows : Rows
    processes : Processes
        The mean is over the rows of all.

    Returns
    -------
    norm : float
        0 if all that was observed is 0; infinite where float64 does not hold it.
    """
    norm = _root_mean_square_norm(rows, communicator)
    # Squares of larger or smaller entries may have left the range of the dtype.
    limit = float(np.finfo(as_numpy(rows.X[:0]).dtype).max) ** 0.25
    root = norm / rows.X.shape[1] ** 0.5
    if 1 / limit < root < limit:
        return norm
    largest = max(communicator.all_gather(largest_entry(rows)))
    exponent = max(math.frexp(largest)[1], -_MOST_DOUBLINGS)
    norm = _root_mean_square_norm(_rescaled(rows, -exponent), communicator)
    with np.errstate(over="ignore"):
        return float(np.ldexp(norm, exponent))


def _root_mean_square_norm(rows, communicator):
    total, count = 0.0, 0.0
    for block in rows.chunks():
        values, observed = rows.load(block)
        total = total + values.square().sum(dtype=torch.float64)
        count = count + (values.numel() if observed is None else observed.sum())
    total, count = communicator.all_reduce(total), communicator.all_reduce(float(count))
    return float((total / max(count, 1.0) * rows.X.shape[1]) ** 0.5)


def largest_entry(rows):
    """Return the largest magnitude of the observed entries of rows.

    Parameters
    ----------
    rows : Rows

    Returns
    -------
    largest : float
        0 without any; infinite where shift or scale make it so.
    """
    return max(
        (float(rows.load(block)[0].abs().max()) for block in rows.chunks()),
        default=0.0,
    )


def _rescaled(rows, exponent):
    """Return the same rows in float64, times a power of two."""
    location = rows.location
    if location is None:  # it takes float32 to float64
        location = torch.zeros(rows.X.shape[1], dtype=torch.float64, device=rows.device)
    return RowLoader(
        rows.X, device=rows.device, location=location.double(), scale=2.0**exponent
    )


def scale_of_norm(norm, reference, dtype):
    """Find what takes rows of some norm to a reference.

    Parameters
    ----------
    norm : float
        Of rows as they are, see :func:`root_mean_square_norm`.
    reference : float
    dtype : dtype
        Of the rows.

    Returns
    -------
    scale : float
        1 if the norm is 0.

    Raises
    ------
    ValueError
        If the scale, or its inverse, is no normal number of the dtype.
    """
    if norm == 0:
        return 1.0
    scale = reference / norm
    tiny = float(np.finfo(dtype).tiny)
    if not tiny <= scale <= 1 / tiny:
        raise ValueError(
            f"X has rows of a root-mean-square norm of {norm:.3g}, which {dtype} "
            f"cannot scale to {reference}: its normal numbers end at {tiny:.3g} and "
            f"{np.finfo(dtype).max:.3g}. Multiply X by a constant so that entries "
            "are nearer to 1."
        )
    return scale


def rows_beyond_squares(rows):
    """Find the rows whose squared norm leaves the range of the dtype, or nearly so.

    Parameters
    ----------
    rows : tensor of shape (n_rows, n_features)
        As the model takes them: shifted and scaled.

    Returns
    -------
    index : int tensor of shape (n_far,)
    """
    if rows.numel():
        low, high = torch.aminmax(rows)
        limit = largest_squarable(rows.dtype, rows.shape[1])
        if not (-limit <= low and high <= limit):
            return (~(rows.abs().amax(dim=1) <= limit)).nonzero()[:, 0]
    return torch.empty(0, dtype=torch.int64, device=rows.device)


def largest_squarable(dtype, n_features):
    """Return the largest entry of a row whose squared norm is sure to be in range.

    Parameters
    ----------
    dtype : torch.dtype
    n_features : int

    Returns
    -------
    largest : float
    """
    return (torch.finfo(dtype).max / (_MARGIN * n_features)) ** 0.5


def check_squares(largest, scale, dtype, n_features):
    """Check that the squared norms of rows can be computed.

    Parameters
    ----------
    largest : float
        Largest entry of the rows, shifted but not scaled.
    scale : float
        What they are multiplied by.
    dtype, n_features
        As in :func:`largest_squarable`.

    Raises
    ------
    ValueError
        If the square of the entry leaves the range of the dtype, or nearly so.
    """
    limit = largest_squarable(dtype, n_features)
    if not largest * scale <= limit:
        raise ValueError(
            f"X has an entry that is {largest:.3g} away from the clusters, too large "
            f"with scale_={scale:.3g} for {str(dtype).removeprefix('torch.')} to "
            f"square: entries should be no more than {limit / scale:.3g} away. Leave "
            "such rows out, or choose another scale."
        )
