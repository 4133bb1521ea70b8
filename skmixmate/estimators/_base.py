"""The methods of a fitted estimator that return something for each row."""

import copy
from collections.abc import Iterable, Iterator
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_scalar
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..data.containers import as_numpy
from ..data.dask_arrays import compute_blocks, is_dask, map_rows
from ..data.images import restore_images, shape_of_images
from ..data.readers import RowReader, is_stream
from ..data.sparse import SparseRows
from ..data.streams import stream_chunks
from ..data.validation import validate_rows
from ..image._features import ScatteringFeatures
from ..model.likelihood import Likelihood
from ..model.likelihoods import as_likelihood
from ..utils.types import ArrayOut, Data
from ._inference import (
    FittedModel,
    Output,
    check_out,
    rechunk,
    reconstructions,
    restore_container,
)
from ._settings import Settings, stream_init_size
from ._state import ADDED_PARAMS, RENAMED, ModelState, add_later_attributes

# Chunks of results that are returned, or written, at a time.
_BATCH_CHUNKS = 8


def _has_outlier_scores(estimator: "BaseMixMate") -> bool:
    """Return whether the likelihood of the fit, or of the next one, weighs rows."""
    parameter = vars(estimator).get("_fitted_params", vars(estimator))["likelihood"]
    if as_likelihood(parameter).is_robust:
        return True
    raise AttributeError(
        f"outlier_scores needs likelihood='student_t', not {parameter!r}."
    )


