"""Files that the command line writes: checks, and tables."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..estimators._mixmate import MixMateClustering
from ..files.atomic import atomic_write, check_writable
from ..plotting import MapDisplay
from ..plotting._common import require_pyplot
from ._columns import Table

# Suffixes of reports and pictures.
_REPORTS, _PICTURES = (".html",), (".png", ".svg", ".pdf")


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


def check_result_destinations(
    report: str | None, picture: str | None
) -> dict[str, str]:
    """Check that a report and a picture can be written, before they are computed.

    Parameters
    ----------
    report, picture : str or None
        Paths; None if there is to be none.

    Returns
    -------
    destinations : dict of str to str
        Those that are not None, by the names of their options.

    Raises
    ------
    ValueError
        If a name has another suffix.
    ImportError
        If matplotlib is missing, for a picture.
    OSError
        If a file cannot be written.
    """
    destinations = {}
    for option, path, suffixes in (
        ("--report", report, _REPORTS),
        ("--picture", picture, _PICTURES),
    ):
        if path is not None:
            if os.path.splitext(path)[1] not in suffixes:
                raise ValueError(f"{path} should end in {' or '.join(suffixes)}.")
            check_writable(path)
            destinations[option] = path
    if picture is not None:
        require_pyplot("--picture")
    return destinations


def write_results(
    mixmate: MixMateClustering,
    X: Any,
    table: Table,
    report: str | None,
    picture: str | None,
) -> None:
    """Write a report and a map of the clusters.

    Parameters
    ----------
    mixmate : MixMateClustering
        Fitted.
    X : ndarray or CSR array of shape (n_samples, n_features)
    table : Table
        As it was read; the report shows its columns.
    report, picture : str or None
        Paths; None if there is to be none.
    """
    if report is not None:
        mixmate.report(X, report, records=_records(table))
    if picture is not None:
        figure: Any = MapDisplay.from_estimator(mixmate, X).figure_
        with atomic_write(picture) as file:
            figure.savefig(file, format=os.path.splitext(picture)[1][1:])


def _records(table: Table) -> dict[str, Any] | None:
    """Return the columns of a table that a report shows, None for its features."""
    index = {} if table.index is None else {table.index[0]: table.index[1]}
    if table.names is None:
        return {**index, **table.categories} or None
    numbers = dict(zip(table.names, table.numbers.T, strict=True))
    return {**index, **numbers, **table.categories}


def write_table(
    path: str,
    values: np.ndarray,
    header: Sequence[str],
    index: tuple[str, Sequence[str]] | None = None,
) -> None:
    """Write an array atomically.

    Parameters
    ----------
    path : str
        Ends in .npy or .csv.
    values : ndarray of shape (n_samples,) or (n_samples, n_columns)
    header : sequence of str
        Names of the columns, for .csv.
    index : tuple of str and sequence of str, or None
        The name of the column that names the rows, and the names, for .csv.
    """
    with atomic_write(path) as file:
        if path.endswith(".npy"):
            np.save(file, values)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        names = [] if index is None else [[name] for name in index[1]]
        writer.writerow([*([] if index is None else [index[0]]), *header])
        pattern = "%d" if values.dtype.kind == "i" else "%.9g"
        for i, row in enumerate(np.atleast_2d(values.T).T.tolist()):
            cells = [pattern % value for value in row]
            writer.writerow([*names[i], *cells] if names else cells)
        text.detach()
