"""What the estimators share in fitting: checks, epochs as others see them, warnings."""

import contextlib
import logging
import math
import sys
import threading
import warnings
from numbers import Real

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array

from ..data.containers import as_numpy
from ..image._scattering import is_image_shape
from ..training.em import logger


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
        if isinstance(value, np.generic):  # the limits may be more than its type holds
            value = value.item()
        if isinstance(value, Real) and not least <= value <= most:
            raise ValueError(
                f"{name}={value!r} should be between {least:.3g} and {most:.3g} for "
                f"{np.dtype(dtype)} data, or numbers leave the range of floats."
            )


def initial_weights(weights, n_clusters, dtype):
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


def make_generator(random_state):
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


class _Printer(logging.StreamHandler):
    """Prints records to the standard output, where no other handler takes them."""

    def __init__(self):
        logging.Handler.__init__(self)

    @property
    def stream(self):
        """What is the standard output when a record comes."""
        return sys.stdout

    def filter(self, record):
        """Let a record through if no handler of a user gets it."""
        node = logger
        while node is not None:
            if any(handler is not self for handler in node.handlers):
                return False
            node = node.parent if node.propagate else None
        return super().filter(record)


class _Verbosity:
    """Lets the records of verbose fits through the logger, and those of no other fit.

    Fits may run in several threads. While any of them is verbose the logger has the
    level INFO and a handler that prints; a filter holds back what other threads log and
    the logger would not have let through before.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_verbose = 0
        self._own = threading.local()
        self._printer = _Printer()

    def begin(self, verbose):
        """Note that a fit begins in this thread."""
        self._fits().append(bool(verbose))
        if not verbose:
            return
        with self._lock:
            self._n_verbose += 1
            if self._n_verbose > 1:
                return
            self._level, self._effective_level = (
                logger.level,
                logger.getEffectiveLevel(),
            )
            if self._effective_level > logging.INFO:
                logger.setLevel(logging.INFO)
            logger.addFilter(self.filter)
            logger.addHandler(self._printer)

    def end(self):
        """Note that the fit that began last in this thread has ended."""
        if not self._fits().pop():
            return
        with self._lock:
            self._n_verbose -= 1
            if self._n_verbose:
                return
            logger.removeHandler(self._printer)
            logger.removeFilter(self.filter)
            # Unless somebody else has set another meanwhile.
            if self._effective_level > logging.INFO and logger.level == logging.INFO:
                logger.setLevel(self._level)

    def filter(self, record):
        """Let a record through if its fit is verbose, or it would have been anyway."""
        fits = self._fits()
        is_verbose = bool(fits) and fits[-1]
        return is_verbose or record.levelno >= self._effective_level

    def _fits(self):
        """Whether each of the fits that run in this thread is verbose."""
        return self._own.__dict__.setdefault("fits", [])


_verbosity = _Verbosity()


@contextlib.contextmanager
def log_to_stdout(verbose):
    """Let the records of a fit through the logger, and print them if nobody else does.

    Fits in other threads, verbose or not, are not affected; once no verbose fit runs
    the logger is as it was.

    Parameters
    ----------
    verbose : bool or int
        Whether to.
    """
    _verbosity.begin(verbose)
    try:
        yield
    finally:
        _verbosity.end()


def warn_about_training(estimator, history):
    """Warn of a training that did not end by itself.

    Parameters
    ----------
    estimator : estimator
        Just fitted.
    history : History
    """
    if history.diverged:
        warnings.warn(
            f"The loss is {history.losses[-1]} after {estimator.n_iter_} epochs: the "
            "training has diverged, and the model is of no use.",
            UserWarning,
            stacklevel=4,
        )
    elif history.interrupted:
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


def warn_about_step_size(step_size, gram):
    """Warn of a step size with which FISTA may diverge.

    Parameters
    ----------
    step_size : float
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        Gram matrices of the dictionaries.
    """
    if not gram.numel():
        return
    # Along an eigenvector a layer multiplies the error by a factor
    # c = 1 - step_size * eigenvalue, with a momentum m < 1; it shrinks if
    # -c * (1 + 2 * m) < 1.
    limit = 4 / 3 / float(torch.linalg.eigvalsh(gram).max())
    if step_size > limit:
        warnings.warn(
            f"step_size={step_size!r} is larger than {limit:.3g}, beyond which FISTA "
            "may diverge with these dictionaries; codes, energies and labels are then "
            "wrong. Use a smaller one, or step_size='auto', which cannot diverge.",
            UserWarning,
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
