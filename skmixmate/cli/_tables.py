"""Tables of numbers in files: what the command line reads and writes."""

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

import numpy as np

from ..files.atomic import atomic_write, check_writable

# A table of more bytes than this is not read from a file that it is so many times as
# large as: a small file could take all memory.
_UNPACKED, _MAX_EXPANSION = 2**27, 200

# Bytes in which an array's header has to end; numpy takes headers of up to 10,000.
_HEADER = 2**14

# Bytes of the list of members of an archive, and characters of a record of a .csv file.
_LONGEST_LIST, _LONGEST_RECORD = 2**21, 2**22

# Characters of a .csv file that are read at a time.
_BATCH = 2**18

# Compressions of members that numpy writes. Those of the others can't be read in parts.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_table(path, key=None, header="auto"):
    """Read the rows of a data set.

    Parameters
    ----------
    path : str
        A regular file whose name ends in .npy, which is mapped into memory, .npz, .csv
        or .parquet.
    key : str or None
        Which array of an .npz file to take; needed where there are several.
    header : {"auto", "yes", "no"}, default="auto"
        Whether the first line of a .csv file has the names of the columns; "auto" is
        "yes" if nothing in it is a number.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Of numbers; what is empty in a .csv or .parquet file is NaN.

    Raises
    ------
    ValueError
        If the file is of another kind, damaged, or holds no table of numbers; if it is
        small and the table in it large.
    OSError
        If it cannot be read.
    ImportError
        If pandas or pyarrow is missing, for .parquet.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in _READERS:
        raise ValueError(f"{path} should end in one of {', '.join(_READERS)}.")
    if key is not None and suffix != ".npz":
        raise ValueError(f"key={key!r} is for .npz files, and not for {path}.")
    if header != "auto" and suffix != ".csv":
        raise ValueError(f"header={header!r} is for .csv files, and not for {path}.")
    check_source(path)
    options = {".npz": {"key": key}, ".csv": {"header": header}}
    X = _READERS[suffix](path, **options.get(suffix, {}))
    _check_array(path, X.shape, X.dtype)
    return X


def check_source(path):
    """Check that a path leads to a regular file.

    Opening a named pipe can wait for ever, and a device may have no end.

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
        raise ValueError(f"{path} is not a regular file; should be one.")


def _check_array(path, shape, dtype):
    """Check that an array is a table of numbers; it need not have been read."""
    if dtype.kind not in "biuf":
        raise ValueError(f"{path} is not numeric, but of dtype {dtype}.")
    if len(shape) != 2:
        raise ValueError(
            f"{path} holds an array of shape {shape}; should be (n_samples, "
            "n_features), images too, with their pixels in a row."
        )
    if min(shape) < 1:
        raise ValueError(
            f"{path} holds an array of shape {shape}; should have a row and a column "
            "at least."
        )


def _check_expansion(path, n_bytes):
    """Check that a table is not much larger than the file that it is in."""
    n_packed = os.path.getsize(path)
    if n_bytes > max(_UNPACKED, _MAX_EXPANSION * n_packed):
        raise ValueError(
            f"{path} has {n_packed} bytes, but the table in it {n_bytes}: more than "
            f"{_MAX_EXPANSION} times as many are not unpacked. Save the table as .npy."
        )


