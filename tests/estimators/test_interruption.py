"""Fits that fail or are interrupted."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError

from ..helpers import METHODS, data, small


def test_an_interrupted_fit_keeps_the_last_complete_epoch(monkeypatch):
    X = data()
    expected = small(max_iter=2).fit(X)

    class Interrupt(ScoringMonitor):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 2:
                raise KeyboardInterrupt

    mixmate = small(max_iter=9).set_callbacks(Interrupt(scoring=None))
    with pytest.warns(UserWarning, match="interrupted after 2 whole epochs"):
        mixmate.fit(X)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(mixmate.predict(X), mixmate.labels_)


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "fails",
    [
        lambda mixmate: mixmate.set_params(init=KMeans(2)).fit(1000 * data()),
        lambda mixmate: mixmate.fit(data()[:2, :7]),
        lambda mixmate: mixmate.fit(np.full((120, 16), np.inf)),
        lambda mixmate: mixmate.set_params(n_atoms=9).partial_fit(data()),
        lambda mixmate: mixmate.set_params(weights=[1.0, 2.0, 3.0]).fit(data()),
    ],
)
def test_a_failed_refit_leaves_the_model_unchanged(fails):
    mixmate = small().fit(data())
    before = vars(clone(mixmate).fit(data())).keys()
    expected = {m: getattr(mixmate, m)(data()) for m in METHODS}
    with pytest.raises(ValueError, match=r"should|infinity|n_clusters"):
        fails(mixmate)
    assert vars(mixmate).keys() == before
    for method, result in expected.items():
        np.testing.assert_array_equal(getattr(mixmate, method)(data()), result)
    np.testing.assert_array_equal(mixmate.predict(data()), mixmate.labels_)


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "moment",
    [
        "skmixmate.estimators._initialize._find_scale",
        "skmixmate.estimators._initialize.find_initial_atoms",
        "skmixmate.training.em.ExpectationMaximization.__init__",
        "skmixmate.estimators._inference.FittedModel.assign",
    ],
)
def test_an_interrupted_refit_leaves_the_model_unchanged(moment, learn, monkeypatch):
    mixmate = small(init_size=60).partial_fit(data())
    before = pickle.dumps(vars(mixmate))
    monkeypatch.setattr(moment, interrupt)
    if learn == "fit" or "_initialize" not in moment:
        with pytest.raises(KeyboardInterrupt):
            getattr(mixmate, learn)(1000 * data())
        assert pickle.dumps(vars(mixmate)) == before


def test_an_interrupted_first_fit_leaves_the_estimator_unfitted(monkeypatch):
    monkeypatch.setattr(
        "skmixmate.estimators._initialize.find_initial_atoms", interrupt
    )
    mixmate = small()
    with pytest.raises(KeyboardInterrupt):
        mixmate.fit(data())
    with pytest.raises(NotFittedError):
        mixmate.predict(data())
    assert not hasattr(mixmate, "n_features_in_")
