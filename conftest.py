"""Options and settings of all tests."""

import os

import pytest

# Default number of tries of each random test; --tries sets another.
_FEW_TRIES = 20


def pytest_addoption(parser):
    """Add the options for the number of random tries and for their first seed."""
    group = parser.getgroup("campaign", "random tests (tests/campaign)")
    group.addoption(
        "--tries",
        type=int,
        default=_FEW_TRIES,
        help="random tries of each test; expensive tests run a fraction of them",
    )
    group.addoption(
        "--seed",
        type=int,
        default=0,
        help="seed of the first try; each further try adds one",
    )


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their markers
def pytest_collection_modifyitems(items):
    """Mark most combinations of the parameters of some tests as exhaustive.

    ``@pytest.mark.combinations(n)`` leaves one in n, at equal distances.
    """
    counts = {}
    for item in items:
        marker = item.get_closest_marker("combinations")
        if marker is not None:
            name = item.nodeid.split("[")[0]
            position = counts[name] = counts.get(name, -1) + 1
            if position % marker.args[0]:
                item.add_marker("exhaustive")


def pytest_configure(config):
    """Limit each of several test processes to one thread, before torch is imported.

    Two processes with as many threads as there are cores are ten times slower.
    """
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
