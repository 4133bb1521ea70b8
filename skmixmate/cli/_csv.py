"""Reading of tables of text: .csv and .tsv files."""

import csv
import io
import itertools
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import IO, Any, TypeAlias

import numpy as np

from ..data.columns import DATES, kind_of_text
from ._columns import Columns, Roles, Table, label_of

# Largest size of a record in characters.
_MAX_RECORD_SIZE = 2**22

# Characters that are read at a time.
_CHUNK_SIZE = 2**18

# Delimiters of fields; files with one column have none, and get the first.
_DELIMITERS = ",;\t"

# A number with a decimal comma, as in files whose delimiter is a semicolon.
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")

# Columns that a message names.
_MAX_NAMED = 5

# Line number, whether `_is_plain` is known to hold for the whole record, and fields.
_Record: TypeAlias = tuple[int, bool, list[str]]


def read_csv(path: str, columns: Columns, header: str) -> Table:
    """Read a table of text.

    Parameters
    ----------
    path : str
        A regular file in UTF-8.
    columns : Columns
    header : {"auto", "yes", "no"}
        Whether the first line has the names of the columns; "auto" is "yes" if no field
        in it is a number.

    Returns
    -------
    table : Table

    Raises
    ------
    ValueError
        If the file is damaged, or a column for numbers holds other text.
    OSError
        If it cannot be read.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        records = _Records(path, file)
        line_number, is_plain, first = next(iter(records), (0, True, []))
        has_header = header == "yes" or (
            header == "auto" and any(first) and not any(map(_is_number, first))
        )
        names = [name.strip() for name in first] if has_header else None
        rest: Iterator[_Record] = iter(records)
        if not has_header:
            rest = itertools.chain([(line_number, is_plain, first)], rest)
        roles = columns.find(path, names, len(first))
        has_decimal_commas = records.delimiter == ";"
        reader = _Reader(
            path, names, len(first), roles, columns.missing, has_decimal_commas
        )
        return reader.read(rest)


def has_numeric_header(path: str) -> bool:
    """Return whether the first line of a file may be a header of numbers.

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
        *_, fields = next(iter(_Records(path, file)), [[]])
    if not all(f.isascii() and f.isdecimal() and len(f) < 10 for f in fields):
        return False
    numbers = [int(field) for field in fields]
    if len(numbers) < 2:
        return numbers == [0]
    steps = np.diff(numbers)
    are_years = numbers[0] >= 1800 and numbers[-1] < 2200
    return bool((steps > 0).all() and (are_years or (steps == 1).all()))


