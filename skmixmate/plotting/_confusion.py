"""Known classes against clusters."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..metrics import matching
from ..utils.types import Data
from ._common import as_array, require_pyplot, single

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# What counts are divided by the sums over: clusters, classes or both.
_NORMALIZATIONS = {"true": 1, "pred": 0, "all": None}


class ConfusionDisplay:
    """Samples of each class in each cluster.

    Clusters stand in the order that matches the classes best, so that a good
    clustering is a bright diagonal; those without a class come last. The accuracy of
    this matching is the title. It is recommended to use :meth:`from_estimator` or
    :meth:`from_predictions`; the parameters of the constructor are stored as
    attributes.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_clusters)
        Samples of each class in each cluster, in the order in which they are drawn.
    classes : ndarray of shape (n_classes,)
        Names of the classes.
    clusters : ndarray of shape (n_clusters,)
        Names of the clusters.
    accuracy : float
        Share of samples whose cluster is matched with their class.

    Attributes
    ----------
    image_ : AxesImage
        The picture of the matrix.
    texts_ : list of Text
        Its entries, row by row; those that are 0 are left out.
    ax_ : Axes
        Where they are drawn.
    figure_ : Figure
        What that is in.

    See Also
    --------
    skmixmate.clustering_accuracy_score : The accuracy.
    sklearn.metrics.ConfusionMatrixDisplay : The same for classifiers.

    Examples
    --------
    >>> from skmixmate.plotting import ConfusionDisplay
    >>> display = ConfusionDisplay.from_predictions(
    ...     ["cat", "cat", "dog", "dog"], [1, 1, 0, 2]
    ... )
    >>> display.clusters.tolist(), display.counts.tolist()
    ([1, 0, 2], [[2, 0, 0], [0, 1, 1]])
    """

    def __init__(
        self,
        counts: np.ndarray,
        *,
        classes: np.ndarray,
        clusters: np.ndarray,
        accuracy: float,
    ) -> None:
        self.counts = counts
        self.classes = classes
        self.clusters = clusters
        self.accuracy = accuracy

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Data, y: npt.ArrayLike, **kwargs: Any
    ) -> Self:
        """Draw the clusters that an estimator predicts against known classes.

        Parameters
        ----------
        estimator : estimator with `predict`
            Fitted: MixMateClustering, any other clusterer or a Pipeline.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that `predict` takes.
        y : array-like or tensor of shape (n_samples,)
            Their known classes.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        TypeError
            If the estimator has no `predict`.
        ValueError
            If X and y differ in length, or a parameter is out of its range.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"estimator={estimator!r} should have predict; for one that has not, "
                "give its labels_ to from_predictions."
            )
        return cls.from_predictions(y, estimator.predict(X), **kwargs)

    @classmethod
    def from_predictions(
        cls, y: npt.ArrayLike, labels: npt.ArrayLike, **kwargs: Any
    ) -> Self:
        """Draw clusters against known classes.

        Parameters
        ----------
        y : array-like or tensor of shape (n_samples,)
            Known classes, of any type.
        labels : array-like or tensor of shape (n_samples,)
            Clusters, of any type, fewer or more than classes.
        **kwargs : dict
            For :meth:`plot`.

        Returns
        -------
        display : ConfusionDisplay

        Raises
        ------
        ValueError
            If y and labels differ in length or are empty, or a parameter is out of
            its range.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_predictions")
        y, labels = as_array(y), as_array(labels)
        counts, pairs = matching(y, labels)
        matched = pairs[1]
        # The matched come in the order of their classes.
        order = np.append(matched, np.setdiff1d(np.arange(counts.shape[1]), matched))
        display = cls(
            counts[:, order],
            classes=np.unique(y),
            clusters=np.unique(labels)[order],
            accuracy=float(counts[pairs].sum() / counts.sum()),
        )
        return display.plot(**kwargs)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        normalize: str | None = None,
        include_values: bool = True,
        cmap: "str | Colormap | None" = None,
    ) -> Self:
        """Draw the matrix.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None is a new figure.
        normalize : {"true", "pred", "all"}, default=None
            Draw shares of each class, of each cluster or of all samples; None is
            counts.
        include_values : bool, default=True
            Whether to write the entries that are not 0 into the picture.
        cmap : str or Colormap, default=None
            Colours; None is matplotlib's default.

        Returns
        -------
        display : ConfusionDisplay
            Itself.
        """
        if normalize is not None and normalize not in _NORMALIZATIONS:
            raise ValueError(
                f"normalize={normalize!r} should be 'true', 'pred', 'all' or None."
            )
        n_classes, n_clusters = self.counts.shape
        size = (2.4 + 0.45 * n_clusters, 1.5 + 0.4 * n_classes)
        self.figure_, self.ax_ = single(ax, size, "ConfusionDisplay.plot")
        values = self.counts
        if normalize is not None:
            axis = _NORMALIZATIONS[normalize]
            values = values / values.sum(axis=axis, keepdims=True)
        self.image_ = self.ax_.imshow(values, vmin=0, cmap=cmap)
        self.figure_.colorbar(
            self.image_, ax=self.ax_, label="samples" if normalize is None else "share"
        )
        self.texts_ = self._write(values) if include_values else []
        self.ax_.set(
            xticks=np.arange(n_clusters),
            xticklabels=self.clusters,
            xlabel="cluster",
            yticks=np.arange(n_classes),
            yticklabels=self.classes,
            ylabel="class",
            title=f"accuracy {self.accuracy:.3f}",
        )
        return self

    def _write(self, values):
        """Write entries in the end of the colours that is far from their own."""
        ends = self.image_.cmap([1.0, 0.0])
        form = ".2f" if values.dtype.kind == "f" else "d"
        return [
            self.ax_.text(
                column,
                row,
                format(values[row, column], form),
                color=ends[int(values[row, column] > values.max() / 2)],
                horizontalalignment="center",
                verticalalignment="center",
                fontsize="small",
            )
            for row, column in np.argwhere(values)
        ]