@contextlib.contextmanager
def _errors_named(path, kind):
    """Make every error in reading a file a ValueError that names it.

    Damaged files make libraries raise almost anything: zlib and zipfile have their own
    exceptions, numpy hands headers to Python's parser, pyarrow and pandas add KeyError
    and others, and none documents all. Warnings are of headers that numpy repairs.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is no {kind}: {reason}") from error


def _read_npy(path):
    kind = "array of numbers"
    with open(path, "rb") as file, _errors_named(path, kind):
        shape, dtype, n_bytes = _read_header(file)
    _check_array(path, shape, dtype)
    _check_length(path, os.path.getsize(path), n_bytes, shape)
    with _errors_named(path, kind):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_header(file):
    """Read shape and dtype of an array, and how many bytes it has with its header."""
    # Not from the file itself: a header that is said to be long would be read whole.
    start = io.BytesIO(file.read(_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in [(1, 0), (2, 0), (3, 0)]:
        raise ValueError(f"version {version} of the .npy format is not known")
    # Version 3 differs from 2 only in how it writes letters that no number needs.
    is_first = version == (1, 0)
    read = "read_array_header_1_0" if is_first else "read_array_header_2_0"
    shape, _, dtype = getattr(np.lib.format, read)(start)
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return shape, dtype, start.tell() + math.prod(shape) * dtype.itemsize


def _check_length(name, n_bytes, n_expected, shape):
    if n_bytes < n_expected:
        raise ValueError(
            f"{name} has {n_bytes} bytes, but should have {n_expected} for an array of "
            f"shape {shape}; it may have been cut short."
        )


class _ShortReads(io.BufferedReader):
    """An archive, of which zipfile reads the list of members at once."""

    def read(self, size=-1):
        if size is not None and size > _LONGEST_LIST:
            raise ValueError(f"its list of members has {size} bytes")
        return super().read(size)


def _read_npz(path, key):
    kind = "archive of arrays"
    with _ShortReads(open(path, "rb", buffering=0)) as file:
        with _errors_named(path, kind):
            archive = zipfile.ZipFile(file)
        member = _find_member(path, archive, key)
        with _errors_named(path, kind), archive.open(member) as data:
            shape, dtype, n_bytes = _read_header(data)
        _check_array(path, shape, dtype)
        name = f"{path}, its member {member.filename!r},"
        _check_length(name, member.file_size, n_bytes, shape)
        _check_expansion(path, n_bytes)
        with _errors_named(path, kind), archive.open(member) as data:
            return np.lib.format.read_array(data, allow_pickle=False)


def _find_member(path, archive, key):
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if key is None and len(members) == 1:
        (key,) = members
    if key not in members:
        raise ValueError(
            f"{path} holds the arrays {[*members]}; key={key!r} should be one."
        )
    member = members[key]
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(
            f"{path} has a member {member.filename!r} of compression method "
            f"{member.compress_type}; should be 0 (stored) or 8 (deflated), as numpy "
            "writes it."
        )
    return member


def _read_csv(path, header):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return _table_of(_records(path, file), path, header)


def _records(path, file):
    """Go through the records of a .csv file, blank lines left out.

    Yields
    ------
    n_lines : int
        Lines that were read, up to the last of the record.
    is_plain : bool
        Whether `_torch_readable` holds for all of the record; False also says unknown.
    fields : list of str
    """
    n_left = _LONGEST_RECORD
    is_plain = is_batch_plain = True

    def batches():
        nonlocal n_left, is_plain, is_batch_plain
        rest = ""
        while text := file.read(_BATCH):
            n_left -= len(text)
            if n_left < 0:
                raise csv.Error(
                    f"line {reader.line_num + 1} goes on for more than "
                    f"{_LONGEST_RECORD} characters; .npy has longer rows"
                )
            is_batch_plain = _torch_readable(rest + text)
            is_plain = is_plain and is_batch_plain
            *lines, rest = io.StringIO(rest + text, newline="")
            yield lines
        yield [rest]

    lines = itertools.chain.from_iterable(batches())
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            n_left = _LONGEST_RECORD
            if fields:
                yield reader.line_num, is_plain, fields
            is_plain = is_batch_plain
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no .csv file: {error}") from error


def _table_of(records, path, header):
    n_lines, is_plain, first = next(records, (0, True, []))
    has_header = header == "yes" or (
        header == "auto" and any(first) and not any(map(_is_number, first))
    )
    if not has_header:
        records = itertools.chain([(n_lines, is_plain, first)], records)
    # float is quicker here than loadtxt with a converter for fields that are empty.
    numbers = array("d")
    for n_lines, is_plain, fields in records:
        if len(fields) != len(first):
            raise ValueError(
                f"{path} has {len(fields)} fields in line {n_lines}, and "
                f"{len(first)} in the first."
            )
        try:
            if not (is_plain or _torch_readable("".join(fields))):
                raise ValueError
            numbers.extend([float(field) if field else math.nan for field in fields])
        except ValueError:
            column = [_is_number(field) or not field for field in fields].index(False)
            name = first[column] if has_header else column + 1
            raise ValueError(
                f"{path} has a column that is not numeric: {name}, with "
                f"{fields[column]!r} in line {n_lines}."
            ) from None
    X = np.empty(0) if not numbers else np.frombuffer(numbers)
    return X.reshape(-1, max(len(first), 1))


def _torch_readable(text):
    """Tell whether float reads as numbers only what numpy and pandas do.

    It takes underscores and the digits of all alphabets as well.
    """
    return text.isascii() and "_" not in text


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return _torch_readable(field)


def has_numbers_for_names(path):
    """Tell whether the first line of a .csv file is numbers that may be names.

    Parameters
    ----------
    path : str

    Returns
    -------
    has_numbers_for_names : bool
        Whether it is of whole numbers that rise by one, such as 0,1,2, which pandas
        writes where columns have no names, or of years that rise.
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


