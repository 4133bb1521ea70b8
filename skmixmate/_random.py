"""Random states that leave the global ones alone."""

import numpy as np
from sklearn.utils import check_random_state


def private_random_state(random_state):
    """Return a random state that never draws on numpy's global one.

    Parameters
    ----------
    random_state : int, RandomState instance or None

    Returns
    -------
    random_state : RandomState
        Freshly seeded by the operating system where None was given.
    """
    return (
        np.random.RandomState()
        if random_state is None
        else check_random_state(random_state)
    )
