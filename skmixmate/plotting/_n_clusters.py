"""Evidence for the number of clusters."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..estimators._mixmate import MixMateClustering
from ._common import BLUE, GREY, ORANGE, make_axis, require_pyplot, resolve_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class NClustersDisplay:
    """Score of each number of clusters, and the evidence that it is the sum of.

    Create it by :meth:`from_estimator`; the parameter of the constructor is stored as
    an attribute. A peak of the score that stands out is a number that the data
    determine; of several peaks of nearly the same height each may be right.

    Parameters
    ----------
    scores : mapping of str to array-like of shape (n_candidates,)
        Returned by :func:`~skmixmate.cluster.estimate_n_clusters`.

    Attributes
    ----------
    lines_ : list of Line2D
        Lines of the score, of the sum of the eigengaps, and of the likelihood.
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import NClustersDisplay
    >>> X, _ = make_blobs(300, n_features=5, centers=4, random_state=0)
    >>> mixmate = MixMateClustering("auto", random_state=0).fit(X)
    >>> display = NClustersDisplay.from_estimator(mixmate)
    >>> display.ax_.get_title()
    'n_clusters_ = 4'
    """

    def __init__(self, scores: Mapping[str, npt.ArrayLike]) -> None:
        self.scores = scores

    @classmethod
    def from_estimator(
        cls, estimator: MixMateClustering, *, ax: "Axes | None" = None, **kwargs: Any
    ) -> Self:
        """Draw the evidence that an estimator has found.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted with ``n_clusters="auto"``.
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot` for the line of the score.

        Returns
        -------
        display : NClustersDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If the number of clusters was given.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, _ = resolve_estimator(estimator)
        if mixmate.n_clusters_scores_ is None:
            raise ValueError(
                "estimator has no evidence for the number of clusters, since "
                f"n_clusters_={mixmate.n_clusters_} was given. Fit it with "
                "n_clusters='auto', a name as init, and no array as weights."
            )
        return cls(mixmate.n_clusters_scores_).plot(ax, **kwargs)

    def plot(self, ax: "Axes | None" = None, **kwargs: Any) -> Self:
        """Draw the evidence.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot` for the line of the score.

        Returns
        -------
        display : NClustersDisplay
            This object.
        """
        self.figure_, self.ax_ = make_axis(ax, (5, 3.5), "NClustersDisplay.plot")
        scores = {name: np.asarray(values) for name, values in self.scores.items()}
        numbers, score = scores["n_clusters"], scores["score"]
        gaps = scores["neighbors_gap"] + scores["directions_gap"]
        style = {"marker": "o", "color": BLUE, "label": "score", **kwargs}
        self.lines_ = [
            *self.ax_.plot(numbers, score, **style),
            *self.ax_.plot(numbers, gaps, ":", color=ORANGE, label="eigengaps"),
            *self.ax_.plot(
                numbers, score - gaps, "--", color=GREY, label="normal mixture"
            ),
        ]
        self.ax_.set(
            xlabel="number of clusters",
            ylabel="score",
            title=f"n_clusters_ = {numbers[score.argmax()]}",
        )
        locator: Any = self.ax_.xaxis.get_major_locator()
        locator.set_params(integer=True)
        self.ax_.legend()
        return self
