"""Information criteria and scores of data in any container."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from .. import helpers
from ..sources import File, Pairs, Stream

pytestmark = pytest.mark.usefixtures("small_blocks")
small = partial(helpers.small, max_iter=2, batch_size=256)


def data(n_samples=500, **params):
    return helpers.data(n_samples, **params)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


def containers(X):
    """Return X in each container that score accepts; not all have a length."""
    tensor = torch.from_numpy(X)
    return {
        "tensor": tensor,
        "list": X.tolist(),
        "frame": pd.DataFrame(X),
        "file": File(X, 80),
        "dataset": Pairs(X),
        "loader": DataLoader(TensorDataset(tensor), 50, shuffle=True),
        "stream": Stream(list(X)),
        "loader of a stream": DataLoader(Stream(list(X)), 30),
    }


@pytest.mark.parametrize("container", containers(data(1)))
def test_criteria_count_samples_in_any_container(fitted, container):
    X = data(missing=0.1)
    given_X = containers(X)[container]
    n_free = 3 * 6 * 15 + 3 * 16 + 3 * 6  # atoms, intercepts and rates
    deviance = -2 * fitted.score_samples(X).sum()
    assert fitted.bic(given_X) == pytest.approx(deviance + n_free * np.log(500))
    assert fitted.aic(given_X) == pytest.approx(deviance + 2 * n_free)
    assert fitted.bic(X) == -2 * 500 * fitted.score(X) + n_free * np.log(500)


def test_criteria_iterate_once(fitted):
    class Once(Stream):
        def __iter__(self):
            items, self.items = self.items, []
            return iter(items)

    X = data()
    assert fitted.bic(Once(list(X))) == pytest.approx(fitted.bic(X))


def test_score_without_a_density_of_codes_is_in_the_units_of_x():
    X = data(missing=0.1)
    mixmate = small(prior="nonnegative").fit(X)
    n_observed = np.count_nonzero(~np.isnan(X), axis=1)
    expected = np.logaddexp.reduce(-mixmate.energies(X), axis=1)
    expected += np.log(mixmate.scale_) * n_observed
    np.testing.assert_allclose(mixmate.score_samples(X), expected)
