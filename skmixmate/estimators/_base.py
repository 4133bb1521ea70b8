"""Inference: what a fitted model says of rows."""

import copy
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_scalar
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted

from ..data.batch import Batch
from ..data.containers import as_numeric, as_numpy, as_tensor
from ..data.dask_arrays import compute_blocks, is_dask, map_rows
from ..data.loader import (
    RowLoader,
    check_squares,
    resolve_device,
    rows_beyond_squares,
    validate_rows,
)
from ..data.readers import MapReader, is_stream, stream_chunks
from ..image._features import IMAGES_AT_A_TIME, ScatteringFeatures
from ..model.exponential import ExponentialMixture
from ..model.gaussian import NormalMixture
from ..model.likelihoods import LIKELIHOODS
from ..model.posterior import posterior
from ..model.priors import AtomwiseLaplace, as_prior
from ..utils.guards import default_modes
from ..utils.numbers import largest_magnitude
from ..utils.random_state import private_random_state
from ..utils.types import ArrayOut, Data
from ._fitting import numpy_dtype

# Default alpha: the paper's, and what was found best on scattering coefficients, counts
# and binary entries.
_ALPHAS = {"pixels": 0.75, "scattering": 0.2, "poisson": 1.0, "bernoulli": 0.5}

# Entries of rows, and of codes, worked on at a time in prediction.
_BLOCK_ENTRIES = 2**19

# Mark of the cluster of an empty code, in standard deviations of the noise: far below
# these, and yet a number that neither float16 nor a scaler loses.
_MARK = 1e-4

# Blocks of answers that are given, or written, at a time.
_BATCH_BLOCKS = 8


