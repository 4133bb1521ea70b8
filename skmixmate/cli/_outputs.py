"""Files that the command line writes: checks, and tables."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from ..files.atomic import atomic_write, check_writable


def check_table_destination(path: str) -> None:
    """Check that a table can be written, before it is computed.

    Parameters
    ----------
    path : str

    Raises
    ------
    ValueError
        If the name ends in neither .npy nor .csv.
    OSError
        If the file cannot be written.
    """
    if os.path.splitext(path)[1] not in (".npy", ".csv"):
        raise ValueError(f"{path} should end in .npy or .csv.")
    check_writable(path)


def check_distinct(destinations: Mapping[str, str], sources: Mapping[str, str]) -> None:
    """Check that no file overwrites another one that is read or written.

    Parameters
    ----------
    destinations, sources : mapping of str to str
        Paths of files to write and to read, by their names in messages.

    Raises
    ------
    ValueError
        If a destination is the same file as a source or another destination, also
        through a link or another spelling of the path.
    """
    names = {_file_id(path): name for name, path in sources.items()}
    for name, path in destinations.items():
        other = names.setdefault(_file_id(path), name)
        if other != name:
            raise ValueError(
                f"{path} is used for {name} and for {other}; choose a different file "
                "for each."
            )


def _file_id(path: str) -> str | tuple[int, int]:
    """Return a value that is equal for two paths of the same file."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.normcase(os.path.realpath(path))
    return status.st_dev, status.st_ino


def write_table(path: str, values: np.ndarray, header: Sequence[str]) -> None:
    """Write an array atomically.

    Parameters
    ----------
    path : str
        Ends in .npy or .csv.
    values : ndarray of shape (n_samples,) or (n_samples, n_columns)
    header : sequence of str
        Names of the columns, for .csv.
    """
    with atomic_write(path) as file:
        if path.endswith(".npy"):
            np.save(file, values)
        else:
            is_integer = values.dtype.kind == "i"
            np.savetxt(
                file,
                values,
                fmt="%d" if is_integer else "%.9g",
                delimiter=",",
                header=",".join(header),
                comments="",
            )