class BaseMixMate(ClusterMixin, TransformerMixin, BaseEstimator):
    """Predictions of a mixture of dictionaries, and whatever else is row by row."""

    likelihood: str | Likelihood
    device: str | torch.device
    image_shape: Any
    init_size: int | str

    dictionaries_: np.ndarray
    intercepts_: np.ndarray
    weights_: np.ndarray
    n_clusters_scores_: dict[str, np.ndarray] | None
    component_labels_: np.ndarray | None
    rates_: np.ndarray | None
    noise_variance_: float
    scale_: float
    likelihood_: Likelihood
    image_shape_: tuple[int, ...] | None
    representation_: ScatteringFeatures | None
    labels_: np.ndarray

    # Parameters as they were in fit, which predictions depend on: `set_params` is for
    # the next fit.
    _FITTED_PARAMS = (
        "n_clusters",
        "n_atoms",
        "alpha",
        "prior",
        "likelihood",
        "n_layers",
        "step_size",
        "noise_variance",
        "weights",
        "fit_intercept",
        "image_shape",
        "dictionary_penalty",
    )
    _fitted_params: dict[str, Any]

    _row_buffer: torch.Tensor
    _weight_buffer: torch.Tensor
    _optimizer_state: dict[str, Any] | None

    # The result of each method, rows first.
    _OUTPUTS: dict[str, Output] = {
        "predict": lambda batch: batch.labels,
        "predict_proba": lambda batch: batch.responsibilities.T,
        "energies": lambda batch: batch.energies.T,
        "transform": lambda batch: batch.block_codes,
        "encode": lambda batch: batch.codes.permute(2, 0, 1),
        "reconstruct": reconstructions,
        "score_samples": lambda batch: batch.log_evidence,
        "outlier_scores": lambda batch: batch.outlier_scores,
    }

    # `out` cannot be routed through a Pipeline or a search.
    __metadata_request__predict = {"out": UNUSED}
    __metadata_request__predict_proba = {"out": UNUSED}
    __metadata_request__transform = {"out": UNUSED}

    def predict(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Predict the cluster of each sample.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples,), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            From 0 to ``n_clusters_ - 1``: the cluster of lowest energy; where clusters
            were merged, the one with the dictionary of lowest energy.
        """
        return self._predict_rows(X, "predict", out)

    def predict_proba(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute the posterior probability of each cluster (Eq. 7).

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        probabilities : ndarray or tensor of shape (n_samples, n_clusters)
            Rows sum to 1.
        """
        return self._predict_rows(X, "predict_proba", out)

    def energies(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute the energy of each sample in each cluster (Eq. 5).

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        energies : ndarray or tensor of shape (n_samples, n_clusters)
            Of the scaled data, without units: ``softmax(-energies)`` is
            :meth:`predict_proba`. Where atoms have `rates_`, the log-normaliser of
            each cluster is included.

        Raises
        ------
        ValueError
            If a row is so far from all clusters that the dtype of X cannot hold its
            energy.
        """
        return self._predict_rows(X, "energies", out)

    def score_samples(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute a lower bound of the log-density of each sample.

        The code is integrated out, cluster by cluster, under a normal distribution
        that is close to its posterior (a variational bound); the bound is usually
        within a tenth, for each atom that is near 0, of the logarithm itself. All
        constants are counted, so that models of different `alpha`, `n_atoms`,
        `noise_variance` and `n_clusters` can be compared on samples that they were
        not fitted to.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples,), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        log_density : ndarray or tensor of shape (n_samples,)
            Natural logarithm, in the units of X, over the observed entries; of
            the components that are modelled where `representation` is
            "scattering". Minus infinity if `alpha` is 0, which is no density of
            codes. With the prior "nonnegative", and with user-defined priors, it is
            ``logsumexp(-energies)`` (Eq. 6) in the units of X, which adds
            ``log(scale_)`` for each observed entry, and leaves out a constant:
            models of different codes or noise should then not be compared.

        Raises
        ------
        ValueError
            As :meth:`energies`.
        """
        return self._predict_rows(X, "score_samples", out)

    @available_if(_has_outlier_scores)
    def outlier_scores(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute how badly all clusters explain each sample.

        With the likelihood "student_t" each row has a weight in training, which
        falls with its squared residual; the score is the inverse of the weight,
        averaged over the clusters: large for samples that no cluster explains. Where
        the noise variance is learned, it is near 1 for typical samples.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples,), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        scores : ndarray or tensor of shape (n_samples,)
            Positive.

        References
        ----------
        D. Peel and G. J. McLachlan, Robust mixture modelling using the t
        distribution, Statistics and Computing 10, 2000.

        Examples
        --------
        >>> import numpy as np
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(200, random_state=0).data
        >>> X[0] = 0.3 * np.random.default_rng(0).normal(size=64)
        >>> mixmate = MixMateClustering(
        ...     3, n_atoms=8, likelihood="student_t", random_state=0
        ... ).fit(X)
        >>> int(mixmate.outlier_scores(X).argmax())
        0
        """
        return self._predict_rows(X, "outlier_scores", out)

    def encode(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute the sparse codes of each sample in all dictionaries (Eq. 4).

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters, n_atoms), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters, n_atoms)
            In the units of X, or of natural parameters, see `likelihood`.
        """
        return self._predict_rows(X, "encode", out)

    def transform(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Compute the sparse code of each sample in the dictionary of its cluster.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters * n_atoms), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, n_clusters * n_atoms)
            `n_atoms` columns for each cluster: the columns of the assigned cluster hold
            the code, in the units of X or of natural parameters, the others zeros.
            Where clusters have intercepts an empty code has, in its first column, a
            ten-thousandth of the standard deviation of the noise, by which
            :meth:`inverse_transform` finds the cluster.
        """
        return self._predict_rows(X, "transform", out)

    def reconstruct(self, X: Data, *, out: Any = None) -> ArrayOut:
        """Reconstruct every entry of each sample from the code in its cluster.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            NaN is missing, and imputed.
        out : array of shape (n_samples, n_features), default=None
            Array to write the result to, and to return: see :doc:`/large_data`.

        Returns
        -------
        X_reconstructed : ndarray or tensor of shape (n_samples, n_features)
            In the units of X; observed entries are replaced as well. Where
            `representation` is "scattering", missing pixels are imputed from the
            observed ones, not from the code. Images have the shape that they have in X.
        """
        return self._predict_rows(X, "reconstruct", out)

    def predict_batches(
        self, X: Data, method: str = "predict", *, batch_size: int | None = None
    ) -> Iterator[ArrayOut]:
        """Yield the output of a method in batches.

        Neither X nor the output needs to fit into memory.

        Parameters
        ----------
        X : array-like, tensor, or data that are not in memory
            Of shape (n_samples, n_features), as any method takes them, or a stream;
            NaN is missing.
        method : {"predict", "predict_proba", "transform", "encode", "energies", \
                "reconstruct", "score_samples", "outlier_scores"}, default="predict"
            The method, by name as in
            :func:`sklearn.model_selection.cross_val_predict`.
        batch_size : int, default=None
            Samples in each batch, except for the last; by default such that
            there are about four million entries. It does not change the output.

        Yields
        ------
        batch : ndarray or tensor of shape (at most batch_size, ...)
            In the order of X; concatenated, they are what the method returns.
            `set_output` does not change them.

        Raises
        ------
        ValueError
            If `method` is unknown or `batch_size` less than 1; and as the method.
        TypeError
            If `batch_size` is not an integer.

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
        if method == "outlier_scores":
            _has_outlier_scores(self)
        if batch_size is not None:
            check_scalar(batch_size, "batch_size", Integral, min_val=1)
        if is_stream(X) or is_dask(X):
            chunks: Iterable[Any] = (
                compute_blocks(X) if is_dask(X) else stream_chunks(X, self.image_shape_)
            )
            chunks = (validate_rows(self, chunk, reset=False) for chunk in chunks)
        else:
            chunks = [validate_rows(self, X, reset=False)]
        batches = self._iter_batches(chunks, method, batch_size)
        return (restore_container(X, batch, method) for batch in batches)

    def _predict_rows(self, X: Data, method: str, out: Any) -> ArrayOut:
        """Compute the output of a method, in a new array or in `out`."""
        self._check_is_fitted()
        if is_dask(X):
            if out is not None:
                raise ValueError(
                    "out should be None where X is a dask array, whose results are "
                    "lazy; dask.array.store writes them to an array."
                )
            function: Any = partial(
                self._for_workers()._predict_rows, method=method, out=None
            )
            return map_rows(function, X)
        if is_stream(X):
            if out is not None:
                raise ValueError(
                    f"out should be None where X is a {type(X).__name__} without "
                    "length; predict_batches yields the results in batches."
                )
            return np.concatenate(list(self.predict_batches(X, method)))
        rows, model = validate_rows(self, X, reset=False), self._model()
        output = self._OUTPUTS[method]
        if out is None:
            (array,) = model.evaluate(model.state.lazy_model_space(rows), output)
            if method == "reconstruct":
                model.state.impute(rows, out=array)
            return restore_container(X, array, method)
        # One row has the shape and dtype of all.
        first = rows[:1]
        first = first if isinstance(first, SparseRows) else np.array(as_numpy(first))
        (array,) = model.evaluate(model.state.lazy_model_space(first), output)
        if method == "reconstruct":
            array = restore_images(array, shape_of_images(X))
        check_out(out, (len(rows), *array.shape[1:]), array.dtype)
        n_written = 0
        for batch in self._iter_batches([rows], method):
            batch = batch.reshape(len(batch), *array.shape[1:])
            out[n_written : n_written + len(batch)] = restore_container(out, batch)
            n_written += len(batch)
        return out

    def _iter_batches(
        self, chunks: Iterable[Any], method: str, batch_size: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yield the output for chunks of X, which were validated, in batches."""
        model = self._model()
        imputes = method == "reconstruct" and model.state.representation is not None

        def iter_outputs() -> Iterator[np.ndarray]:
            for rows in chunks:
                features = model.state.lazy_model_space(rows)
                again = rows
                if imputes and isinstance(rows, RowReader):
                    # A reader has one position: the pixels are read by another.
                    again = copy.copy(rows)
                output = self._OUTPUTS[method]
                for chunk, (array,) in model.iter_outputs(features, output):
                    if imputes:
                        model.state.impute(again[chunk], out=array)
                    yield array

        return rechunk(iter_outputs(), batch_size or _BATCH_CHUNKS * model.chunk_rows)

    def _model(self) -> FittedModel:
        """Return the model as it is now, with the settings of its fit."""
        settings = Settings.resolve(
            self._fitted_params,
            self.n_features_in_,
            self.image_shape_,
            models_scattering=self.representation_ is not None,
        )
        return FittedModel(ModelState.from_estimator(self), settings, self.device)

    def _for_workers(self) -> "BaseMixMate":
        """Return a copy without the attributes that predictions do not need."""
        estimator = copy.copy(self)
        for name in ("labels_", "_row_buffer", "_weight_buffer", "_optimizer_state"):
            estimator.__dict__.pop(name, None)
        return estimator

    def _keep_params(self) -> None:
        """Keep the parameters that predictions depend on; fit begins with this."""
        self._fitted_params = {
            name: getattr(self, name) for name in self._FITTED_PARAMS
        }

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "dictionaries_")

    def _check_is_fitted(self) -> None:
        if hasattr(self, "_row_buffer") and not hasattr(self, "dictionaries_"):
            raise NotFittedError(
                f"partial_fit has received {len(self._row_buffer)} rows with an "
                f"observed value, and needs init_size={stream_init_size(self)} to "
                "start. Call "
                "it with more rows, or set a smaller init_size first."
            )
        check_is_fitted(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; earlier versions lack some attributes, or name them otherwise."""
        for earlier, name in RENAMED.items():
            if earlier in state:
                state[name] = state.pop(earlier)
        state = ADDED_PARAMS | state
        super().__setstate__(state)
        fitted_params = vars(self).get("_fitted_params", {})
        self._keep_params()
        self._fitted_params |= fitted_params
        if hasattr(self, "dictionaries_"):
            add_later_attributes(self)
