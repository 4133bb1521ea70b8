"""Random tests: as many tries as are asked for, each of which can be repeated alone.

``pytest -m campaign --tries 10000`` runs all of them; a failure prints the command that
repeats it.
"""

from pathlib import Path

import numpy as np
import pytest


def pytest_collection_modifyitems(items):
    """Mark all tests of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.campaign)


@pytest.fixture
def attempt(request):
    """Run a function with one random generator after the other.

    ``attempt(function, cost=50)`` runs one try where a cheap campaign runs 50, and at
    least one. The function is called with a ``numpy.random.Generator``.
    """
    first, n_tries = (request.config.getoption(name) for name in ("seed", "tries"))

    def run(function, cost=1):
        for seed in range(first, first + max(1, n_tries // cost)):
            try:
                function(np.random.default_rng(seed))
            except BaseException as error:
                error.add_note(
                    f"To repeat this try: pytest -n 0 --no-cov --tries 1 --seed {seed} "
                    f"{request.node.nodeid!r}"
                )
                raise

    return run
