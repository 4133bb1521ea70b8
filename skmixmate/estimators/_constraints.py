"""Types and ranges of the parameters of the estimator, as scikit-learn checks them."""

import os
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ..initialization import INITIALIZERS
from ..model.likelihood import Likelihood
from ..model.likelihoods import LIKELIHOODS
from ..model.priors import PRIORS, Prior

_AT_LEAST_1 = Interval(Integral, 1, None, closed="left")
_NONNEGATIVE = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")

CONSTRAINTS: dict[str, list[Any]] = {
    "n_clusters": [_AT_LEAST_1, StrOptions({"auto"})],
    "n_atoms": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
    "alpha": [StrOptions({"auto"}), _NONNEGATIVE],
    "prior": [StrOptions(set(PRIORS)), Prior, HasMethods(["value", "prox"])],
    "likelihood": [StrOptions(set(LIKELIHOODS)), Likelihood],
    "n_layers": [_AT_LEAST_1],
    "step_size": [StrOptions({"auto"}), _POSITIVE],
    "noise_variance": [StrOptions({"auto"}), _POSITIVE],
    "weights": [StrOptions({"uniform", "learned"}), "array-like"],
    "fit_intercept": ["boolean", StrOptions({"auto"})],
    "init": [
        StrOptions({*INITIALIZERS, "random"}),
        HasMethods("fit_predict"),
        "array-like",
    ],
    "init_size": [StrOptions({"auto"}), _AT_LEAST_1],
    "n_init": [_AT_LEAST_1],
    "supervision": [StrOptions({"auto", "ignore"})],
    "image_shape": [StrOptions({"auto"}), "array-like", None],
    "representation": [StrOptions({"auto", "pixels", "scattering"})],
    "dictionary_penalty": [_NONNEGATIVE],
    "scale": [StrOptions({"auto"}), _POSITIVE],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "batch_size": [_AT_LEAST_1],
    "learning_rate": [_POSITIVE],
    "tol": [_NONNEGATIVE],
    "n_iter_no_change": [_AT_LEAST_1],
    "warm_start": ["boolean"],
    "device": [str, torch.device],
    "n_jobs": [Integral, None],
    "verbose": ["verbose"],
    "checkpoint": [str, os.PathLike, None],
    "distributed": ["boolean", StrOptions({"auto"})],
    "random_state": ["random_state"],
}
