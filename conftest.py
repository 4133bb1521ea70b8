"""What all tests share."""

import os


def pytest_configure(config):
    """Give each of several processes that run tests one thread, before torch is there.

    Two that have as many as there are cores slow one another down tenfold.
    """
    if hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
