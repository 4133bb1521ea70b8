"""Checks of the parameters."""

import warnings

import numpy as np
import pytest
import torch

from skmixmate import MixMateClustering
from skmixmate.model.priors import Laplace

from ..helpers import data, small


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 0}, r"'n_clusters'.*\[1, inf\).*Got 0"),
        ({"n_clusters": 2.0}, r"'n_clusters'.*int.*Got 2.0"),
        ({"n_atoms": -1}, r"'n_atoms'.*Got -1"),
        ({"alpha": -0.1}, r"'alpha'.*Got -0.1"),
        ({"alpha": "much"}, r"'alpha'.*Got 'much'"),
        ({"n_layers": 0}, r"'n_layers'.*Got 0"),
        ({"step_size": 0.0}, r"'step_size'.*Got 0.0"),
        ({"step_size": "small"}, r"'step_size'.*Got 'small'"),
        ({"weights": "fixed"}, r"'weights'.*Got 'fixed'"),
        ({"weights": [0.5, 0.5]}, r"weights has shape \(2,\).*\(3,\)"),
        ({"weights": [0.5, 0.4, 0.2]}, r"weights=.*sum to 1; they sum to 1.1"),
        ({"weights": [0.5, 0.5, 0.0]}, r"weights=.*should be positive"),
        ({"fit_intercept": "no"}, r"'fit_intercept'.*Got 'no'"),
        ({"init": "best"}, r"'init'.*Got 'best'"),
        ({"n_atoms": "many"}, r"'n_atoms'.*'auto'.*Got 'many'"),
        ({"init": np.zeros((3, 6, 15))}, r"init has shape \(3, 6, 15\).*\(3, 6, 16\)"),
        ({"init": np.full((3, 6, 16), np.inf)}, r"Input init contains infinity"),
        ({"n_init": 0}, r"'n_init'.*Got 0"),
        ({"n_jobs": 1.5}, r"'n_jobs'.*Got 1.5"),
        ({"image_shape": (4, 5)}, r"image_shape=\(4, 5\) should.*n_features=16"),
        ({"weights": ["a", "b", "c"]}, r"weights=\['a', 'b', 'c'\] should be numbers"),
        ({"image_shape": (16, 1)}, r"image_shape=\(16, 1\).*at least 2"),
        ({"image_shape": ("4", "4")}, r"image_shape=\('4', '4'\).*integers"),
        ({"image_shape": (16,)}, r"image_shape=\(16,\) should be \(height, width\)"),
        ({"image_shape": 16}, r"'image_shape'.*Got 16"),
        ({"representation": "waves"}, r"'representation'.*Got 'waves'"),
        (
            {"representation": "scattering"},
            r"representation=.scattering. is for images.*not recognised.*image_shape",
        ),
        ({"dictionary_penalty": -1.0}, r"'dictionary_penalty'.*Got -1.0"),
        (
            {"dictionary_penalty": 1.0},
            r"dictionary_penalty=1.0 is for images.*not recognised.*image_shape",
        ),
        ({"init_size": 0}, r"'init_size'.*Got 0"),
        ({"init_size": 2}, r"init_size=2 should be >= n_clusters=3"),
        ({"noise_variance": 0}, r"'noise_variance'.*Got 0"),
        ({"noise_variance": "less"}, r"'noise_variance'.*'auto'.*Got 'less'"),
        ({"scale": 0}, r"'scale'.*Got 0"),
        ({"scale": "large"}, r"'scale'.*Got 'large'"),
        ({"max_iter": -1}, r"'max_iter'.*Got -1"),
        ({"batch_size": 0}, r"'batch_size'.*Got 0"),
        ({"learning_rate": 0}, r"'learning_rate'.*Got 0"),
        ({"tol": -1e-3}, r"'tol'.*Got -0.001"),
        ({"n_iter_no_change": 0}, r"'n_iter_no_change'.*Got 0"),
        ({"warm_start": "yes"}, r"'warm_start'.*Got 'yes'"),
        ({"device": 3.5}, r"'device'.*Got 3.5"),
        ({"device": "nowhere"}, r"device='nowhere' is not available"),
        ({"device": "meta"}, r"device='meta' is not available"),
        ({"device": "hpu"}, r"device='hpu' is not available"),
        ({"n_init": 10**9}, r"n_init=1000000000 should be at most 10000"),
        ({"n_atoms": 10**7}, r"n_atoms=10000000 is too large: .* at most 4294967296"),
        ({"verbose": -1}, r"'verbose'.*Got -1"),
        ({"checkpoint": 3}, r"'checkpoint'.*Got 3"),
        ({"distributed": "yes"}, r"'distributed'.*Got 'yes'"),
        ({"distributed": True}, r"distributed=True, but this process is alone"),
        ({"random_state": "seed"}, r"'random_state'.*Got 'seed'"),
        ({"n_atoms": 0, "fit_intercept": False}, r"n_atoms=0 with fit_intercept=False"),
    ],
)
def test_invalid_parameters_raise_before_any_work(params, message, monkeypatch):
    monkeypatch.setattr("skmixmate.estimators._fit.summarize", None)
    with pytest.raises(ValueError, match=message):
        small(**params).fit(data())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_unavailable_device_raises():
    with pytest.raises(ValueError, match=r"device='cuda' is not available"):
        small(device="cuda").fit(data())


@pytest.mark.parametrize(
    "params",
    [
        {"noise_variance": 1e-320},
        {"noise_variance": 1e300},
        {"alpha": 1e308},
        {"prior": Laplace(1e308)},
        {"learning_rate": 1e200},
        {"scale": 1e-320},
        {"scale": 1e308},
        {"weights": [1 - 1e-310, 1e-310]},
    ],
)
def test_parameters_outside_the_range_of_floats_raise(params):
    X = np.random.default_rng(0).normal(size=(40, 3))
    (name,) = params
    name = "alpha" if name == "prior" else name
    with pytest.raises(ValueError, match=f"^{name}=.* should be "):
        MixMateClustering(2, **params).fit(X)


def test_extreme_parameters_give_finite_results():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for params in (
        {"noise_variance": 2e-14},
        {"noise_variance": 7e13},
        {"alpha": 1e-30},
        {"alpha": 1e24},
        {"learning_rate": 7e13},
        {"learning_rate": 1e-300},
        {"weights": [1 - 1e-30, 1e-30]},
        {"n_layers": 300},
    ):
        mixmate = MixMateClustering(2, n_atoms=3, max_iter=2, tol=0, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mixmate.fit(X)
        assert np.isfinite(mixmate.dictionaries_).all()
        assert np.isfinite(mixmate.energies(X)).all()
        assert np.isfinite(mixmate.loss_)
