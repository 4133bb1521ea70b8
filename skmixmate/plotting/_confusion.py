"""Confusion matrix of known classes and clusters."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..metrics import matching
from ..utils.types import Data
from ._common import as_array, make_axis, require_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Axes whose sums the counts are divided by; None is the sum over both.
_NORMALIZATIONS = {"true": 1, "pred": 0, "all": None}


class ConfusionDisplay:
    """Confusion matrix of classes and clusters.

    Clusters are ordered by the best matching with the classes, so that a good
    clustering shows as a bright diagonal; clusters that match no class are last. The
    title is the accuracy of the matching.

    Create it by :meth:`from_estimator` or :meth:`from_predictions`; the parameters of
    the constructor are stored as attributes.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_clusters)
        Numbers of samples of each class in each cluster, in the order of drawing.
    classes : ndarray of shape (n_classes,)
        Names of the classes.
    clusters : ndarray of shape (n_clusters,)
        Names of the clusters.
    accuracy : float
        Fraction of samples whose cluster is matched with their class.

    Attributes
    ----------
    image_ : AxesImage
        Image of the matrix.
    texts_ : list of Text
        Texts of the non-zero entries, row by row.
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure containing the axes.

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
        """Draw the confusion matrix of known classes and predicted clusters.

        Parameters
        ----------
        estimator : estimator with `predict`
            Fitted: MixMateClustering, any other clusterer or a Pipeline.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that `predict` takes.
        y : array-like or tensor of shape (n_samples,)
            Known classes of the samples.
        **kwargs : dict
            Passed to :meth:`plot`.

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
                f"estimator={estimator!r} has no method predict; pass its labels_ to "
                "from_predictions instead."
            )
        return cls.from_predictions(y, estimator.predict(X), **kwargs)

    @classmethod
    def from_predictions(
        cls, y: npt.ArrayLike, labels: npt.ArrayLike, **kwargs: Any
    ) -> Self:
        """Draw the confusion matrix of known classes and clusters.

        Parameters
        ----------
        y : array-like or tensor of shape (n_samples,)
            Known classes, of any type.
        labels : array-like or tensor of shape (n_samples,)
            Clusters, of any type; their number may differ from the classes.
        **kwargs : dict
            Passed to :meth:`plot`.

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
        # Matched clusters are in the order of their classes.
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
            Axes to draw on; None makes a new figure.
        normalize : {"true", "pred", "all"}, default=None
            Draw fractions of each class, of each cluster or of all samples; None
            draws counts.
        include_values : bool, default=True
            Whether to write the non-zero entries into the image.
        cmap : str or Colormap, default=None
            Colour map; None uses the default of matplotlib.

        Returns
        -------
        display : ConfusionDisplay
            This object.
        """
        if normalize is not None and normalize not in _NORMALIZATIONS:
            raise ValueError(
                f"normalize={normalize!r} should be 'true', 'pred', 'all' or None."
            )
        n_classes, n_clusters = self.counts.shape
        size = (2.4 + 0.45 * n_clusters, 1.5 + 0.4 * n_classes)
        self.figure_, self.ax_ = make_axis(ax, size, "ConfusionDisplay.plot")
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

    def _write(self, values: np.ndarray) -> list[Any]:
        """Write the entries in a colour that contrasts with their background."""
        colors = self.image_.cmap([1.0, 0.0])
        form = ".2f" if values.dtype.kind == "f" else "d"
        return [
            self.ax_.text(
                column,
                row,
                format(values[row, column], form),
                color=colors[int(values[row, column] > values.max() / 2)],
                horizontalalignment="center",
                verticalalignment="center",
                fontsize="small",
            )
            for row, column in np.argwhere(values)
        ]
