"""Margins of energy: how clearly samples belong to their clusters."""

from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from ..estimators._mixmate import MixMateClustering
from ..metrics import matching
from ..utils.types import Data
from ._common import (
    BLUE,
    GREY,
    ORANGE,
    as_array,
    compute_energies,
    make_axis,
    require_pyplot,
    resolve_estimator,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Smallest and largest start of the axis: margins below 0.01, odds of 1.01, are all
# equally ambiguous.
_AXIS_START_RANGE, _N_BINS = (0.01, 0.5), 40


class EnergyDisplay:
    """Histograms of the margins of energy of the samples of each cluster.

    The margin is the second lowest energy of a sample minus the lowest: the posterior
    log odds of its cluster against the next one. A large margin means that one cluster
    fits the sample far better than any other; left of the dotted line, at 1, the sample
    is ambiguous. Each cluster has one histogram, scaled to its maximum, with a mark at
    the median. The most ambiguous cluster is at the top; empty clusters are omitted.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    margins : ndarray of shape (n_samples,)
        Margin of energy of each sample.
    labels : ndarray of shape (n_samples,)
        Cluster of each sample.
    correct : ndarray of bool, of shape (n_samples,), or None
        Whether the cluster of each sample is matched with its class; None if the
        classes are not known.

    Attributes
    ----------
    clusters_ : ndarray of int
        Clusters from top to bottom: by median margin.
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import EnergyDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(
    ...     n_clusters=10, init="kmeans", max_iter=2, tol=0, random_state=0
    ... ).fit(X)
    >>> display = EnergyDisplay.from_estimator(mixmate, X, y)
    >>> len(display.clusters_)
    10
    """

    def __init__(
        self,
        margins: np.ndarray,
        *,
        labels: np.ndarray,
        correct: np.ndarray | None,
    ) -> None:
        self.margins = margins
        self.labels = labels
        self.correct = correct

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        X: Data,
        y: npt.ArrayLike | None = None,
        *,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the margins of samples.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted, with at least two clusters.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take; NaN marks missing values.
        y : array-like or tensor of shape (n_samples,), default=None
            Known classes of the samples. If given, samples are coloured by whether
            their cluster is matched with their class.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : EnergyDisplay

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
        energies = compute_energies(mixmate, X, "a margin of energy")
        lowest, second = np.partition(energies, 1, axis=1)[:, :2].T
        labels = energies.argmin(axis=1)
        correct = None if y is None else _is_matched(as_array(y), labels)
        return cls(second - lowest, labels=labels, correct=correct).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : EnergyDisplay
            This object.
        """
        clusters = np.unique(self.labels)
        medians = np.array(
            [np.median(self.margins[self.labels == k]) for k in clusters]
        )
        order = np.argsort(medians, kind="stable")
        self.clusters_, rows = clusters[order], np.arange(len(clusters))
        size = (6.4, 1.5 + 0.42 * len(clusters))
        self.figure_, self.ax_ = make_axis(ax, size, "EnergyDisplay.plot")
        start = np.clip(self.margins.min(), *_AXIS_START_RANGE)
        end = max(2.0, 1.01 * self.margins.max())
        edges = np.geomspace(start, end, _N_BINS + 1)
        self.ax_.axvline(1, color=GREY, linestyle=":")
        self._draw_histograms(edges)
        self.ax_.vlines(
            np.maximum(medians[order], edges[0]),
            rows,
            rows - 0.9,
            color=self.ax_.xaxis.label.get_color(),
            label="median",
        )
        self.ax_.set(
            xscale="log",
            xlim=edges[[0, -1]],
            xlabel="margin of energy (log odds over the next cluster)",
            ylim=(len(rows) - 0.85, -1),
            yticks=rows,
            yticklabels=[f"{k} ({np.sum(self.labels == k)})" for k in self.clusters_],
            ylabel="cluster (samples)",
        )
        self.ax_.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        return self

    def _draw_histograms(self, edges: np.ndarray) -> None:
        groups: dict[str | None, tuple[np.ndarray, str]]
        if self.correct is None:
            groups = {None: (np.ones(len(self.labels), dtype=bool), BLUE)}
        else:
            groups = {"right": (self.correct, BLUE), "wrong": (~self.correct, ORANGE)}
        margins = np.maximum(self.margins, edges[0])
        for row, cluster in enumerate(self.clusters_):
            in_cluster = self.labels == cluster
            largest = np.histogram(margins[in_cluster], edges)[0].max()
            base = np.full(len(edges) - 1, float(row))
            for name, (in_group, color) in groups.items():
                counts, _ = np.histogram(margins[in_cluster & in_group], edges)
                # The axis points down.
                top = base - 0.85 * counts / largest
                self.ax_.stairs(
                    top,
                    edges,
                    baseline=base,
                    fill=True,
                    color=color,
                    label=name if row == 0 else None,
                )
                base = top


def _is_matched(y: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return whether the cluster of each sample is matched with its class."""
    counts, (rows, columns) = matching(y, labels)
    class_of = np.full(counts.shape[1], -1)
    class_of[columns] = rows
    clusters = np.unique(labels, return_inverse=True)[1]
    classes = np.unique(y, return_inverse=True)[1]
    return np.equal(class_of[clusters], classes)
