"""A map of clusters and samples in two dimensions, from energies alone."""

from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline
from sklearn.utils import check_consistent_length

from ..cluster._map import map_points
from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
    as_array,
    compute_energies,
    make_axis,
    require_pyplot,
    resolve_estimator,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap


class MapDisplay:
    """A map: clusters that are similar are near, and doubtful samples between them.

    Each cluster has a place, and each sample lies at a weighted mean of the places,
    with weights that fall with its energies. A sample that one cluster fits far better
    than any other is at the place of this cluster; one that two clusters fit equally
    well is in the middle between them. The distances between the places approximate, as
    far as two dimensions allow, how much worse the samples of one cluster fit the
    other. Numbers mark the clusters.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
        Places of the samples.
    labels : ndarray of shape (n_samples,)
        Cluster of each sample.
    classes : ndarray of shape (n_samples,) or None
        Known classes, which decide the colours; None colours by the clusters.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import MapDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(
    ...     n_clusters=10, init="kmeans", max_iter=2, tol=0, random_state=0
    ... ).fit(X)
    >>> display = MapDisplay.from_estimator(mixmate, X, y)
    >>> display.points.shape
    (1797, 2)
    """

    def __init__(
        self,
        points: np.ndarray,
        *,
        labels: np.ndarray,
        classes: np.ndarray | None,
    ) -> None:
        self.points = points
        self.labels = labels
        self.classes = classes

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        X: Data,
        y: npt.ArrayLike | None = None,
        *,
        cmap: "str | Colormap" = "tab20",
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the map of samples.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted, with at least two clusters.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take; NaN marks missing values.
        y : array-like or tensor of shape (n_samples,), default=None
            Known classes of the samples, for the colours. None colours by cluster.
        cmap : str or Colormap, default="tab20"
            Colour map of the clusters or classes.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : MapDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If the estimator has only one cluster, X does not fit it, or X and y
            differ in length.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, X = resolve_estimator(estimator, X)
        energies = compute_energies(mixmate, X, "a map").astype(np.float64)
        classes = None if y is None else as_array(y)
        check_consistent_length(energies, classes)
        display = cls(
            map_points(energies), labels=energies.argmin(axis=1), classes=classes
        )
        return display.plot(cmap=cmap, ax=ax)

    def plot(
        self, *, cmap: "str | Colormap" = "tab20", ax: "Axes | None" = None
    ) -> Self:
        """Draw the map.

        Parameters
        ----------
        cmap : str or Colormap, default="tab20"
            Colour map of the clusters or classes.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : MapDisplay
            This object.
        """
        self.figure_, self.ax_ = make_axis(ax, (6.4, 5.4), "MapDisplay.plot")
        groups = self.labels if self.classes is None else self.classes
        names, colors = np.unique(groups, return_inverse=True)
        x, y = self.points.T
        dots = self.ax_.scatter(x, y, c=colors, cmap=cmap, s=6, alpha=0.7, linewidths=0)
        for k in np.unique(self.labels):
            self.ax_.annotate(
                str(k),
                np.median(self.points[self.labels == k], axis=0),
                ha="center",
                va="center",
                bbox={"boxstyle": "circle", "facecolor": "white", "alpha": 0.8},
                color="black",
            )
        if self.classes is not None:
            handles, _ = dots.legend_elements(num=list(range(len(names))), alpha=1)
            self.ax_.legend(
                handles,
                names.tolist(),
                title="class",
                loc="center left",
                bbox_to_anchor=(1, 0.5),
            )
        self.ax_.set(xticks=[], yticks=[], aspect="equal")
        return self
