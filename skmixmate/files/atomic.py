"""Atomic writes: a file is replaced as a whole, or stays as it was."""

import contextlib
import io
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before doing the work that it will hold.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    OSError
        If the folder does not exist or is read-only, or if `path` exists and is not
        a regular file.
    """
    # A symbolic link is kept; the file that it points to is replaced.
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    shown = path if path.isprintable() else repr(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{shown} cannot be written: there is no such folder.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{shown} cannot be written: the folder is read-only.")
    # lstat also raises OSError here if the name is too long for the file system.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise FileExistsError(
                f"{shown} cannot be written: it is not a regular file."
            )


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading; never block on a pipe or a device.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    file : binary file

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If `path` is a pipe or a device.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(
            f"{os.fspath(path)!r} is not a regular file, but a pipe or a device."
        )
    return file


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the creation or removal of a file survive a power failure.

    Some file systems cannot sync a folder, and a folder may be writable but not
    readable. Such errors are ignored: the content of the file is safe already.

    Parameters
    ----------
    path : str or path-like
        The file that was created or removed.
    """
    if os.name != "posix":
        return  # only POSIX systems can open a folder
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy_access(replaced: os.stat_result, temporary: str) -> None:
    """Copy mode, owner and group of the replaced file, as far as allowed.

    Parameters
    ----------
    replaced : os.stat_result
        Status of the file that is replaced.
    temporary : str
        Path of the new file.
    """
    mode = stat.S_IMODE(replaced.st_mode) & 0o777
    if hasattr(os, "chown"):
        try:
            os.chown(temporary, -1, replaced.st_gid)
        except OSError:
            # The new file has another group, which must not get more rights than
            # all other users have.
            mode &= ~0o070 | (mode & 0o007) << 3
        with contextlib.suppress(OSError):  # only root may change the owner
            os.chown(temporary, replaced.st_uid, -1)
    # Where modes cannot be changed, the file keeps the private mode it was made with.
    with contextlib.suppress(OSError):
        os.chmod(temporary, mode)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a temporary file that replaces `path` once it is complete on disk.

    If anything fails before that, an existing file stays as it was. The new file gets
    the mode of the replaced one and, where that is allowed, its owner and group; until
    then no other user can read it.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    file : binary file
        A temporary file in the same folder.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    check_writable(path)
    path = os.path.realpath(path)
    temporary = os.path.join(
        os.path.dirname(path), f".skmixmate-{secrets.token_hex(8)}"
    )
    replaced = None
    with contextlib.suppress(FileNotFoundError):
        replaced = os.stat(path)
    mode = 0o666 if replaced is None else 0o600

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    try:
        with open(temporary, "xb", opener=opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaced is not None:
            _copy_access(replaced, temporary)
        os.replace(temporary, path)
        sync_folder(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
