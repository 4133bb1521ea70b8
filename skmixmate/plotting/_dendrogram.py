"""Tree in which clusters merge."""

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.cluster.hierarchy import dendrogram
from sklearn.pipeline import Pipeline

from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
    BLUE,
    GREY,
    as_array,
    draw_image,
    make_axis,
    require_pyplot,
    resolve_estimator,
    value_range,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Height of the pictures of the clusters, as a fraction of the height of the tree.
_PICTURE_HEIGHT = 0.14


class DendrogramDisplay:
    """Tree in which clusters merge, with a picture of each cluster if X has images.

    A cluster is a leaf, with the number of its samples. The height at which two
    branches meet is their distance, see
    :meth:`MixMateClustering.cut <skmixmate.MixMateClustering.cut>`. Long branches
    separate clusters that are far apart; a cut through many of them is a number of
    clusters that the data suggest.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    linkage : ndarray of shape (n_clusters - 1, 4)
        The tree, in the format of scipy.
    sizes : ndarray of int, of shape (n_clusters,)
        Samples of each cluster.
    images : ndarray of shape (n_clusters, height, width[, n_channels]) or None
        Picture of each cluster; None draws none.

    Attributes
    ----------
    clusters_ : ndarray of int, of shape (n_clusters,)
        Clusters from left to right.
    ax_ : Axes
        Axes of the tree.
    image_axes_ : list of Axes
        Axes of the pictures, from left to right; empty without images.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import DendrogramDisplay
    >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
    >>> mixmate = MixMateClustering(6, random_state=0).fit(X)
    >>> display = DendrogramDisplay.from_estimator(mixmate, n_clusters=4)
    >>> sorted(display.clusters_.tolist())
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(
        self,
        linkage: np.ndarray,
        *,
        sizes: np.ndarray,
        images: np.ndarray | None,
    ) -> None:
        self.linkage = linkage
        self.sizes = sizes
        self.images = images

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        X: Data | None = None,
        *,
        n_clusters: int | None = None,
        ax: "Axes | None" = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the tree of the clusters of an estimator.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted, with at least two clusters.
        X : array-like or tensor, default=None
            Images, as rows or as an array of images; NaN marks missing pixels. The
            picture of a cluster is the mean of its images. None draws no pictures.
        n_clusters : int, default=None
            Number of clusters at which a dotted line cuts the tree, as
            ``estimator.cut(n_clusters)`` does; None draws no line.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to :func:`scipy.cluster.hierarchy.dendrogram`.

        Returns
        -------
        display : DendrogramDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If the estimator has only one cluster, `n_clusters` is out of its range, or
            X has no images.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, X = resolve_estimator(estimator, X)
        if mixmate.n_clusters_ < 2:
            raise ValueError("estimator has n_clusters_=1; a tree needs at least 2.")
        sizes = np.bincount(mixmate.labels_, minlength=mixmate.n_clusters_)
        images = None
        if X is not None:
            sizes, images = _mean_images(mixmate, X)
        display = cls(mixmate.linkage_, sizes=sizes, images=images)
        return display.plot(n_clusters=n_clusters, ax=ax, **kwargs)

    def plot(
        self, *, n_clusters: int | None = None, ax: "Axes | None" = None, **kwargs: Any
    ) -> Self:
        """Draw the tree.

        Parameters
        ----------
        n_clusters : int, default=None
            Number of clusters at which a dotted line cuts the tree; None draws no
            line.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to :func:`scipy.cluster.hierarchy.dendrogram`.

        Returns
        -------
        display : DendrogramDisplay
            This object.
        """
        n_leaves = len(self.sizes)
        if n_clusters is not None and not 1 <= n_clusters <= n_leaves:
            raise ValueError(
                f"n_clusters={n_clusters!r} should be from 1 to {n_leaves}."
            )
        size = (max(5.0, 0.55 * n_leaves), 4.0)
        self.figure_, self.ax_ = make_axis(ax, size, "DendrogramDisplay.plot")
        style = {"color_threshold": 0, "above_threshold_color": BLUE, **kwargs}
        drawn = dendrogram(self.linkage, ax=self.ax_, **style)
        self.clusters_ = np.array(drawn["leaves"])
        labels = [f"{k}\n({self.sizes[k]})" for k in self.clusters_]
        self.ax_.set_xticks(10 * np.arange(n_leaves) + 5, labels, rotation=0)
        self.ax_.set(xlabel="cluster (samples)", ylabel="distance")
        if n_clusters is not None:
            distances = self.linkage[:, 2]
            heights = np.array([0, *distances, 1.1 * distances[-1]])
            merges = n_leaves - n_clusters
            height = heights[merges : merges + 2].mean()
            self.ax_.axhline(height, linestyle=":", color=GREY)
        self.image_axes_: list[Axes] = []
        if self.images is not None:
            self._draw_images(self.images)
        return self

    def _draw_images(self, images: np.ndarray) -> None:
        """Draw the pictures between the leaves and their numbers."""
        low, high = value_range(images)
        width = 9 / (10 * len(images))
        for place, cluster in enumerate(self.clusters_):
            left = (place + 0.05) / len(images)
            bounds = (left, -_PICTURE_HEIGHT - 0.02, width, _PICTURE_HEIGHT)
            ax = self.ax_.inset_axes(bounds)
            if not np.isnan(images[cluster]).all():  # it has samples
                shape = images.shape[1:]
                draw_image(ax, images[cluster].ravel(), shape, low, high, cmap=None)
            ax.set_axis_off()
            self.image_axes_.append(ax)
        self.ax_.tick_params(axis="x", pad=42, length=0)


def _mean_images(
    estimator: MixMateClustering, X: Data
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of images of each cluster, and their means."""
    shape = estimator.image_shape_
    if shape is None:
        raise ValueError(
            "X should be None where rows are no images: the estimator has "
            "image_shape_=None."
        )
    labels = as_array(estimator.predict(X))
    rows = as_array(X).reshape(len(labels), math.prod(shape))
    sizes = np.bincount(labels, minlength=estimator.n_clusters_)
    images = np.full((len(sizes), *shape), np.nan)
    for k in np.flatnonzero(sizes):
        images[k] = np.nanmean(rows[labels == k], axis=0).reshape(shape)
    return sizes, images
