"""Inference: what a fitted model says of rows."""

import math
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from ._random import private_random_state
from ._rows import (
    Rows,
    as_numpy,
    resolve_device,
    split_by_completeness,
    validate_rows,
)
from ._typing import Answer, Data
from .image._features import ScatteringFeatures
from .model.mixture import Mixture, posterior
from .model.priors import as_prior

# Default alpha: the paper's, and what was found best on scattering coefficients.
_ALPHAS = {"pixels": 0.75, "scattering": 0.2}

# Entries of rows, and of codes, worked on at a time in prediction.
_BLOCK_ENTRIES = 2**19


class MixtureInference(ClusterMixin, TransformerMixin, BaseEstimator):
    """What an estimator answers, once it has dictionaries and what goes with them."""

    alpha: float | str
    prior: Any
    n_layers: int
    step_size: float | str
    noise_variance: float | str
    weights: Any
    representation: str
    device: str | torch.device

    dictionaries_: np.ndarray
    intercepts_: np.ndarray
    weights_: np.ndarray
    scale_: float
    noise_variance_: float
    representation_: ScatteringFeatures | None

    def predict(self, X: Data) -> Answer:
        """Cluster of lowest energy for each sample.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            From 0 to ``n_clusters - 1``.
        """
        return self._answer(X, lambda batch: batch.labels)

    def predict_proba(self, X: Data) -> Answer:
        """Posterior probability of each cluster (Eq. 7).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        probabilities : ndarray or tensor of shape (n_samples, n_clusters)
            Rows sum to 1.
        """
        return self._answer(X, lambda batch: posterior(batch.energies).T)

    def energies(self, X: Data) -> Answer:
        """Energy of each sample in each cluster (Eq. 5).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        energies : ndarray or tensor of shape (n_samples, n_clusters)
            Of the scaled data, without units: ``softmax(-energies)`` is
            :meth:`predict_proba`. The squared error is divided by twice
            `noise_variance_`, and half the logarithm of that is added for every
            observed entry: 1 and 0 for the paper's noise.
        """
        return self._answer(X, lambda batch: batch.energies.T)

    def score_samples(self, X: Data) -> Answer:
        """Logarithm of the density of each sample: a lower bound.

        The code is integrated out, cluster by cluster, under a normal distribution
        that is close to its posterior (a variational bound); what is left out of the
        logarithm is usually less than a tenth for each atom that is near 0. All
        constants are counted, so that models of different `alpha`, `n_atoms`,
        `noise_variance` and `n_clusters` can be compared on samples that they were
        not fitted to.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        log_density : ndarray or tensor of shape (n_samples,)
            Natural logarithm, in the units of X, over the observed entries; of
            the components that are modelled where `representation` is
            "scattering". Minus infinity if `alpha` is 0, which is no density of
            codes. With the prior "nonnegative", and with priors from outside, it is
            ``logsumexp(-energies)`` (Eq. 6), and leaves out a constant: models of
            different codes or noise are then not to be compared.
        """
        return self._answer(X, lambda batch: batch.log_evidence)

    def score(self, X: Data, y: Any = None) -> float:
        """Mean of :meth:`score_samples`; higher is better.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        y : Ignored
            Present by convention.

        Returns
        -------
        score : float
            Mean logarithm of the density of a sample.
        """
        return float(self.score_samples(X).mean())

    def bic(self, X: Data) -> float:
        """Bayesian information criterion of the model for its data; lower is better.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            What the model was fitted to.

        Returns
        -------
        bic : float
            With the bound of :meth:`score_samples` in place of the likelihood. Free
            parameters are the directions of the atoms, the intercepts, weights and a
            noise variance that were learned. With atoms by the dozen these are so many
            that only a great number of samples makes up for them: new samples
            (:meth:`score`) then tell more.
        """
        n_samples = len(as_numpy(X))
        return -2 * n_samples * self.score(X) + self._n_free() * math.log(n_samples)

    def aic(self, X: Data) -> float:
        """Akaike information criterion of the model for its data; lower is better.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            What the model was fitted to.

        Returns
        -------
        aic : float
            See :meth:`bic`.
        """
        return -2 * len(as_numpy(X)) * self.score(X) + 2 * self._n_free()

    def _n_free(self):
        """Count the free parameters."""
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        count = n_clusters * n_atoms * (n_features - 1)  # atoms have norm 1
        if self.intercepts_.any():
            count += n_clusters * n_features
        if isinstance(self.weights, str) and self.weights == "learned":
            count += n_clusters - 1
        return count + (self.noise_variance == "auto")

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
            no image has those that are drawn; if the prior is not one that codes can be
            drawn from: one from outside, or one of rate 0.

        Examples
        --------
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(random_state=0).data
        >>> mixmate = MixMateClustering(3, n_atoms=8, random_state=0).fit(X)
        >>> drawn, labels = mixmate.sample(5, random_state=0)
        >>> drawn.shape, labels.shape
        ((5, 64), (5,))
        """
        self._check_is_fitted()
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise ValueError(f"n_samples={n_samples!r} should be an int, at least 1.")
        if self.representation_ is not None:
            raise ValueError(
                f"representation={self.representation!r} models scattering "
                "coefficients, and no image has those that are drawn; should be "
                "'pixels'."
            )
        rng = private_random_state(random_state)
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        weights = self.weights_.astype(np.float64)
        labels = rng.choice(n_clusters, size=n_samples, p=weights / weights.sum())
        codes = as_prior(self.prior, self._alpha()).draw(n_samples, n_atoms, rng)
        deviation = math.sqrt(self.noise_variance_)
        drawn = deviation * rng.standard_normal((n_samples, n_features))
        for label in np.unique(labels):
            drawn[labels == label] += codes[labels == label] @ self.dictionaries_[label]
        drawn = drawn / self.scale_ + self.intercepts_[labels]
        return drawn.astype(self.dictionaries_.dtype), labels

    def encode(self, X: Data) -> Answer:
        """Sparse codes of each sample in all dictionaries (Eq. 4).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters, n_atoms)
            In the units of X.
        """
        return self._answer(X, lambda batch: batch.codes.permute(2, 0, 1))

    def transform(self, X: Data) -> Answer:
        """Sparse code of each sample in the dictionary of its cluster.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters * n_atoms)
            One block of `n_atoms` columns for each cluster: the code, in the
            units of X, in that of the assigned cluster, zeros in all others.
        """

        def place(batch):
            n_clusters, n_atoms, n_rows = batch.codes.shape
            own = batch.own_codes
            if self.intercepts_.any():
                own[(own == 0).all(dim=1), :1] = torch.finfo(own.dtype).tiny
            blocks = own.new_zeros(n_rows, n_clusters, n_atoms)
            blocks[torch.arange(n_rows), batch.labels] = own
            return blocks.flatten(1)

        return self._answer(X, place)

    def inverse_transform(self, X: Data) -> Answer:
        """Reconstruct samples from what :meth:`transform` gave.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_clusters * n_atoms)
            Codes.

        Returns
        -------
        X_original : ndarray or tensor of shape (n_samples, n_features)
            The combination of atoms that each code stands for, and the
            intercept of the cluster in whose block it lies. A row of zeros,
            which :meth:`transform` never gives with intercepts, tells no
            cluster: it gives their mean, weighted by `weights_`.
        """
        self._check_is_fitted()
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        codes = as_numpy(X)
        codes = check_array(
            codes,
            dtype=[np.float64, np.float32],
            ensure_min_features=0,
            input_name="codes",
        )
        if codes.shape[1] != n_clusters * n_atoms:
            raise ValueError(
                f"X has {codes.shape[1]} columns, but {n_clusters * n_atoms} codes "
                "are expected, as transform gives them."
            )
        atoms = self.dictionaries_.astype(codes.dtype).reshape(-1, n_features)
        used = np.any(codes.reshape(-1, n_clusters, n_atoms), axis=2)
        shares = np.where(used.any(axis=1, keepdims=True), used, self.weights_)
        intercepts = self.intercepts_.astype(codes.dtype)
        features = codes @ atoms + shares.astype(codes.dtype) @ intercepts
        return like(X, self._in_pixels(features))

    def reconstruct(self, X: Data) -> Answer:
        """Every entry of each sample as its cluster explains it.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing, and filled.

        Returns
        -------
        X_reconstructed : ndarray or tensor of shape (n_samples, n_features)
            In the units of X; observed entries are replaced as well.
        """
        features = self._infer(X, lambda batch: batch.reconstructions)
        return like(X, self._in_pixels(features))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns that :meth:`transform` gives.

        Parameters
        ----------
        input_features : Ignored
            Present by convention.

        Returns
        -------
        names : ndarray of str, of shape (n_clusters * n_atoms,)
            "cluster0_atom0", "cluster0_atom1" and so on.
        """
        self._check_is_fitted()
        n_clusters, n_atoms, _ = self.dictionaries_.shape
        return np.array(
            [f"cluster{k}_atom{d}" for k in range(n_clusters) for d in range(n_atoms)],
            dtype=object,
        )

    def __sklearn_is_fitted__(self):
        return hasattr(self, "dictionaries_")

    def _check_is_fitted(self):
        if hasattr(self, "_waiting") and not hasattr(self, "dictionaries_"):
            raise NotFittedError(
                f"partial_fit has seen {len(self._waiting)} rows with anything "
                f"observed, and starts from init_size={self.init_size}. Call it with "
                "more, or set a smaller init_size before."
            )
        check_is_fitted(self)

    def _alpha(self):
        if self.alpha == "auto":
            return _ALPHAS["pixels" if self.representation_ is None else "scattering"]
        return float(self.alpha)

    def _represent(self, X):
        """Images as they are modelled; anything else as it is."""
        if self.representation_ is None:
            return X
        return self.representation_.transform(as_numpy(X))

    def _in_pixels(self, features):
        if self.representation_ is None:
            return features
        return self.representation_.inverse_transform(features)

    def _model(self, X, device, with_intercepts):
        """Bring the parameters to the scale and device of the computation.

        The data are shifted by the mean of the intercepts, so that an origin
        far away costs no precision.
        """
        like = {"dtype": torch_dtype(X), "device": device}
        intercepts = location = None
        if with_intercepts:
            intercepts = torch.as_tensor(self.intercepts_, **like)
            location = intercepts.mean(dim=0)
            intercepts = (intercepts - location) * self.scale_
        mixture = Mixture(
            dictionaries=torch.tensor(self.dictionaries_, **like),
            intercepts=intercepts,
            weights=torch.tensor(self.weights_, **like),
            prior=as_prior(self.prior, self._alpha()),
            n_layers=self.n_layers,
            step_size=None if self.step_size == "auto" else float(self.step_size),
            noise_variance=self.noise_variance_,
        )
        rows = Rows(X, device=device, location=location, scale=self.scale_)
        return mixture, rows

    def _evaluate(self, X, *summaries):
        """Apply functions of an `_Inference` to all rows, a block at a time.

        Returns
        -------
        arrays : list of ndarray
            For each function, what it gave for the rows of X.
        """
        device = resolve_device(self.device, X)
        mixture, rows = self._model(X, device, with_intercepts=self.intercepts_.any())
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        size = max(64, _BLOCK_ENTRIES // max(n_clusters * n_atoms, n_features))
        curvature = mixture.curvature()
        arrays = []
        with torch.no_grad():
            for block in rows.blocks(size):
                for index, *part in split_by_completeness(*rows.take(block)):
                    inferred = mixture.infer(*part, curvature)
                    batch = _Inference(mixture, rows, *part, *inferred)
                    answers = [as_numpy(summary(batch)) for summary in summaries]
                    if not arrays:
                        arrays = [
                            np.empty((len(X), *a.shape[1:]), a.dtype) for a in answers
                        ]
                    for array, answer in zip(arrays, answers, strict=True):
                        array[block][as_numpy(index)] = answer
        return arrays

    def _infer(self, X, summary):
        """Apply a function of an `_Inference` to what a user gives as X."""
        self._check_is_fitted()
        features = self._represent(validate_rows(self, X, reset=False))
        (array,) = self._evaluate(features, summary)
        return array

    def _answer(self, X, summary):
        return like(X, self._infer(X, summary))


class _Inference:
    """What the model infers about a block of rows; answers in units of X."""

    def __init__(self, mixture, rows, values, observed, codes, energies):
        self.energies = energies  # (n_clusters, n_rows)
        self.labels = energies.argmin(dim=0)
        # (n_clusters, n_atoms, n_rows); adding 0 takes the sign off zeros
        self.codes = codes / rows.scale + 0.0
        self._mixture = mixture
        self._rows = rows
        self._values, self._observed = values, observed

    @property
    def own_codes(self):
        """Codes in the assigned clusters, of shape (n_rows, n_atoms)."""
        return self.codes[self.labels, :, torch.arange(len(self.labels))]

    @property
    def log_evidence(self):
        """Bound of the log density of the rows in the units of X, (n_rows,)."""
        values, observed, scale = self._values, self._observed, self._rows.scale
        bounds = self._mixture.log_evidence(
            values, observed, self.codes * scale, self.energies
        )
        n_observed = values.shape[1]
        if observed is not None:
            n_observed = observed.sum(dim=1, dtype=bounds.dtype)
        return bounds + math.log(scale) * n_observed

    @property
    def fullness(self):
        """Share of the own codes that is not zero, of shape (n_rows,)."""
        return (self.own_codes != 0).to(self.codes.dtype).mean(dim=1)

    @property
    def reconstructions(self):
        """Rows as the assigned clusters explain them, (n_rows, n_features)."""
        scaled = self._mixture.decode(self.own_codes * self._rows.scale, self.labels)
        return self._rows.restore(scaled)


def torch_dtype(X):
    return X.dtype if isinstance(X, torch.Tensor) else getattr(torch, X.dtype.name)


def like(X, array):
    """Give an answer in the container, and on the device, of the question."""
    if isinstance(X, torch.Tensor):
        return torch.from_numpy(array).to(X.device)
    return array
