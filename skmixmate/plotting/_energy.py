"""How clearly samples belong to their clusters."""

from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from ..estimators._mixmate import MixMateClustering
from ..metrics import matching
from ..utils.types import Data
from ._common import BLUE, GREY, ORANGE, as_array, check_mixmate, require_pyplot, single

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Margins below the first, odds of 1.01, are all the same to a reader; the axis starts
# between the two.
_AXIS_STARTS, _N_BINS = (0.01, 0.5), 40


class EnergyDisplay:
    """Distribution, in each cluster, of the margin of energy of its samples.

    The margin is the second lowest energy of a sample less its lowest: the logarithm
    of the odds, in the posterior, of its cluster over the next. Left of the dotted
    line, at 1, a sample could as well belong to the other. Each cluster is a
    histogram, of a height of its own, with a mark at the median; the most ambiguous
    is on top, and those without samples are left out. It is recommended to use
    :meth:`from_estimator`; the parameters of the constructor are stored as
    attributes.

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
        Where they are drawn.
    figure_ : Figure
        What that is in.

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
        mixmate: MixMateClustering,
        X: Data,
        y: npt.ArrayLike | None = None,
        *,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw the margins of samples.

        Parameters
        ----------
        mixmate : MixMateClustering
            Fitted, with at least two clusters.
        X : array-like, tensor or data that are not in memory
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take; NaN is missing.
        y : array-like or tensor of shape (n_samples,), default=None
            Their known classes. If given, samples are coloured by whether their
            cluster is the one that is matched with their class.
        ax : Axes, default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : EnergyDisplay

        Raises
        ------
        TypeError
            If `mixmate` is another estimator.
        ValueError
            If it has one cluster only, X does not fit it, or X and y differ in
            length.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        check_mixmate(mixmate)
        n_clusters = len(mixmate.dictionaries_)
        if n_clusters < 2:
            raise ValueError(
                f"mixmate has n_clusters={n_clusters}; a margin of energy needs at "
                "least 2."
            )
        energies = as_array(mixmate.energies(X))
        lowest, second = np.partition(energies, 1, axis=1)[:, :2].T
        labels = energies.argmin(axis=1)
        correct = None if y is None else _is_matched(as_array(y), labels)
        return cls(second - lowest, labels=labels, correct=correct).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : EnergyDisplay
            Itself.
        """
        clusters = np.unique(self.labels)
        medians = np.array(
            [np.median(self.margins[self.labels == k]) for k in clusters]
        )
        order = np.argsort(medians, kind="stable")
        self.clusters_, rows = clusters[order], np.arange(len(clusters))
        size = (6.4, 1.5 + 0.42 * len(clusters))
        self.figure_, self.ax_ = single(ax, size, "EnergyDisplay.plot")
        start = np.clip(self.margins.min(), *_AXIS_STARTS)
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

    def _draw_histograms(self, edges):
        if self.correct is None:
            parts = {None: (np.ones(len(self.labels), dtype=bool), BLUE)}
        else:
            parts = {"right": (self.correct, BLUE), "wrong": (~self.correct, ORANGE)}
        margins = np.maximum(self.margins, edges[0])
        for row, cluster in enumerate(self.clusters_):
            own = self.labels == cluster
            largest = np.histogram(margins[own], edges)[0].max()
            base = np.full(len(edges) - 1, float(row))
            for name, (part, color) in parts.items():
                counts, _ = np.histogram(margins[own & part], edges)
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


def _is_matched(y, labels):
    """Whether the cluster of each sample is matched with its class."""
    counts, (rows, columns) = matching(y, labels)
    class_of = np.full(counts.shape[1], -1)
    class_of[columns] = rows
    clusters = np.unique(labels, return_inverse=True)[1]
    return class_of[clusters] == np.unique(y, return_inverse=True)[1]
