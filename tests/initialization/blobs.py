"""Data that initialisations are tested on."""

import numpy as np


def blobs(n_each=30, seed=0):
    rng = np.random.default_rng(seed)
    centers = 10 * np.eye(3, 6)
    X = np.vstack([center + rng.normal(size=(n_each, 6)) for center in centers])
    return X, np.repeat(np.arange(3), n_each)


def random_state(seed=0):
    return np.random.RandomState(seed)
