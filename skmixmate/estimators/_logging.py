"""Progress of verbose fits: one logger, several threads."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from ..training.loop import logger


class _Printer(logging.StreamHandler[TextIO]):
    """Prints records to standard output, unless another handler takes them."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard output at the time of a record."""
        return sys.stdout

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass a record if no handler of the user gets it."""
        node: logging.Logger | None = logger
        while node is not None:
            if any(handler is not self for handler in node.handlers):
                return False
            node = node.parent if node.propagate else None
        return bool(super().filter(record))


class _Verbosity:
    """Passes the records of verbose fits, and of no other fits, through the logger.

    Fits may run in several threads. While any of them is verbose the logger has the
    level INFO and a handler that prints; a filter drops records of other threads that
    the logger would not have passed before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_verbose = 0
        self._own = threading.local()
        self._printer = _Printer()

    def begin(self, verbose: bool | int) -> None:
        """Register a fit that begins in this thread."""
        self._fits().append(bool(verbose))
        if not verbose:
            return
        with self._lock:
            self._n_verbose += 1
            if self._n_verbose > 1:
                return
            self._level, self._effective_level = (
                logger.level,
                logger.getEffectiveLevel(),
            )
            if self._effective_level > logging.INFO:
                logger.setLevel(logging.INFO)
            logger.addFilter(self.filter)
            logger.addHandler(self._printer)

    def end(self) -> None:
        """Unregister the fit that began last in this thread."""
        if not self._fits().pop():
            return
        with self._lock:
            self._n_verbose -= 1
            if self._n_verbose:
                return
            logger.removeHandler(self._printer)
            logger.removeFilter(self.filter)
            # Unless another level has been set meanwhile.
            if self._effective_level > logging.INFO and logger.level == logging.INFO:
                logger.setLevel(self._level)

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass a record if its fit is verbose, or if the logger passed it before."""
        fits = self._fits()
        is_verbose = bool(fits) and fits[-1]
        return is_verbose or record.levelno >= self._effective_level

    def _fits(self) -> list[bool]:
        """Whether each of the fits that run in this thread is verbose."""
        return self._own.__dict__.setdefault("fits", [])


_verbosity = _Verbosity()


@contextlib.contextmanager
def log_to_stdout(verbose: bool | int) -> Iterator[None]:
    """Log the progress of a fit, and print it if no handler takes the records.

    Fits in other threads, verbose or not, are not affected; when no verbose fit runs
    the logger is restored.

    Parameters
    ----------
    verbose : bool or int
        Whether to log.
    """
    _verbosity.begin(verbose)
    try:
        yield
    finally:
        _verbosity.end()