class Inference(ClusterMixin, TransformerMixin, BaseEstimator):
    """What an estimator answers from energies, whatever they are made of.

    That is said by `_fitted_model`, `_block_size` and `_explained`, and by `_OUTPUTS`:
    what each method makes of what is inferred about a block of rows.
    """

    device: str | torch.device
    image_shape: Sequence[int] | None
    weights: Any

    labels_: np.ndarray

    # Parameters that answers depend on. `_settings` has them as they were in the fit; a
    # later `set_params` is for the next one.
    _answering: tuple[str, ...] = ()
    _settings: dict[str, Any]

    _OUTPUTS = {
        "predict": lambda batch: batch.labels,
        "predict_proba": lambda batch: posterior(batch.energies).T,
        "energies": lambda batch: batch.energies.T,
        "score_samples": lambda batch: (-batch.energies).logsumexp(dim=0),
    }

    def fit_predict(self, X: Data, y: Any = None) -> ArrayOut:
        """Learn the clusters and return that of each sample.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The data; NaN is missing.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; handed on to callbacks.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,)
            Cluster of each sample.
        """
        return like(X, self.fit(X, y).labels_)

    # What `out` is cannot be routed through a Pipeline or a search.
    __metadata_request__predict = {"out": UNUSED}
    __metadata_request__predict_proba = {"out": UNUSED}
    __metadata_request__transform = {"out": UNUSED}

    def predict(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Cluster of lowest energy for each sample.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples,), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            From 0 to ``n_clusters - 1``.
        """
        return self._answer(X, "predict", out)

    def predict_proba(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Posterior probability of each cluster (Eq. 7).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        probabilities : ndarray or tensor of shape (n_samples, n_clusters)
            Rows sum to 1.
        """
        return self._answer(X, "predict_proba", out)

    def energies(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Energy of each sample in each cluster (Eq. 5).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        energies : ndarray or tensor of shape (n_samples, n_clusters)
            Of the scaled data, without units: ``softmax(-energies)`` is
            :meth:`predict_proba`. Where atoms have `rates_`, with the logarithm of
            the volume of each cluster.

        Raises
        ------
        ValueError
            If a row is so far from the clusters that the dtype of X cannot hold its
            energy.

        Raises
        ------
        ValueError
            If the dtype of X cannot hold the energy of a row that is far from all
            clusters.
        """
        return self._answer(X, "energies", out)

    def score_samples(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Logarithm of the evidence of each sample, up to a constant (Eq. 6).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples,), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        log_evidence : ndarray or tensor of shape (n_samples,)
            ``logsumexp(-energies)``. The constant depends on `alpha` and
            `n_atoms`: models that differ in these are not to be compared by it.

        Raises
        ------
        ValueError
            As :meth:`energies`.
        """
        return self._answer(X, "score_samples", out)

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
            As :meth:`score_samples` gives it.
        """
        return float(self.score_samples(X).mean())

    def predict_batches(
        self, X: Data, method: str = "predict", *, batch_size: int | None = None
    ) -> Iterator[ArrayOut]:
        """Give what a method answers, some samples at a time.

        Neither X nor the answers need fit into memory.

        Parameters
        ----------
        X : array-like, tensor, or data that are not in memory
            Of shape (n_samples, n_features), as any method takes them, or a stream;
            NaN is missing.
        method : {"predict", "predict_proba", "transform", "encode", "energies", \
                "reconstruct", "score_samples"}, default="predict"
            Whose answers are wanted, by name as in
            :func:`sklearn.model_selection.cross_val_predict`.
        batch_size : int, default=None
            Samples in each batch of answers, but for the last; by default such that
            there are about four million entries. It makes no difference to the answers.

        Yields
        ------
        answers : ndarray or tensor of shape (at most batch_size, ...)
            In the order of X; put together, they are what the method returns.
            `set_output` makes no difference to them.

        Raises
        ------
        ValueError
            If `method` is another or `batch_size` less than 1; and as by the method.
        TypeError
            If `batch_size` is no integer.

        Examples
        --------
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(2000, random_state=0).data
        >>> mixmate = MixMateClustering(3, n_atoms=8, random_state=0).fit(X)
        >>> for probabilities in mixmate.predict_batches(
        ...     X, "predict_proba", batch_size=800
        ... ):
        ...     print(probabilities.shape)
        (800, 3)
        (800, 3)
        (400, 3)
        """
        self._check_is_fitted()
        if method not in self._OUTPUTS:
            raise ValueError(
                f"method={method!r} should be one of {list(self._OUTPUTS)}."
            )
        if batch_size is not None:
            check_scalar(batch_size, "batch_size", Integral, min_val=1)
        if is_stream(X) or is_dask(X):
            parts = (
                compute_blocks(X) if is_dask(X) else stream_chunks(X, self.image_shape)
            )
            parts = (validate_rows(self, part, reset=False) for part in parts)
        else:
            parts = [validate_rows(self, X, reset=False)]
        return (like(X, batch) for batch in self._batches(parts, method, batch_size))

    def _check_is_fitted(self):
        check_is_fitted(self)

    def _keep_settings(self):
        """Keep what answers depend on; called when a fit begins."""
        self._settings = {name: getattr(self, name) for name in self._answering}

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_settings" not in state:  # pickled by an earlier version
            self._keep_settings()

    def _features(self, X):
        """Rows as they are modelled."""
        return X

    def _infer(self, X, *summaries):
        """Apply functions of what is inferred to all rows, a block at a time.

        Yields
        ------
        block : slice
        answers : list of ndarray
            For each function, what it gave for these rows.
        """
        device = resolve_device(self.device, X)
        with default_modes():
            mixture, rows = self._fitted_model(X, device)
            precomputed = mixture.precompute()

        def parts_of(block):
            values, observed = rows.load(block)
            near, far = slice(None), rows_beyond_squares(values)
            if len(far):
                yield far, self._in_float64(rows, block, far, summaries)
                is_near = torch.ones(len(values), dtype=torch.bool, device=far.device)
                near = (is_near.index_fill_(0, far, False)).nonzero()[:, 0]
                if not len(near):
                    return
                values = values[near]
                observed = None if observed is None else observed[near]
            for index, part in Batch(values, observed).completeness_groups():
                batch = self._explained(mixture, rows, part, precomputed)
                answers = [as_numpy(summary(batch)) for summary in summaries]
                yield index if isinstance(near, slice) else near[index], answers

        # Not around the loop: what takes the answers keeps the caller's modes.
        @default_modes()
        @torch.no_grad()
        def answers_in(block):
            arrays = []
            for index, answers in parts_of(block):
                if isinstance(index, slice):  # nothing is missing
                    return answers
                if not arrays:
                    shape = (block.stop - block.start,)
                    arrays = [
                        np.empty(shape + answer.shape[1:], answer.dtype)
                        for answer in answers
                    ]
                for array, answer in zip(arrays, answers, strict=True):
                    array[as_numpy(index)] = answer
            return arrays

        for block in rows.chunks(self._block_size()):
            yield block, answers_in(block)

    def _in_float64(self, rows, block, far, summaries):
        """Apply functions to rows that are too far out for the squares of float32.

        Parameters
        ----------
        rows : Rows
        block : slice
        far : int tensor of shape (n_far,)
            Which rows of the block.
        summaries : sequence of callable

        Returns
        -------
        answers : list of ndarray
            In the dtype of the rows.

        Raises
        ------
        ValueError
            If the rows are float64 already, or that dtype cannot hold an answer.
        """
        X = rows.X[block]
        if isinstance(X, torch.Tensor):
            X = X[far.to(X.device)]
        else:
            X = torch.from_numpy(X[as_numpy(far)])
        if X.dtype == torch.float64:
            largest = float(rows.load(block)[0].abs().max()) / rows.scale
            check_squares(largest, rows.scale, X.dtype, X.shape[1])
        ((_, answers),) = self._infer(X.double(), *summaries)
        return [narrowed(answer, numpy_dtype(X)) for answer in answers]

    def _evaluate(self, X, *summaries):
        """Apply functions of what is inferred to all rows.

        Returns
        -------
        arrays : list of ndarray
            For each function, what it gave for the rows of X.
        """
        arrays = []
        for block, answers in self._infer(X, *summaries):
            if not arrays:
                arrays = [np.empty((len(X), *a.shape[1:]), a.dtype) for a in answers]
            for array, answer in zip(arrays, answers, strict=True):
                array[block] = answer
        return arrays

    def _answer(self, X, method, out):
        """Answer as a method does, in an array of its own or in one that is given."""
        self._check_is_fitted()
        if is_dask(X):
            if out is not None:
                raise ValueError(
                    "out should be None where X is a dask array, whose answers come "
                    "when they are wanted; dask.array.store writes them somewhere."
                )
            answer = partial(self._without_results()._answer, method=method, out=None)
            return map_rows(answer, X)
        if is_stream(X):
            if out is not None:
                raise ValueError(
                    f"out should be None where X is a {type(X).__name__} without "
                    "length; predict_batches gives answers as they come."
                )
            return np.concatenate(list(self.predict_batches(X, method)))
        rows = validate_rows(self, X, reset=False)
        if out is None:
            (array,) = self._evaluate(self._features(rows), self._OUTPUTS[method])
            return like(X, array)
        # One row tells the shape and dtype of all answers.
        one = np.array(as_numpy(rows[:1]))
        (answer,) = self._evaluate(self._features(one), self._OUTPUTS[method])
        check_out(out, (len(rows), *answer.shape[1:]), answer.dtype)
        n_written = 0
        for batch in self._batches([rows], method):
            out[n_written : n_written + len(batch)] = like(out, batch)
            n_written += len(batch)
        return out

    def _batches(self, parts, method, batch_size=None):
        """Answers to parts of X, which were checked, one batch after the other."""
        blocks = (
            answer
            for rows in parts
            for _, (answer,) in self._infer(self._features(rows), self._OUTPUTS[method])
        )
        return rechunk(blocks, batch_size or _BATCH_BLOCKS * self._block_size())

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted estimator to a file, for :func:`skmixmate.load`.

        The file holds the parameters and fitted attributes as arrays and JSON;
        unlike a pickle it runs no code when it is loaded. It is written whole or
        not at all. Callbacks, what `set_output` chose, and what ``partial_fit`` keeps
        for the next call, are not stored.

        Parameters
        ----------
        path : str or path-like
            Replaced if it is there; it keeps its mode, and where that is allowed its
            owner and group. Any suffix will do.

        Raises
        ------
        NotFittedError
            If there is nothing to save yet.
        TypeError
            If a parameter cannot be stored: a clusterer as `init`, a RandomState,
            or a prior of one's own.
        ValueError
            If the parameters and attributes, as they are, could not be loaded again:
            a parameter is out of its range, or attributes do not agree. An earlier
            file then stays.
        OSError
            If the file cannot be written.
        """
        from ..io import save  # which imports what derives from this

        save(self, path)

    def _without_results(self):
        """Return the estimator as it is now, small enough to go to many workers."""
        estimator = copy.copy(self)
        for name in ("labels_", "_waiting", "_state"):
            estimator.__dict__.pop(name, None)
        return estimator


class MixtureInference(Inference):
    """What an estimator answers, once it has dictionaries and what goes with them."""

    alpha: float | str
    prior: Any
    likelihood: str
    n_layers: int
    step_size: float | str
    noise_variance: float | str
    representation: str

    dictionaries_: np.ndarray
    intercepts_: np.ndarray
    weights_: np.ndarray
    rates_: np.ndarray | None
    scale_: float
    noise_variance_: float
    representation_: ScatteringFeatures | None

    _answering = (
        "alpha",
        "prior",
        "likelihood",
        "n_layers",
        "step_size",
        "noise_variance",
        "weights",
    )

    _OUTPUTS = Inference._OUTPUTS | {
        "transform": lambda batch: batch.block_codes,
        "encode": lambda batch: batch.codes.permute(2, 0, 1),
        "reconstruct": lambda batch: batch.reconstructions,
        "score_samples": lambda batch: batch.log_evidence,
    }

    def score_samples(self, X: Data, *, out: Any = None) -> ArrayOut:
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
        out : array of shape (n_samples,), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        log_density : ndarray or tensor of shape (n_samples,)
            Natural logarithm, in the units of X, over the observed entries; of
            the components that are modelled where `representation` is
            "scattering". Minus infinity if `alpha` is 0, which is no density of
            codes. With the prior "nonnegative", and with priors from outside, it is
            ``logsumexp(-energies)`` (Eq. 6) in the units of X, which adds
            ``log(scale_)`` for each observed entry, and leaves out a constant:
            models of different codes or noise are then not to be compared.
        """
        return self._answer(X, "score_samples", out)

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
        n_samples, score = self._count_and_score(X)
        return -2 * n_samples * score + self._n_free() * math.log(n_samples)

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
        n_samples, score = self._count_and_score(X)
        return -2 * n_samples * score + 2 * self._n_free()

    def _count_and_score(self, X):
        """Count the samples and find their :meth:`score`, in one pass over X."""
        log_density = self.score_samples(X)
        if is_dask(log_density):
            log_density = log_density.compute()
        return len(log_density), float(log_density.mean())

    def _n_free(self):
        """Count the free parameters."""
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        count = n_clusters * n_atoms * (n_features - 1)  # atoms have norm 1
        if self.intercepts_.any():
            count += n_clusters * n_features
        if is_learned(self._settings["weights"]):
            count += n_clusters - 1
        if self._has_rates():
            count += self.rates_.size
        return count + (self._settings["noise_variance"] == "auto")

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
            no image has those that are drawn; if the prior is not one that codes can be
            drawn from: one from outside, or one of rate 0; if its rate is so small
            that samples leave the range of floats, or of counts.

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
        prior, likelihood = self._as_prior({"dtype": torch.float64}), self._likelihood()
        if likelihood is None:
            deviation = math.sqrt(self.noise_variance_)
            drawn = deviation * rng.standard_normal((n_samples, n_features))
        else:
            drawn = np.zeros((n_samples, n_features))
        with np.errstate(over="ignore", invalid="ignore"):
            for label in np.unique(labels):
                members = np.flatnonzero(labels == label)
                own = prior[slice(label, label + 1)]
                codes = own.sample(len(members), n_atoms, rng)
                drawn[members] += codes @ self.dictionaries_[label]
            drawn = drawn / self.scale_ + self.intercepts_[labels]
            is_possible = np.isfinite(drawn.astype(self.dictionaries_.dtype)).all()
        if likelihood is not None and is_possible:
            is_possible = drawn.max() <= likelihood.largest_natural
        if not is_possible:
            by_name = isinstance(self.prior, str)
            rate = f"alpha={self._alpha()}" if by_name else f"prior={self.prior!r}"
            raise ValueError(
                f"{rate} is too small to draw samples: codes as large as it allows "
                "lead to entries that are out of range "
                f"(likelihood={self.likelihood!r}). Fit with a larger one."
            )
        if likelihood is not None:
            drawn = likelihood.sample(drawn, rng)
        return drawn.astype(self.dictionaries_.dtype), labels

    def encode(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Sparse codes of each sample in all dictionaries (Eq. 4).

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters, n_atoms), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters, n_atoms)
            In the units of X, or of natural parameters, see `likelihood`.
        """
        return self._answer(X, "encode", out)

    def transform(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Sparse code of each sample in the dictionary of its cluster.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters * n_atoms), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters * n_atoms)
            One block of `n_atoms` columns for each cluster: the code, in the
            units of X, or of natural parameters, in that of the assigned cluster,
            zeros in all others. Where clusters have intercepts an empty code has, in
            its first column, a ten-thousandth of the standard deviation of the noise,
            by which :meth:`inverse_transform` knows the cluster.
        """
        return self._answer(X, "transform", out)

    @default_modes()
    def inverse_transform(self, X: Data) -> ArrayOut:
        """Reconstruct samples from what :meth:`transform` gave.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_clusters * n_atoms)
            Codes.

        Returns
        -------
        X_original : ndarray or tensor of shape (n_samples, n_features)
            The combination of atoms that each code stands for, and the
            intercept of the cluster in whose block its largest entry lies. A row of
            zeros, which :meth:`transform` never gives with intercepts, has the mean
            of the intercepts, weighted by `weights_`.
        """
        self._check_is_fitted()
        if is_dask(X):
            return map_rows(self._without_results().inverse_transform, X)
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
                "are expected, as transform gives them."
            )
        codes = codes.reshape(len(codes), n_clusters, n_atoms)
        reaches = np.abs(codes).max(axis=2, initial=0)  # (n_samples, n_clusters)
        largest = reaches.max(axis=1, keepdims=True)
        owners = np.eye(n_clusters)[reaches.argmax(axis=1)]
        shares = np.where(largest > 0, owners, self.weights_)
        # A mark is no code; narrower types round it.
        codes = np.where(largest[:, :, None] > 1.1 * self._mark(), codes, 0)
        return like(X, self._decode(codes, shares))

    def _decode(self, codes, shares):
        """Find the data that codes stand for.

        Parameters
        ----------
        codes : ndarray of shape (n_rows, n_clusters, n_atoms)
            In the units of X, or of natural parameters.
        shares : ndarray of shape (n_rows, n_clusters)
            What the intercept of each cluster counts for.

        Returns
        -------
        rows : ndarray of shape (n_rows, n_features)
            In the units of X.
        """
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        atoms = self.dictionaries_.astype(codes.dtype).reshape(-1, n_features)
        intercepts = self.intercepts_.astype(codes.dtype)
        features = codes.reshape(len(codes), n_clusters * n_atoms) @ atoms
        features += shares.astype(codes.dtype) @ intercepts
        likelihood = self._likelihood()
        if likelihood is not None:
            features = likelihood.mean(torch.from_numpy(features)).numpy()
        return self._in_pixels(features)

    def reconstruct(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Every entry of each sample as its cluster explains it.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing, and filled.
        out : array of shape (n_samples, n_features), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        X_reconstructed : ndarray or tensor of shape (n_samples, n_features)
            In the units of X; observed entries are replaced as well.
        """
        return self._answer(X, "reconstruct", out)

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

    def _mark(self):
        """Return what marks the cluster of an empty code, in the units of X."""
        return _MARK * math.sqrt(self.noise_variance_) / self.scale_

    def _alpha(self):
        alpha, likelihood = self._settings["alpha"], self._settings["likelihood"]
        if alpha == "auto":
            if likelihood != "gaussian":
                return _ALPHAS[likelihood]
            return _ALPHAS["pixels" if self.representation_ is None else "scattering"]
        return float(alpha)

    def _likelihood(self):
        """Give what entries are drawn from; None if they are normal."""
        return LIKELIHOODS[self._settings["likelihood"]]

    def _check_of_entries(self):
        """Give what refuses entries that cannot be; None if all can."""
        likelihood = self._likelihood()
        return None if likelihood is None else likelihood.validate

    def _leaves_rates_open(self):
        prior = self._settings["prior"]
        by_name = isinstance(prior, str) and prior == "laplace"
        is_open = by_name and self._settings["alpha"] == "auto"
        return is_open and self._settings["likelihood"] == "gaussian"

    def _has_rates(self):
        return self._leaves_rates_open() and self.rates_ is not None

    def _as_prior(self, like):
        """Give what codes are drawn from, in the dtype and on the device given."""
        if not self._has_rates():
            return as_prior(self._settings["prior"], self._alpha())
        rates = torch.tensor(self.rates_, **like)
        return AtomwiseLaplace(rates, self.dictionaries_.shape[2])

    def _represent(self, X):
        """Images as they are modelled; anything else as it is."""
        if self.representation_ is None:
            return X
        return self.representation_.transform(as_numpy(X))

    def _in_pixels(self, features):
        if self.representation_ is None:
            return features
        return self.representation_.inverse_transform(features)

    def _features(self, X):
        """Give what :meth:`_represent` gives, but made when it is asked for."""
        if self.representation_ is None:
            return X
        return MapReader(as_numpy(X), self.representation_.transform, IMAGES_AT_A_TIME)

    def _model(self, X, device, with_intercepts):
        """Bring the parameters to the scale and device of the computation.

        The data are shifted by the mean of the intercepts, so that an origin
        far away costs no precision.
        """
        like = {"dtype": torch_dtype(X), "device": device}
        intercepts = location = None
        if with_intercepts:
            intercepts = torch.tensor(self.intercepts_, **like)
        shared = {
            "dictionaries": torch.tensor(self.dictionaries_, **like),
            "weights": torch.tensor(self.weights_, **like),
            "prior": self._as_prior(like),
            "n_layers": self._settings["n_layers"],
        }
        likelihood = self._likelihood()
        if likelihood is not None:
            mixture = ExponentialMixture(
                **shared, intercepts=intercepts, likelihood=likelihood
            )
            return mixture, RowLoader(X, device=device)
        if intercepts is not None:
            # The mean of equal numbers may round: a constant feature, however large,
            # is to leave nothing.
            first = intercepts[0]
            is_constant = (intercepts == first).all(dim=0)
            location = torch.where(is_constant, first, intercepts.mean(dim=0))
            intercepts = (intercepts - location) * self.scale_
        step_size = self._settings["step_size"]
        mixture = NormalMixture(
            **shared,
            intercepts=intercepts,
            step_size=None if step_size == "auto" else float(step_size),
            noise_variance=self.noise_variance_,
        )
        return mixture, RowLoader(
            X, device=device, location=location, scale=self.scale_
        )

    def _block_size(self):
        """Rows that are worked on at a time."""
        n_clusters, n_atoms, n_features = self.dictionaries_.shape
        return max(64, _BLOCK_ENTRIES // max(n_clusters * n_atoms, n_features))

    def _fitted_model(self, X, device):
        """Give the model and the rows of X in its units, which are to be checked."""
        mixture, rows = self._model(X, device, with_intercepts=self.intercepts_.any())
        rows.check = self._check_of_entries()
        return mixture, rows

    def _explained(self, mixture, rows, part, precomputed):
        """Give what is inferred about rows that are all complete, or all not."""
        inferred = mixture.infer(*part, precomputed)
        return _Inference(
            mixture, rows, self._mark(), self._in_pixels, *part, *inferred
        )


class _Inference:
    """What the model infers about a block of rows; answers in units of X."""

    def __init__(
        self, mixture, rows, mark, in_pixels, values, observed, codes, energies
    ):
        self.energies = energies  # (n_clusters, n_rows)
        self.labels = energies.argmin(dim=0)
        # (n_clusters, n_atoms, n_rows); adding 0 takes the sign off zeros
        self.codes = codes / rows.scale + 0.0
        self._mixture = mixture
        self._rows = rows
        self._mark = mark
        self._in_pixels = in_pixels
        self._values, self._observed = values, observed

    @property
    def assigned_codes(self):
        """Codes in the assigned clusters, of shape (n_rows, n_atoms)."""
        return self.codes[self.labels, :, torch.arange(len(self.labels))]

    @property
    def block_codes(self):
        """Own codes in the blocks of their clusters, (n_rows, n_clusters * n_atoms)."""
        n_clusters, n_atoms, n_rows = self.codes.shape
        own = self.assigned_codes
        if self._mixture.intercepts is not None:
            # A row of zeros would not tell whose intercept it has.
            is_empty = (own.abs() <= self._mark).all(dim=1, keepdim=True)
            own.masked_fill_(is_empty, 0)
            own[:, :1].masked_fill_(is_empty, self._mark)
        blocks = own.new_zeros(n_rows, n_clusters, n_atoms)
        blocks[torch.arange(n_rows), self.labels] = own
        return blocks.flatten(1)

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
    def code_density(self):
        """Share of the own codes that is not zero, of shape (n_rows,)."""
        return (self.assigned_codes != 0).to(self.codes.dtype).mean(dim=1)

    @property
    def reconstructions(self):
        """Rows as the assigned clusters explain them, (n_rows, n_features) of X."""
        scaled = self._mixture.decode(
            self.assigned_codes * self._rows.scale, self.labels
        )
        return self._in_pixels(as_numpy(self._rows.to_data_units(scaled)))


def is_learned(weights):
    """Return whether weights are learned, by the parameter of this name."""
    return isinstance(weights, str) and weights == "learned"


def narrowed(answers, dtype):
    """Convert answers that were found in float64 to the dtype of the rows.

    Parameters
    ----------
    answers : ndarray
        Integers are left as they are.
    dtype : dtype

    Returns
    -------
    answers : ndarray

    Raises
    ------
    ValueError
        If the dtype cannot hold them.
    """
    if answers.dtype.kind != "f":
        return answers
    largest = largest_magnitude(answers)
    if largest > float(np.finfo(dtype).max) and math.isfinite(largest):
        raise ValueError(
            f"X has a row so far from the clusters that an answer, {largest:.3g}, is "
            f"more than {dtype} can hold. Leave such rows out, or pass X as float64."
        )
    return answers.astype(dtype)


def torch_dtype(X):
    return X.dtype if isinstance(X, torch.Tensor) else getattr(torch, X.dtype.name)


def like(X, array):
    """Give an answer in the container, and on the device, of the question."""
    if isinstance(X, torch.Tensor):
        return as_tensor(array).to(X.device)
    return array


def rechunk(blocks, size):
    """Part rows anew.

    Parameters
    ----------
    blocks : iterable of ndarray
        Any number of rows in each.
    size : int

    Yields
    ------
    rows : ndarray
        Of `size` rows, but for the last.
    """
    waiting = []
    for block in blocks:
        waiting.append(block)
        n_rows = sum(map(len, waiting))
        if n_rows >= size:
            *whole, rest = np.split(
                np.concatenate(waiting), range(size, n_rows + 1, size)
            )
            yield from whole
            waiting = [rest]
    rest = np.concatenate(waiting)
    if len(rest):
        yield rest


def check_out(out, shape, dtype):
    """Check that answers can be written to where a user wants them.

    Parameters
    ----------
    out : object
        As given.
    shape : tuple of int
    dtype : dtype
        Of the answers.

    Raises
    ------
    TypeError
        If `out` has no shape, or a dtype that would lose more than digits.
    ValueError
        If its shape is another, or it is read-only.
    """
    if not hasattr(out, "shape") or not hasattr(out, "__setitem__"):
        raise TypeError(
            f"out={out!r} should be an array of shape {shape}, or anything else that "
            "has a shape and takes out[slice] = rows."
        )
    if tuple(out.shape) != shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, but should have {shape}.")
    empty = out[:0]
    empty = empty.numpy(force=True) if isinstance(out, torch.Tensor) else empty
    own = np.asarray(empty).dtype
    if not np.can_cast(dtype, own, "same_kind"):
        raise TypeError(f"out has dtype {own}, but should have {dtype}.")
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError("out is read-only, but should be writeable.")