def _read_parquet(path):
    try:
        import pandas as pd
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path} needs pandas and pyarrow: pip install skmixmate[parquet]."
        ) from error

    def check_columns(frame):
        for name, dtype in frame.dtypes.items():
            if not pd.api.types.is_numeric_dtype(dtype):
                raise ValueError(
                    f"{path} has a column that is not numeric: {name}, of dtype "
                    f"{dtype}."
                )

    kind = "Parquet table"
    with open(path, "rb") as opened, _errors_named(path, kind):
        file = pq.ParquetFile(opened)
        n_rows, n_groups = file.metadata.num_rows, file.metadata.num_row_groups
        groups = [file.metadata.row_group(i) for i in range(n_groups)]
        n_bytes = sum(group.total_byte_size for group in groups)
        columns = file.schema_arrow.empty_table().to_pandas()
    check_columns(columns)
    _check_expansion(path, max(n_bytes, 8 * n_rows * len(columns.columns)))
    with _errors_named(path, kind):
        frame = pd.read_parquet(path)
    check_columns(frame)
    dtype = np.float32 if (frame.dtypes == np.float32).all() else np.float64
    with _errors_named(path, kind):
        return frame.to_numpy(dtype=dtype, na_value=np.nan)


_READERS = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def check_table_destination(path):
    """Check that `write_table` can write a file, before the work for it is done.

    Parameters
    ----------
    path : str

    Raises
    ------
    ValueError
        If the name ends in neither .npy nor .csv.
    OSError
        If there cannot be such a file.
    """
    if os.path.splitext(path)[1] not in (".npy", ".csv"):
        raise ValueError(f"{path} should end in .npy or .csv.")
    check_writable(path)


def check_separate(destinations, sources):
    """Check that no file is written over another that is read or written.

    Parameters
    ----------
    destinations, sources : dict of str
        Paths of files to write and to read, with how the user calls each.

    Raises
    ------
    ValueError
        If a destination is the same file as a source or as another destination, also
        by a link or another spelling.
    """
    known = {_identity(path): name for name, path in sources.items()}
    for name, path in destinations.items():
        other = known.setdefault(_identity(path), name)
        if other != name:
            raise ValueError(
                f"{path} is the file of {name} and also of {other}; each should have a "
                "different one."
            )


def _identity(path):
    try:
        found = os.stat(path)
    except OSError:
        return os.path.normcase(os.path.realpath(path))
    return found.st_dev, found.st_ino


def write_table(path, values, header):
    """Write an array, whole or not at all.

    Parameters
    ----------
    path : str
        Ends in .npy or .csv.
    values : ndarray of shape (n_samples,) or (n_samples, n_columns)
    header : list of str
        Names of the columns, for .csv.
    """
    with atomic_write(path) as file:
        if path.endswith(".npy"):
            np.save(file, values)
        else:
            is_whole = values.dtype.kind == "i"
            np.savetxt(
                file,
                values,
                fmt="%d" if is_whole else "%.9g",
                delimiter=",",
                header=",".join(header),
                comments="",
            )
