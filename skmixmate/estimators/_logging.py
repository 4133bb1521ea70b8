"""Progress of verbose fits: one logger, several threads."""

import contextlib
import logging
import sys
import threading

from ..training.loop import logger


class _Printer(logging.StreamHandler):
    """Prints records to the standard output, where no other handler takes them."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        """What is the standard output when a record comes."""
        return sys.stdout

    def filter(self, record):
        """Let a record through if no handler of a user gets it."""
        node = logger
        while node is not None:
            if any(handler is not self for handler in node.handlers):
                return False
            node = node.parent if node.propagate else None
        return super().filter(record)


class _Verbosity:
    """Lets the records of verbose fits through the logger, and those of no other fit.

    Fits may run in several threads. While any of them is verbose the logger has the
    level INFO and a handler that prints; a filter holds back what other threads log and
    the logger would not have let through before.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_verbose = 0
        self._own = threading.local()
        self._printer = _Printer()

    def begin(self, verbose):
        """Note that a fit begins in this thread."""
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

    def end(self):
        """Note that the fit that began last in this thread has ended."""
        if not self._fits().pop():
            return
        with self._lock:
            self._n_verbose -= 1
            if self._n_verbose:
                return
            logger.removeHandler(self._printer)
            logger.removeFilter(self.filter)
            # Unless somebody else has set another meanwhile.
            if self._effective_level > logging.INFO and logger.level == logging.INFO:
                logger.setLevel(self._level)

    def filter(self, record):
        """Let a record through if its fit is verbose, or it would have been anyway."""
        fits = self._fits()
        is_verbose = bool(fits) and fits[-1]
        return is_verbose or record.levelno >= self._effective_level

    def _fits(self):
        """Whether each of the fits that run in this thread is verbose."""
        return self._own.__dict__.setdefault("fits", [])


_verbosity = _Verbosity()


@contextlib.contextmanager
def log_to_stdout(verbose):
    """Let the records of a fit through the logger, and print them if nobody else does.

    Fits in other threads, verbose or not, are not affected; once no verbose fit runs
    the logger is as it was.

    Parameters
    ----------
    verbose : bool or int
        Whether to.
    """
    _verbosity.begin(verbose)
    try:
        yield
    finally:
        _verbosity.end()
