"""The methods of a fitted estimator that take the model as a whole."""

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array

from ..data.containers import as_numeric, as_numpy
from ..data.dask_arrays import is_dask, map_rows
from ..utils.guards import default_modes
from ..utils.random_state import private_random_state
from ..utils.types import ArrayOut, Data
from ._base import BaseMixMate
from ._inference import FittedModel, restore_container
from ._sample_weight import check_sample_weight
from ._state import count_clusters


class GenerativeMixMate(BaseMixMate):
    """A mixture of dictionaries as a density: drawn from, decoded and compared."""

    fit: Callable[..., Any]

    @property
    def n_clusters_(self) -> int:
        """Number of clusters: given, estimated, or left after merging."""
        return count_clusters(self.weights_, self.component_labels_)

    def fit_predict(
        self, X: Data, y: Any = None, sample_weight: Any = None
    ) -> ArrayOut:
        """Learn the clusters and return the labels of the samples.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            The data; NaN is missing.
        y, sample_weight : array-like of shape (n_samples,), default=None
            See :meth:`fit`.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,)
            Cluster of each sample.
        """
        labels = self.fit(X, y, sample_weight=sample_weight).labels_
        return restore_container(X, labels)

    def score(self, X: Data, y: Any = None, sample_weight: Any = None) -> float:
        """Compute the mean of :meth:`score_samples`; higher is better.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        y : Ignored
            Present by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in the mean.

        Returns
        -------
        score : float
            Mean log-density.
        """
        return self._count_and_score(X, sample_weight)[1]

    @default_modes()
    def inverse_transform(self, X: Data) -> ArrayOut:
        """Reconstruct samples from the codes that :meth:`transform` computed.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_clusters * n_atoms)
            Codes.

        Returns
        -------
        X_original : ndarray or tensor of shape (n_samples, n_features)
            The combination of atoms that each code stands for, plus the intercept of
            the cluster whose columns hold its largest entry. A row of zeros, which
            :meth:`transform` never returns with intercepts, gets the mean of the
            intercepts, weighted by `weights_`.
        """
        self._check_is_fitted()
        if is_dask(X):
            return map_rows(self._for_workers().inverse_transform, X)
        model = self._model()
        n_clusters, n_atoms, _ = self.dictionaries_.shape
        codes = check_array(
            as_numpy(as_numeric(X, "codes")),
            dtype=[np.float64, np.float32],
            ensure_min_features=0,
            input_name="codes",
        )
        if codes.shape[1] != n_clusters * n_atoms:
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {n_clusters * n_atoms} codes "
                "are expected, as transform returns them."
            )
        codes = codes.reshape(len(codes), n_clusters, n_atoms)
        magnitudes = np.abs(codes).max(axis=2, initial=0)  # (n_samples, n_clusters)
        largest = magnitudes.max(axis=1, keepdims=True)
        is_assigned = np.eye(n_clusters)[magnitudes.argmax(axis=1)]
        shares = np.where(largest > 0, is_assigned, self.weights_)
        # A mark is not a code; narrower types round it.
        codes = np.where(largest[:, :, None] > 1.1 * model.state.mark, codes, 0)
        return restore_container(X, model.decode(codes, shares))

    @default_modes()
    def sample(
        self,
        n_samples: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw samples from the model (Eq. 1).

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        random_state : int, RandomState instance or None, default=None
            An int makes the draw reproducible.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            In the units of the data.
        y : ndarray of shape (n_samples,)
            Cluster of each.

        Raises
        ------
        ValueError
            If `n_samples` is less than 1; if scattering coefficients are modelled, as
            no image has those that are drawn; if codes cannot be drawn from the prior:
            a user-defined one without `sample`, or one of rate 0; if its rate is so
            small that samples leave the range of floats, or of counts.

        Examples
        --------
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(random_state=0).data
        >>> mixmate = MixMateClustering(3, n_atoms=8, random_state=0).fit(X)
        >>> samples, labels = mixmate.sample(5, random_state=0)
        >>> samples.shape, labels.shape
        ((5, 64), (5,))
        """
        self._check_is_fitted()
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} should be an int, at least 1.")
        if self.representation_ is not None:
            raise ValueError(
                "sample needs representation='pixels': scattering coefficients are "
                "modelled here, and no image has those that would be drawn."
            )
        return _sample(
            self._model(), int(n_samples), private_random_state(random_state)
        )

    def bic(self, X: Data, sample_weight: Any = None) -> float:
        """Compute the Bayesian information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Data that the model was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            Number of samples that each row stands for; the number of samples is their
            sum.

        Returns
        -------
        bic : float
            With the bound of :meth:`score_samples` in place of the likelihood. Free
            parameters are the directions of the atoms, the intercepts, learned
            weights and rates, and learned parameters of the noise. With atoms by the
            dozen these are so many that only a large number of samples outweighs
            them: the :meth:`score` of new samples is then more informative.
        """
        n_samples, score = self._count_and_score(X, sample_weight)
        return -2 * n_samples * score + _n_parameters(self._model()) * math.log(
            n_samples
        )

    def aic(self, X: Data, sample_weight: Any = None) -> float:
        """Compute the Akaike information criterion; lower is better.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Data that the model was fitted to.
        sample_weight : array-like of shape (n_samples,), default=None
            See :meth:`bic`.

        Returns
        -------
        aic : float
            See :meth:`bic`.
        """
        n_samples, score = self._count_and_score(X, sample_weight)
        return -2 * n_samples * score + 2 * _n_parameters(self._model())

    def _count_and_score(self, X: Data, sample_weight: Any) -> tuple[float, float]:
        """Sum the weights and compute the :meth:`score`, in one pass over X."""
        log_density: Any = self.score_samples(X)
        if is_dask(log_density):
            log_density = log_density.compute()
        log_density = as_numpy(log_density)  # one order of summation for all containers
        weights = check_sample_weight(sample_weight, len(log_density))
        if weights is None:
            return len(log_density), float(log_density.mean())
        # A density of 0 in a sample that does not count is not a number times 0.
        is_counted = weights > 0
        weights, log_density = weights[is_counted], log_density[is_counted]
        return float(weights.sum()), float(np.average(log_density, weights=weights))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns that :meth:`transform` returns.

        Parameters
        ----------
        input_features : Ignored
            Present by convention.

        Returns
        -------
        names : ndarray of str, of shape (n_clusters * n_atoms,)
            "cluster0_atom0", "cluster0_atom1" and so on; "component0_atom0" where
            clusters were merged.
        """
        self._check_is_fitted()
        n_components, n_atoms, _ = self.dictionaries_.shape
        kind = "cluster" if self.component_labels_ is None else "component"
        return np.array(
            [f"{kind}{k}_atom{d}" for k in range(n_components) for d in range(n_atoms)],
            dtype=object,
        )


def _n_parameters(model: FittedModel) -> int:
    """Count the free parameters of a model."""
    state, settings = model.state, model.settings
    n_clusters, n_atoms, n_features = state.dictionaries.shape
    count = n_clusters * n_atoms * (n_features - 1)  # atoms have norm 1
    if state.intercepts.any():
        count += n_clusters * n_features
    if settings.learns_weights:
        count += n_clusters - 1
    if state.has_atom_rates(settings):
        count += state.rates.size  # type: ignore[union-attr]
    count += settings.likelihood.n_learned
    return count + (settings.noise_variance is None)


def _sample(
    model: FittedModel, n_samples: int, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples and their clusters; see `GenerativeMixMate.sample`."""
    state, settings = model.state, model.settings
    likelihood, dtype = state.likelihood, state.dictionaries.dtype
    n_clusters, n_atoms, n_features = state.dictionaries.shape
    weights = state.weights.astype(np.float64)
    labels = rng.choice(n_clusters, size=n_samples, p=weights / weights.sum())
    prior = state.prior(settings, {"dtype": torch.float64})
    noise_std = math.sqrt(state.noise_variance)
    rows = noise_std * likelihood.sample_noise((n_samples, n_features), rng)
    with np.errstate(over="ignore", invalid="ignore"):
        for label in np.unique(labels):
            indices = np.flatnonzero(labels == label)
            codes = prior[slice(label, label + 1)].sample(len(indices), n_atoms, rng)
            rows[indices] += codes @ state.dictionaries[label]
        natural = rows / state.scale + state.intercepts[labels]
        is_possible = np.isfinite(natural.astype(dtype)).all()
    if not is_possible or natural.max() > likelihood.largest_natural:
        raise ValueError(
            f"{settings.rate_description} is too small to draw samples: codes as large "
            f"as it allows lead to entries that are out of range "
            f"(likelihood={likelihood!r}). Fit with a larger one."
        )
    if state.component_labels is not None:
        labels = state.component_labels[labels]
    return likelihood.sample(natural, rng).astype(dtype), labels
