"""Loss curve of a fit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from sklearn.pipeline import Pipeline

from ..estimators._mixmate import MixMateClustering
from ._common import make_axis, require_pyplot, resolve_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LossCurveDisplay:
    """Mean loss of each epoch.

    Create it by :meth:`from_estimator`; the parameter of the constructor is stored as
    an attribute.

    Parameters
    ----------
    loss_curve : sequence of float
        Mean loss of each epoch.

    Attributes
    ----------
    line_ : Line2D
        Line of the curve.
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.datasets import make_sparse_mixture
    >>> from skmixmate.plotting import LossCurveDisplay
    >>> X = make_sparse_mixture(200, random_state=0).data
    >>> fits = [
    ...     MixMateClustering(4, learning_rate=rate, max_iter=5, tol=0).fit(X)
    ...     for rate in (1e-3, 1e-2)
    ... ]
    >>> display = LossCurveDisplay.from_estimator(fits[0], label="slow")
    >>> display = LossCurveDisplay.from_estimator(
    ...     fits[1], ax=display.ax_, label="fast"
    ... )
    >>> len(display.ax_.lines)
    2
    """

    def __init__(self, loss_curve: Sequence[float]) -> None:
        self.loss_curve = loss_curve

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        *,
        ax: "Axes | None" = None,
        label: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the loss curve of an estimator.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted for at least one epoch.
        ax : Axes, default=None
            Axes to draw on, which may hold other curves; None makes a new figure.
        label : str, default=None
            Name of the curve in the legend.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If it was not fitted for any epoch.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, _ = resolve_estimator(estimator)
        if not mixmate.loss_curve_:
            raise ValueError(
                f"estimator has no loss curve: n_iter_={mixmate.n_iter_} epochs were "
                f"run (max_iter={mixmate.max_iter}). Fit it with max_iter >= 1."
            )
        return cls(mixmate.loss_curve_).plot(ax, label=label, **kwargs)

    def plot(
        self, ax: "Axes | None" = None, *, label: str | None = None, **kwargs: Any
    ) -> Self:
        """Draw the loss curve.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on, which may hold other curves; None makes a new figure.
        label : str, default=None
            Name of the curve in the legend.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : LossCurveDisplay
            This object.
        """
        self.figure_, self.ax_ = make_axis(ax, (5, 3.5), "LossCurveDisplay.plot")
        epochs = range(1, len(self.loss_curve) + 1)
        style = {"marker": ".", "label": label, **kwargs}
        (self.line_,) = self.ax_.plot(epochs, self.loss_curve, **style)
        self.ax_.set(xlabel="epoch", ylabel="mean loss")
        locator: Any = self.ax_.xaxis.get_major_locator()
        locator.set_params(integer=True)
        if label is not None:
            self.ax_.legend()
        return self
