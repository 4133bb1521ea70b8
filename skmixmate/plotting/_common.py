"""Functions shared by the displays: checks, figures, and drawing of samples."""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..data.containers import as_numpy
from ..estimators._mixmate import MixMateClustering
from ..image._scattering import is_image_shape
from ..utils.types import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure, SubFigure

# Blue and orange can be distinguished with any colour vision, and all three colours are
# visible on a light and a dark background.
BLUE, ORANGE, GREY = "#3b8ec4", "#e0701b", "#808080"


def require_pyplot(caller: str) -> Any:
    """Import matplotlib.pyplot.

    Parameters
    ----------
    caller : str
        Name of the function that needs it, for the error message.

    Returns
    -------
    plt : module

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib; install it with `pip install skmixmate[plot]`."
        ) from error
    return plt


def resolve_estimator(
    estimator: Any, X: Data | None = None
) -> tuple[MixMateClustering, Any]:
    """Return the model of an estimator or Pipeline, and the samples it is applied to.

    Parameters
    ----------
    estimator : MixMateClustering or Pipeline
        Fitted. The last step of a Pipeline should be a MixMateClustering.
    X : array-like, tensor or data that are not in memory, default=None
        Samples. The other steps of a Pipeline transform them.

    Returns
    -------
    mixmate : MixMateClustering
    X : array-like, tensor or data that are not in memory, or None
        As `mixmate` takes it.

    Raises
    ------
    TypeError
        If `estimator` is another object.
    NotFittedError
        If it is not fitted.
    """
    mixmate = estimator
    if isinstance(estimator, Pipeline):
        mixmate = estimator[-1]
    if not isinstance(mixmate, MixMateClustering):
        raise TypeError(
            f"estimator={estimator!r} should be a fitted MixMateClustering, or a "
            "Pipeline that ends in one."
        )
    check_is_fitted(mixmate)
    if X is None or mixmate is estimator or len(estimator) == 1:
        return mixmate, X
    X = estimator[:-1].transform(X)
    names = _feature_names_out(estimator[:-1])
    if hasattr(mixmate, "feature_names_in_") or names is None:
        return mixmate, X
    mixmate = copy.copy(mixmate)
    mixmate.feature_names_in_ = names
    return mixmate, _with_names(X, names)


def _feature_names_out(steps: Pipeline) -> np.ndarray | None:
    """Return the names of transformed features, if all steps know them."""
    try:
        names: np.ndarray = steps.get_feature_names_out()
    except (AttributeError, ValueError):
        return None
    return names


def _with_names(X: Any, names: np.ndarray) -> Any:
    """Return samples with names of features, if they are an array."""
    try:
        import pandas as pd
    except ImportError:
        return X
    return pd.DataFrame(X, columns=names) if isinstance(X, np.ndarray) else X


def as_array(values: Any) -> np.ndarray:
    """Convert outputs of an estimator, or known classes, to an array in memory.

    Parameters
    ----------
    values : array-like, tensor or dask array

    Returns
    -------
    values : ndarray
    """
    return np.asarray(as_numpy(values))


def compute_energies(estimator: MixMateClustering, X: Data, purpose: str) -> np.ndarray:
    """Compute energies for a display that compares clusters.

    Parameters
    ----------
    estimator : MixMateClustering
        Fitted.
    X : array-like, tensor or data that are not in memory
    purpose : str
        What is drawn, for the error message.

    Returns
    -------
    energies : ndarray of shape (n_samples, n_clusters)

    Raises
    ------
    ValueError
        If there is only one cluster, or X does not fit the estimator.
    """
    n_clusters = estimator.n_clusters_
    if n_clusters < 2:
        raise ValueError(
            f"estimator has n_clusters={n_clusters}; {purpose} needs at least 2."
        )
    return as_array(estimator.energies(X))


def select_clusters(clusters: npt.ArrayLike | None, n_clusters: int) -> np.ndarray:
    """Check the clusters to draw, or select all.

    Parameters
    ----------
    clusters : array-like of int or None
        None selects all.
    n_clusters : int

    Returns
    -------
    clusters : ndarray of int
    """
    if clusters is None:
        return np.arange(n_clusters)
    selected = np.asarray(clusters)
    is_index = selected.ndim == 1 and len(selected) and selected.dtype.kind in "iu"
    if not is_index or selected.min() < 0 or selected.max() >= n_clusters:
        raise ValueError(
            f"clusters={clusters!r} should be a list of integers from 0 to "
            f"{n_clusters - 1}."
        )
    return selected


def component_name(estimator: MixMateClustering) -> str:
    """Return what a dictionary is called: a cluster may consist of several."""
    return "cluster" if estimator.component_labels_ is None else "component"


def resolve_image_shape(
    image_shape: Sequence[int] | None, estimator: MixMateClustering
) -> Sequence[int] | None:
    """Check the shape of images, or use the parameter of the estimator.

    Parameters
    ----------
    image_shape : sequence of int or None
        None uses the `image_shape_` of the estimator.
    estimator : MixMateClustering

    Returns
    -------
    image_shape : sequence of int or None
        None if both are None.
    """
    if image_shape is None:
        return estimator.image_shape_
    shape = tuple(np.atleast_1d(image_shape).tolist())
    if not is_image_shape(shape) or math.prod(shape) != estimator.n_features_in_:
        raise ValueError(
            f"image_shape={image_shape!r} should be (height, width) or "
            "(height, width, n_channels), integers that multiply to "
            f"n_features={estimator.n_features_in_}."
        )
    return shape


def make_grid(
    axes: Any, shape: tuple[int, int], cell: tuple[float, float], caller: str
) -> tuple[Any, np.ndarray]:
    """Make a figure with a grid of axes, or check the grid of the user.

    Parameters
    ----------
    axes : array-like of Axes or None
    shape : tuple of int
        (n_rows, n_columns).
    cell : tuple of float
        Width and height of one axis in a new figure, in inches.
    caller : str
        Name of the function that draws.

    Returns
    -------
    figure : Figure
    axes : ndarray of Axes, of the given shape
    """
    plt = require_pyplot(caller)
    n_rows, n_columns = shape
    if axes is None:
        size = (cell[0] * n_columns, cell[1] * n_rows)
        return plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    axes = np.asarray(axes)
    if axes.size != n_rows * n_columns:
        raise ValueError(
            f"axes has shape {axes.shape}, but should have shape {shape}, one axis "
            "for each picture."
        )
    return axes.flat[0].figure, axes.reshape(shape)


def make_axis(
    ax: "Axes | None", size: tuple[float, float], caller: str
) -> "tuple[Figure | SubFigure, Axes]":
    """Make a figure with one axis, or use the axis of the user.

    Parameters
    ----------
    ax : Axes or None
    size : tuple of float
        Width and height of a new figure, in inches.
    caller : str
        Name of the function that draws.

    Returns
    -------
    figure : Figure
    ax : Axes
    """
    plt = require_pyplot(caller)
    if ax is None:
        figure, ax = plt.subplots(figsize=size, layout="constrained")
        return figure, ax
    return ax.figure, ax


def value_range(values: npt.ArrayLike) -> tuple[float, float]:
    """Return the minimum and a larger maximum of values, ignoring NaN."""
    low, high = np.nanmin(values), np.nanmax(values)
    return low, high if high > low else low + 1


def draw_image(
    ax: "Axes",
    values: np.ndarray,
    image_shape: Sequence[int],
    low: float,
    high: float,
    cmap: "str | Colormap | None",
) -> None:
    """Draw a sample as an image; missing pixels are hatched.

    Three channels are drawn as red, green and blue, any other number side by side.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (n_pixels,)
        NaN marks missing pixels.
    image_shape : sequence of int
    low, high : float
        Values at the ends of the colour map.
    cmap : str, Colormap or None
        None uses the default of matplotlib.
    """
    image = values.reshape(image_shape)
    if np.isnan(image).any():
        ax.patch.set(hatch="//////", edgecolor=GREY)
    if image.shape[2:] == (3,):
        opacity = ~np.isnan(image).any(axis=2)
        colors = np.clip((image - low) / (high - low), 0, 1)
        image = np.dstack([np.nan_to_num(colors), opacity])
    elif image.ndim == 3:
        image = image.transpose(0, 2, 1).reshape(len(image), -1)
    ax.imshow(image, vmin=low, vmax=high, cmap=cmap, interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def draw_profile(
    ax: "Axes", values: np.ndarray, low: float, high: float, **kwargs: Any
) -> None:
    """Draw a sample of tabular data as a step plot, with one step per feature.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (n_features,)
        NaN marks missing values, which leave a gap.
    low, high : float
        Range of values of the axis.
    **kwargs : dict
        Passed to :meth:`matplotlib.axes.Axes.stairs`.
    """
    ax.stairs(values, np.arange(len(values) + 1) - 0.5, **kwargs)
    margin = 0.05 * (high - low)
    ax.set(xticks=[], yticks=[], ylim=(low - margin, high + margin))
