"""The atoms of each cluster."""

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ..estimators._mixmate import MixMateClustering
from ..utils.types import Data
from ._common import (
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

# Rows whose codes are held at a time to count how much atoms are used.
_BLOCK = 4096


class DictionaryDisplay:
    """The intercept and the atoms of each cluster, a cluster in each row.

    Atoms of images are images, red where they add and blue where they take away,
    each with a scale of its own, and those of colour images grey where they do
    nothing; other atoms are steps above and below 0, one a feature. The number above
    an atom is its index in ``dictionaries_``. It is recommended to use
    :meth:`from_estimator`; the parameters of the constructor are stored as
    attributes.

    Parameters
    ----------
    atoms : ndarray of shape (n_drawn, n_atoms, n_features)
        Atoms of each cluster that is drawn, in the order in which they are.
    indices : ndarray of shape (n_drawn, n_atoms)
        Their indices in ``dictionaries_``.
    intercepts : ndarray of shape (n_drawn, n_features) or None
        Intercepts, in the units of the data; None draws none.
    clusters : ndarray of shape (n_drawn,)
        Numbers of the clusters.
    image_shape : tuple of int or None
        (height, width) or (height, width, n_channels) if they are images.

    Attributes
    ----------
    axes_ : ndarray of Axes, of shape (n_drawn, n_columns)
        The intercept, where there is one, and the atoms.
    figure_ : Figure
        What they are in.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate import MixMateClustering
    >>> from skmixmate.plotting import DictionaryDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(
    ...     n_clusters=10, init="kmeans", max_iter=2, tol=0, random_state=0
    ... ).fit(X)
    >>> display = DictionaryDisplay.from_estimator(mixmate, X, image_shape=(8, 8))
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
    ) -> None:
        self.atoms = atoms
        self.indices = indices
        self.intercepts = intercepts
        self.clusters = clusters
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        mixmate: MixMateClustering,
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
        mixmate : MixMateClustering
            Fitted. Where it models scattering coefficients, intercepts are brought
            to pixels by its decoder, and an atom is the difference that adding it
            to the intercept makes.
        X : array-like, tensor or data that are not in memory, default=None
            Samples, of shape (n_samples, n_features), in any form that the methods of
            the estimator take. If given, the atoms that these samples use most come
            first: those of largest sum of ``|code|`` over the samples of the cluster.
            Without, atoms are in the order in which they are stored.
        image_shape : tuple of int, default=None
            (height, width) or (height, width, n_channels) if samples are images.
            None is the `image_shape` of the estimator.
        clusters : array-like of int, default=None
            Clusters to draw, in this order; all if None.
        n_atoms : int, default=12
            Atoms to draw of each, if it has so many.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours of atoms that are images. Its middle is 0.
        axes : array-like of Axes, default=None
            Where to draw, a row for each cluster, with a column more than atoms if
            there are intercepts; None is a new figure.

        Returns
        -------
        display : DictionaryDisplay

        Raises
        ------
        TypeError
            If `mixmate` is another estimator.
        ValueError
            If a parameter is out of its range, or X does not fit the estimator.
        ImportError
            If matplotlib is not installed.
        """
        require_pyplot(f"{cls.__name__}.from_estimator")
        check_mixmate(mixmate)
        if not isinstance(n_atoms, Integral) or n_atoms < 1:
            raise ValueError(f"n_atoms={n_atoms!r} should be an integer >= 1.")
        chosen = chosen_clusters(clusters, len(mixmate.dictionaries_))
        shape = chosen_image_shape(image_shape, mixmate)
        order = _order_of_atoms(mixmate, X)[chosen, :n_atoms]
        intercepts = mixmate.intercepts_[chosen]
        atoms = mixmate.dictionaries_[chosen[:, None], order]
        if mixmate.representation_ is not None:
            decode = mixmate.representation_.inverse_transform
            start = intercepts[:, None]
            atoms = decode(start + atoms) - decode(start)
            intercepts = decode(intercepts)
        # Of clusters without atoms there is nothing else to draw.
        has_intercepts = mixmate.intercepts_.any() or atoms.shape[1] == 0
        display = cls(
            atoms,
            indices=order,
            intercepts=intercepts if has_intercepts else None,
            clusters=chosen,
            image_shape=shape,
        )
        return display.plot(cmap=cmap, axes=axes)

    def plot(self, *, cmap: "str | Colormap" = "RdBu_r", axes: Any = None) -> Self:
        """Draw the dictionaries.

        Parameters
        ----------
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours of atoms that are images. Its middle is 0.
        axes : array-like of Axes of shape (n_drawn, n_columns), default=None
            Where to draw; None is a new figure.

        Returns
        -------
        display : DictionaryDisplay
            Itself.
        """
        n_drawn, n_atoms, _ = self.atoms.shape
        first = int(self.intercepts is not None)
        self.figure_, self.axes_ = grid(
            axes, (n_drawn, first + n_atoms), (0.85, 0.85), "DictionaryDisplay.plot"
        )
        if self.intercepts is not None:
            self._draw_intercepts(self.intercepts)
        for axes_of, atoms, indices in zip(
            self.axes_[:, first:], self.atoms, self.indices, strict=True
        ):
            for ax, atom, index in zip(axes_of, atoms, indices, strict=True):
                self._draw_atom(ax, atom, cmap)
                ax.set_title(index, fontsize="x-small", pad=2)
        for ax, cluster in zip(self.axes_[:, 0], self.clusters, strict=True):
            ax.set_ylabel(f"cluster {cluster}", fontsize="small")
        if self.image_shape is None:
            for ax in self.axes_[-1]:
                ax.set_xlabel("feature", fontsize="x-small")
        return self

    def _draw_intercepts(self, intercepts):
        low, high = limits(intercepts)
        for ax, intercept in zip(self.axes_[:, 0], intercepts, strict=True):
            if self.image_shape is None:
                draw_profile(ax, intercept, low, high, fill=True)
            else:
                draw_image(ax, intercept, self.image_shape, low, high, cmap=None)
        self.axes_[0, 0].set_title("intercept", fontsize="x-small", pad=2)

    def _draw_atom(self, ax, atom, cmap):
        limit = np.abs(atom).max() or 1.0
        if self.image_shape is None:
            draw_profile(ax, atom, -limit, limit, fill=True)
        else:
            draw_image(ax, atom, self.image_shape, -limit, limit, cmap)


def _order_of_atoms(mixmate, X):
    """Atoms of each cluster, the most used first, or as stored if X is None."""
    n_clusters, n_atoms, _ = mixmate.dictionaries_.shape
    if X is None:
        return np.tile(np.arange(n_atoms), (n_clusters, 1))
    usage = np.zeros(n_clusters * n_atoms)
    for codes in mixmate.predict_batches(X, "transform", batch_size=_BLOCK):
        usage += np.abs(as_array(codes)).sum(axis=0)
    return np.argsort(-usage.reshape(n_clusters, n_atoms), axis=1, kind="stable")
