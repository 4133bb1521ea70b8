"""Zip archives that anybody may have made, read within bounds.

All members are stored as they are, without compression. The directory of an archive is
checked before any member is read, so that what is read, in all, is no more than the
file has.
"""

import contextlib
import math
import os
import re
import struct
import zipfile

import numpy as np

# Bytes, at most, of a directory: members of some thousand arrays.
_DIRECTORY_SIZE = 2**19

# What stands last in an archive: the end of the directory, and before that, in some,
# the same for large files and where that begins.
_END, _LOCATOR, _LARGE_END = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_END_SIZE, _LARGE_END_SIZE = 22, 98

# Bytes of a member that are read at a time, and of an array that need not wait.
_CHUNK, _SMALL = 2**20, 2**10

_IS_ENCRYPTED = 0x1

# What zipfile raises of an archive that is not as it was written.
_DAMAGES = (
    EOFError,
    LookupError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)

# How numpy begins an array, and the only kind of header that it writes for numbers.
_ARRAY_START = b"\x93NUMPY"
_HEADER_SIZE = 2**10
_HEADER = re.compile(
    rb"\{'descr': '([<>|])([OSUVMmcbiuf]\d{0,2})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:\d{1,18}, ?){0,32}(?:\d{1,18})?)\), \} *\n"
)


@contextlib.contextmanager
def named_damages():
    """Raise BadZipFile for all that zipfile raises of a damaged archive."""
    try:
        yield
    except zipfile.BadZipFile:
        raise
    except _DAMAGES as error:
        raise zipfile.BadZipFile(str(error) or type(error).__name__) from error


def open_archive(file):
    """Open an archive, once its directory is known to be sound.

    Parameters
    ----------
    file : seekable binary file

    Returns
    -------
    archive : zipfile.ZipFile
        Members are stored without compression under different names, and are no
        larger, together, than the file.

    Raises
    ------
    zipfile.BadZipFile
        If the archive is damaged, or is none.
    """
    with named_damages():
        size = file.seek(0, os.SEEK_END)
        _check_end(file, size)
        archive = zipfile.ZipFile(file)
        _check_directory(archive.infolist(), size)
    return archive


def _check_end(file, size):
    """Check that the directory is small, and ends where the file does."""
    file.seek(max(0, size - _LARGE_END_SIZE))
    tail = file.read(_LARGE_END_SIZE)
    end = tail[-_END_SIZE:]
    if not end.startswith(_END) or end[-2:] != b"\0\0":
        raise zipfile.BadZipFile("it has no directory at its end")
    length, start = struct.unpack("<II", end[12:20])
    stop = size - _END_SIZE
    if tail[56:60] == _LOCATOR:
        stop = size - _LARGE_END_SIZE
        (place,) = struct.unpack("<Q", tail[64:72])
        if not tail.startswith(_LARGE_END) or place != stop:
            raise zipfile.BadZipFile("its directory is not where it should be")
        length, start = struct.unpack("<QQ", tail[40:56])
    if start + length != stop:
        raise zipfile.BadZipFile("its directory is not where it should be")
    if length > _DIRECTORY_SIZE:
        raise zipfile.BadZipFile(
            f"its directory has {length} bytes, and should have at most "
            f"{_DIRECTORY_SIZE}"
        )


def _check_directory(members, size):
    """Check members against each other and the size of the file."""
    if any(member.compress_type for member in members):
        raise zipfile.BadZipFile("it was compressed")
    if any(member.flag_bits & _IS_ENCRYPTED for member in members):
        raise zipfile.BadZipFile("it was encrypted")
    if any(member.filename != member.orig_filename for member in members):
        raise zipfile.BadZipFile("it has a member whose name is cut off")
    # Some readers of archives take upper and lower case as the same.
    if len({member.filename.lower() for member in members}) < len(members):
        raise zipfile.BadZipFile("it has members of the same name")
    if any(member.file_size != member.compress_size for member in members):
        raise zipfile.BadZipFile("it has a member of two sizes")
    total = sum(member.file_size for member in members)
    if total > size:
        raise zipfile.BadZipFile(
            f"its members have {total} bytes together, and the file has {size}"
        )


def read_member(archive, name, limit):
    """Read a member that is known to be small.

    Parameters
    ----------
    archive : zipfile.ZipFile
        As :func:`open_archive` returns it.
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
            f"its member {name!r} has {size} bytes, and should have at most {limit}"
        )
    with named_damages():
        return archive.read(name)


class StoredArray:
    """An array of numbers in an archive, as numpy writes them (.npy).

    Parameters
    ----------
    archive : zipfile.ZipFile
        As :func:`open_archive` returns it.
    name : str
        Of the member.

    Attributes
    ----------
    array : ndarray
        Zeros of the shape and type that the header says, in the byte order of this
        machine, until :meth:`fill` is called. They take no memory before. Small arrays
        are read at once.

    Raises
    ------
    ValueError
        If the member is something else.
    zipfile.BadZipFile
        If the archive is damaged.
    """

    def __init__(self, archive, name):
        self._archive = archive
        self._name = name
        with named_damages():
            member = archive.open(name)
        with member:
            with named_damages():
                start = member.read(len(_ARRAY_START) + 4)
                self._start = len(start) + int.from_bytes(start[8:], "little")
                header = member.read(min(self._start - len(start), _HEADER_SIZE))
            version = tuple(start[6:8])
            if not start.startswith(_ARRAY_START) or version != (1, 0):
                raise ValueError(
                    f"version {version} of the .npy format"
                    if start.startswith(_ARRAY_START)
                    else "it does not begin as one"
                )
        dtype, order, shape = _parsed(header)
        n_bytes = archive.getinfo(name).file_size - self._start
        if math.prod(shape) * dtype.itemsize != n_bytes:
            raise ValueError(f"{n_bytes} bytes for {dtype} of shape {shape}")
        self._is_foreign = not dtype.isnative
        self._is_filled = False
        self.array = np.zeros(shape, dtype.newbyteorder("="), order)
        if n_bytes <= _SMALL:
            self.fill()

    def fill(self):
        """Read the entries, if that is still to be done.

        Raises
        ------
        zipfile.BadZipFile
            If the archive is damaged.
        """
        if self._is_filled:
            return
        self._is_filled = True
        left = memoryview(self.array.ravel(order="K").view(np.uint8))
        with named_damages(), self._archive.open(self._name) as member:
            member.read(self._start)
            # An array without entries is read to its end too, for its checksum.
            while (n_read := member.readinto(left[:_CHUNK])) > 0:
                left = left[n_read:]
            if len(left) or member.read(1):
                raise zipfile.BadZipFile(f"its member {self._name!r} is cut off")
        if self._is_foreign:
            self.array.byteswap(inplace=True)


def _parsed(header):
    """Dtype, order and shape of an array, as its header has them."""
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
