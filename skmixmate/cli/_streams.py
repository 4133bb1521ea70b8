"""Standard output and standard error."""

import contextlib
import os
import sys

# Largest number of characters of a line on standard error.
_MAX_LINE_LENGTH = 1000


def printable(message: str) -> str:
    """Escape control characters, and join and truncate the lines of a message.

    Parameters
    ----------
    message : str

    Returns
    -------
    line : str
    """
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(message[: 2 * _MAX_LINE_LENGTH].split())
    )
    return line if len(line) <= _MAX_LINE_LENGTH else f"{line[:_MAX_LINE_LENGTH]} ..."


def log(message: str) -> None:
    """Write a line to standard error.

    Parameters
    ----------
    message : str
    """
    if sys.stderr is not None:  # else print would use standard output
        with contextlib.suppress(OSError):
            print("skmixmate:", printable(message), file=sys.stderr, flush=True)


def is_terminal() -> bool:
    """Return whether somebody may read standard error while a command runs."""
    return sys.stderr is not None and sys.stderr.isatty()


def write_line(line: str) -> None:
    """Write a line to standard output.

    Parameters
    ----------
    line : str
    """
    with contextlib.suppress(BrokenPipeError):  # such as by head
        print(line)


def flush() -> bool:
    """Flush both streams; return whether standard output has been written.

    Returns True if the reader has closed the pipe, as head does.
    """
    is_written = True
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                log(f"error: standard output: {error.strerror}")
                is_written = False
            # Python would flush again when it ends, and print an error.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
    return is_written
