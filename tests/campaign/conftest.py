"""Random tests: --tries sets the number of tries, each of which can be repeated alone.

``pytest -m campaign --tries 10000`` runs all of them; a failure prints the command that
repeats it. ``python -m benchmarks.campaign`` reports the tries and their times.
"""

import time
from pathlib import Path

import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.campaign)
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def attempt(request, record_property):
    """Run a function with one random generator after the other.

    ``attempt(function, cost=50)`` runs one try where a cheap campaign runs 50, and at
    least one. The function is called with a ``numpy.random.Generator``.
    """
    first, n_tries = (request.config.getoption(name) for name in ("seed", "tries"))

    def run(function, cost=1):
        n_runs, slowest = max(1, n_tries // cost), 0.0
        for seed in range(first, first + n_runs):
            start = time.perf_counter()
            try:
                function(np.random.default_rng(seed))
            except BaseException as error:
                error.add_note(
                    f"To repeat this try: pytest -n 0 --no-cov --tries 1 --seed {seed} "
                    f"{request.node.nodeid!r}"
                )
                raise
            slowest = max(slowest, time.perf_counter() - start)
        record_property("tries", n_runs)
        record_property("slowest_seconds", round(slowest, 2))

    return run
