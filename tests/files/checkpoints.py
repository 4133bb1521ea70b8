"""Small fits for tests of checkpoints, and files that are made by hand."""

import hashlib
import io

import numpy as np
import torch

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.files import checkpoint as checkpoint_module


def small(**params):
    """Return an estimator that fits the data below quickly."""
    defaults = {"n_atoms": 4, "max_iter": 5, "tol": 0, "batch_size": 32}
    return MixMateClustering(3, **{**defaults, "random_state": 0, **params})


def data(**params):
    return make_sparse_mixture(120, 16, n_atoms=4, random_state=0, **params).data


def assert_same_fit(mixmate, expected):
    for name in ("labels_", "dictionaries_", "intercepts_", "weights_", "loss_curve_"):
        np.testing.assert_array_equal(getattr(mixmate, name), getattr(expected, name))
    assert mixmate.loss_ == expected.loss_
    assert mixmate.converged_ == expected.converged_


def sealed(payload):
    return checkpoint_module._FORMAT + hashlib.sha256(payload).digest() + payload


def written(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()
