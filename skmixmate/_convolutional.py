"""The estimator for larger images, whose clusters are sets of small filters."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClusterMixin, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from . import _initialization as initialization
from ._fitting import (
    Monitor,
    check_image_shape,
    check_magnitudes,
    check_n_observed,
    check_weights,
    drawn_generator,
    first_weights,
    numpy_dtype,
    printing,
    warn_about_empty_codes,
    warn_about_lost_clusters,
    warn_about_training,
)
from ._guards import all_or_nothing, default_modes
from ._inference import Inference, is_learned, torch_dtype
from ._random import private_random_state
from ._rows import (
    Rows,
    check_squares,
    largest_entry,
    missing_counts,
    resolve_device,
    scale_of_norm,
    validate_rows,
)
from ._training import ExpectationMaximization, train
from ._typing import Answer, Data
from .model.convolutional import ConvolutionalMixture
from .model.posterior import loss

# Root-mean-square norm of what lies under a filter: as that of a row in
# MixMateClustering, so that alpha means the same.
_REFERENCE_NORM = 9.2

# Entries of codes worked on at a time in prediction.
_BLOCK_ENTRIES = 2**22


class ConvolutionalMixMate(CallbackSupportMixin, Inference):
    """Mixture of convolutional dictionary models, for larger images.

    Each cluster is a set of small filters, and an image belongs to the cluster that
    can write it as the sparsest and closest sum of its filters, each at any place and
    as often as needed. Textures, and other images in which it does not matter where
    something is, are so described by few numbers; :class:`MixMateClustering` would need
    an atom for each place. Energies, posterior, loss and training are the same.

    Read more in :doc:`/images`.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, K in the paper.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, n_channels) of the images that the rows of
        X are, pixel by pixel and channels last. It has to be given.
    n_filters : int, default=8
        Filters of each cluster.
    filter_size : int, default=7
        Height and width of a filter in pixels: odd, and no more than those of the
        images.
    alpha : float, default=0.75
        Rate of the prior on the codes, lambda in the paper: the larger, the sparser.
        In the units of the scaled data, see `scale`.
    n_layers : int, default=15
        Iterations of FISTA that are unrolled, L in the paper. Their step size is the
        inverse of a bound of the largest eigenvalue, from the Fourier transform of
        the filters, so that they cannot diverge.
    weights : {"uniform", "learned"} or array-like of shape (n_clusters,), \
            default="uniform"
        Prior probabilities of the clusters, pi in the paper: all the same, the mean
        of the posterior after every epoch, or as given.
    center : bool, default=True
        Whether the mean of each image, in each channel, is taken off before and put
        back after, so that how bright an image is plays no part. False where 0 means
        that nothing is there.
    init : {"auto", "spectral", "ssc", "kmeans", "random"} or clusterer, default="auto"
        What clusters a subsample, as for :class:`MixMateClustering`: those that go by
        a name see scattering features. The first filters are patches, drawn at
        random, of the images of each cluster.
    init_size : int, default=1000
        Size of the subsample, at most n_samples.
    scale : float or "auto", default="auto"
        X is multiplied by this number. "auto" takes the root-mean-square norm of what
        lies under a filter to 9.2, so that the clusters do not depend on the units
        of X.
    max_iter : int, default=50
        Largest number of epochs. With 0 the model is left as initialised.
    batch_size : int, default=16
        Images in a mini-batch. The last, incomplete one of each epoch is left out,
        unless it is the only one.
    learning_rate : float, default=2e-2
        Of Adam, for the filters.
    tol : float, default=1e-2
        Training has converged when `n_iter_no_change` epochs together did not lower
        the loss by this part of itself. With 0 all `max_iter` epochs are run.
    n_iter_no_change : int, default=1
        Epochs to wait for an improvement.
    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if that is a tensor, else a
        CUDA device if there is one, else the CPU.
    verbose : int, default=0
        If positive, one line an epoch goes to the logger "skmixmate"; where nobody
        handles its records they are printed.
    random_state : int, RandomState instance or None, default=None
        An int makes the result reproducible. With None the seed is drawn from the
        operating system.

    Attributes
    ----------
    filters_ : ndarray of shape (n_clusters, n_filters, filter_size, filter_size) or \
            (n_clusters, n_filters, filter_size, filter_size, n_channels)
        The filters of each cluster, of norm 1; with channels if `image_shape` has them.
    weights_ : ndarray of shape (n_clusters,)
        Prior probabilities of the clusters.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each image, equal to ``predict(X)``.
    loss_ : float
        Mean loss (Eq. 8) of the fitted model over X.
    loss_curve_ : list of float
        Mean loss of each epoch, as its mini-batches were met.
    n_iter_ : int
        Number of epochs run.
    converged_ : bool
        Whether the loss stopped falling before `max_iter`.
    scale_ : float
        What X is multiplied by.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all are strings.

    See Also
    --------
    MixMateClustering : Dictionaries of whole samples; better where it matters where
        something is, as in digits, and far faster.

    Notes
    -----
    NaN is a missing pixel: it takes no part in fitting, and :meth:`reconstruct` fills
    it.

    A filter lies with its middle on a pixel, and what is beyond the border of the image
    is cut off: an image is a window. There is a code for each filter and pixel.

    Time is in proportion to samples, pixels, clusters, filters, pixels of a filter,
    and layers; float32 data take less than float64.

    References
    ----------
    A. Lin, A. H. Song and D. Ba, Mixture Model Auto-Encoders: Deep Clustering
    Through Dictionary Learning, ICASSP 2022, which names convolutional models as an
    extension.

    B. Tolooshams, S. Dey and D. Ba, Scalable convolutional dictionary learning with
    constrained recurrent sparse auto-encoders, MLSP 2018.

    Examples
    --------
    Stripes that go down and stripes that go across, each beginning anywhere:

    >>> import numpy as np
    >>> from skmixmate import ConvolutionalMixMate
    >>> rng = np.random.default_rng(0)
    >>> lines = np.sin(np.arange(32) + rng.uniform(0, 2 * np.pi, size=(40, 1)))
    >>> images = np.repeat(lines[:, :, None], 32, axis=2).astype(np.float32)
    >>> images[20:] = images[20:].transpose(0, 2, 1)
    >>> mixmate = ConvolutionalMixMate(
    ...     2, image_shape=(32, 32), n_filters=2, max_iter=2, tol=0, random_state=0
    ... )
    >>> labels = mixmate.fit_predict(images.reshape(40, -1))
    >>> bool((labels[:20] == labels[0]).all() and (labels[20:] != labels[0]).all())
    True
    >>> mixmate.filters_.shape
    (2, 2, 7, 7)
    """

    filters_: np.ndarray
    weights_: np.ndarray
    scale_: float

    _answering = ("image_shape", "filter_size", "alpha", "n_layers", "center")

    _answers = Inference._answers | {
        "transform": lambda batch: batch.pooled_codes,
        "encode": lambda batch: batch.codes.movedim(1, 0),
        "reconstruct": lambda batch: batch.reconstructions,
    }

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "image_shape": ["array-like", None],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "filter_size": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"uniform", "learned"}), "array-like"],
        "center": ["boolean"],
        "init": [
            StrOptions({*initialization.INITIALIZERS, "random"}),
            HasMethods("fit_predict"),
        ],
        "init_size": [Interval(Integral, 1, None, closed="left")],
        "scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        image_shape: Sequence[int] | None = None,
        n_filters: int = 8,
        filter_size: int = 7,
        alpha: float = 0.75,
        n_layers: int = 15,
        weights: str | npt.ArrayLike = "uniform",
        center: bool = True,
        init: str | ClusterMixin = "auto",
        init_size: int = 1000,
        scale: float | str = "auto",
        max_iter: int = 50,
        batch_size: int = 16,
        learning_rate: float = 2e-2,
        tol: float = 1e-2,
        n_iter_no_change: int = 1,
        device: str | torch.device = "auto",
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.image_shape = image_shape
        self.n_filters = n_filters
        self.filter_size = filter_size
        self.alpha = alpha
        self.n_layers = n_layers
        self.weights = weights
        self.center = center
        self.init = init
        self.init_size = init_size
        self.scale = scale
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @default_modes()
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Data, y: Any = None) -> Self:
        """Learn the filters.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The images, pixel by pixel and channels last; NaN is missing.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; handed on to callbacks.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, X has infinite entries, entries so small
            or large that its dtype holds no scale for them, or fewer rows with
            an observed entry than `n_clusters`.
        TypeError
            If X is sparse, or a parameter has the wrong type.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough.
        UserWarning
            If all codes are empty; if a cluster has lost all its samples; if the fit
            was interrupted, after which the parameters of the last whole epoch stand.
        """
        X = validate_rows(self, X, reset=True)
        self._check_settings()
        self._keep_settings()
        check_magnitudes(self.get_params(deep=False), numpy_dtype(X))
        device = resolve_device(self.device, X)
        random_state = private_random_state(self.random_state)
        n_missing = missing_counts(Rows(X, device=device))
        members = np.flatnonzero(n_missing < X.shape[1])
        check_n_observed(len(members), self.n_clusters)
        task = self._init_callback_context(max_subtasks=self.max_iter)
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._initialize(X, n_missing, device, random_state)
        history = self._train(X, y, members, device, random_state, task)
        self.n_iter_ = len(history.losses)
        self.loss_curve_ = history.losses
        self.converged_ = history.converged
        # A last E-step, through the public attributes, so that labels_ agrees with
        # predict(X) to the last bit.
        self.labels_, losses, is_empty = self._evaluate(
            X,
            lambda batch: batch.labels,
            lambda batch: loss(batch.energies),
            lambda batch: (batch.own_codes == 0).flatten(1).all(dim=1),
        )
        self.loss_ = float(losses[members].mean())
        warn_about_training(self, history)
        if is_empty[members].all():
            warn_about_empty_codes(f"alpha={self.alpha}", self.scale_)
        warn_about_lost_clusters(
            np.bincount(self.labels_[members], minlength=self.n_clusters)
        )
        task.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes={}
        )
        return self

    def encode(self, X: Data, *, out: Any = None) -> Answer:
        """Sparse maps of codes of each image under all clusters (Eq. 4).

        They are `n_clusters` times `n_filters` times as large as X: give it few images.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters, n_filters, height, width), \
                default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        codes : ndarray or tensor of shape \
                (n_samples, n_clusters, n_filters, height, width)
            In the units of X.
        """
        return self._answer(X, "encode", out)

    def transform(self, X: Data, *, out: Any = None) -> Answer:
        """Mean magnitude of the code of each filter.

        Where in the image a filter is found is left out: these are features of what
        is in it.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing.
        out : array of shape (n_samples, n_clusters * n_filters), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        features : ndarray or tensor of shape (n_samples, n_clusters * n_filters)
            In the units of X; the filters of all clusters, one cluster after the
            other.
        """
        return self._answer(X, "transform", out)

    def reconstruct(self, X: Data, *, out: Any = None) -> Answer:
        """Every pixel of each image as its cluster explains it.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            NaN is missing, and filled.
        out : array of shape (n_samples, n_features), default=None
            What to write the answer to, and return: see :doc:`/large_data`.

        Returns
        -------
        X_reconstructed : ndarray or tensor of shape (n_samples, n_features)
            In the units of X; observed pixels are replaced as well.
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
        names : ndarray of str, of shape (n_clusters * n_filters,)
            "cluster0_filter0", "cluster0_filter1" and so on.
        """
        self._check_is_fitted()
        n_clusters, n_filters = self.filters_.shape[:2]
        return np.array(
            [f"cluster{k}_filter{d}" for k, d in np.ndindex(n_clusters, n_filters)],
            dtype=object,
        )

    def _check_settings(self):
        """Check what depends on other parameters or on X."""
        if self.image_shape is None:
            raise ValueError(
                "image_shape=None should be (height, width) or (height, width, "
                "n_channels) of the images that the rows of X are."
            )
        check_image_shape(self.image_shape, self.n_features_in_)
        height, width, *_ = self.image_shape
        if self.filter_size % 2 == 0 or self.filter_size > min(height, width):
            raise ValueError(
                f"filter_size={self.filter_size} should be odd, and no more than "
                f"height and width of image_shape={self.image_shape!r}."
            )
        if self.init_size < self.n_clusters:
            raise ValueError(
                f"init_size={self.init_size} should be >= n_clusters={self.n_clusters}."
            )
        if not isinstance(self.weights, str):
            check_weights(self.weights, self.n_clusters)

    def _shape(self):
        """(height, width) or (height, width, n_channels)."""
        return tuple(self._settings["image_shape"])

    def _initialize(self, X, n_missing, device, random_state):
        """Set the parameters that training starts from."""
        dtype = numpy_dtype(X)
        self.weights_ = first_weights(self.weights, self.n_clusters, dtype)
        _, sample = initialization.draw_subsample(
            X, n_missing, self.init_size, self.n_clusters, random_state
        )
        labels = initialization.cluster_subsample(
            sample, self.init, self.n_clusters, random_state, self.image_shape
        )
        filters = initialization.filters_from_labels(
            sample,
            labels,
            self.n_clusters,
            self.n_filters,
            self._shape(),
            self.filter_size,
            random_state,
            center=self.center,
        )
        self.filters_ = self._as_filters(filters.astype(dtype))
        self.scale_ = 1.0 if self.scale == "auto" else float(self.scale)
        if self.scale != "auto":
            largest = largest_entry(Rows(X, device=device))
            check_squares(largest, self.scale_, torch_dtype(X), X.shape[1])
        else:
            norm = _patch_norm(*self._fitted_model(X, device))
            self.scale_ = scale_of_norm(norm, _REFERENCE_NORM, dtype)

    def _train(self, X, y, members, device, random_state, task):
        """Train from the parameters as they stand, and set them."""
        em = ExpectationMaximization(
            *self._fitted_model(X, device),
            torch.from_numpy(members),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            learn_weights=is_learned(self.weights),
            generator=drawn_generator(random_state),
        )
        with printing(self.verbose):
            history = train(
                em,
                max_iter=self.max_iter,
                tol=self.tol,
                n_iter_no_change=self.n_iter_no_change,
                monitor=Monitor(self, task, X, y, lambda: self._attributes(em)),
            )
        for name, value in self._attributes(em).items():
            setattr(self, name, value)
        return history

    def _attributes(self, em):
        """Fitted attributes as they are in training."""
        mixture = em.mixture
        return {
            "filters_": self._as_filters(mixture.dictionaries.numpy(force=True).copy()),
            "weights_": mixture.weights.numpy(force=True).copy(),
        }

    def _as_filters(self, flat):
        """Give flat filters the shape of `filters_`."""
        size, n_channels = self._settings["filter_size"], self._shape()[2:]
        return flat.reshape(*flat.shape[:2], size, size, *n_channels)

    def _fitted_model(self, X, device):
        """Bring the parameters to the scale and device of the computation."""
        like = {"dtype": torch_dtype(X), "device": device}
        height, width, *channels = self._shape()
        mixture = ConvolutionalMixture(
            dictionaries=torch.tensor(self.filters_, **like).flatten(2),
            weights=torch.tensor(self.weights_, **like),
            image_shape=(height, width, *(channels or [1])),
            filter_size=self._settings["filter_size"],
            alpha=float(self._settings["alpha"]),
            n_layers=self._settings["n_layers"],
            center=bool(self._settings["center"]),
        )
        return mixture, Rows(X, device=device, scale=self.scale_)

    def _block_size(self):
        """Rows that are worked on at a time."""
        n_codes = math.prod([*self.filters_.shape[:2], *self._shape()[:2]])
        return max(1, _BLOCK_ENTRIES // n_codes)

    def _explained(self, mixture, rows, part, curvature):
        return _Explanation(mixture, rows, part, curvature)


class _Explanation:
    """What the model infers about a block of rows; answers in units of X."""

    def __init__(self, mixture, rows, part, curvature):
        codes, self.energies = mixture.infer(*part, curvature)  # (n_clusters, n_rows)
        self.labels = self.energies.argmin(dim=0)
        # (n_clusters, n_rows, n_filters, height, width)
        self.codes = codes / rows.scale + 0.0
        self._mixture = mixture
        self._rows = rows
        self._part = part

    @property
    def own_codes(self):
        """Codes in the assigned clusters, of shape (n_rows, n_filters, ...)."""
        return self.codes[self.labels, torch.arange(len(self.labels))]

    @property
    def pooled_codes(self):
        """Mean magnitudes of codes, of shape (n_rows, n_clusters * n_filters)."""
        return self.codes.abs().mean(dim=(3, 4)).movedim(1, 0).flatten(1)

    @property
    def reconstructions(self):
        """Rows as the assigned clusters explain them, (n_rows, n_features)."""
        *_, brightness = self._mixture.unfold(*self._part)
        codes = self.own_codes * self._rows.scale
        return self._rows.restore(self._mixture.decode(codes, self.labels, brightness))


def _patch_norm(mixture, rows):
    """Root-mean-square norm of what lies under a filter, missing pixels made up for."""
    norm = _scaled_patch_norm(mixture, rows)
    # Squares of larger or smaller pixels may have left the range of the dtype.
    limit = torch.finfo(mixture.dictionaries.dtype).max ** 0.25
    if 1 / limit < norm < limit:
        return norm
    exponent = math.frexp(largest_entry(rows))[1]
    most = np.finfo(numpy_dtype(rows.X)).maxexp - 1
    exponent = min(max(exponent, -most), most)  # such powers are floats
    scaled = Rows(rows.X, device=rows.device, scale=2.0**-exponent)
    with np.errstate(over="ignore"):
        return float(np.ldexp(_scaled_patch_norm(mixture, scaled), exponent))


def _scaled_patch_norm(mixture, rows):
    total, count = 0.0, 0.0
    for block in rows.blocks():
        images, mask, _ = mixture.unfold(*rows.take(block))
        total += float(images.square().sum(dtype=torch.float64))
        count += images.numel() if mask is None else float(mask.sum())
    return (total / max(count, 1.0) * mixture.dictionaries.shape[2]) ** 0.5
