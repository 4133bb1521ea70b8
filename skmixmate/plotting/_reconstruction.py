"""One sample as every cluster explains it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..data.readers import is_stream
from ..data.streams import stream_chunks
from ..data.validation import validate_rows
from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
    BLUE,
    GREY,
    ORANGE,
    as_array,
    check_mixmate,
    chosen_clusters,
    chosen_image_shape,
    draw_image,
    draw_profile,
    grid,
    limits,
    require_pyplot,
)

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


class ReconstructionDisplay:
    """A sample, its reconstruction by every cluster, and the codes.

    Under each reconstruction stands its code, and under that the mean squared error
    (MSE), the number of non-zeros (L0) and the energy, of which the assigned cluster
    has the least; that one is framed. It is recommended to use
    :meth:`from_estimator`; the parameters of the constructor are stored as
    attributes.

    Parameters
    ----------
    sample : ndarray of shape (n_features,)
        The sample; NaN is missing.
    reconstructions : ndarray of shape (n_drawn, n_features)
        The sample as each cluster explains it.
    codes : ndarray of shape (n_drawn, n_atoms)
        Its code in each cluster.
    energies : ndarray of shape (n_drawn,)
        Its energy in each cluster.
    clusters : ndarray of shape (n_drawn,)
        Numbers of the clusters.
    label : int
        The assigned cluster.
    image_shape : tuple of int or None
        (height, width) or (height, width, n_channels) if the sample is an image.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (2, 1 + n_drawn)
        The sample and its reconstructions; the names of the figures, and the codes.
    figure_ : Figure
        What they are in.

    References
    ----------
    The paper's Fig. 2.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(
    ...     n_clusters=10, init="kmeans", max_iter=2, tol=0, random_state=0
    ... ).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(
    ...     mixmate, X[0], image_shape=(8, 8)
    ... )
    >>> display.axes_.shape
    (2, 11)
    """

    def __init__(
        self,
        sample: np.ndarray,
        *,
        reconstructions: np.ndarray,
        codes: np.ndarray,
        energies: np.ndarray,
        clusters: np.ndarray,
        label: int,
        image_shape: Sequence[int] | None,
    ) -> None:
        self.sample = sample
        self.reconstructions = reconstructions
        self.codes = codes
        self.energies = energies
        self.clusters = clusters
        self.label = label
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        mixmate: MixMateClustering,
        x: Data,
        *,
        image_shape: Sequence[int] | None = None,
        clusters: npt.ArrayLike | None = None,
        cmap: "str | Colormap | None" = None,
        axes: Any = None,
    ) -> Self:
        """Draw how an estimator sees a sample.

        Parameters
        ----------
        mixmate : MixMateClustering
            Fitted.
        x : array-like, tensor or data that are not in memory
            The sample, of shape (n_features,) or (1, n_features), in any form that the
            methods of the estimator take. NaN is missing: such pixels are hatched,
            other features left open, and take no part in the error.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, n_channels) if samples are images.
            None is the `image_shape` of the estimator.
        clusters : array-like of int, default=None
            Clusters to draw, in this order; all if None.
        cmap : str or Colormap, default=None
            Colours of images; None is matplotlib's default.
        axes : array-like of Axes of shape (2, 1 + n_drawn), default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        TypeError
            If `mixmate` is another estimator.
        ValueError
            If x is not one sample, has nothing observed or does not fit the
            estimator, or another parameter is out of its range.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        check_mixmate(mixmate)
        chosen = chosen_clusters(clusters, len(mixmate.dictionaries_))
        shape = chosen_image_shape(image_shape, mixmate)
        X = _as_rows(mixmate, x)
        sample = _the_row(validate_rows(mixmate, X, reset=False))
        if np.isnan(sample).all():
            raise ValueError("x has only missing entries; at least one is needed.")
        codes = as_array(mixmate.encode(X))[0]
        energies = as_array(mixmate.energies(X))[0]
        # Each cluster decodes a copy of the sample, from its own code and intercept.
        alone = np.eye(len(codes), dtype=codes.dtype)
        display = cls(
            sample,
            reconstructions=mixmate._decode(alone[:, :, None] * codes, alone)[chosen],
            codes=codes[chosen],
            energies=energies[chosen],
            clusters=chosen,
            label=int(energies.argmin()),
            image_shape=shape,
        )
        return display.plot(cmap=cmap, axes=axes)

    def plot(self, *, cmap: "str | Colormap | None" = None, axes: Any = None) -> Self:
        """Draw the sample, its reconstructions and codes.

        Parameters
        ----------
        cmap : str or Colormap, default=None
            Colours of images; None is matplotlib's default.
        axes : array-like of Axes of shape (2, 1 + n_drawn), default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : ReconstructionDisplay
            Itself.
        """
        self.figure_, self.axes_ = grid(
            axes, (2, 1 + len(self.clusters)), (1.1, 1.4), "ReconstructionDisplay.plot"
        )
        self._draw_samples(cmap)
        self._draw_codes()
        for k in np.flatnonzero(self.clusters == self.label):
            for ax in self.axes_[:, k + 1]:
                ax.spines[:].set(color=ORANGE, linewidth=2.5)
        return self

    def _draw_samples(self, cmap):
        samples = np.vstack([self.sample, self.reconstructions])
        names = ["sample", *(f"cluster {cluster}" for cluster in self.clusters)]
        low, high = limits(samples)
        if self.image_shape is not None:
            # A reconstruction that overshoots must not pale the sample.
            low, high = limits(self.sample)
        for ax, sample, name in zip(self.axes_[0], samples, names, strict=True):
            if self.image_shape is None:
                draw_profile(ax, self.sample, low, high, fill=True, color=GREY)
            else:
                draw_image(ax, sample, self.image_shape, low, high, cmap)
            ax.set_title(name, fontsize="small")
        if self.image_shape is None:
            self.axes_[0, 0].set_xlabel("feature", fontsize="small")
            self.axes_[0, 0].set_ylabel("value", fontsize="small")
            for ax, sample in zip(self.axes_[0, 1:], samples[1:], strict=True):
                draw_profile(ax, sample, low, high, color=BLUE)

    def _draw_codes(self):
        errors = np.nanmean((self.reconstructions - self.sample) ** 2, axis=1)
        low, high = limits([self.codes.min(initial=0), self.codes.max(initial=0)])
        margin = 0.05 * (high - low)
        header = self.axes_[1, 0]
        header.set(xticks=[], yticks=[], facecolor="none")
        header.spines[:].set_visible(False)
        header.set_xlabel("MSE\nL0\nenergy", fontsize="small")
        for ax, code, error, energy in zip(
            self.axes_[1, 1:], self.codes, errors, self.energies, strict=True
        ):
            used = np.flatnonzero(code)
            ax.axhline(0, color=GREY, linewidth=0.5)
            ax.vlines(used, 0, code[used], color=BLUE)
            ax.set(xlim=(-0.5, max(len(code), 1) - 0.5), xticks=[])
            ax.set(ylim=(low - margin, high + margin), yticks=[])
            ax.set_xlabel(f"{error:.3g}\n{len(used)}\n{energy:.4g}", fontsize="small")
        self.axes_[1, 1].set_ylabel("code", fontsize="small")


def _as_rows(mixmate, x):
    """Bring a sample to the shape of data."""
    if is_stream(x):
        return next(stream_chunks(x, mixmate.image_shape))
    if hasattr(x, "to_frame"):  # a Series knows the names of the features
        return x.to_frame().T
    if isinstance(x, (list, tuple)) and np.ndim(x[0] if x else 0) == 0:
        return [x]
    is_flat = len(getattr(x, "shape", ())) == 1 and hasattr(x, "reshape")
    return x.reshape(1, -1) if is_flat else x


def _the_row(rows):
    """Return the only row of an array, tensor or Source, as an array."""
    if len(rows) != 1:
        raise ValueError(
            f"x has shape {tuple(rows.shape)}, but should be one sample, of shape "
            "(n_features,) or (1, n_features)."
        )
    return as_array(rows[:])[0]
