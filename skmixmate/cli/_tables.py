"""Reading and writing of tables of numbers, for the command line."""

import contextlib
import io
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, TypeAlias

import numpy as np
from scipy import sparse

from ..data.columns import DATES, kinds_of_dtype, remedies
from ._columns import Columns, Table
from ._csv import read_csv
from ._sparse_tables import is_sparse_archive, matrix_of, read_matrix_market

# Suffixes of tables of text.
_TEXT = (".csv", ".tsv")

# A table of more bytes than the first number is read only if it is at most the second
# times as large as its file: a small file could exhaust the memory.
_MAX_UNCHECKED_SIZE, _MAX_EXPANSION = 2**27, 200

# Largest size of the header of an array in bytes; numpy accepts up to 10,000.
_MAX_HEADER_SIZE = 2**14

# Largest size of the central directory of an archive in bytes.
_MAX_DIRECTORY_SIZE = 2**21

# What an .npz file should be, for error messages.
_ARCHIVE = "an archive of arrays"

# Compression methods that numpy writes. Other methods cannot be read in chunks.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# Dense or sparse rows.
_Matrix: TypeAlias = np.ndarray | sparse.csr_array


def read_table(
    path: str,
    columns: Columns = Columns(),  # noqa: B008, it is frozen
    key: str | None = None,
    header: str = "auto",
) -> Table:
    """Read the rows of a data set.

    Parameters
    ----------
    path : str
        A regular file whose name ends in .npy, which is mapped into memory, .npz, .csv,
        .tsv, .parquet, or .mtx for a sparse matrix. An .npz file may also hold a sparse
        matrix that :func:`scipy.sparse.save_npz` wrote.
    columns : Columns
        The columns to read; all by default.
    key : str or None
        Name of the array in an .npz file, needed if there are several.
    header : {"auto", "yes", "no"}, default="auto"
        Whether the first line of a .csv file has the names of the columns; "auto" is
        "yes" if no field in it is a number.

    Returns
    -------
    table : Table
        Empty fields of a .csv or .parquet file are NaN.

    Raises
    ------
    ValueError
        If the file has another format, is damaged, does not hold a table of numbers, or
        is much smaller than its table.
    OSError
        If it cannot be read.
    ImportError
        If pandas or pyarrow is missing, for .parquet.
    """
    suffix = os.path.splitext(path)[1]
    suffixes = (*_TEXT, ".parquet", *_READERS)
    if suffix not in suffixes:
        raise ValueError(f"{path} should end in one of {', '.join(suffixes)}.")
    if key is not None and suffix != ".npz":
        raise ValueError(f"--key {key} is for .npz files only, not for {path}.")
    if header != "auto" and suffix not in _TEXT:
        raise ValueError(f"--header {header} is for .csv files only, not for {path}.")
    check_source(path)
    if suffix in _TEXT:
        table = read_csv(path, columns, header)
    elif suffix == ".parquet":
        table = _read_parquet(path, columns)
    else:
        X = _READERS[suffix](path, key) if suffix == ".npz" else _READERS[suffix](path)
        _check_array(path, X.shape, X.dtype)
        table = _select(path, X, columns)
    _check_array(path, (table.n_samples, table.n_columns), table.numbers.dtype)
    return table


def _select(path: str, X: _Matrix, columns: Columns) -> Table:
    """Select columns of an array without names."""
    roles = columns.find(path, None, X.shape[1])
    if roles.numbers == list(range(X.shape[1])):
        return Table(X)
    others = [*roles.categories, *([] if roles.index is None else [roles.index])]
    if sparse.issparse(X) and others:
        raise ValueError(
            f"{path} holds a sparse matrix, whose columns can only be numbers; leave "
            "out --categorical and --index."
        )
    texts = {i: [_as_text(value) for value in X[:, i].tolist()] for i in others}
    index = None
    if roles.index is not None:
        index = str(roles.index + 1), [text or "" for text in texts[roles.index]]
    categories = {str(i + 1): texts[i] for i in roles.categories}
    return Table(X[:, roles.numbers], None, categories, index)


