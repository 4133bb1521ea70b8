"""What all tests share."""

import os

# Tries of each campaign in the daily run; the command line asks for more.
_FEW_TRIES = 40


def pytest_addoption(parser):
    """Add what says how much random testing is done, and where it starts."""
    group = parser.getgroup("campaign", "random tests (tests/campaign)")
    group.addoption(
        "--tries",
        type=int,
        default=_FEW_TRIES,
        help="random tries of each campaign; costly ones run a fraction of them",
    )
    group.addoption(
        "--seed", type=int, default=0, help="seed of the first try; each adds one"
    )


def pytest_configure(config):
    """Give each of several processes that run tests one thread, before torch is there.

    Two that have as many as there are cores slow one another down tenfold.
    """
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
