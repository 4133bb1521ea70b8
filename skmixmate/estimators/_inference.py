"""Inference with a fitted model, a chunk of rows at a time."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from ..data.containers import as_numpy, as_tensor, is_dlpack, wrap_dlpack
from ..data.images import restore_images, shape_of_images
from ..data.loader import RowLoader
from ..data.sparse import SparseRows
from ..data.statistics import largest_entry, rows_beyond_squares
from ..data.validation import check_squares, resolve_device
from ..utils.guards import default_modes
from ..utils.numbers import largest_magnitude
from ._batch_posterior import BatchPosterior
from ._settings import Settings
from ._state import ModelState, Rows, numpy_dtype, torch_dtype

# Entries of rows, and of codes, that are worked on at a time.
_CHUNK_ENTRIES = 2**19

# Entries of the codes of sparse rows that are worked on at a time: more than of dense
# ones, as the dictionaries are transposed for each product.
_SPARSE_CHUNK_ENTRIES = 2**21

# Entries of energy margins that are kept to see which clusters are close.
_MARGIN_ENTRIES = 2**21

Output = Callable[[BatchPosterior], Any]


class Assignment(NamedTuple):
    """Rows and their clusters.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,)
    losses : ndarray of shape (n_rows,)
    code_density : ndarray of shape (n_rows,)
        Fraction of the assigned codes that is not zero.
    margins : ndarray of shape (at most n_rows, n_components)
        Energies above the lowest one; of large data only those of some rows, at equal
        distances.
    """

    labels: np.ndarray
    losses: np.ndarray
    code_density: np.ndarray
    margins: np.ndarray


def reconstructions(found: BatchPosterior) -> np.ndarray:
    """Return reconstructed rows, which are dense for sparse rows, too."""
    return found.reconstruct()


def margins_of_entries(found: BatchPosterior) -> torch.Tensor:
    """Return the parts of entries in margins, which are dense for sparse rows, too."""
    return found.divide_margins()


_WIDE_OUTPUTS = (reconstructions, margins_of_entries)


class FittedModel:
    """A model and its settings, to infer with.

    Parameters
    ----------
    state : ModelState
    settings : Settings
    device : str or torch.device
        As the parameter of the estimator.
    """

    def __init__(
        self, state: ModelState, settings: Settings, device: str | torch.device
    ) -> None:
        self.state = state
        self.settings = settings
        self.device = device

    @cached_property
    def chunk_rows(self) -> int:
        """Rows that are worked on at a time."""
        n_clusters, n_atoms, n_features = self.state.dictionaries.shape
        return max(64, _CHUNK_ENTRIES // max(n_clusters * n_atoms, n_features))

    def _sparse_chunk_rows(self) -> int:
        """Return the number of sparse rows that are worked on at a time."""
        n_clusters, n_atoms, _ = self.state.dictionaries.shape
        return max(64, _SPARSE_CHUNK_ENTRIES // max(64, n_clusters * n_atoms))

    def iter_outputs(
        self, X: Rows, *outputs: Output
    ) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Apply functions of the posterior to all rows, a chunk at a time.

        Parameters
        ----------
        X : ndarray, tensor or RowReader of shape (n_samples, n_features)
            Features that are modelled.
        *outputs : callable
            Each returns, of a `BatchPosterior`, something with rows first.

        Yields
        ------
        chunk : slice
        arrays : list of ndarray
            The value of each function for these rows.
        """
        device = resolve_device(self.device, X)
        with default_modes():
            has_intercepts = bool(self.state.intercepts.any())
            mixture, loader = self.state.build(
                self.settings, X, device, with_intercepts=has_intercepts
            )
            loader.check = self.settings.likelihood.validate
            precomputed = mixture.precompute()

        def iter_groups(
            chunk: slice,
        ) -> Iterator[tuple[slice | torch.Tensor, list[np.ndarray]]]:
            batch = loader.load(chunk)
            ordinary: slice | torch.Tensor = slice(None)
            far = rows_beyond_squares(batch)
            if len(far):
                yield far, self._in_float64(loader, chunk, far, outputs)
                is_ordinary = torch.ones(
                    batch.n_rows, dtype=torch.bool, device=far.device
                )
                ordinary = (is_ordinary.index_fill_(0, far, False)).nonzero()[:, 0]
                if not len(ordinary):
                    return
                batch = batch.select(ordinary)
            for index, group in batch.completeness_groups():
                e_step = mixture.e_step(group, precomputed)
                found = BatchPosterior(self.state, mixture, loader, group, e_step)
                arrays = [as_numpy(output(found)) for output in outputs]
                yield index if isinstance(ordinary, slice) else ordinary[index], arrays

        # Not around the loop: the consumer keeps the caller's modes.
        @default_modes()
        @torch.no_grad()
        def arrays_of(chunk: slice) -> list[np.ndarray]:
            whole: list[np.ndarray] = []
            for index, arrays in iter_groups(chunk):
                if isinstance(index, slice):  # the group is the whole chunk
                    return arrays
                if not whole:
                    whole = _empty_like(arrays, chunk.stop - chunk.start)
                for array, values in zip(whole, arrays, strict=True):
                    array[as_numpy(index)] = values
            return whole

        is_narrow = loader.is_sparse and not set(outputs) & set(_WIDE_OUTPUTS)
        size = self._sparse_chunk_rows() if is_narrow else self.chunk_rows
        for chunk in loader.chunks(size):
            yield chunk, arrays_of(chunk)

    def evaluate(self, X: Rows, *outputs: Output) -> list[np.ndarray]:
        """Apply functions of the posterior to all rows.

        Parameters
        ----------
        X, *outputs
            As in :meth:`iter_outputs`.

        Returns
        -------
        arrays : list of ndarray
            The value of each function for the rows of X.
        """
        return _gather(self.iter_outputs(X, *outputs), len(X))

    def assign(self, X: Rows) -> "Assignment":
        """Assign all rows to their clusters, and compute how clear that is.

        Parameters
        ----------
        X : ndarray, tensor or RowReader of shape (n_samples, n_features)
            Features that are modelled.

        Returns
        -------
        assignment : Assignment
        """
        step = math.ceil(len(X) * len(self.state.weights) / _MARGIN_ENTRIES)
        margins = []

        def iter_chunks() -> Iterator[tuple[slice, list[np.ndarray]]]:
            for chunk, (margins_of_chunk, *arrays) in self.iter_outputs(
                X,
                lambda batch: batch.component_margins.T,
                lambda batch: batch.labels,
                lambda batch: batch.losses,
                lambda batch: batch.code_density,
            ):
                margins.append(margins_of_chunk[-chunk.start % step :: step])
                yield chunk, arrays

        labels, losses, code_density = _gather(iter_chunks(), len(X))
        return Assignment(labels, losses, code_density, np.concatenate(margins))

    def _in_float64(
        self,
        loader: RowLoader,
        chunk: slice,
        far: torch.Tensor,
        outputs: tuple[Output, ...],
    ) -> list[np.ndarray]:
        """Apply functions to rows whose squares float32 cannot hold.

        Parameters
        ----------
        loader : RowLoader
        chunk : slice
        far : int tensor of shape (n_far,)
            Which rows of the chunk.
        outputs : tuple of callable

        Returns
        -------
        arrays : list of ndarray
            In the dtype of the rows.

        Raises
        ------
        ValueError
            If the rows are float64 already, or their dtype cannot hold a value.
        """
        X = loader.X[chunk]
        if isinstance(X, torch.Tensor):
            X = X[far.to(X.device)]
        elif isinstance(X, SparseRows):
            X = X[far]
        else:
            X = torch.from_numpy(X[as_numpy(far)])
        if torch_dtype(X) == torch.float64:
            shifted = RowLoader(X, device=loader.device, location=loader.location)
            check_squares(
                largest_entry(shifted), loader.scale, torch.float64, X.shape[1]
            )
        ((_, arrays),) = self.iter_outputs(X.double(), *outputs)
        return [_narrow(values, numpy_dtype(X)) for values in arrays]

    def decode(self, codes: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Reconstruct data from codes in all clusters.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, n_clusters, n_atoms)
            In the units of X, or of natural parameters.
        shares : ndarray of shape (n_rows, n_clusters)
            Factors of the intercepts.

        Returns
        -------
        rows : ndarray of shape (n_rows, n_features)
            In the units of X.
        """
        n_clusters, n_atoms, n_features = self.state.dictionaries.shape
        atoms = self.state.dictionaries.astype(codes.dtype).reshape(-1, n_features)
        intercepts = self.state.intercepts.astype(codes.dtype)
        natural = codes.reshape(len(codes), n_clusters * n_atoms) @ atoms
        natural += shares.astype(codes.dtype) @ intercepts
        means = self.settings.likelihood.mean(torch.from_numpy(natural)).numpy()
        return self.state.to_data_space(means)


def _gather(
    chunks: Iterable[tuple[slice, list[np.ndarray]]], n_rows: int
) -> list[np.ndarray]:
    """Put the arrays of chunks of rows together."""
    whole: list[np.ndarray] = []
    for chunk, arrays in chunks:
        whole = whole or _empty_like(arrays, n_rows)
        for array, values in zip(whole, arrays, strict=True):
            array[chunk] = values
    return whole


def _empty_like(arrays: list[np.ndarray], n_rows: int) -> list[np.ndarray]:
    """Allocate arrays of as many rows, of the same shape and dtype otherwise."""
    return [np.empty((n_rows, *array.shape[1:]), array.dtype) for array in arrays]


def _narrow(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert values that were computed in float64 to the dtype of the rows.

    Raises
    ------
    ValueError
        If the dtype cannot hold them.
    """
    if values.dtype.kind != "f":
        return values
    largest = largest_magnitude(values)
    if largest > float(np.finfo(dtype).max) and math.isfinite(largest):
        raise ValueError(
            f"X has a row so far from the clusters that a result, {largest:.3g}, is "
            f"more than {dtype} can hold. Remove such rows, or pass X as float64."
        )
    return values.astype(dtype)


