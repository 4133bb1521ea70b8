"""What the estimators share in fitting: checks, epochs as others see them, warnings."""

import contextlib
import logging
import math
import sys
import warnings
from numbers import Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array

from ._rows import as_numpy
from ._training import logger
from .image._scattering import is_image_shape


def check_image_shape(image_shape, n_features):
    """Check that rows can be images of a shape.

    Parameters
    ----------
    image_shape : sequence of int
    n_features : int

    Raises
    ------
    ValueError
        If they cannot.
    """
    shape = tuple(image_shape)
    fits = is_image_shape(shape) and math.prod(shape) == n_features
    if not fits or min(shape[:2]) < 2:
        raise ValueError(
            f"image_shape={image_shape!r} should be (height, width) or "
            "(height, width, n_channels), integers, the first two at least 2, "
            f"and multiply to n_features={n_features}."
        )


def check_weights(weights, n_clusters):
    """Check weights that are given one by one.

    Parameters
    ----------
    weights : array-like of shape (n_clusters,)
    n_clusters : int

    Raises
    ------
    ValueError
        If they are not as many positive numbers that sum to 1.
    """
    try:
        values = check_array(weights, ensure_2d=False, input_name="weights")
    except ValueError as error:
        raise ValueError(
            f"weights={weights!r} should be numbers, one a cluster: {error}"
        ) from error
    if values.shape != (n_clusters,):
        raise ValueError(
            f"weights has shape {values.shape}, but should have shape "
            f"(n_clusters,) = {(n_clusters,)}."
        )
    if values.min() <= 0 or not np.isclose(values.sum(), 1):
        raise ValueError(
            f"weights={weights!r} should be positive and sum to 1; they "
            f"sum to {values.sum():.6g} and the smallest is {values.min():.6g}."
        )


