import contextlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering, SpectralGraphClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.image import ScatteringTransform
from skmixmate.utils.guards import all_or_nothing

from ..helpers import METHODS

X = make_sparse_mixture(200, 16, n_clusters=2, n_atoms=4, random_state=0).data
X = X.astype(np.float32)
COUNTS = np.random.default_rng(0).poisson(3.0, size=(60, 5))
IMAGES = load_digits().data[:60].astype(np.float32)

MODES = {
    "inference mode": lambda: torch.inference_mode(),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "numpy errors": lambda: np.errstate(all="raise"),
    "no gradients": lambda: torch.no_grad(),
}

MODELS = {
    "plain": ({}, X),
    "learned noise": ({"noise_variance": "auto", "max_iter": 1}, X),
    "groups": ({"prior": "group", "weights": "learned"}, X),
    "counts": ({"likelihood": "poisson"}, COUNTS),
    "pixels": ({"image_shape": (8, 8), "representation": "pixels"}, IMAGES),
    "scattering": ({"image_shape": (8, 8)}, IMAGES),
}


def fit_and_predict(params, data):
    """Return a fitted estimator, its attributes and the results of its methods."""
    mixmate = MixMateClustering(
        2, **{"n_atoms": 4, "max_iter": 2, "tol": 0, "random_state": 0, **params}
    ).fit(data)
    codes = mixmate.transform(data)
    return mixmate, {
        "dictionaries": mixmate.dictionaries_,
        "labels": mixmate.labels_,
        "round trip": mixmate.inverse_transform(codes),
        "bic": mixmate.bic(data),
        **{method: getattr(mixmate, method)(data) for method in METHODS},
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", MODELS)
def test_modes_of_the_caller_are_ignored(model, mode):
    _, expected = fit_and_predict(*MODELS[model])
    with MODES[mode]():
        _, results = fit_and_predict(*MODELS[model])
    for name, value in expected.items():
        np.testing.assert_array_equal(results[name], value, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_other_estimators_ignore_the_modes_of_the_caller(mode):
    def results():
        yield ScatteringTransform((8, 8), J=1).fit_transform(IMAGES)
        yield SpectralGraphClustering(2, random_state=0).fit_predict(X)
        stream = MixMateClustering(2, n_atoms=4, init_size=60, random_state=0)
        yield stream.partial_fit(X).partial_fit(X).dictionaries_

    expected = list(results())
    with MODES[mode]():
        actual = list(results())
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(one, other)


def test_modes_of_the_caller_are_restored_between_batches():
    mixmate, expected = fit_and_predict(*MODELS["plain"])
    rows = torch.from_numpy(X)
    with torch.inference_mode():
        out = torch.empty(len(X), 2)  # writable in inference mode only
        assert mixmate.predict_proba(rows, out=out) is out
        for _ in mixmate.predict_batches(X, batch_size=50):
            assert torch.is_inference_mode_enabled()
    np.testing.assert_array_equal(out.clone().numpy(), expected["predict_proba"])


def test_fit_accepts_tensors_created_in_inference_mode():
    with torch.inference_mode():
        rows = torch.from_numpy(X) * 1
    np.testing.assert_array_equal(
        fit_and_predict({}, rows)[0].dictionaries_,
        fit_and_predict({}, X)[0].dictionaries_,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_default_dtype_is_ignored(dtype):
    _, expected = fit_and_predict({}, X)
    torch.set_default_dtype(dtype)
    try:
        _, results = fit_and_predict({}, X)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in expected.items():
        np.testing.assert_array_equal(results[name], value, err_msg=name)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_all_or_nothing_restores_the_attributes(error):
    class Estimator:
        a_ = 1

        @all_or_nothing
        def fit(self, succeeds):
            self.a_, self.b_ = 2, 2
            if not succeeds:
                raise error

    estimator = Estimator()
    with contextlib.suppress(error):
        estimator.fit(succeeds=False)
    assert estimator.a_ == 1
    assert not hasattr(estimator, "b_")
    estimator.fit(succeeds=True)
    with contextlib.suppress(error):
        estimator.fit(succeeds=False)
    assert (estimator.a_, estimator.b_) == (2, 2)


def test_scattering_stays_fitted_after_a_failed_fit():
    scattering = ScatteringTransform((8, 8), J=1).fit(IMAGES)
    with pytest.raises(ValueError, match="63 features"):
        scattering.fit(IMAGES[:, :63])
    assert scattering.transform(IMAGES).shape[0] == 60
