"""Tables of numbers in files: what the command line reads and writes."""

import csv
import itertools
import math
import os
import zipfile
from array import array

import numpy as np

from ._files import check_destination, written_whole


def read_table(path, key=None):
    """Read the rows of a data set.

    Parameters
    ----------
    path : str
        A file whose name ends in .npy, which is mapped into memory, .npz, .csv or
        .parquet.
    key : str or None
        Which array of an .npz file to take; needed where there are several.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Of numbers; what is empty in a .csv or .parquet file is NaN.

    Raises
    ------
    ValueError
        If the file is of another kind or holds no table of numbers.
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
    X = _read_npz(path, key) if suffix == ".npz" else _READERS[suffix](path)
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{path} is not numeric, but of dtype {X.dtype}.")
    if X.ndim != 2:
        raise ValueError(
            f"{path} holds an array of shape {X.shape}; should be (n_samples, "
            "n_features), images too, with their pixels in a row."
        )
    return X


def _read_npy(path):
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path} is no array of numbers: {error}") from error


def _read_npz(path, key):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            if key is None and len(names) == 1:
                (key,) = names
            if key in names:
                return arrays[key]
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no archive of arrays: {error}") from error
    raise ValueError(f"{path} holds the arrays {names}; key={key!r} should be one.")


def _read_csv(path):
    """Read what has a header, of names alone, or none."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _table_of(csv.reader(file, skipinitialspace=True, strict=True), path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no .csv file: {error}") from error


def _table_of(lines, path):
    first = next(lines, [])
    has_header = any(first) and not any(_is_number(field) for field in first)
    names = first if has_header else [str(i) for i in range(1, len(first) + 1)]
    # float is quicker here than loadtxt with a converter for fields that are empty.
    numbers = array("d")
    for fields in lines if has_header else itertools.chain([first], lines):
        if fields and len(fields) != len(names):
            raise ValueError(
                f"{path} has {len(fields)} fields in line {lines.line_num}, and "
                f"{len(names)} in the first."
            )
        try:
            numbers.extend([float(field) if field else math.nan for field in fields])
        except ValueError:
            column = [_is_number(field) or not field for field in fields].index(False)
            raise ValueError(
                f"{path} has a column that is not numeric: {names[column]}, with "
                f"{fields[column]!r} in line {lines.line_num}."
            ) from None
    return np.frombuffer(numbers).reshape(-1, max(len(names), 1))


def _is_number(field):
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_parquet(path):
    try:
        import pandas as pd

        frame = pd.read_parquet(path)
    except ImportError as error:
        raise ImportError(
            f"{path} needs pandas and pyarrow: pip install skmixmate[parquet]."
        ) from error
    for name, dtype in frame.dtypes.items():
        if not pd.api.types.is_numeric_dtype(dtype):
            raise ValueError(
                f"{path} has a column that is not numeric: {name}, of dtype {dtype}."
            )
    dtype = np.float32 if (frame.dtypes == np.float32).all() else np.float64
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
    check_destination(path)


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
    with written_whole(path) as file:
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
