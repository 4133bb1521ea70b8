"""Models that are memory-mapped from a file."""

from functools import partial

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits

from .. import helpers
from ..helpers import METHODS

pytestmark = pytest.mark.usefixtures("small_blocks")
small = partial(helpers.small, max_iter=2, batch_size=256)


@pytest.mark.parametrize("params", [{}, {"image_shape": (8, 8), "n_atoms": 3}])
def test_a_memory_mapped_model_gives_the_same_results(params, tmp_path):
    X = load_digits().data[:200]
    mixmate = small(init="kmeans", **params).fit(X)
    joblib.dump(mixmate, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(mapped.dictionaries_, np.memmap)
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(mapped, method)(X), getattr(mixmate, method)(X)
        )
    codes = mixmate.transform(X)
    np.testing.assert_array_equal(
        mapped.inverse_transform(codes), mixmate.inverse_transform(codes)
    )
    warm = {"warm_start": True, "max_iter": 1}
    np.testing.assert_array_equal(
        mapped.set_params(**warm).fit(X).dictionaries_,
        mixmate.set_params(**warm).fit(X).dictionaries_,
    )


def test_a_memory_mapped_model_of_pixels_can_be_fitted_further(tmp_path):
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "representation": "pixels", "init": "kmeans"}
    mixmate = small(**params, dictionary_penalty=0.1, warm_start=True).fit(X)
    joblib.dump(mixmate, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert mapped.fit(X).loss_ == mixmate.fit(X).loss_
