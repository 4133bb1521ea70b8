"""Reading of untrusted zip archives within bounds.

All members are stored without compression. The central directory of an archive is
checked before any member is read, so that no more bytes are read than the file has.
"""

import contextlib
import math
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np

# Largest size of a central directory in bytes, enough for some thousand arrays.
_MAX_DIRECTORY_SIZE = 2**19

# Signatures of the last records of an archive: the end of central directory and, before
# it in ZIP64 archives, their end record and its locator; and the sizes of both forms.
_END, _LOCATOR, _END_64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_END_SIZE, _END_64_SIZE = 22, 98

# Bytes of a member that are read at a time, and of an array that is read at once.
_CHUNK_SIZE, _SMALL_SIZE = 2**20, 2**10

# Bit of the flags of a member.
_ENCRYPTED_FLAG = 0x1

# Errors that zipfile raises for damaged archives.
_ZIP_ERRORS = (
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)

# Signature of the .npy format, and the only form of header that numpy writes for
# numbers.
_NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER_SIZE = 2**10
_HEADER = re.compile(
    rb"\{'descr': '([<>|])([OSUVMmcbiuf]\d{0,2})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,18}, ?){0,32}(?:\d{1,18})?)\), \} *\n"
)


@contextlib.contextmanager
def convert_zip_errors() -> Iterator[None]:
    """Convert all errors that zipfile raises for damaged archives to BadZipFile."""
    try:
        yield
    except zipfile.BadZipFile:
        raise
    except _ZIP_ERRORS as error:
        raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Check the central directory of an archive, and open it.

    Parameters
    ----------
    file : seekable binary file

    Returns
    -------
    archive : zipfile.ZipFile
        Its members are stored without compression under different names, and are
        together no larger than the file.

    Raises
    ------
    zipfile.BadZipFile
        If the file is damaged, or not an archive.
    """
    with convert_zip_errors():
        size = file.seek(0, os.SEEK_END)
        _check_end(file, size)
        archive = zipfile.ZipFile(file)
        _check_directory(archive.infolist(), size)
    return archive


def _check_end(file: BinaryIO, size: int) -> None:
    """Check that the central directory is small, and at the end of the file."""
    file.seek(max(0, size - _END_64_SIZE))
    tail = file.read(_END_64_SIZE)
    end = tail[-_END_SIZE:]
    if not end.startswith(_END) or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it has no directory at its end")
    length, start = struct.unpack("<II", end[12:20])
    stop = size - _END_SIZE
    if tail[56:60] == _LOCATOR:
        stop = size - _END_64_SIZE
        (offset,) = struct.unpack("<Q", tail[64:72])
        if not tail.startswith(_END_64) or offset != stop:
            raise zipfile.BadZipFile("its directory is not where it should be")
        length, start = struct.unpack("<QQ", tail[40:56])
    if start + length != stop:
        raise zipfile.BadZipFile("its directory is not where it should be")
    if length > _MAX_DIRECTORY_SIZE:
        raise zipfile.BadZipFile(
            f"its directory has {length} bytes, but should have at most "
            f"{_MAX_DIRECTORY_SIZE}"
        )


def _check_directory(members: list[zipfile.ZipInfo], size: int) -> None:
    """Check the entries of the central directory against the size of the file."""
    if any(member.compress_type for member in members):
        raise zipfile.BadZipFile("a member is compressed")
    if any(member.flag_bits & _ENCRYPTED_FLAG for member in members):
        raise zipfile.BadZipFile("a member is encrypted")
    if any(member.filename != member.orig_filename for member in members):
        raise zipfile.BadZipFile("the name of a member is cut off")
    # Some programs do not distinguish upper and lower case.
    if len({member.filename.lower() for member in members}) < len(members):
        raise zipfile.BadZipFile("two members have the same name")
    if any(member.file_size != member.compress_size for member in members):
        raise zipfile.BadZipFile("a member has two different sizes")
    total = sum(member.file_size for member in members)
    if total > size:
        raise zipfile.BadZipFile(
            f"its members have {total} bytes together, but the file has {size}"
        )


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Read a member of at most `limit` bytes.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Returned by :func:`open_archive`.
    name : str
    limit : int
        Largest number of bytes.

    Returns
    -------
    content : bytes

    Raises
    ------
    zipfile.BadZipFile
        If the member is larger, or damaged.
    """
    size = archive.getinfo(name).file_size
    if size > limit:
        raise zipfile.BadZipFile(
            f"its member {name!r} has {size} bytes, but should have at most {limit}"
        )
    with convert_zip_errors():
        return archive.read(name)