def check_magnitudes(params, dtype):
    """Check that numbers leave what is computed with them within the range of floats.

    Parameters
    ----------
    params : dict
        Parameters of an estimator, or rates of a prior, by name. Those without a limit
        here, and those that are no numbers, are left out.
    dtype : dtype
        Of the data.

    Raises
    ------
    ValueError
        If one is too large or too small.
    """
    info = np.finfo(dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    # Energies are divided by the noise variance, and the scale is divided by; atoms
    # move by the learning rate before their squares are taken.
    limits = {
        "alpha": (0.0, eps**2 / tiny),
        "ridge": (0.0, eps**2 / tiny),
        "noise_variance": (eps**2, 1 / eps**2),
        "scale": (tiny, 1 / tiny),
        "learning_rate": (0.0, 1 / eps**2),
        "dictionary_penalty": (0.0, 1 / eps**2),
    }
    for name, (least, most) in limits.items():
        value = params.get(name)
        if isinstance(value, Real) and not least <= value <= most:
            raise ValueError(
                f"{name}={value!r} should be between {least:.3g} and {most:.3g} for "
                f"{np.dtype(dtype)} data, or numbers leave the range of floats."
            )


def first_weights(weights, n_clusters, dtype):
    """Give the weights that a training starts from.

    Parameters
    ----------
    weights : str or array-like of shape (n_clusters,)
        Where they are not given one by one, all are the same.
    n_clusters : int
    dtype : dtype

    Returns
    -------
    weights : ndarray of shape (n_clusters,)

    Raises
    ------
    ValueError
        If the dtype cannot hold one of them.
    """
    if isinstance(weights, str):
        return np.full(n_clusters, 1 / n_clusters, dtype=dtype)
    values = np.array(weights, dtype=dtype)
    tiny = np.finfo(dtype).tiny
    if values.min() < tiny:
        raise ValueError(
            f"weights={weights!r} should be at least {tiny:.3g} each, the smallest "
            f"normal number of {np.dtype(dtype)}; one is {np.min(weights):.3g}."
        )
    return values


def check_n_observed(n_observed, n_clusters):
    """Check that there are rows enough to cluster.

    Parameters
    ----------
    n_observed : int
        Rows with anything observed.
    n_clusters : int

    Raises
    ------
    ValueError
        If there are fewer than clusters.
    """
    if n_observed < n_clusters:
        raise ValueError(
            f"X has n_samples={n_observed} with anything observed; should be "
            f">= n_clusters={n_clusters}."
        )


def numpy_dtype(X):
    """Give the dtype of an array, or of a tensor as an array."""
    return as_numpy(X[:0]).dtype


def drawn_generator(random_state):
    """Draw the generator that shuffles the rows.

    Parameters
    ----------
    random_state : RandomState

    Returns
    -------
    generator : torch.Generator
    """
    return torch.Generator().manual_seed(int(random_state.randint(2**31)))


class Monitor:
    """Runs scikit-learn's callbacks around each epoch, and keeps checkpoints.

    Parameters
    ----------
    estimator : estimator
    task : callback context
        Of the training.
    X, y
        What `fit` was given.
    attributes : callable
        Gives the fitted attributes as they are, by name.
    checkpoint : Checkpoint or None, default=None
    """

    def __init__(self, estimator, task, X, y, attributes, checkpoint=None):
        self.estimator = estimator
        self.task = task
        self.data = {"X": X, "y": y}
        self.attributes = attributes
        self.checkpoint = checkpoint
        if checkpoint is not None:
            for _ in checkpoint.history.losses:
                task.subcontext("epoch")  # run, and seen, before the fit was cut short

    def begin(self):
        """Tell callbacks of a new epoch."""
        self.epoch = self.task.subcontext("epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self):
        """Tell callbacks of the end of the epoch, and return whether to stop."""
        return self.epoch.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=self.attributes,
            **self.data,
        )

    def keep(self, state, history):
        """Write a checkpoint where one is due."""
        if self.checkpoint is not None and self.checkpoint.is_due():
            self.checkpoint.write(state, history)


@contextlib.contextmanager
def printing(verbose):
    """Let the records of the logger through, and print them if nobody else does."""
    if not verbose:
        yield
        return
    level, handler = logger.level, None
    logger.setLevel(logging.INFO)
    if not logger.hasHandlers():
        handler = logging.StreamHandler(sys.stdout)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        if handler is not None:
            logger.removeHandler(handler)


def warn_about_training(estimator, history):
    """Warn of a training that did not end by itself.

    Parameters
    ----------
    estimator : estimator
        Just fitted.
    history : History
    """
    if history.interrupted:
        warnings.warn(
            f"The fit was interrupted after {estimator.n_iter_} whole epochs; the "
            "parameters are those of the last.",
            UserWarning,
            stacklevel=4,
        )
    elif (
        estimator.tol > 0
        and not estimator.converged_
        and estimator.n_iter_ == estimator.max_iter > 0
    ):
        warnings.warn(
            f"The loss was still falling after max_iter={estimator.max_iter} epochs. "
            "Raise max_iter or tol.",
            ConvergenceWarning,
            stacklevel=4,
        )


def warn_about_empty_codes(rate, scale):
    """Warn that no row has a code.

    Parameters
    ----------
    rate : str
        The parameter that is too large.
    scale : float
    """
    warnings.warn(
        f"Every code is empty: {rate} is too large for the data (scale_={scale:.3g}).",
        UserWarning,
        stacklevel=4,
    )


def warn_about_lost_clusters(counts):
    """Warn of clusters that no row belongs to.

    Parameters
    ----------
    counts : ndarray of shape (n_clusters,)
        How many rows belong to each.
    """
    dead = np.flatnonzero(counts == 0)
    if len(dead):
        warnings.warn(
            f"Clusters {dead.tolist()} have no sample left. Try another init or "
            "random_state, or a smaller n_clusters.",
            UserWarning,
            stacklevel=4,
        )
