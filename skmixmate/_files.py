"""Files that are written whole or not at all."""

import contextlib
import os
import secrets


def check_destination(path):
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
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{path} cannot be written: there is no such folder.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path} cannot be written: the folder is read-only.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(f"{path} cannot be written: it is no ordinary file.")


def sync_folder(path):
    """Make the name of a file, or that there is none, survive a power failure."""
    if os.name != "posix":
        return  # elsewhere folders cannot be opened
    folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def written_whole(path):
    """Write a file that has its name only once all of it is on the disk.

    Whatever goes wrong before leaves a file that had the name as it was.

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
    check_destination(path)
    path = os.path.realpath(path)
    temporary = os.path.join(
        os.path.dirname(path), f".skmixmate-{secrets.token_hex(8)}"
    )
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
