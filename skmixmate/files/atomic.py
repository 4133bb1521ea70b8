"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
import stat


def check_writable(path):
    """Check that a file can be written, before the work for it is done.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    OSError
        If there is no such folder, it may not be written in, or something that is
        no ordinary file has the name.
    """
    # What a link leads to is replaced, and not the link.
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    shown = path if path.isprintable() else repr(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{shown} cannot be written: there is no such folder.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{shown} cannot be written: the folder is read-only.")
    # A name that is too long for the file system is an OSError here, not later.
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise FileExistsError(f"{shown} cannot be written: it is no ordinary file.")


def open_ordinary(path):
    """Open a file for reading, without waiting where it is a pipe or a device.

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
        If the path leads to a pipe or a device.
    """

    def opener(name, flags):
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=opener)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(
            f"{os.fspath(path)!r} is not an ordinary file, but a pipe or a device."
        )
    return file


def sync_folder(path):
    """Make a new, or removed, name survive a power failure, where folders allow it.

    Some file systems cannot sync a folder, and a folder may be writeable but not
    readable. That is no error: the file itself is as it should be by then.

    Parameters
    ----------
    path : str or path-like
        Of the file whose name is new, or gone.
    """
    if os.name != "posix":
        return  # elsewhere folders cannot be opened
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy_access(earlier, temporary):
    """Let the same people read and write a file as the one that it replaces.

    Parameters
    ----------
    earlier : os.stat_result
        Of the file that is replaced.
    temporary : str
        Path of the new file.
    """
    mode = stat.S_IMODE(earlier.st_mode) & 0o777
    if hasattr(os, "chown"):
        try:
            os.chown(temporary, -1, earlier.st_gid)
        except OSError:
            # Another group gets no more than anybody else has.
            mode &= ~0o070 | (mode & 0o007) << 3
        with contextlib.suppress(OSError):  # for the administrator alone
            os.chown(temporary, earlier.st_uid, -1)
    # Where modes cannot be changed the file stays as it was made: private.
    with contextlib.suppress(OSError):
        os.chmod(temporary, mode)


@contextlib.contextmanager
def atomic_write(path):
    """Write a file that has its name only once all of it is on the disk.

    Whatever goes wrong before leaves a file that had the name as it was. A file that
    is replaced hands on its mode and, where that is allowed, its owner and group; until
    then nobody else can read the new one.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    file : binary file
        In the same folder, under another name.

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
    earlier = None
    with contextlib.suppress(FileNotFoundError):
        earlier = os.stat(path)
    mode = 0o666 if earlier is None else 0o600

    def opener(name, flags):
        return os.open(name, flags, mode)

    try:
        with open(temporary, "xb", opener=opener) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if earlier is not None:
            _copy_access(earlier, temporary)
        os.replace(temporary, path)
        sync_folder(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
