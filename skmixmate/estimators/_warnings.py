"""Warnings of a fit: of its data, and of how it went."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import ConvergenceWarning

from ..training.loop import History
from ._settings import Settings
from ._state import ModelState

# Fraction of non-zero entries in the codes above which alpha is called too small.
_DENSE_CODE_FRACTION = 0.95

# Columns differ in scale if the largest standard deviation is more than this multiple
# of the median, and squared distances depend on fewer than this number of columns.
_MAX_SCALE_RATIO, _MIN_EFFECTIVE_COLUMNS = 10, 4

# So many columns of decreasing variance are principal components, not measurements.
_MIN_COMPONENTS = 5


def warn_about_scales(
    estimator: Any, settings: Settings, stds: npt.NDArray[np.float64]
) -> None:
    """Warn of columns whose scales differ so much that few of them decide.

    Parameters
    ----------
    estimator : estimator
        With the names of the columns, if they have names.
    settings : Settings
    stds : ndarray of shape (n_features,)
        Standard deviations of the columns, 0 for constant ones.
    """
    columns = np.flatnonzero(stds)
    is_measured = (
        settings.image_shape is None and settings.likelihood.has_noise_variance
    )
    if not is_measured or len(columns) < 2 or not np.isfinite(stds).all():
        return
    ascending = columns[np.argsort(stds[columns])]
    median, largest = ascending[(len(columns) - 1) // 2], ascending[-1]
    shares = (stds / stds[largest]) ** 2
    n_effective = shares.sum() ** 2 / (shares**2).sum()
    are_components = (
        len(columns) >= _MIN_COMPONENTS and (np.diff(stds[columns]) < 0).all()
    )
    if (
        stds[largest] <= _MAX_SCALE_RATIO * stds[median]
        or n_effective >= _MIN_EFFECTIVE_COLUMNS
        or are_components
    ):
        return
    names = getattr(estimator, "feature_names_in_", range(len(stds)))
    warnings.warn(
        f"The columns of X have very different scales: column {names[largest]!r} has a "
        f"standard deviation of {stds[largest]:.3g}, and half of the columns have at "
        f"most that of column {names[median]!r}, {stds[median]:.3g}. Few columns then "
        "decide the clusters. If the columns are measured in different units, "
        "standardise them first, with sklearn.preprocessing.StandardScaler.",
        UserWarning,
        stacklevel=4,
    )


def warn_about_training(estimator: Any, history: History) -> None:
    """Warn of a training that did not converge.

    Parameters
    ----------
    estimator : estimator
        Just fitted.
    history : History
    """
    if history.diverged:
        warnings.warn(
            f"The loss is {history.losses[-1]} after {estimator.n_iter_} epochs: the "
            "training has diverged, and the model is useless.",
            UserWarning,
            stacklevel=4,
        )
    elif history.interrupted:
        warnings.warn(
            f"The fit was interrupted after {estimator.n_iter_} whole epochs; the "
            "model has the parameters of the last one.",
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


def warn_about_step_size(step_size: float, gram: torch.Tensor) -> None:
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


def warn_about_codes(
    estimator: Any, settings: Settings, state: ModelState, density: float
) -> None:
    """Warn of codes that are all empty, or nearly full.

    Parameters
    ----------
    estimator : estimator
    settings : Settings
    state : ModelState
    density : float
        Fraction of the assigned codes that is not zero.
    """
    has_atoms = state.dictionaries.shape[1] > 0
    # With noise that is learned, full codes are a property of the data.
    is_given = "auto" not in (estimator.alpha, estimator.noise_variance)
    # Point-like clusters, which atom rates allow for, legitimately have empty codes.
    if has_atoms and density == 0 and not state.has_atom_rates(settings):
        message = (
            f"Every code is empty: {settings.rate_description} is too large for the "
            f"data (scale_={state.scale:.3g}). Pass a smaller one."
        )
    elif is_given and has_atoms and density > _DENSE_CODE_FRACTION:
        message = (
            f"The codes are nearly full ({density:.0%} of their entries are not zero): "
            f"{settings.rate_description} is too small for the data "
            f"(scale_={state.scale:.3g}). Pass a larger one."
        )
    else:
        return
    warnings.warn(message, UserWarning, stacklevel=4)


def warn_about_lost_clusters(counts: np.ndarray) -> None:
    """Warn of clusters that lost all their rows.

    Parameters
    ----------
    counts : ndarray of shape (n_clusters,)
        Rows of each cluster, in all processes.
    """
    dead = np.flatnonzero(counts == 0)
    if len(dead):
        warnings.warn(
            f"Clusters {dead.tolist()} have no sample left. Try another init or "
            "random_state, or a smaller n_clusters.",
            UserWarning,
            stacklevel=4,
        )
