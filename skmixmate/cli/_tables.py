"""Reading and writing of tables of numbers, for the command line."""

import contextlib
import csv
import io
import itertools
import math
import os
import stat
import warnings
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, TypeAlias

import numpy as np
from scipy import sparse

from ..data.columns import kind_of_text, kinds_of_dtype, remedies
from ._sparse_tables import is_sparse_archive, matrix_of, read_matrix_market

# A table of more bytes than the first number is read only if it is at most the second
# times as large as its file: a small file could exhaust the memory.
_MAX_UNCHECKED_SIZE, _MAX_EXPANSION = 2**27, 200

# Largest size of the header of an array in bytes; numpy accepts up to 10,000.
_MAX_HEADER_SIZE = 2**14

# Largest size of the central directory of an archive in bytes, and of a record of a
# .csv file in characters.
_MAX_DIRECTORY_SIZE, _MAX_RECORD_SIZE = 2**21, 2**22

# Characters of a .csv file that are read at a time.
_CHUNK_SIZE = 2**18

# What an .npz file should be, for error messages.
_ARCHIVE = "an archive of arrays"

# Compression methods that numpy writes. Other methods cannot be read in chunks.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# Dense or sparse rows.
Table: TypeAlias = np.ndarray | sparse.csr_array

# Record of a .csv file, see _records.
_Record = tuple[int, bool, list[str]]


def read_table(path: str, key: str | None = None, header: str = "auto") -> Table:
    """Read the rows of a data set.

    Parameters
    ----------
    path : str
        A regular file whose name ends in .npy, which is mapped into memory, .npz, .csv,
        .parquet, or .mtx for a sparse matrix. An .npz file may also hold a sparse
        matrix that :func:`scipy.sparse.save_npz` wrote.
    key : str or None
        Name of the array in an .npz file, needed if there are several.
    header : {"auto", "yes", "no"}, default="auto"
        Whether the first line of a .csv file has the names of the columns; "auto" is
        "yes" if no field in it is a number.

    Returns
    -------
    X : ndarray or CSR array of shape (n_samples, n_features)
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
    if suffix not in _READERS:
        raise ValueError(f"{path} should end in one of {', '.join(_READERS)}.")
    if key is not None and suffix != ".npz":
        raise ValueError(f"--key {key} is for .npz files only, not for {path}.")
    if header != "auto" and suffix != ".csv":
        raise ValueError(f"--header {header} is for .csv files only, not for {path}.")
    check_source(path)
    options: dict[str, dict[str, Any]] = {
        ".npz": {"key": key},
        ".csv": {"header": header},
    }
    X = _READERS[suffix](path, **options.get(suffix, {}))
    _check_array(path, X.shape, X.dtype)
    return X


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


def _read_npz(path: str, key: str | None) -> Table:
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


def _read_csv(path: str, header: str) -> np.ndarray:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return _parse_records(_records(path, file), path, header)


def _records(path: str, file: IO[str]) -> Iterator[_Record]:
    """Yield the records of a .csv file, without blank lines.

    Yields
    ------
    line_number : int
        Number of the last line of the record.
    is_plain : bool
        Whether `_is_plain` is known to hold for the whole record.
    fields : list of str
    """
    n_remaining = _MAX_RECORD_SIZE
    is_plain = is_chunk_plain = True

    def chunks() -> Iterator[list[str]]:
        nonlocal n_remaining, is_plain, is_chunk_plain
        rest = ""
        while text := file.read(_CHUNK_SIZE):
            n_remaining -= len(text)
            if n_remaining < 0:
                raise csv.Error(
                    f"line {reader.line_num + 1} has more than {_MAX_RECORD_SIZE} "
                    "characters; save tables with longer rows as .npy"
                )
            is_chunk_plain = _is_plain(rest + text)
            is_plain = is_plain and is_chunk_plain
            *lines, rest = io.StringIO(rest + text, newline="")
            yield lines
        yield [rest]

    lines = itertools.chain.from_iterable(chunks())
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            n_remaining = _MAX_RECORD_SIZE
            if fields:
                yield reader.line_num, is_plain, fields
            is_plain = is_chunk_plain
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a .csv file: {error}") from error


def _parse_records(records: Iterator[_Record], path: str, header: str) -> np.ndarray:
    """Return the table of the records of a .csv file."""
    line_number, is_plain, first = next(records, (0, True, []))
    has_header = header == "yes" or (
        header == "auto" and any(first) and not any(map(_is_number, first))
    )
    if not has_header:
        records = itertools.chain([(line_number, is_plain, first)], records)
    # float is faster here than loadtxt with a converter for empty fields.
    numbers = array("d")
    for line_number, is_plain, fields in records:
        if len(fields) != len(first):
            raise ValueError(
                f"{path} has {len(fields)} fields in line {line_number}, but "
                f"{len(first)} in the first."
            )
        try:
            if not (is_plain or _is_plain("".join(fields))):
                raise ValueError
            numbers.extend([float(field) if field else math.nan for field in fields])
        except ValueError:
            column = [_is_number(field) or not field for field in fields].index(False)
            name = first[column] if has_header else column + 1
            has_numbers = not all(map(math.isnan, numbers[column :: len(first)]))
            kind = kind_of_text(fields[column], has_numbers)
            raise ValueError(
                f"{path} has a column that is not numeric: {name}, with "
                f"{fields[column]!r} in line {line_number}. {remedies({kind})}"
            ) from None
    X = np.empty(0) if not numbers else np.frombuffer(numbers)
    return X.reshape(-1, max(len(first), 1))


def _is_plain(text: str) -> bool:
    """Return whether float reads a text as numpy and pandas do.

    float also accepts underscores and the digits of all scripts.
    """
    return text.isascii() and "_" not in text


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return _is_plain(field)


def has_numeric_header(path: str) -> bool:
    """Return whether the first line of a .csv file may be a header of numbers.

    Parameters
    ----------
    path : str

    Returns
    -------
    has_numeric_header : bool
        Whether the fields are consecutive integers, such as 0,1,2, which pandas writes
        for columns without names, or increasing years.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        *_, fields = next(_records(path, file), [[]])
    if not all(f.isascii() and f.isdecimal() and len(f) < 10 for f in fields):
        return False
    numbers = [int(field) for field in fields]
    if len(numbers) < 2:
        return numbers == [0]
    steps = np.diff(numbers)
    are_years = numbers[0] >= 1800 and numbers[-1] < 2200
    return bool((steps > 0).all() and (are_years or (steps == 1).all()))


