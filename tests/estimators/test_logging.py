import logging
import subprocess
import sys
import threading

import pytest

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.estimators._logging import log_to_stdout

logger = logging.getLogger("skmixmate")


@pytest.fixture(autouse=True)
def logger_is_unchanged():
    """Check that each test leaves the logger unchanged."""
    before = (logger.level, list(logger.handlers), list(logger.filters))
    yield
    assert (logger.level, logger.handlers, logger.filters) == before


@pytest.fixture
def remove_handlers(monkeypatch):
    """Return a function that removes the handlers of pytest during a test."""
    return lambda: monkeypatch.setattr("logging.root.handlers", [])


class RecordingHandler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


@pytest.fixture
def handler():
    """Add a handler of the user to the logger."""
    recording = RecordingHandler()
    logger.addHandler(recording)
    yield recording
    logger.removeHandler(recording)


def in_threads(*functions):
    """Run functions in separate threads that are synchronised by a barrier."""
    barrier = threading.Barrier(len(functions))
    threads = [threading.Thread(target=f, args=(barrier.wait,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_lines_are_printed_once_without_a_handler(capsys, remove_handlers):
    remove_handlers()
    with log_to_stdout(1):
        logger.info("line")
    logger.info("later")
    assert capsys.readouterr().out == "line\n"


def test_a_fit_that_ends_does_not_silence_another_one(capsys, remove_handlers):
    remove_handlers()

    def short(wait):
        with log_to_stdout(1):
            wait()
            logger.info("short")
        wait()

    def long(wait):
        with log_to_stdout(1):
            wait()
            wait()
            logger.info("long")

    in_threads(short, long)
    assert sorted(capsys.readouterr().out.split()) == ["long", "short"]


def test_a_silent_fit_stays_silent_while_another_prints(capsys, remove_handlers):
    remove_handlers()

    def silent(wait):
        with log_to_stdout(0):
            wait()
            logger.info("silent")
            logger.warning("warning")
            wait()

    def verbose(wait):
        with log_to_stdout(1):
            wait()
            logger.info("verbose")
            wait()

    in_threads(silent, verbose)
    assert sorted(capsys.readouterr().out.split()) == ["verbose", "warning"]


def test_a_silent_fit_within_a_verbose_one_is_silent(capsys, remove_handlers):
    remove_handlers()
    with log_to_stdout(1):
        logger.info("before")
        with log_to_stdout(0):
            logger.info("within")
        logger.info("after")
    assert capsys.readouterr().out == "before\nafter\n"


def test_an_error_leaves_the_logger_as_it_was(capsys, remove_handlers):
    remove_handlers()
    with pytest.raises(KeyboardInterrupt), log_to_stdout(1):
        raise KeyboardInterrupt
    logger.info("later")
    assert not capsys.readouterr().out


def test_a_handler_of_the_user_replaces_printing(capsys, handler):
    with log_to_stdout(1), log_to_stdout(1):
        logger.info("line")
    assert handler.messages == ["line"]
    assert not capsys.readouterr().out


def test_a_handler_added_during_a_fit_replaces_printing(capsys, remove_handlers):
    remove_handlers()
    recording = RecordingHandler()
    with log_to_stdout(1):
        logger.info("first")
        logging.root.addHandler(recording)
        logger.info("second")
    assert capsys.readouterr().out == "first\n"
    assert recording.messages == ["second"]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR])
def test_the_level_of_the_user_applies_to_other_messages(level, handler):
    logger.setLevel(level)
    try:
        with log_to_stdout(1):
            logger.info("verbose")
            with log_to_stdout(0):
                logger.info("silent")
        assert logger.level == level
    finally:
        logger.setLevel(logging.NOTSET)
    is_wanted = level <= logging.INFO
    assert handler.messages == ["verbose", "silent"][: 1 + is_wanted]


def test_a_level_set_during_a_fit_is_kept(handler):
    with log_to_stdout(1):
        logger.setLevel(logging.ERROR)
    assert logger.level == logging.ERROR
    logger.setLevel(logging.NOTSET)


def test_fits_in_threads_print_their_own_lines(capsys, remove_handlers):
    remove_handlers()
    X = make_sparse_mixture(200, 8, n_atoms=2, random_state=0).data

    def fit(n_epochs, verbose):
        def run(wait):
            wait()
            MixMateClustering(
                2,
                n_atoms=2,
                init="kmeans",
                max_iter=n_epochs,
                tol=0,
                verbose=verbose,
                random_state=0,
            ).fit(X)

        return run

    in_threads(fit(3, 1), fit(5, 1), fit(7, 0))
    lines = capsys.readouterr().out.splitlines()
    assert sum("of 3" in line for line in lines) == 3
    assert sum("of 5" in line for line in lines) == 5
    assert len(lines) == 8


@pytest.mark.slow
def test_processes_print_their_own_lines():
    script = """
import joblib
from skmixmate.estimators._logging import log_to_stdout
import logging

def fit(number):
    with log_to_stdout(number):
        logging.getLogger("skmixmate").info("fit %d", number)

if __name__ == "__main__":
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        with log_to_stdout(1):
            joblib.Parallel()(joblib.delayed(fit)(number) for number in range(3))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert sorted(result.stdout.splitlines()) == ["fit 1", "fit 2"]
