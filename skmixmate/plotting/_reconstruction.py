"""Reconstructions of one sample by all clusters."""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

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
    component_name,
    draw_image,
    draw_profile,
    make_grid,
    require_pyplot,
    resolve_estimator,
    resolve_image_shape,
    select_clusters,
    value_range,
)

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


class ReconstructionDisplay:
    """A sample, its reconstruction by every cluster, and the codes.

    Below each reconstruction are its code, the mean squared error (MSE), the number of
    non-zero entries of the code (L0) and the energy. The assigned cluster, which has
    the lowest energy, is framed.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    sample : ndarray of shape (n_features,)
        The sample; NaN marks missing values.
    reconstructions : ndarray of shape (n_drawn, n_features)
        Reconstruction of the sample by each cluster.
    codes : ndarray of shape (n_drawn, n_atoms)
        Code of the sample in each cluster.
    energies : ndarray of shape (n_drawn,)
        Energy of the sample in each cluster.
    clusters : ndarray of shape (n_drawn,)
        Numbers of the clusters.
    label : int
        The assigned cluster.
    image_shape : tuple of int or None
        (height, width) or (height, width, n_channels) if the sample is an image.
    name : str, default="cluster"
        What a dictionary is called: "component" where clusters were merged.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (2, 1 + n_drawn)
        First row: the sample and its reconstructions. Second row: the names of the
        numbers, and the codes.
    figure_ : Figure
        Figure containing the axes.

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
    >>> display = ReconstructionDisplay.from_estimator(mixmate, X[0])
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
        name: str = "cluster",
    ) -> None:
        self.sample = sample
        self.reconstructions = reconstructions
        self.codes = codes
        self.energies = energies
        self.clusters = clusters
        self.label = label
        self.image_shape = image_shape
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        x: Data,
        *,
        image_shape: Sequence[int] | None = None,
        clusters: npt.ArrayLike | None = None,
        cmap: "str | Colormap | None" = None,
        axes: Any = None,
    ) -> Self:
        """Draw the reconstructions of a sample by an estimator.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted.
        x : array-like, tensor or data that are not in memory
            The sample, of shape (n_features,) or (1, n_features), in any form that the
            methods of the estimator take. NaN marks missing values: pixels are hatched,
            other features leave a gap, and both are ignored in the error.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, n_channels) if samples are images.
            None uses the `image_shape_` of the estimator.
        clusters : array-like of int, default=None
            Clusters to draw, in this order; None draws all. Where clusters were
            merged, each dictionary is a component, with a number of its own.
        cmap : str or Colormap, default=None
            Colour map of images; None uses the default of matplotlib.
        axes : array-like of Axes of shape (2, 1 + n_drawn), default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If x is not one sample, has only missing values or does not fit the
            estimator, or another parameter is out of its range.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, _ = resolve_estimator(estimator)
        selected = select_clusters(clusters, len(mixmate.dictionaries_))
        shape = resolve_image_shape(image_shape, mixmate)
        mixmate, X = resolve_estimator(estimator, _to_rows(mixmate, x))
        sample = _single_row(validate_rows(mixmate, X, reset=False))
        if np.isnan(sample).all():
            raise ValueError("x has only missing entries; at least one is needed.")
        codes = as_array(mixmate.encode(X))[0]
        components = copy.copy(mixmate)
        components.component_labels_ = None  # the energies of each dictionary
        energies = as_array(components.energies(X))[0]
        # Each cluster decodes a copy of the sample, from its own code and intercept.
        one_hot = np.eye(len(codes), dtype=codes.dtype)
        reconstructions = mixmate._model().decode(one_hot[:, :, None] * codes, one_hot)
        display = cls(
            sample,
            reconstructions=reconstructions[selected],
            codes=codes[selected],
            energies=energies[selected],
            clusters=selected,
            label=int(energies.argmin()),
            image_shape=shape,
            name=component_name(mixmate),
        )
        return display.plot(cmap=cmap, axes=axes)

    def plot(self, *, cmap: "str | Colormap | None" = None, axes: Any = None) -> Self:
        """Draw the sample, its reconstructions and codes.

        Parameters
        ----------
        cmap : str or Colormap, default=None
            Colour map of images; None uses the default of matplotlib.
        axes : array-like of Axes of shape (2, 1 + n_drawn), default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : ReconstructionDisplay
            This object.
        """
        self.figure_, self.axes_ = make_grid(
            axes, (2, 1 + len(self.clusters)), (1.1, 1.4), "ReconstructionDisplay.plot"
        )
        self._draw_samples(cmap)
        self._draw_codes()
        for k in np.flatnonzero(self.clusters == self.label):
            for ax in self.axes_[:, k + 1]:
                ax.spines[:].set(color=ORANGE, linewidth=2.5)
        return self

    def _draw_samples(self, cmap: "str | Colormap | None") -> None:
        samples = np.vstack([self.sample, self.reconstructions])
        names = ["sample", *(f"{self.name} {cluster}" for cluster in self.clusters)]
        low, high = value_range(samples)
        if self.image_shape is not None:
            # The range of the sample alone: reconstructions may overshoot.
            low, high = value_range(self.sample)
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

    def _draw_codes(self) -> None:
        errors = np.nanmean((self.reconstructions - self.sample) ** 2, axis=1)
        low, high = value_range([self.codes.min(initial=0), self.codes.max(initial=0)])
        margin = 0.05 * (high - low)
        header = self.axes_[1, 0]
        header.set(xticks=[], yticks=[], facecolor="none")
        header.spines[:].set_visible(False)
        header.set_xlabel("MSE\nL0\nenergy", fontsize="small")
        for ax, code, error, energy in zip(
            self.axes_[1, 1:], self.codes, errors, self.energies, strict=True
        ):
            nonzero = np.flatnonzero(code)
            ax.axhline(0, color=GREY, linewidth=0.5)
            ax.vlines(nonzero, 0, code[nonzero], color=BLUE)
            ax.set(xlim=(-0.5, max(len(code), 1) - 0.5), xticks=[])
            ax.set(ylim=(low - margin, high + margin), yticks=[])
            ax.set_xlabel(
                f"{error:.3g}\n{len(nonzero)}\n{energy:.4g}", fontsize="small"
            )
        self.axes_[1, 1].set_ylabel("code", fontsize="small")


def _to_rows(estimator: MixMateClustering, x: Any) -> Any:
    """Convert a sample to data with one row."""
    if is_stream(x):
        return next(stream_chunks(x, estimator.image_shape_))
    if hasattr(x, "to_frame"):  # a Series knows the names of the features
        return x.to_frame().T
    if isinstance(x, (list, tuple)) and np.ndim(x[0] if x else 0) == 0:
        return [x]
    shape = getattr(x, "shape", ())
    is_single = len(shape) == 1 or tuple(shape) == estimator.image_shape_
    return x.reshape(1, -1) if is_single and hasattr(x, "reshape") else x


def _single_row(rows: Any) -> np.ndarray:
    """Return the only row of an array, tensor or reader, as an array."""
    if len(rows) != 1:
        raise ValueError(
            f"x has shape {tuple(rows.shape)}, but should be one sample, of shape "
            "(n_features,) or (1, n_features)."
        )
    return as_array(rows[:])[0]