def _read_parquet(path: str) -> np.ndarray:
    try:
        import pandas as pd
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path} needs pandas and pyarrow: pip install skmixmate[parquet]."
        ) from error

    def check_columns(frame: Any) -> None:
        for name, dtype in frame.dtypes.items():
            if not pd.api.types.is_numeric_dtype(dtype):
                raise ValueError(
                    f"{path} has a column that is not numeric: {name}, of dtype "
                    f"{dtype}. {remedies(kinds_of_dtype(dtype))}"
                )

    kind = "a Parquet table"
    with open(path, "rb") as source, _name_file_in_errors(path, kind):
        file = pq.ParquetFile(source)
        n_rows, n_groups = file.metadata.num_rows, file.metadata.num_row_groups
        groups = [file.metadata.row_group(i) for i in range(n_groups)]
        n_bytes = sum(group.total_byte_size for group in groups)
        columns = file.schema_arrow.empty_table().to_pandas()
    check_columns(columns)
    _check_expansion(path, max(n_bytes, 8 * n_rows * len(columns.columns)))
    with _name_file_in_errors(path, kind):
        frame = pd.read_parquet(path)
    check_columns(frame)
    dtype = np.float32 if (frame.dtypes == np.float32).all() else np.float64
    with _name_file_in_errors(path, kind):
        X: np.ndarray = frame.to_numpy(dtype=dtype, na_value=np.nan)
        return X


_READERS: dict[str, Callable[..., Table]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".mtx": read_matrix_market,
}