class StoredArray:
    """Array of numbers in an archive, in numpy's .npy format.

    Parameters
    ----------
    archive : zipfile.ZipFile
        Returned by :func:`open_archive`.
    name : str
        Name of the member.

    Attributes
    ----------
    array : ndarray
        Has the shape and type of the stored array, in native byte order. The entries
        are zeros, which take no memory, until :meth:`fill` is called; small arrays are
        read at once.

    Raises
    ------
    ValueError
        If the member is not an array of numbers.
    zipfile.BadZipFile
        If the archive is damaged.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive = archive
        self._name = name
        with convert_zip_errors():
            member = archive.open(name)
        with member:
            with convert_zip_errors():
                start = member.read(len(_NPY_MAGIC) + 4)
                self._start = len(start) + int.from_bytes(start[8:], "little")
                header = member.read(min(self._start - len(start), _MAX_HEADER_SIZE))
            version = tuple(start[6:8])
            if not start.startswith(_NPY_MAGIC):
                raise ValueError("it does not start with the signature of .npy files")
            if version != (1, 0):
                raise ValueError(f"version {version} of the .npy format")
        dtype, order, shape = _parse_header(header)
        n_bytes = archive.getinfo(name).file_size - self._start
        if math.prod(shape) * dtype.itemsize != n_bytes:
            raise ValueError(f"{n_bytes} bytes for {dtype} of shape {shape}")
        self._is_byteswapped = not dtype.isnative
        self._is_filled = False
        self.array = np.zeros(shape, dtype.newbyteorder("="), order)
        if n_bytes <= _SMALL_SIZE:
            self.fill()

    def fill(self) -> None:
        """Read the entries, unless they have been read before.

        Raises
        ------
        zipfile.BadZipFile
            If the archive is damaged.
        """
        if self._is_filled:
            return
        self._is_filled = True
        remaining = self.array.ravel(order="K").view(np.uint8).data
        with convert_zip_errors(), self._archive.open(self._name) as member:
            member.read(self._start)
            # zipfile compares the checksum at the end of the member, so that an empty
            # array is read to its end as well.
            read_into = member.readinto  # type: ignore[attr-defined]
            while (n_read := read_into(remaining[:_CHUNK_SIZE])) > 0:
                remaining = remaining[n_read:]
            if len(remaining) or member.read(1):
                raise zipfile.BadZipFile(f"its member {self._name!r} is cut off")
        if self._is_byteswapped:
            self.array.byteswap(inplace=True)


def _parse_header(
    header: bytes,
) -> tuple[np.dtype, Literal["C", "F"], tuple[int, ...]]:
    """Return dtype, order and shape of an array from its header."""
    match = _HEADER.fullmatch(header)
    if match is None:
        raise ValueError(f"a header that numpy does not write, {header[:80]!r}")
    order, kind, is_fortran, shape = (group.decode() for group in match.groups())
    try:
        dtype = np.dtype(order + kind)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if dtype.kind not in "biuf":
        raise ValueError(f"dtype {dtype}")
    sizes = tuple(int(size) for size in shape.replace(",", " ").split())
    return dtype, "F" if is_fortran == "True" else "C", sizes
