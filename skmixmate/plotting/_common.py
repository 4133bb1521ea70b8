"""What the displays share: checks, figures, and how a sample is drawn."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..data.containers import as_numpy
from ..estimators._mixmate import MixMateClustering
from ..image._scattering import is_image_shape

# Blue and orange that are told apart by all eyes, on light and dark; and a grey
# that is seen on both.
BLUE, ORANGE, GREY = "#3b8ec4", "#e0701b", "#808080"


def require_pyplot(caller):
    """Import matplotlib.pyplot, or say how to get it.

    Parameters
    ----------
    caller : str
        Name of the function that needs it.

    Returns
    -------
    plt : module
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{caller} needs matplotlib; install it with `pip install skmixmate[plot]`."
        ) from error
    return plt


def check_mixmate(mixmate):
    """Check that a display is given an estimator that it can show."""
    if not isinstance(mixmate, MixMateClustering):
        raise TypeError(
            f"mixmate={mixmate!r} should be a fitted MixMateClustering; of a Pipeline "
            "it is the last step, and X what the steps before make of the data."
        )
    check_is_fitted(mixmate)


def as_array(values):
    """Convert answers of an estimator, or known classes, to an array in memory.

    Parameters
    ----------
    values : array-like, tensor or dask array

    Returns
    -------
    values : ndarray
    """
    return np.asarray(as_numpy(values))


def chosen_clusters(clusters, n_clusters):
    """Clusters to draw: those given, or all.

    Parameters
    ----------
    clusters : array-like of int or None
    n_clusters : int

    Returns
    -------
    clusters : ndarray of int
    """
    if clusters is None:
        return np.arange(n_clusters)
    chosen = np.asarray(clusters)
    is_index = chosen.ndim == 1 and len(chosen) and chosen.dtype.kind in "iu"
    if not is_index or chosen.min() < 0 or chosen.max() >= n_clusters:
        raise ValueError(
            f"clusters={clusters!r} should be a list of integers from 0 to "
            f"{n_clusters - 1}."
        )
    return chosen


def chosen_image_shape(image_shape, mixmate):
    """Shape to draw samples in: the one given, or that of the estimator.

    Returns
    -------
    image_shape : tuple of int or None
        None if neither says that samples are images.
    """
    if image_shape is None:
        return mixmate.image_shape
    shape = tuple(np.atleast_1d(image_shape).tolist())
    if not is_image_shape(shape) or math.prod(shape) != mixmate.n_features_in_:
        raise ValueError(
            f"image_shape={image_shape!r} should be (height, width) or "
            "(height, width, n_channels), integers that multiply to "
            f"n_features={mixmate.n_features_in_}."
        )
    return shape


def grid(axes, shape, cell, caller):
    """Make a grid of axes, or take the one given.

    Parameters
    ----------
    axes : array-like of Axes or None
    shape : tuple of int
        (n_rows, n_columns).
    cell : tuple of float
        Width and height, in inches, of an axis in a figure of its own.
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
    given = np.asarray(axes)
    if given.size != n_rows * n_columns:
        raise ValueError(
            f"axes has shape {given.shape}, but should have shape {shape}, an axis "
            "for each picture."
        )
    return given.flat[0].figure, given.reshape(shape)


def single(ax, size, caller):
    """Make a figure of one axis, or take the axis given.

    Parameters
    ----------
    ax : Axes or None
    size : tuple of float
        Width and height in inches of a figure of its own.
    caller : str
        Name of the function that draws.

    Returns
    -------
    figure : Figure
    ax : Axes
    """
    plt = require_pyplot(caller)
    if ax is None:
        return plt.subplots(figsize=size, layout="constrained")
    return ax.figure, ax


def limits(values):
    """Least and largest of values that may miss some, and never the same."""
    low, high = np.nanmin(values), np.nanmax(values)
    return low, high if high > low else low + 1


def draw_image(ax, values, image_shape, low, high, cmap):
    """Draw a sample as an image; missing pixels are hatched.

    Three channels are red, green and blue; of any other number they are drawn side
    by side.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (n_pixels,)
        NaN is missing.
    image_shape : tuple of int
    low, high : float
        What the ends of the colours stand for.
    cmap : str, Colormap or None
        None is matplotlib's default.
    """
    image = values.reshape(image_shape)
    if np.isnan(image).any():
        ax.patch.set(hatch="//////", edgecolor=GREY)
    if image.shape[2:] == (3,):
        seen = ~np.isnan(image).any(axis=2)
        colors = np.clip((image - low) / (high - low), 0, 1)
        image = np.dstack([np.nan_to_num(colors), seen])
    elif image.ndim == 3:
        image = image.transpose(0, 2, 1).reshape(len(image), -1)
    ax.imshow(image, vmin=low, vmax=high, cmap=cmap, interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def draw_profile(ax, values, low, high, **kwargs):
    """Draw a sample that is no image as steps, one a feature.

    Parameters
    ----------
    ax : Axes
    values : ndarray of shape (n_features,)
        NaN is missing, and left open.
    low, high : float
        Ends of the axis.
    **kwargs : dict
        For :meth:`matplotlib.axes.Axes.stairs`.
    """
    ax.stairs(values, np.arange(len(values) + 1) - 0.5, **kwargs)
    margin = 0.05 * (high - low)
    ax.set(xticks=[], yticks=[], ylim=(low - margin, high + margin))