def _as_text(value: Any) -> str | None:
    """Return a value of a column of categories or names, None if it is missing."""
    if value is None or value != value:
        return None
    is_integer = isinstance(value, float) and value.is_integer()
    return str(int(value)) if is_integer else str(value)


def check_source(path: str) -> None:
    """Check that a path is a regular file.

    Opening a named pipe can block for ever, and a device may have no end.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is a folder, a pipe, a socket or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a regular file.")


def _check_array(path: str, shape: Sequence[int], dtype: np.dtype) -> None:
    """Check that an array, from its shape and dtype, is a table of numbers."""
    if dtype.kind not in "biuf":
        raise ValueError(
            f"{path} is not a numeric array: it has dtype {dtype}. "
            f"{remedies(kinds_of_dtype(dtype))}".rstrip()
        )
    if len(shape) != 2:
        raise ValueError(
            f"{path} holds an array of shape {shape}, which should be (n_samples, "
            "n_features); flatten images first: X.reshape(len(X), -1)."
        )
    if min(shape) < 1:
        raise ValueError(
            f"{path} holds an array of shape {shape}, which should have at least one "
            "row and one column."
        )


def _check_expansion(path: str, n_bytes: int) -> None:
    """Check that a table is not much larger than its file."""
    file_size = os.path.getsize(path)
    if n_bytes > max(_MAX_UNCHECKED_SIZE, _MAX_EXPANSION * file_size):
        raise ValueError(
            f"{path} has {file_size} bytes, but the table in it {n_bytes}, more than "
            f"{_MAX_EXPANSION} times as many. Save the table as .npy."
        )


@contextlib.contextmanager
def _name_file_in_errors(path: str, kind: str) -> Iterator[None]:
    """Convert every error in reading a file to a ValueError that names the file.

    Libraries raise almost any error for damaged files: zlib and zipfile have their own
    exceptions, numpy passes headers to Python's parser, pyarrow and pandas raise
    KeyError and others, and none documents all. numpy warns of headers that it repairs.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not {kind}: {reason}") from error


def _read_npy(path: str) -> np.ndarray:
    kind = "a numeric array"
    with open(path, "rb") as file, _name_file_in_errors(path, kind):
        shape, dtype, n_bytes = _read_header(file)
    _check_array(path, shape, dtype)
    _check_length(path, os.path.getsize(path), n_bytes, shape)
    with _name_file_in_errors(path, kind):
        X: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return X


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    """Read shape and dtype of an array, and its size in bytes with the header."""
    # numpy would read a header of any length from the file itself.
    start = io.BytesIO(file.read(_MAX_HEADER_SIZE))
    version = np.lib.format.read_magic(start)
    if version not in [(1, 0), (2, 0), (3, 0)]:
        raise ValueError(f"version {version} of the .npy format is not supported")
    # Version 3 differs from 2 only in the encoding of names of fields.
    is_first = version == (1, 0)
    read = "read_array_header_1_0" if is_first else "read_array_header_2_0"
    shape, _, dtype = getattr(np.lib.format, read)(start)
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return shape, dtype, start.tell() + math.prod(shape) * dtype.itemsize


def _check_length(
    name: str, n_bytes: int, n_expected: int, shape: tuple[int, ...]
) -> None:
    if n_bytes < n_expected:
        raise ValueError(
            f"{name} has {n_bytes} bytes, but should have {n_expected} for an array of "
            f"shape {shape}; it may be truncated."
        )


