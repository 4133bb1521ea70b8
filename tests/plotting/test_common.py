"""Pipelines in displays."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skmixmate import MixMateClustering
from skmixmate.plotting import (
    DendrogramDisplay,
    DictionaryDisplay,
    EnergyDisplay,
    LossCurveDisplay,
    MapDisplay,
    NClustersDisplay,
    ProfileDisplay,
    ReconstructionDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

X = load_iris(as_frame=True).data
MIXMATE = MixMateClustering(n_clusters="auto", max_iter=2, random_state=0)

# Each display of an estimator, and what it shows of the samples.
CALLS = {
    "dictionary": lambda e, X: DictionaryDisplay.from_estimator(e, X).indices,
    "reconstruction": lambda e, X: (
        ReconstructionDisplay.from_estimator(e, X[:1]).sample
    ),
    "loss_curve": lambda e, X: LossCurveDisplay.from_estimator(e).loss_curve,
    "n_clusters": lambda e, X: NClustersDisplay.from_estimator(e).scores["score"],
    "energy": lambda e, X: EnergyDisplay.from_estimator(e, X).margins,
    "map": lambda e, X: MapDisplay.from_estimator(e, X).points,
    "profile": lambda e, X: ProfileDisplay.from_estimator(e, X).profile["contribution"],
    "dendrogram": lambda e, X: DendrogramDisplay.from_estimator(e).linkage,
}


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), MIXMATE).fit(X)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_displays_transform_samples_by_the_steps_of_a_pipeline(call, pipeline):
    transformed = pipeline[:-1].transform(X)
    np.testing.assert_allclose(call(pipeline, X), call(pipeline[-1], transformed))


def test_a_profile_has_the_names_of_the_columns_of_a_pipeline(pipeline):
    display = ProfileDisplay.from_estimator(pipeline, X)
    assert set(display.profile["feature"]) == set(X.columns)


def test_features_are_numbered_if_a_step_does_not_name_its_columns():
    unnamed = make_pipeline(FunctionTransformer(lambda X: X.to_numpy()), MIXMATE)
    display = ProfileDisplay.from_estimator(unnamed.fit(X), X)
    assert set(display.profile["feature"]) == {"x0", "x1", "x2", "x3"}


def test_pipelines_of_other_estimators_are_rejected():
    with pytest.raises(TypeError, match="or a Pipeline that ends in one"):
        EnergyDisplay.from_estimator(make_pipeline(StandardScaler(), KMeans()), X)
    with pytest.raises(NotFittedError):
        EnergyDisplay.from_estimator(make_pipeline(StandardScaler(), MIXMATE), X)