def restore_container(
    X: Any, array: np.ndarray, method: str = ""
) -> np.ndarray | torch.Tensor:
    """Return a result as a tensor on the device of X, if X is a tensor.

    If X is an array of another library that exports DLPack, the result is one, too, or
    a tensor if that library has no array namespace. Reconstructions of images are
    images.
    """
    if method == "reconstruct":
        array = restore_images(array, shape_of_images(X))
    wrapped = wrap_dlpack(X)
    if not isinstance(wrapped, torch.Tensor):
        return array
    tensor = as_tensor(array).to(wrapped.device)
    if is_dlpack(X) and hasattr(X, "__array_namespace__"):
        return X.__array_namespace__().from_dlpack(tensor)
    return tensor


def rechunk(chunks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut rows into chunks of one size.

    Parameters
    ----------
    chunks : iterable of ndarray
        Any number of rows in each.
    size : int

    Yields
    ------
    rows : ndarray
        Of `size` rows, except for the last.
    """
    pending: list[np.ndarray] = []
    for chunk in chunks:
        pending.append(chunk)
        n_rows = sum(map(len, pending))
        if n_rows >= size:
            *full, rest = np.split(
                np.concatenate(pending), range(size, n_rows + 1, size)
            )
            yield from full
            pending = [rest]
    rest = np.concatenate(pending)
    if len(rest):
        yield rest


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Check that results can be written to `out`.

    Parameters
    ----------
    out : object
        As given by the user.
    shape : tuple of int
    dtype : dtype
        Of the results.

    Raises
    ------
    TypeError
        If `out` has no shape, or a dtype that would lose more than digits.
    ValueError
        If its shape differs, or it is read-only.
    """
    if not hasattr(out, "shape") or not hasattr(out, "__setitem__"):
        raise TypeError(
            f"out={out!r} should be an array of shape {shape}, or any object with a "
            "shape that supports out[slice] = rows."
        )
    if tuple(out.shape) != shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, but should have {shape}.")
    empty = out[:0]
    empty = empty.numpy(force=True) if isinstance(out, torch.Tensor) else empty
    out_dtype = np.asarray(empty).dtype
    if not np.can_cast(dtype, out_dtype, "same_kind"):
        raise TypeError(f"out has dtype {out_dtype}, but should have {dtype}.")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only, but should be writeable.")