class _Records:
    """The records of a file, without blank lines.

    Parameters
    ----------
    path : str
        For messages; its suffix .tsv means tabs.
    file : text file

    Attributes
    ----------
    delimiter : str
        The one of ``_DELIMITERS`` that occurs most often in the first line.
    """

    def __init__(self, path: str, file: IO[str]) -> None:
        self.path, self.file = path, file
        self._read_first_chunk()
        self._records = self._iterate()

    def __iter__(self) -> Iterator[_Record]:
        return self._records

    def _read_first_chunk(self) -> None:
        try:
            self._first = self.file.read(_CHUNK_SIZE)
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(error) from error
        line = next((line for line in self._first.splitlines() if line), "")
        line = re.sub(r'"[^"]*"', "", line)
        self.delimiter = max(_DELIMITERS, key=line.count)
        if self.path.endswith(".tsv"):
            self.delimiter = "\t"

    def _iterate(self) -> Iterator[_Record]:
        n_remaining = _MAX_RECORD_SIZE
        is_plain = is_chunk_plain = True

        def chunks() -> Iterator[list[str]]:
            nonlocal n_remaining, is_plain, is_chunk_plain
            rest, text = "", self._first
            while text:
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
                text = self.file.read(_CHUNK_SIZE)
            yield [rest]

        lines = itertools.chain.from_iterable(chunks())
        reader = csv.reader(
            lines, delimiter=self.delimiter, skipinitialspace=True, strict=True
        )
        try:
            for fields in reader:
                n_remaining = _MAX_RECORD_SIZE
                if fields:
                    yield reader.line_num, is_plain, fields
                is_plain = is_chunk_plain
        except (csv.Error, OSError, UnicodeDecodeError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> ValueError:
        kind = "a .tsv file" if self.path.endswith(".tsv") else "a .csv file"
        return ValueError(f"{self.path} is not {kind}: {error}")


class _Reader:
    """Converts records to a table.

    Parameters
    ----------
    path : str
    names : list of str or None
    n_columns : int
    roles : Roles
    missing : frozenset of str
        Texts that mark missing entries.
    has_decimal_commas : bool
    """

    def __init__(
        self,
        path: str,
        names: list[str] | None,
        n_columns: int,
        roles: Roles,
        missing: frozenset[str],
        has_decimal_commas: bool,
    ) -> None:
        self.path, self.names, self.n_columns = path, names, n_columns
        self.roles, self.missing = roles, missing
        self.has_decimal_commas = has_decimal_commas

    def read(self, records: Iterator[_Record]) -> Table:
        """Return the table of the records."""
        # float is faster here than loadtxt with a converter for empty fields.
        numbers = array("d")
        positions = self.roles.numbers
        uses_all = positions == list(range(self.n_columns))
        categories: list[list[str | None]] = [[] for _ in self.roles.categories]
        index: list[str] = []
        for line_number, is_plain, fields in records:
            if len(fields) != self.n_columns:
                raise ValueError(
                    f"{self.path} has {len(fields)} fields in line {line_number}, but "
                    f"{self.n_columns} in the first."
                )
            used = fields if uses_all else [fields[i] for i in positions]
            try:
                if not (is_plain or _is_plain("".join(used))):
                    raise ValueError
                numbers.extend([float(field) if field else math.nan for field in used])
            except ValueError:
                numbers.extend(self._parse(fields, line_number, numbers))
            for texts, i in zip(categories, self.roles.categories, strict=True):
                texts.append(None if fields[i] in self.missing else fields[i])
            if self.roles.index is not None:
                index.append(fields[self.roles.index])
        return self._table(numbers, categories, index)

    def _table(
        self,
        numbers: Sequence[float],
        categories: list[list[str | None]],
        index: list[str],
    ) -> Table:
        n_numbers, names = len(self.roles.numbers), self.names
        X: Any = np.frombuffer(numbers) if numbers else np.empty(0)  # type: ignore[call-overload]
        markers = [float(text) for text in self.missing if _is_number(text)]
        X[np.isin(X, markers)] = np.nan
        n_samples = len(categories[0]) if categories else len(X) // max(n_numbers, 1)
        labels = [label_of(names, i) for i in self.roles.categories]
        return Table(
            X.reshape(n_samples, max(n_numbers, not labels)),
            names and [names[i] for i in self.roles.numbers],
            dict(zip(labels, categories, strict=True)),
            None
            if self.roles.index is None
            else (label_of(names, self.roles.index), index),
        )

    def _parse(
        self, fields: list[str], line_number: int, numbers: Sequence[float]
    ) -> list[float]:
        """Parse fields that may mark missing entries, or have decimal commas."""
        values, texts = [], []
        for i in self.roles.numbers:
            value = self._number(fields[i])
            if value is None:
                texts.append(i)
            else:
                values.append(value)
        if texts:
            raise ValueError(self._text_message(texts, fields, line_number, numbers))
        return values

    def _number(self, field: str) -> float | None:
        """Return the number of a field, NaN if it is missing, None for other text."""
        if field in self.missing:
            return math.nan
        if self.has_decimal_commas and _DECIMAL_COMMA.fullmatch(field):
            return float(field.replace(",", "."))
        return float(field) if _is_number(field) else None

    def _text_message(
        self,
        texts: list[int],
        fields: list[str],
        line_number: int,
        numbers: Sequence[float],
    ) -> str:
        """Describe columns that should be numbers, and what to do."""
        described, remedies = [], []
        for i in texts:
            name = label_of(self.names, i)
            column = self.roles.numbers.index(i)
            values = numbers[column :: len(self.roles.numbers)]
            is_numeric_elsewhere = not all(map(math.isnan, values))
            described.append(f"{name}, with {fields[i]!r}")
            if is_numeric_elsewhere:
                remedies.append(
                    f"--missing {fields[i]!r} if this marks missing entries"
                )
            elif kind_of_text(fields[i], is_numeric_elsewhere) == DATES:
                remedies.append("numbers in place of dates, such as days")
            else:
                remedies.append("--categorical NAME for categories")
        remedies.append("--index NAME for names of rows")
        remedies.append("--drop NAME to leave a column out")
        if self.names is None and line_number == 1:
            remedies.append("--header yes if this line has names")
        more = f" and {len(texts) - _MAX_NAMED} more" * (len(texts) > _MAX_NAMED)
        word = "columns that are" if len(texts) > 1 else "a column that is"
        return (
            f"{self.path} has {word} not numeric: {'; '.join(described[:_MAX_NAMED])}"
            f"{more}, in line {line_number}. Use {', '.join(dict.fromkeys(remedies))}."
        )


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
