"""Random states that leave the global ones alone."""

import json

import numpy as np
import torch
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


def dump_random_state(random_state):
    """Write down where a random state is.

    Parameters
    ----------
    random_state : RandomState

    Returns
    -------
    text : str
    """
    state = random_state.get_state(legacy=False)
    return json.dumps(state, default=np.ndarray.tolist)


def load_random_state(random_state, text):
    """Take a random state to where another was.

    Parameters
    ----------
    random_state : RandomState
        With a bit generator of the same kind.
    text : str
        What :func:`dump_random_state` gave.
    """
    random_state.set_state(json.loads(text))


def make_generator(random_state):
    """Draw the seed of a generator of torch.

    Parameters
    ----------
    random_state : RandomState

    Returns
    -------
    generator : torch.Generator
    """
    return torch.Generator().manual_seed(int(random_state.randint(2**31)))
