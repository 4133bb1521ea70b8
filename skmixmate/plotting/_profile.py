"""Profiles of clusters: the features that tell each from the others."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.pipeline import Pipeline

from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
    BLUE,
    GREY,
    ORANGE,
    draw_image,
    make_grid,
    require_pyplot,
    resolve_estimator,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Panels beside each other, and their width and height in inches: bars, and images.
_MAX_COLUMNS, _CELL = 3, (3.4, 2.6)
_MAX_IMAGE_COLUMNS, _IMAGE_CELL = 5, (1.6, 1.9)


class ProfileDisplay:
    """The features that tell each cluster from the others, one panel per cluster.

    A bar is the mean part of a feature in the margins of the samples of the cluster,
    the log-odds against the next cluster. It is orange if the mean of the feature is
    higher than in the other clusters, and blue if it is lower. Parts of the pixels of
    images are drawn as an image: red speaks for the cluster, blue against it.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    profile : DataFrame or dict of str to ndarray
        As :meth:`~skmixmate.MixMateClustering.profile` returns it.
    pixels : dict of int to ndarray of shape (n_features,) or None
        Of each cluster, the mean parts of all pixels, if samples are images.
    image_shape : tuple of int or None
        (height, width) or (height, width, n_channels) of these.

    Attributes
    ----------
    axes_ : ndarray of Axes
        One for each cluster that has samples.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import ProfileDisplay
    >>> X = load_iris(as_frame=True).data
    >>> mixmate = MixMateClustering(n_clusters=3, random_state=0).fit(X)
    >>> display = ProfileDisplay.from_estimator(mixmate, X)
    >>> len(display.axes_)
    3
    """

    def __init__(
        self,
        profile: Any,
        *,
        pixels: Mapping[int, np.ndarray] | None,
        image_shape: Sequence[int] | None,
    ) -> None:
        self.profile = profile
        self.pixels = pixels
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        X: Data,
        *,
        n_features: int = 8,
        axes: Any = None,
    ) -> Self:
        """Draw the profiles of the clusters in samples.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted, with at least two clusters, and not to scattering coefficients.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take; NaN marks missing values.
        n_features : int, default=8
            Largest number of features in each panel, unless samples are images.
        axes : array-like of Axes, default=None
            One for each cluster that has samples; None makes a new figure.

        Returns
        -------
        display : ProfileDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline, or
            `n_features` is not an integer.
        ValueError
            If the margins cannot be divided among features, see
            :meth:`~skmixmate.MixMateClustering.explain`, or `n_features` is less than
            1.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, X = resolve_estimator(estimator, X)
        if not isinstance(n_features, Integral) or n_features < 1:
            raise ValueError(f"n_features={n_features!r} should be an integer >= 1.")
        profile = mixmate.profile(X, n_features=int(n_features))
        pixels = None
        if mixmate.image_shape_ is not None:
            explanation = mixmate.explain(X)
            pixels = {
                int(k): explanation.contributions[explanation.labels == k].mean(axis=0)
                for k in np.unique(explanation.labels)
            }
        display = cls(profile, pixels=pixels, image_shape=mixmate.image_shape_)
        return display.plot(axes=axes)

    def plot(self, *, axes: Any = None) -> Self:
        """Draw the profiles.

        Parameters
        ----------
        axes : array-like of Axes, default=None
            One for each cluster that has samples; None makes a new figure.

        Returns
        -------
        display : ProfileDisplay
            This object.
        """
        columns = {name: np.asarray(self.profile[name]) for name in self.profile}
        clusters = np.unique(columns["cluster"])
        n_columns, cell = _MAX_COLUMNS, _CELL
        if self.pixels is not None:
            n_columns, cell = _MAX_IMAGE_COLUMNS, _IMAGE_CELL
        n_columns = min(len(clusters), n_columns)
        shape = math.ceil(len(clusters) / n_columns), n_columns
        if axes is not None:
            shape = 1, len(clusters)
        self.figure_, grid = make_grid(axes, shape, cell, "ProfileDisplay.plot")
        self.axes_ = grid.ravel()[: len(clusters)]
        for ax in grid.ravel()[len(clusters) :]:
            ax.remove()
        for ax, cluster in zip(self.axes_, clusters, strict=True):
            is_cluster = columns["cluster"] == cluster
            rows = {name: values[is_cluster] for name, values in columns.items()}
            title = f"cluster {cluster}: {rows['size'][0]} samples"
            ax.set_title(title, fontsize="small")
            if self.pixels is None or self.image_shape is None:
                _draw_bars(ax, rows)
            else:
                parts = self.pixels[int(cluster)]
                limit = np.abs(parts).max() or 1.0
                draw_image(ax, parts, self.image_shape, -limit, limit, "RdBu_r")
        return self


def _draw_bars(ax: "Axes", columns: Mapping[str, np.ndarray]) -> None:
    """Draw the contributions of features, the most important at the top."""
    is_higher = columns["mean"] > columns["mean_of_others"]
    colors = np.where(is_higher, ORANGE, BLUE)
    rows = np.arange(len(colors))
    ax.barh(rows, columns["contribution"], color=colors)
    ax.set_yticks(rows, columns["feature"], fontsize="small")
    ax.invert_yaxis()
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_xlabel("part of the margin", fontsize="small")
