"""Random states that are independent of the global one."""

import json

import numpy as np
import torch
from sklearn.utils import check_random_state


def private_random_state(
    random_state: int | np.random.RandomState | None,
) -> np.random.RandomState:
    """Return a random state that never draws from numpy's global one.

    Parameters
    ----------
    random_state : int, RandomState instance or None

    Returns
    -------
    random_state : RandomState
        With None, seeded by the operating system.
    """
    return (
        np.random.RandomState()
        if random_state is None
        else check_random_state(random_state)
    )


def dump_random_state(random_state: np.random.RandomState) -> str:
    """Serialize the state of a random number generator.

    Parameters
    ----------
    random_state : RandomState

    Returns
    -------
    text : str
    """
    state = random_state.get_state(legacy=False)
    return json.dumps(state, default=np.ndarray.tolist)


def load_random_state(random_state: np.random.RandomState, text: str) -> None:
    """Restore a serialized state of a random number generator.

    Parameters
    ----------
    random_state : RandomState
        Modified in place. Its bit generator must be of the same type.
    text : str
        Returned by :func:`dump_random_state`.
    """
    random_state.set_state(json.loads(text))


def make_generator(random_state: np.random.RandomState) -> torch.Generator:
    """Draw the seed of a generator of torch.

    Parameters
    ----------
    random_state : RandomState

    Returns
    -------
    generator : torch.Generator
    """
    return torch.Generator().manual_seed(int(random_state.randint(2**31)))
