"""Dictionaries: the atoms of each cluster."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline

from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
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
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Number of rows whose codes are computed at a time to measure the usage of atoms.
_BATCH_SIZE = 4096


class DictionaryDisplay:
    """Intercept and atoms of each cluster, one cluster per row.

    Atoms of images are drawn as images, each with its own colour scale: positive pixels
    are red and negative ones blue, and in colour images grey pixels are zero. Atoms of
    tabular data are drawn as step plots, with one step per feature. The number above an
    atom is its index in ``dictionaries_``.

    Create it by :meth:`from_estimator`; the parameters of the constructor are stored
    as attributes.

    Parameters
    ----------
    atoms : ndarray of shape (n_drawn, n_atoms, n_features)
        Atoms of each cluster that is drawn, in the order of drawing.
    indices : ndarray of shape (n_drawn, n_atoms)
        Indices of the atoms in ``dictionaries_``.
    intercepts : ndarray of shape (n_drawn, n_features) or None
        Intercepts in the units of the data; None draws no intercepts.
    clusters : ndarray of shape (n_drawn,)
        Numbers of the clusters.
    image_shape : tuple of int or None
        (height, width) or (height, width, n_channels) if atoms are images.
    name : str, default="cluster"
        What a dictionary is called: "component" where clusters were merged.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_drawn, n_columns)
        Axes of the intercept, if there is one, and of the atoms.
    figure_ : Figure
        Figure containing the axes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import DictionaryDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(
    ...     n_clusters=10, init="kmeans", max_iter=2, tol=0, random_state=0
    ... ).fit(X)
    >>> display = DictionaryDisplay.from_estimator(mixmate, X)
    >>> display.axes_.shape
    (10, 13)
    """

    def __init__(
        self,
        atoms: np.ndarray,
        *,
        indices: np.ndarray,
        intercepts: np.ndarray | None,
        clusters: np.ndarray,
        image_shape: Sequence[int] | None,
        name: str = "cluster",
    ) -> None:
        self.atoms = atoms
        self.indices = indices
        self.intercepts = intercepts
        self.clusters = clusters
        self.image_shape = image_shape
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: MixMateClustering | Pipeline,
        X: Data | None = None,
        *,
        image_shape: Sequence[int] | None = None,
        clusters: npt.ArrayLike | None = None,
        n_atoms: int = 12,
        cmap: "str | Colormap" = "RdBu_r",
        axes: Any = None,
    ) -> Self:
        """Draw the dictionaries of an estimator.

        Parameters
        ----------
        estimator : MixMateClustering or Pipeline that ends in one
            Fitted. If its representation is scattering coefficients, intercepts are
            decoded to pixels, and an atom is drawn as the change of the decoded
            intercept when the atom is added to it.
        X : array-like, tensor or data that are not in memory, default=None
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take. The atoms of each cluster are sorted by usage, the sum
            of ``|code|`` over the samples of the cluster. None keeps their order.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, n_channels) if samples are images.
            None uses the `image_shape_` of the estimator.
        clusters : array-like of int, default=None
            Clusters to draw, in this order; None draws all. Where clusters were
            merged, each dictionary is a component, with a number of its own.
        n_atoms : int, default=12
            Largest number of atoms to draw of each cluster.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colour map of atoms that are images. Its middle is 0.
        axes : array-like of Axes, default=None
            Axes to draw on, a row for each cluster, and a column for the intercept,
            if there is one, and each atom; None makes a new figure.

        Returns
        -------
        display : DictionaryDisplay

        Raises
        ------
        TypeError
            If `estimator` is neither a MixMateClustering nor such a Pipeline.
        ValueError
            If a parameter is out of its range, or X does not fit the estimator.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        mixmate, X = resolve_estimator(estimator, X)
        if not isinstance(n_atoms, Integral) or n_atoms < 1:
            raise ValueError(f"n_atoms={n_atoms!r} should be an integer >= 1.")
        selected = select_clusters(clusters, len(mixmate.dictionaries_))
        shape = resolve_image_shape(image_shape, mixmate)
        order = _sort_atoms(mixmate, X)[selected, :n_atoms]
        intercepts = mixmate.intercepts_[selected]
        atoms = mixmate.dictionaries_[selected[:, None], order]
        if mixmate.representation_ is not None:
            decode = mixmate.representation_.inverse_transform
            origin = intercepts[:, None]
            atoms = decode(origin + atoms) - decode(origin)
            intercepts = decode(intercepts)
        # Clusters without atoms have nothing else to draw.
        has_intercepts = mixmate.intercepts_.any() or atoms.shape[1] == 0
        display = cls(
            atoms,
            indices=order,
            intercepts=intercepts if has_intercepts else None,
            clusters=selected,
            image_shape=shape,
            name=component_name(mixmate),
        )
        return display.plot(cmap=cmap, axes=axes)

    def plot(self, *, cmap: "str | Colormap" = "RdBu_r", axes: Any = None) -> Self:
        """Draw the dictionaries.

        Parameters
        ----------
        cmap : str or Colormap, default="RdBu_r"
            Diverging colour map of atoms that are images. Its middle is 0.
        axes : array-like of Axes of shape (n_drawn, n_columns), default=None
            Axes to draw on; None makes a new figure.

        Returns
        -------
        display : DictionaryDisplay
            This object.
        """
        n_drawn, n_atoms, _ = self.atoms.shape
        first = int(self.intercepts is not None)
        self.figure_, self.axes_ = make_grid(
            axes, (n_drawn, first + n_atoms), (0.85, 0.85), "DictionaryDisplay.plot"
        )
        if self.intercepts is not None:
            self._draw_intercepts(self.intercepts)
        for axes_row, atoms, indices in zip(
            self.axes_[:, first:], self.atoms, self.indices, strict=True
        ):
            for ax, atom, index in zip(axes_row, atoms, indices, strict=True):
                self._draw_atom(ax, atom, cmap)
                ax.set_title(index, fontsize="x-small", pad=2)
        for ax, cluster in zip(self.axes_[:, 0], self.clusters, strict=True):
            ax.set_ylabel(f"{self.name} {cluster}", fontsize="small")
        if self.image_shape is None:
            for ax in self.axes_[-1]:
                ax.set_xlabel("feature", fontsize="x-small")
        return self

    def _draw_intercepts(self, intercepts: np.ndarray) -> None:
        low, high = value_range(intercepts)
        for ax, intercept in zip(self.axes_[:, 0], intercepts, strict=True):
            if self.image_shape is None:
                draw_profile(ax, intercept, low, high, fill=True)
            else:
                draw_image(ax, intercept, self.image_shape, low, high, cmap=None)
        self.axes_[0, 0].set_title("intercept", fontsize="x-small", pad=2)

    def _draw_atom(self, ax: "Axes", atom: np.ndarray, cmap: "str | Colormap") -> None:
        limit = np.abs(atom).max() or 1.0
        if self.image_shape is None:
            draw_profile(ax, atom, -limit, limit, fill=True)
        else:
            draw_image(ax, atom, self.image_shape, -limit, limit, cmap)


def _sort_atoms(estimator: MixMateClustering, X: Data | None) -> np.ndarray:
    """Return the atoms of each cluster by usage, or in their order if X is None."""
    n_clusters, n_atoms, _ = estimator.dictionaries_.shape
    if X is None:
        return np.tile(np.arange(n_atoms), (n_clusters, 1))
    usage = np.zeros(n_clusters * n_atoms)
    for codes in estimator.predict_batches(X, "transform", batch_size=_BATCH_SIZE):
        usage += np.abs(as_array(codes)).sum(axis=0)
    return np.argsort(-usage.reshape(n_clusters, n_atoms), axis=1, kind="stable")