class _BoundedReader(io.BufferedReader):
    """Reader that bounds the central directory, which zipfile reads at once."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_SIZE:
            raise ValueError(f"its directory has {size} bytes")
        return super().read(size)


def _read_npz(path: str, key: str | None) -> _Matrix:
    with _BoundedReader(open(path, "rb", buffering=0)) as file:
        with _name_file_in_errors(path, _ARCHIVE):
            archive = zipfile.ZipFile(file)
        names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
        if key is None and is_sparse_archive(names):
            return matrix_of(
                path,
                lambda name: _read_member(
                    path, archive, _find_member(path, archive, name)
                ),
            )
        member = _find_member(path, archive, key)
        return _read_member(path, archive, member, _check_array)


def _read_member(
    path: str,
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    check: Callable[[str, Sequence[int], np.dtype], None] | None = None,
) -> np.ndarray:
    """Read an array of an archive, after a check of its header."""
    with _name_file_in_errors(path, _ARCHIVE), archive.open(member) as data:
        shape, dtype, n_bytes = _read_header(data)
    if check is not None:
        check(path, shape, dtype)
    name = f"{path}, its member {member.filename!r},"
    _check_length(name, member.file_size, n_bytes, shape)
    _check_expansion(path, n_bytes)
    with _name_file_in_errors(path, _ARCHIVE), archive.open(member) as data:
        X: np.ndarray = np.lib.format.read_array(data, allow_pickle=False)
        return X


def _find_member(
    path: str, archive: zipfile.ZipFile, key: str | None
) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if key is None and len(members) == 1:
        (key,) = members
    if not members:
        raise ValueError(f"{path} holds no arrays.")
    if key is None or key not in members:
        problem = "several arrays" if key is None else f"no array {key!r}"
        names = ", ".join(members)
        raise ValueError(f"{path} holds {problem}; choose one with --key: {names}.")
    member = members[key]
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(
            f"{path} has a member {member.filename!r} with compression method "
            f"{member.compress_type}, which should be 0 (stored) or 8 (deflated), as "
            "written by numpy."
        )
    return member


def _read_parquet(path: str, columns: Columns) -> Table:
    try:
        import pandas as pd
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path} needs pandas and pyarrow: pip install skmixmate[parquet]."
        ) from error

    kind = "a Parquet table"
    with open(path, "rb") as source, _name_file_in_errors(path, kind):
        file = pq.ParquetFile(source)
        n_rows, n_groups = file.metadata.num_rows, file.metadata.num_row_groups
        groups = [file.metadata.row_group(i) for i in range(n_groups)]
        n_bytes = sum(group.total_byte_size for group in groups)
        empty = file.schema_arrow.empty_table().to_pandas()
    names = [str(name) for name in empty.columns]
    roles = columns.find(path, names, len(names))
    _check_dtypes(path, empty.iloc[:, roles.numbers])
    _check_expansion(path, max(n_bytes, 8 * n_rows * len(names)))
    with _name_file_in_errors(path, kind):
        frame = pd.read_parquet(path)
    numbers = frame.iloc[:, roles.numbers]
    _check_dtypes(path, numbers)
    is_single = bool(roles.numbers) and (numbers.dtypes == np.float32).all()
    with _name_file_in_errors(path, kind):
        X: np.ndarray = numbers.to_numpy(
            dtype=np.float32 if is_single else np.float64, na_value=np.nan
        )

    def texts(position: int) -> list[str | None]:
        column = frame.iloc[:, position].astype(object)
        return [_as_text(value) for value in column.where(column.notna(), None)]

    categories = {names[i]: texts(i) for i in roles.categories}
    index = None
    if roles.index is not None:
        index = names[roles.index], [text or "" for text in texts(roles.index)]
    return Table(X, [names[i] for i in roles.numbers], categories, index)


def _check_dtypes(path: str, frame: Any) -> None:
    """Check that the columns of a DataFrame are numbers."""
    for name, dtype in frame.dtypes.items():
        if dtype.kind not in "biuf":
            dates = kinds_of_dtype(dtype) == {DATES}
            use = (
                "numbers in place of dates, such as days"
                if dates
                else ("--categorical NAME for categories")
            )
            raise ValueError(
                f"{path} has a column that is not numeric: {name}, of dtype {dtype}. "
                f"Use {use}, --index NAME for names of rows, --drop NAME to leave a "
                "column out."
            )


# Arrays without names of columns.
_READERS: dict[str, Callable[..., _Matrix]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mtx": read_matrix_market,
}
