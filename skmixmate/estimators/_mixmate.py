"""The estimator: parameters, validation and the scikit-learn surface."""

import copy
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed
from sklearn.base import (
    ClusterMixin,
    _fit_context,
    clone,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_array
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from .._version import __version__
from ..data.containers import as_numpy
from ..data.loader import (
    RowLoader,
    centered_norm,
    check_squares,
    concat_rows,
    feature_means,
    is_lazy,
    largest_entry,
    largest_squarable,
    missing_counts,
    resolve_device,
    root_mean_square_norm,
    scale_of_norm,
    validate_rows,
)
from ..data.readers import is_stream, stream_chunks
from ..distributed.communicator import Communicator, find_communicator
from ..files.checkpoint import Checkpoint, data_fingerprint, hash_param, in_words
from ..image._features import ScatteringFeatures
from ..initialization import atoms as initialization
from ..model.likelihoods import LIKELIHOODS
from ..model.penalties import Smoothness
from ..model.posterior import loss
from ..model.priors import PRIORS, Prior, as_prior, check_prior
from ..training.em import ExpectationMaximization, train
from ..utils.guards import all_or_nothing, default_modes
from ..utils.random_state import (
    dump_random_state,
    load_random_state,
    private_random_state,
)
from ..utils.types import Data
from ._base import MixtureInference, is_learned, torch_dtype
from ._fitting import (
    Monitor,
    check_image_shape,
    check_magnitudes,
    check_n_observed,
    check_weights,
    initial_weights,
    log_to_stdout,
    make_generator,
    numpy_dtype,
    warn_about_empty_codes,
    warn_about_lost_clusters,
    warn_about_step_size,
    warn_about_training,
)

# Root-mean-square norm of a row for which the default alpha was chosen: that of
# MNIST with pixels in [0, 1], the paper's data.
_REFERENCE_NORM = 9.2

# Default n_atoms. Pixels of small images have fewer, as a dictionary that spans much of
# the space tells less of what it cannot write; plain features have at most as many as
# there are directions, in which samples of a cluster may reach less or more far.
_N_ATOMS, _PIXELS_PER_ATOM = 50, 9

# An atom along which samples reach less far than this is not used: the standard
# deviation of the noise, in the same units, is the root of one half.
_SHORTEST_REACH = 0.1

# Principal components of scattering coefficients that are modelled, and how many
# images, at most, they are found with.
_N_COMPONENTS, _REPRESENTATION_SIZE = 300, 20_000

# What a start is tried on, where there are several. In so few steps the loss still
# depends on which samples became atoms; larger steps get past that sooner, and let
# it tell good starts from bad ones.
_TRIAL_ROWS, _TRIAL_EPOCHS, _TRIAL_HASTE = 10_000, 5, 3

# The paper's noise variance, where one that is learned starts.
_NOISE_VARIANCE = 0.5

# Most starts that are tried, and most products of two atoms of a cluster that a model
# holds: 32 GiB in float64. More are mistakes, which would take all time or memory there
# is.
_MAX_STARTS, _MAX_PRODUCTS = 10_000, 2**32

# What training starts from.
_START = (
    "dictionaries_",
    "intercepts_",
    "weights_",
    "rates_",
    "noise_variance_",
    "scale_",
)

# Entries of the rows of a stream that are copied at a time.
_STREAM_ENTRIES = 2**22

# Parameters that say where and how a fit runs, and not what comes of it.
_MANNERS = {"checkpoint", "device", "distributed", "n_jobs", "verbose"}

# What a stream has of its own, beside what a fit leaves as well.
_STREAM = ("n_samples_seen_", "n_steps_", "_waiting", "_state")

# Shares of non-zero entries in the codes at which alpha is called too small.
_NEARLY_FULL = 0.95


class MixMateClustering(CallbackSupportMixin, MixtureInference):
    """Mixture Model Auto-Encoders: clustering through dictionary learning.

    Each cluster is a dictionary, and a sample belongs to the cluster that can
    write it as the sparsest and closest combination of its atoms. In the
    paper's terms: `n_clusters` auto-encoders, whose encoder is `n_layers` steps
    of FISTA, whose decoder is the same dictionary, and an attention over their
    energies. Training is EM, by gradient steps through the unrolled encoder,
    from dictionaries made of a clustered subsample.

    Read more in :doc:`/method`.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters, K in the paper.
    n_atoms : int or "auto", default="auto"
        Atoms in each dictionary, D in the paper. "auto" is 50, or less: as many as
        there are plain features, a ninth of the pixels of small images, what `init`
        has, if that is an array. With 0 atoms and an intercept the model is k-means.
    alpha : float or "auto", default="auto"
        Rate of the prior on the codes, lambda in the paper: the larger, the
        sparser. In the units of the scaled data, see `scale`. "auto" is the
        paper's 0.75 on pixels, and 0.2 on scattering coefficients, which lie much
        closer to the subspaces of their clusters. On plain features, with the
        prior "laplace", intercepts and no array as `init`, each atom has a rate of
        its own, see `rates_`; otherwise "auto" is 0.75. With the likelihood "poisson"
        it is 1, with "bernoulli" 0.5. A `prior` given as an instance has a rate of its
        own, and "auto" is all that can stand here.
    prior : {"laplace", "nonnegative", "group", "elastic_net"} or object, \
            default="laplace"
        What the codes are drawn from, and with it what a code costs.

        - "laplace": :class:`~skmixmate.model.priors.Laplace`, the paper's: few
          atoms, with either sign. The right choice where nothing more is known;
        - "nonnegative": :class:`~skmixmate.model.priors.Exponential`: no entry is
          negative. For sums of parts, such as intensities, counts and spectra;
        - "group": :class:`~skmixmate.model.priors.GroupLaplace`: atoms next to each
          other, two by two, are used together. For atoms that come in sets;
        - "elastic_net": :class:`~skmixmate.model.priors.ElasticNet`: atoms that are
          much alike share a code. For correlated atoms, and against outliers;
        - an instance of one of these, for their further parameters:
          ``prior=GroupLaplace(alpha=0.75, group_size=4)``;
        - any object with `value` and `prox`, see :doc:`/priors`.
    likelihood : {"gaussian", "poisson", "bernoulli"}, default="gaussian"
        What entries are drawn from, given what a code says of them, see
        :doc:`/likelihoods`.

        - "gaussian": normal distributions about it, the paper's;
        - "poisson": counts, which are not negative; dictionaries and intercepts make
          the logarithm of their rates;
        - "bernoulli": 0 and 1, or shares between them; dictionaries and intercepts
          make the logarithm of the odds.

        But for "gaussian" the data are not scaled, the noise has no variance of its own
        and steps are found sample by sample, so that `scale`, `noise_variance` and
        `step_size` stay as they are by default; `fit_intercept="auto"` is True; images
        are modelled on their pixels. A layer takes two products with all features,
        and a fit several times as long.
    n_layers : int, default=15
        Iterations of FISTA that are unrolled, L in the paper.
    step_size : float or "auto", default="auto"
        Step size of FISTA, eta in the paper. "auto" is the inverse of the
        largest eigenvalue of each dictionary's Gram matrix, followed as the
        atoms move, so that FISTA cannot diverge.
    noise_variance : float or "auto", default=0.5
        Variance of an entry about what its code says, the same in all clusters, in
        the units of the scaled data. The default is the paper's, and a setting more
        than a fact of the data: it says how soft the posterior is. "auto" learns it,
        so that :meth:`score` is as high as it gets, and probabilities are right as
        often as they say: on data of the model, where errors do not go together as
        those of pixels do. The penalty in the encoder follows the noise: the less of
        it, the fuller the codes. A fit then takes several times as long.
        Not for the prior "nonnegative" and priors from outside.
    weights : {"uniform", "learned"} or array-like of shape (n_clusters,), \
            default="uniform"
        Prior probabilities of the clusters, pi in the paper: all the same, the
        mean of the posterior after every epoch, or as given.
    fit_intercept : bool or "auto", default="auto"
        Whether each cluster has an offset, so that it is an affine subspace
        instead of a linear one. "auto" is True, but on the pixels of images:
        there 0 means that nothing is there, and an offset does harm.
    init : {"auto", "spectral", "ssc", "kmeans", "random"}, clusterer or \
            array-like of shape (n_clusters, n_atoms, n_features), default="auto"
        Where the first dictionaries come from.

        - "auto": :class:`SpectralGraphClustering`, refined by normal distributions
          of any shape if no entry had to be filled; for images, not refined, with
          neighbours by cosine, self-representation and a walk of four steps;
        - "spectral": :class:`SpectralGraphClustering`;
        - "ssc": :class:`SparseSubspaceClustering`;
        - "kmeans": :class:`sklearn.cluster.KMeans`;
        - "random": a random partition;
        - any object with `fit_predict`, a Pipeline too: a clone of it is run;
          it has to find `n_clusters` clusters, and may mark noise by -1;
        - an array: the rows of each cluster to make its atoms of, one by one, in
          the units of X. With `fit_intercept` their mean is the first intercept and the
          atoms are deviations from it.

        All but the array cluster a subsample and make the atoms of its rows.
        With `image_shape` the clusterings that go by a name see scattering
        features of the images.
    init_size : int, default=5000
        Size of the subsample, at most n_samples. Rows with missing entries are
        drawn only if too few are complete, and filled with means.
    n_init : int, default=1
        Starts that are tried, each from a subsample of its own. Each is trained
        for five epochs on up to 10,000 rows, and the one that ends with the lowest
        loss is where training then starts. Worth its time where starts differ
        much, as those of "kmeans" and "random" do. An array as `init` is one start.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, n_channels) if the rows of X are
        images, pixel by pixel and channels last.
    representation : {"auto", "pixels", "scattering"}, default="auto"
        What images are modelled in: their pixels, or the 300 principal
        components of the square roots of their scattering coefficients.
        Dictionaries and intercepts are then in these components, and
        reconstructions are brought back to pixels by a linear decoder. NaN is
        refused. "auto" is "scattering", which clusters better, for images
        without missing pixels, and "pixels" for anything else.
    dictionary_penalty : float, default=0.0
        Strength of a penalty on atoms that change from pixel to pixel, for images
        with noise: this number times the mean, over all atoms, of the squared
        differences between neighbouring pixels, summed. For an atom the sum lies
        between 0, flat, and 8, a checkerboard; the loss of a sample is what it is
        added to. Only with `image_shape` and on pixels.
    scale : float or "auto", default="auto"
        X is multiplied by this number. "auto" takes the root-mean-square norm
        of a row (with `fit_intercept`, of its deviation from the mean) to 9.2,
        that of the data for which the default `alpha` was chosen, so that the
        clusters do not depend on the units of X. 1.0 is the paper's setting.
    max_iter : int, default=50
        Largest number of epochs. With 0 the model is left as initialised.
    batch_size : int, default=256
        Rows in a mini-batch. The last, incomplete one of each epoch is left
        out, unless it is the only one.
    learning_rate : float, default=1e-3
        Of Adam, for the atoms.
    tol : float, default=1e-2
        Training has converged when `n_iter_no_change` epochs together did not
        lower the loss by this part of itself. With 0 all `max_iter` epochs are
        run. The default stops early: the last percent of the loss costs most of
        the time, and buys finer reconstructions but no better clusters.
    n_iter_no_change : int, default=1
        Epochs to wait for an improvement.
    warm_start : bool, default=False
        Whether a further call of `fit` goes on from the parameters of the last.
    device : str or torch.device, default="auto"
        Where to compute. "auto" is the device of X if that is a tensor, else a
        CUDA device if there is one, else the CPU.
    n_jobs : int or None, default=None
        Starts that are tried at the same time, by joblib; None is 1 outside of a
        :obj:`joblib.parallel_backend` context, -1 all processors.
    verbose : int, default=0
        If positive, one line an epoch goes to the logger "skmixmate"; where
        nobody handles its records they are printed.
    checkpoint : str, path-like or None, default=None
        File that `fit` writes its state to: when the training starts, after every
        epoch that ends a minute or more after the last time, and when it is
        interrupted. A fit with the same data and parameters that finds the file
        goes on from there, and ends as if it had never been cut short, on a CPU to
        the last bit. A fit that ends well removes it. A path is for one fit at a
        time, and so not for searches.
    distributed : bool or "auto", default="auto"
        Whether `fit` learns one model together with other processes, each of which
        has rows of its own, see :doc:`/distributed`. "auto" is True where torch has a
        process group, or the program was launched by ``torchrun``.
    random_state : int, RandomState instance or None, default=None
        An int makes the result reproducible. With None the seed is drawn from
        the operating system: the global random states of numpy and torch are
        neither used nor changed.

    Attributes
    ----------
    dictionaries_ : ndarray of shape (n_clusters, n_atoms, n_features)
        The atoms of each cluster, of norm 1.
    intercepts_ : ndarray of shape (n_clusters, n_features)
        Offsets of the clusters, in the units of X; zeros without
        `fit_intercept`. As `dictionaries_`, in components where
        `representation` is "scattering"; in natural parameters where `likelihood` is
        not "gaussian".
    weights_ : ndarray of shape (n_clusters,)
        Prior probabilities of the clusters.
    rates_ : ndarray of shape (n_clusters, n_atoms) or None
        Rate of the prior of each atom, in the units of the scaled data: the inverse
        of how far the samples of the cluster reach along it, on average, as the fit
        starts. So clusters have sizes and shapes of their own, and `energies` the
        volumes that go with them. None where all atoms have the rate `alpha`.
    noise_variance_ : float
        Of an entry of the scaled data; divided by ``scale_ ** 2`` it is in the units
        of X, squared.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample, equal to ``predict(X)``; after :meth:`partial_fit`
        X is what it was given last.
    loss_ : float
        Mean loss (Eq. 8) of the fitted model over the same X, with the penalty of
        the dictionaries if there is one.
    loss_curve_ : list of float
        Mean loss of each epoch, as its mini-batches were met, and of each call of
        :meth:`partial_fit` that filled one.
    n_iter_ : int
        Number of epochs run, and of such calls.
    converged_ : bool
        Whether the loss stopped falling before `max_iter`.
    scale_ : float
        What X, or its representation, is multiplied by.
    representation_ : ScatteringFeatures or None
        What takes images to the components that are modelled, by `transform`,
        and back by `inverse_transform`; None for pixels and plain features.
    n_samples_seen_ : int
        Number of rows that :meth:`partial_fit` was given; it alone has it.
    n_steps_ : int
        Number of mini-batches that :meth:`partial_fit` trained on; it alone has it.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all are strings.

    See Also
    --------
    sklearn.cluster.KMeans : A cluster is a point.
    sklearn.mixture.GaussianMixture : A cluster is a normal distribution.

    Notes
    -----
    NaN is missing data: such an entry takes no part in fitting, and
    :meth:`reconstruct` fills it. A row with nothing observed has `weights_` as
    its probabilities.

    Data need not be in memory: memory maps, arrays in files, and data sets and loaders
    of torch are read in parts, see :doc:`/large_data`.

    float32 data are worked on and answered in float32, all other in float64.
    torch tensors are taken, and answered on their own device; fitted
    attributes are always numpy arrays. What is asked of a dask array is answered by
    one, which is computed when it is wanted; `fit` computes it at once.

    The step of the encoder is for half the squared error, the energy has the
    whole of it, as in the code the published results were made with.

    References
    ----------
    A. Lin, A. H. Song and D. Ba, Mixture Model Auto-Encoders: Deep Clustering
    Through Dictionary Learning, ICASSP 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.metrics import normalized_mutual_info_score
    >>> from skmixmate import MixMateClustering
    >>> X, y = load_digits(return_X_y=True)
    >>> mixmate = MixMateClustering(n_clusters=10, max_iter=5, tol=0, random_state=0)
    >>> labels = mixmate.fit_predict(X)
    >>> normalized_mutual_info_score(y, labels) > 0.85
    True
    >>> mixmate.dictionaries_.shape
    (10, 50, 64)
    """

    _waiting: torch.Tensor

    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_atoms": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "prior": [StrOptions(set(PRIORS)), Prior, HasMethods(["value", "prox"])],
        "likelihood": [StrOptions(set(LIKELIHOODS))],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "step_size": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "noise_variance": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "weights": [StrOptions({"uniform", "learned"}), "array-like"],
        "fit_intercept": ["boolean", StrOptions({"auto"})],
        "init": [
            StrOptions({*initialization.INITIALIZERS, "random"}),
            HasMethods("fit_predict"),
            "array-like",
        ],
        "init_size": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "image_shape": ["array-like", None],
        "representation": [StrOptions({"auto", "pixels", "scattering"})],
        "dictionary_penalty": [Interval(Real, 0, None, closed="left")],
        "scale": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
        "checkpoint": [str, os.PathLike, None],
        "distributed": ["boolean", StrOptions({"auto"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_atoms: int | str = "auto",
        alpha: float | str = "auto",
        prior: Any = "laplace",
        likelihood: str = "gaussian",
        n_layers: int = 15,
        step_size: float | str = "auto",
        noise_variance: float | str = 0.5,
        weights: str | npt.ArrayLike = "uniform",
        fit_intercept: bool | str = "auto",
        init: str | npt.ArrayLike | ClusterMixin = "auto",
        init_size: int = 5000,
        n_init: int = 1,
        image_shape: Sequence[int] | None = None,
        representation: str = "auto",
        dictionary_penalty: float = 0.0,
        scale: float | str = "auto",
        max_iter: int = 50,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        tol: float = 1e-2,
        n_iter_no_change: int = 1,
        warm_start: bool = False,
        device: str | torch.device = "auto",
        n_jobs: int | None = None,
        verbose: int = 0,
        checkpoint: str | os.PathLike | None = None,
        distributed: bool | str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.n_atoms = n_atoms
        self.alpha = alpha
        self.prior = prior
        self.likelihood = likelihood
        self.n_layers = n_layers
        self.step_size = step_size
        self.noise_variance = noise_variance
        self.weights = weights
        self.fit_intercept = fit_intercept
        self.init = init
        self.init_size = init_size
        self.n_init = n_init
        self.image_shape = image_shape
        self.representation = representation
        self.dictionary_penalty = dictionary_penalty
        self.scale = scale
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.distributed = distributed
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = self.likelihood == "poisson"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @default_modes()
    @with_callbacks
    def fit(self, X: Data, y: Any = None) -> Self:
        """Learn the dictionaries.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The data; NaN is missing. It is not copied if float32 or float64, and
            may be a memory map, an array in a file, a Dataset or a DataLoader, larger
            than the memory there is.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; handed on to callbacks.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, X has infinite entries, entries that
            `likelihood` does not allow, entries so small or large that its dtype holds
            no scale for them (below 1e-37 in float32), or fewer rows with an
            observed entry than
            `n_clusters`; if `checkpoint` is no checkpoint, a damaged one, or one of
            other data or parameters.
        TypeError
            If X is sparse or a stream, or a parameter has the wrong type.
        OSError
            If `checkpoint` cannot be read or written.
        RuntimeError
            If another process that fits the model together with this one has failed
            or ended.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough.
        UserWarning
            If all codes are empty; if with an `alpha` of one's own, and noise that is
            not learned, they are nearly full; if a cluster has lost all its samples; if
            `step_size` is so large that the encoder may diverge, or the loss is no
            longer finite; if the fit was interrupted while it trained, after which the
            parameters of the last whole epoch stand.

        Notes
        -----
        A fit that raises, or is interrupted before it trains, leaves the estimator as
        it was: not fitted, or with the whole of the earlier model.
        """
        with find_communicator(self.distributed) as communicator:
            self._fit(X, y, communicator)
            communicator.all_gather(None)  # another process may yet fail
        return self

    # Validation is inside the context: if a parameter is refused in one, all end.
    @_fit_context(prefer_skip_nested_validation=False)
    def _fit(self, X, y, communicator):
        run = self._prepare(X, y, communicator)
        features = self._initialize(run)
        with log_to_stdout(self.verbose and communicator.rank == 0):
            history = self._train(run, features)
        self._conclude(run, features, history)

    def partial_fit(self, X: Data, y: Any = None) -> Self:
        """Learn from a part of the data, and go on with the next.

        The first `init_size` rows with anything observed are waited for, and start
        the model: its dictionaries, scale and representation. After that one call
        is one pass over its rows, in the order in which they come: shuffle data that
        are sorted. Rows that do not fill a mini-batch wait for the next call, so
        that it does not matter how a sequence of rows is parted into calls.
        Intercepts and learned weights are means over a sliding window of
        `init_size` rows. After `fit` it goes on from there.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Any number of rows; NaN is missing. Data that are not in memory are read in
            parts. A Dataset or DataLoader without length, too, as if each of its parts,
            of about four million entries, were given to a call of its own.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; handed on to callbacks, but not beside a stream.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X has infinite entries or other
            features than before; if the number of clusters or atoms, or whether
            there are intercepts, was changed since.
        TypeError
            If X is sparse, or a parameter has the wrong type.

        Examples
        --------
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(2000, random_state=0).data
        >>> mixmate = MixMateClustering(3, n_atoms=8, init_size=500, random_state=0)
        >>> for part in (X[:300], X[300:900], X[900:]):
        ...     mixmate = mixmate.partial_fit(part)
        >>> mixmate.n_samples_seen_, mixmate.n_steps_
        (2000, 7)
        """
        if find_communicator(self.distributed).size > 1:
            raise ValueError(
                f"distributed={self.distributed!r} should be False for partial_fit, "
                "which does not learn across processes; fit does."
            )
        if is_stream(X):
            for part in stream_chunks(X, self.image_shape):
                self._partial_fit(part)
            return self
        return self._partial_fit(X, y)

    @all_or_nothing
    @default_modes()
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def _partial_fit(self, X, y=None):
        """Learn from rows that are in memory; see :meth:`partial_fit`."""
        goes_on = hasattr(self, "dictionaries_")
        has_begun = hasattr(self, "_waiting")
        X = validate_rows(self, X, reset=not (goes_on or has_begun))
        if goes_on:
            self._check_continuation(X, "partial_fit")
        self._check_settings(X)
        self._keep_settings()
        device = resolve_device(self.device, X)
        n_missing = self._check_entries(X, device)
        self._check_representation(n_missing.any(), goes_on)
        members = np.flatnonzero(n_missing < X.shape[1])
        if not has_begun:
            self._begin_stream(torch_dtype(self.dictionaries_ if goes_on else X))
        self._check_intercepts()

        task = self._init_callback_context("partial_fit", max_subtasks=1)
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        if not goes_on and len(self._waiting) + len(members) >= self.init_size:
            n_wanted = max(0, self.init_size - len(self._waiting))
            rows = concat_rows(self._waiting, X, members[:n_wanted])
            self._start_stream(rows[: self.init_size], device, task)
        is_fitted = hasattr(self, "dictionaries_")
        if is_fitted:
            self._train_on_stream(X, members, device)
            self.labels_, losses = self._evaluate(
                self._features(X),
                lambda batch: batch.labels,
                lambda batch: loss(batch.energies),
            )
            self.loss_ = math.nan
            if len(members):
                self.loss_ = float(losses[members].mean()) + self._penalty_of_atoms()
        else:
            self._waiting = concat_rows(self._waiting, X, members)
        self.n_samples_seen_ += len(X)
        task.call_on_fit_task_end(
            estimator=self,
            X=X,
            y=y,
            reconstruction_attributes={} if is_fitted else None,
        )
        return self

    def _prepare(self, X, y, communicator):
        """Check all that can be checked before any work is done."""
        X = validate_rows(self, X, reset=True)
        if self._continues():
            self._check_continuation(X, "warm_start=True")
        self._check_settings(X)
        self._keep_settings()
        device = resolve_device(self.device, X)
        self._check_agreement(X, communicator)
        n_samples = communicator.all_reduce(len(X))
        if n_samples < self.n_clusters:
            raise ValueError(
                f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}."
            )
        checkpoint = None
        if self.checkpoint is not None:
            identity = self._identity(communicator.all_gather(data_fingerprint(X)))
            checkpoint = communicator.broadcast(
                lambda: Checkpoint(
                    self.checkpoint, identity, self.image_shape, self.random_state
                )
            )
            checkpoint.is_writer = communicator.rank == 0
        random_state = private_random_state(self.random_state)
        n_missing = self._check_entries(X, device)
        is_incomplete = bool(communicator.all_reduce(int(n_missing.any())))
        self._check_representation(is_incomplete, self._continues())
        is_observed = n_missing < X.shape[1]
        # Of large data, which are most often whole, rows are not numbered.
        members = slice(None) if is_observed.all() else np.flatnonzero(is_observed)
        n_observed = communicator.all_reduce(np.count_nonzero(is_observed))
        check_n_observed(n_observed, self.n_clusters)
        for name in _STREAM:
            self.__dict__.pop(name, None)
        task = self._init_callback_context(max_subtasks=2)
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        return _Run(
            X=X,
            y=y,
            n_missing=n_missing,
            is_incomplete=is_incomplete,
            members=members,
            device=device,
            random_state=random_state,
            task=task,
            checkpoint=checkpoint,
            communicator=communicator,
        )

    def _conclude(self, run, features, history):
        """Set what is told of a fit that is done, and warn of what is wrong with it."""
        self.n_iter_ = len(history.losses)
        self.loss_curve_ = history.losses
        self.converged_ = history.converged
        # A last E-step, through the public attributes, so that labels_ agrees
        # with predict(X) to the last bit.
        self.labels_, losses, code_density = self._evaluate(
            features,
            lambda batch: batch.labels,
            lambda batch: loss(batch.energies),
            lambda batch: batch.code_density,
        )
        members, communicator = run.members, run.communicator
        self.loss_ = _mean(communicator, losses[members]) + self._penalty_of_atoms()
        counts = np.bincount(self.labels_[members], minlength=self.n_clusters)
        self._warn_about(
            history,
            communicator.all_reduce(counts),
            _mean(communicator, code_density[members]),
        )
        run.task.call_on_fit_task_end(
            estimator=self, X=run.X, y=run.y, reconstruction_attributes={}
        )
        if run.checkpoint is not None and not history.interrupted:
            run.checkpoint.remove()

    def _check_agreement(self, X, communicator):
        """Check that all processes fit the same model."""
        if communicator.size == 1:
            return
        values = {
            "n_features": X.shape[1],
            "dtype": numpy_dtype(X).name,
            "version of skmixmate": __version__,
            "dictionaries_ to go on from": self._continues(),
            "use of checkpoint": self.checkpoint is not None,
        } | self._params_of_model()
        params = {}
        for name, value in values.items():
            description = hash_param(name, value)
            params[name] = description, in_words(value, description)
        first, *others = communicator.all_gather(params)
        for rank, other in enumerate(others, start=1):
            for name, (description, here) in first.items():
                other_description, there = other[name]
                if description == other_description:
                    continue
                if here == there:
                    here, there = description, other_description
                raise ValueError(
                    f"All processes should have the same {name}, but it is {here} in "
                    f"process 0 and {there} in process {rank}."
                )

    def _check_settings(self, X):
        """Check what depends on other parameters or on X."""
        if self.n_atoms == 0 and not self.fit_intercept:
            raise ValueError(
                "n_atoms=0 with fit_intercept=False leaves nothing to fit; n_atoms "
                "should be at least 1, or fit_intercept True."
            )
        if self.n_init > _MAX_STARTS:
            raise ValueError(
                f"n_init={self.n_init} should be at most {_MAX_STARTS} starts."
            )
        is_given = self.n_atoms != "auto"
        if is_given and self.n_clusters * self.n_atoms**2 > _MAX_PRODUCTS:
            raise ValueError(
                f"n_atoms={self.n_atoms} is too large: n_clusters * n_atoms**2 should "
                f"be at most {_MAX_PRODUCTS}, with n_clusters={self.n_clusters}."
            )
        if self.init_size < self.n_clusters:
            raise ValueError(
                f"init_size={self.init_size} should be >= n_clusters={self.n_clusters}."
            )
        if not isinstance(self.prior, str):
            self._check_prior()
        if self.likelihood != "gaussian":
            self._check_likelihood()
        is_density = as_prior(self.prior, 1.0).log_normalizer(1) is not None
        if self.noise_variance == "auto" and not is_density:
            raise ValueError(
                f"noise_variance='auto' should be a number with prior={self.prior!r}; "
                "it is learned with 'laplace', 'group' and 'elastic_net'."
            )
        self._check_image_shape(X)
        dtype = numpy_dtype(X)
        check_magnitudes(self.get_params(deep=False), dtype)
        if isinstance(self.prior, Prior):
            rates = {name: getattr(self.prior, name) for name in self.prior.rate_names}
            check_magnitudes(rates, dtype)
        if self._init_is_array():
            self._check_init(X)
        if not isinstance(self.weights, str):
            check_weights(self.weights, self.n_clusters)

    def _check_likelihood(self):
        """Check what is only for normal entries."""
        for name, *allowed in (
            ("noise_variance", 0.5),
            ("step_size", "auto"),
            ("scale", "auto", 1),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(
                    f"{name}={value!r} should be {allowed[0]!r} with "
                    f"likelihood={self.likelihood!r}, where it has no meaning."
                )
        if self.representation == "scattering":
            raise ValueError(
                f"representation='scattering' should be 'auto' or 'pixels' with "
                f"likelihood={self.likelihood!r}: coefficients are neither counts nor "
                "binary."
            )

    def _check_entries(self, X, device):
        """Check entries against the likelihood; return how many each row misses."""
        return missing_counts(
            RowLoader(X, device=device, check=self._check_of_entries())
        )

    def _check_prior(self):
        if self.alpha != "auto":
            raise ValueError(
                f"alpha={self.alpha!r} should be 'auto' beside prior={self.prior!r}, "
                "which as an instance has a rate of its own."
            )
        if not isinstance(self.prior, Prior):
            check_prior(
                self.prior, _N_ATOMS if self.n_atoms == "auto" else self.n_atoms
            )

    def _check_continuation(self, X, what):
        fitted = self._fitted_shape()
        n_atoms = fitted[1] if self.n_atoms == "auto" else self.n_atoms
        shape = (self.n_clusters, n_atoms, X.shape[1])
        if fitted != shape:
            raise ValueError(
                f"{what} goes on from dictionaries of shape {fitted}, but "
                f"(n_clusters, n_atoms, n_features) is {shape} now; call fit with "
                "warm_start=False to start anew."
            )

    def _check_intercepts(self):
        """Check that a stream goes on with intercepts if it had them."""
        if self._state is None:
            return
        had_intercepts = self._state["intercepts"] is not None
        if self._fits_intercept() != had_intercepts:
            raise ValueError(
                f"fit_intercept={self.fit_intercept!r} should be {had_intercepts}, as "
                "it was before; call fit with warm_start=False to start anew."
            )

    def _check_init(self, X):
        given = check_array(self.init, allow_nd=True, input_name="init").shape
        n_atoms = self.n_atoms
        if n_atoms == "auto" and len(given) == 3:
            n_atoms = given[1]
        shape = (self.n_clusters, n_atoms, X.shape[1])
        if given != shape:
            raise ValueError(
                f"init has shape {given}, but should have shape "
                f"(n_clusters, n_atoms, n_features) = {shape}."
            )

    def _models_scattering(self, is_incomplete, goes_on):
        if goes_on:
            return self.representation_ is not None
        if self.representation == "auto":
            is_normal = self.likelihood == "gaussian"
            return is_normal and self.image_shape is not None and not is_incomplete
        return self.representation == "scattering"

    def _check_representation(self, is_incomplete, goes_on):
        if not self._models_scattering(is_incomplete, goes_on):
            return
        if self.dictionary_penalty > 0:
            raise ValueError(
                f"dictionary_penalty={self.dictionary_penalty!r} is for pixels, not "
                "for scattering coefficients; representation should be 'pixels' from "
                "the first fit on."
            )
        if is_incomplete:
            raise ValueError(
                "Input X contains NaN, which representation='scattering' does not "
                "take. Fill missing pixels first, with representation='pixels' and "
                "reconstruct, or sklearn.impute.SimpleImputer."
            )

    def _check_image_shape(self, X):
        if self.image_shape is None:
            if self.dictionary_penalty > 0:
                raise ValueError(
                    f"dictionary_penalty={self.dictionary_penalty!r} is for images; "
                    "image_shape=None should be their (height, width)."
                )
            if self.representation == "scattering":
                raise ValueError(
                    "representation='scattering' is for images; image_shape=None "
                    "should be their (height, width)."
                )
            return
        check_image_shape(self.image_shape, X.shape[1])

    def _continues(self):
        return self.warm_start and hasattr(self, "dictionaries_")

    def _fitted_shape(self):
        """(n_clusters, n_atoms, n_features), the features being those of X."""
        if self.representation_ is None:
            return self.dictionaries_.shape
        return (*self.dictionaries_.shape[:2], self.representation_.decoder_.shape[1])

    def _is_on_pixels(self):
        return self.image_shape is not None and self.representation_ is None

    def _penalty(self):
        if self.dictionary_penalty == 0:
            return None
        return Smoothness(self.dictionary_penalty, tuple(self.image_shape))

    def _penalty_of_atoms(self):
        """Penalty of the dictionaries as they are, 0 if there is none."""
        penalty = self._penalty()
        if penalty is None:
            return 0.0
        return float(penalty.value(torch.tensor(self.dictionaries_)))

    def _fits_intercept(self):
        if isinstance(self.fit_intercept, str):
            # The natural parameter 0 is one event, or a fair coin: not nothing.
            is_other = self.likelihood != "gaussian"
            return is_other or self.n_atoms == 0 or not self._is_on_pixels()
        return bool(self.fit_intercept)

    def _has_shapes(self):
        """Tell whether each atom gets a rate of its own from where a fit starts."""
        is_plain = self.image_shape is None and self._fits_intercept()
        return is_plain and self._leaves_rates_open()

    def _first_n_atoms(self, n_features):
        if self.n_atoms != "auto":
            return self.n_atoms
        if self._is_on_pixels():
            return min(_N_ATOMS, max(1, n_features // _PIXELS_PER_ATOM))
        # Scattering has more components than that, whatever the size of the images.
        return min(_N_ATOMS, n_features) if self.image_shape is None else _N_ATOMS

    def _init_is_array(self):
        return not isinstance(self.init, str) and not hasattr(self.init, "fit_predict")

    def _params_of_model(self):
        """Return the parameters that make a difference to what is learned."""
        params = self.get_params(deep=False)
        if hasattr(self.init, "fit_predict"):
            params["init"] = clone(self.init)  # what was fitted makes no difference
        return {name: params[name] for name in params if name not in _MANNERS}

    def _identity(self, fingerprints):
        """Tell the fit from others, in words and numbers."""
        values = self._params_of_model()
        if self._continues():
            values |= {name: getattr(self, name) for name in _START}
        return {"X": "; ".join(fingerprints)} | {
            name: hash_param(name, value) for name, value in values.items()
        }

    def _initialize(self, run):
        """Set the parameters that training starts from; return what it is on."""
        start = None if run.checkpoint is None else run.checkpoint.start
        is_new = start is None and not self._continues()
        has_trials = is_new and not self._init_is_array()
        n_trials = self.n_init if has_trials and self.n_init > 1 else 0
        subtask = run.task.subcontext(
            "initialization", max_subtasks=n_trials, sequential_subtasks=False
        )
        subtask.call_on_fit_task_begin(estimator=self)
        if not (is_learned(self.weights) and self._continues()):
            dtype = numpy_dtype(run.X)
            self.weights_ = initial_weights(self.weights, self.n_clusters, dtype)
        if self.noise_variance != "auto":
            self.noise_variance_ = float(self.noise_variance)
        elif not self._continues():
            self.noise_variance_ = _NOISE_VARIANCE
        if start is not None:
            self._take_over(start, run.random_state)
        if is_new:
            features = self._start_anew(run, n_trials, subtask)
        else:
            features = self._represent(run.X)
        if run.communicator.size > 1:
            start = run.communicator.broadcast(lambda: self._as_start(run.random_state))
            if run.communicator.rank > 0:
                self._take_over(start, run.random_state)
        if run.checkpoint is not None:
            run.checkpoint.start = self._as_start(run.random_state)
        subtask.call_on_fit_task_end(estimator=self)
        return features

    def _start_anew(self, run, n_trials, task):
        """Find representation, scale and start; return what training is on."""
        rows, communicator, random_state = run.X, run.communicator, run.random_state
        if communicator.size > 1:
            rows = self._gather_rows(run, n_trials)
        self.representation_, features = None, run.X
        if self._models_scattering(run.is_incomplete, goes_on=False):
            features = self._fit_representation(run, rows)
        self.scale_ = self._find_scale(features, run)

        def set_start():
            known = {
                "X": rows,
                "features": features if rows is run.X else self._represent(rows),
                "n_missing": run.n_missing
                if rows is run.X
                else missing_counts(RowLoader(rows, device=run.device)),
                "random_state": random_state,
            }
            if n_trials:
                self._set_best_start(known, run.device, task)
            else:
                self._set(self._start(**known))

        communicator.broadcast(set_start)
        return features

    def _fit_representation(self, run, rows):
        """Find it in rows of all processes; return the features of the own ones."""
        self.representation_ = self._new_representation(run.random_state)
        if run.communicator.size == 1:
            return self.representation_.fit_transform(as_numpy(rows))
        state = run.communicator.broadcast(
            lambda: self.representation_.fit(as_numpy(rows)).state_dict()
        )
        if run.communicator.rank > 0:
            self.representation_.load_state_dict(state)
        return self._represent(run.X)

    def _gather_rows(self, run, n_trials):
        """Bring the rows that all start from to the first process."""
        n_rows = self.init_size
        if n_trials:
            n_rows = max(n_rows, _TRIAL_ROWS)
        if self._models_scattering(run.is_incomplete, goes_on=False):
            n_rows = max(n_rows, _REPRESENTATION_SIZE)
        return initialization.gather_rows(
            run.X, run.n_missing, n_rows, run.random_state, run.communicator
        )

    def _as_start(self, random_state):
        """Return what `_take_over` takes over."""
        representation = self.representation_
        return {
            "attributes": {name: getattr(self, name) for name in _START},
            "representation": representation and representation.state_dict(),
            "random_state": dump_random_state(random_state),
        }

    def _take_over(self, start, random_state):
        """Be, and let the random state be, as when the training started."""
        self._set(start["attributes"])
        load_random_state(random_state, start["random_state"])
        self.representation_ = None
        if start["representation"] is not None:
            representation = self._new_representation(random_state)
            self.representation_ = representation.load_state_dict(
                start["representation"]
            )

    def _start(self, X, features, n_missing, random_state):
        """Attributes that training may start from."""
        start = self._first_dictionaries(X, features, n_missing, random_state)
        dtype = numpy_dtype(X)
        return {
            name: None if value is None else value.astype(dtype)
            for name, value in start.items()
        }

    def _set_best_start(self, start, device, task):
        random_state = start["random_state"]
        members = np.flatnonzero(start["n_missing"] < start["X"].shape[1])
        # The same rows in all trials: losses that differ by a thousandth tell a good
        # start from a bad one, and would drown in the difference between rows.
        members = random_state.permutation(members)[:_TRIAL_ROWS]
        rows = start["features"]
        if is_lazy(rows):  # read them once
            rows, members = rows[members], np.arange(len(members))
        seeds = random_state.randint(np.iinfo(np.int32).max, size=self.n_init)
        subtasks = [
            task.subcontext("start", task_id=trial) for trial in range(self.n_init)
        ]
        trials = Parallel(n_jobs=self.n_jobs)(
            delayed(_try_start)(
                copy.copy(self),
                {**start, "random_state": np.random.RandomState(seed)},
                rows,
                members,
                device,
                subtask,
            )
            for seed, subtask in zip(seeds, subtasks, strict=True)
        )
        _, attributes = min(trials, key=lambda trial: trial[0])
        self._set(attributes)

    def _set(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def _new_representation(self, random_state):
        return ScatteringFeatures(
            self.image_shape,
            _N_COMPONENTS,
            _REPRESENTATION_SIZE,
            self.device,
            random_state,
        )

    def _find_scale(self, X, run):
        if self.likelihood != "gaussian":
            return 1.0
        rows = RowLoader(X, device=run.device)
        if self.scale != "auto":
            return self._given_scale(rows, run)
        find = centered_norm if self._fits_intercept() else root_mean_square_norm
        norm = find(rows, run.communicator)
        return scale_of_norm(norm, _REFERENCE_NORM, numpy_dtype(X))

    def _given_scale(self, rows, run):
        """Return `scale`, if the rows that it makes can be squared."""
        scale, like = float(self.scale), (torch_dtype(rows.X), rows.X.shape[1])
        largest = max(run.communicator.all_gather(largest_entry(rows)))
        if largest * scale > largest_squarable(*like):
            if self._fits_intercept():  # it may be the offset alone
                location = feature_means(rows, run.communicator)
                rows = RowLoader(rows.X, device=run.device, location=location)
                largest = max(run.communicator.all_gather(largest_entry(rows)))
            check_squares(largest, scale, *like)
        return scale

    def _first_dictionaries(self, X, features, n_missing, random_state):
        how = {
            "fit_intercept": self._fits_intercept(),
            "random_state": random_state,
            # A picture's mean brightness is no direction of its own.
            "center": self.image_shape is not None and not self._fits_intercept(),
            "likelihood": self._likelihood(),
        }
        if self._init_is_array():
            init = check_array(self.init, allow_nd=True, dtype=numpy_dtype(X))
            init = self._represent(init.reshape(-1, X.shape[1]))
            init = init.reshape(*np.shape(self.init)[:2], -1)
            dictionaries, intercepts = initialization.dictionaries_from_array(
                init, **how
            )
            return {
                "dictionaries_": dictionaries,
                "intercepts_": intercepts,
                "rates_": None,
            }
        n_atoms = self._first_n_atoms(X.shape[1])
        # With fewer atoms no fewer rows are needed to find clusters of plain features.
        n_each = max(n_atoms, 1 if self.image_shape is not None else _N_ATOMS)
        drawn, sample = initialization.draw_subsample(
            X, n_missing, self.init_size, self.n_clusters * n_each, random_state
        )
        labels = initialization.cluster_subsample(
            sample,
            self.init,
            self.n_clusters,
            random_state,
            self.image_shape,
            is_filled=n_missing[drawn].any(),
            likelihood=self._likelihood(),
        )
        if self.representation_ is not None:
            sample = features[drawn]
        dictionaries, intercepts = initialization.dictionaries_from_labels(
            sample,
            labels,
            self.n_clusters,
            n_atoms,
            **how,
            principal=self._has_shapes(),
        )
        rates = None
        if self._has_shapes():
            found = (sample, labels, dictionaries, intercepts)
            reaches = self.scale_ * initialization.mean_abs_projections(*found)
            rates = 1 / np.maximum(reaches, _SHORTEST_REACH)
        return {
            "dictionaries_": dictionaries,
            "intercepts_": intercepts,
            "rates_": rates,
        }

    def _begin_stream(self, dtype):
        self.n_samples_seen_ = self.n_steps_ = 0
        self.loss_curve_ = [*getattr(self, "loss_curve_", [])]
        self._waiting = torch.empty(0, self.n_features_in_, dtype=dtype)
        self._state = None  # of the training, once there was any

    def _start_stream(self, rows, device, task):
        """Set the parameters that a stream starts from."""
        n_missing = missing_counts(RowLoader(rows, device=device))
        self._initialize(
            _Run(
                X=rows,
                y=None,
                n_missing=n_missing,
                is_incomplete=n_missing.any(),
                members=slice(None),
                device=device,
                random_state=private_random_state(self.random_state),
                task=task,
                checkpoint=None,
                communicator=Communicator(),
            )
        )

    def _train_on_stream(self, X, members, device):
        """Train on the mini-batches that are full, and let the rest wait."""
        size = max(1, _STREAM_ENTRIES // X.shape[1])
        total, n_trained = 0.0, 0
        for part in np.split(members, range(size, len(members), size)):
            rows = concat_rows(self._waiting, X, part)
            n_full = len(rows) // self.batch_size * self.batch_size
            if n_full:
                total += n_full * self._run_stream(rows[:n_full], device)
                n_trained += n_full
            self._waiting = rows[n_full:].clone()
        if n_trained:
            self.loss_curve_ = [*self.loss_curve_, total / n_trained]
        self.n_steps_ += n_trained // self.batch_size
        self.n_iter_ = len(self.loss_curve_)
        self.converged_ = False

    def _run_stream(self, rows, device):
        """Train on whole mini-batches; return their mean loss."""
        features = rows
        if self.representation_ is not None:
            # Each mini-batch by itself: the last bits of a product of matrices
            # depend on what else is in them.
            size = int(self.batch_size)  # torch takes no bool
            features = [self._represent(b) for b in rows.split(size)]
            features = np.concatenate(features)
        em = self._expectation_maximization(
            features,
            slice(None),
            device,
            learning_rate=self.learning_rate,
            n_window=max(self.init_size, self.batch_size),
            generator=torch.Generator(),  # nothing is shuffled
        )
        if self._state is None:
            self._check_step_size(em)
        else:
            em.load_state_dict(self._state)
        mean_loss = em.run_stream()
        self._set(_attributes(em))
        self._state = em.state_dict()
        return mean_loss

    def _train(self, run, features):
        """Train from the parameters as they stand, and set them."""
        checkpoint = run.checkpoint
        em = self._expectation_maximization(
            features,
            run.members,
            run.device,
            learning_rate=self.learning_rate,
            generator=make_generator(run.random_state),
            communicator=run.communicator,
        )
        self._check_step_size(em)
        history = None
        if checkpoint is not None:
            history = checkpoint.history
            if checkpoint.state is not None:
                em.load_state_dict(checkpoint.state)
            checkpoint.write(em.state_dict(), history)
        subtask = run.task.subcontext("training", max_subtasks=self.max_iter)
        subtask.call_on_fit_task_begin(estimator=self, X=run.X, y=run.y)
        monitor = Monitor(
            self, subtask, run.X, run.y, lambda: _attributes(em), checkpoint
        )
        history = train(
            em,
            max_iter=self.max_iter,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            monitor=monitor,
            history=history,
        )
        if checkpoint is not None:
            checkpoint.write(em.state_dict(), history)
        self._set(_attributes(em))
        subtask.call_on_fit_task_end(estimator=self, X=run.X, y=run.y)
        return history

    def _expectation_maximization(self, features, members, device, **settings):
        mixture, rows = self._model(
            features, device, with_intercepts=self._fits_intercept()
        )
        return ExpectationMaximization(
            mixture,
            rows,
            members if isinstance(members, slice) else torch.from_numpy(members),
            batch_size=self.batch_size,
            learn_weights=is_learned(self.weights),
            penalty=self._penalty(),
            learn_noise=self.noise_variance == "auto",
            **settings,
        )

    def _check_step_size(self, em):
        if self.step_size != "auto":
            warn_about_step_size(float(self.step_size), em.mixture.precompute()[0])

    def _warn_about(self, history, counts, code_density):
        """Warn of what a user should know of a fit that is done.

        Counts are those of the labels, in all processes.
        """
        warn_about_training(self, history)
        if history.diverged:
            return
        has_atoms = self.dictionaries_.shape[1] > 0
        # With noise that is learned, full codes are what the data say.
        is_given = "auto" not in (self.alpha, self.noise_variance)
        # Clusters that are points beside the noise are no fault of their rates.
        if has_atoms and code_density == 0 and not self._has_rates():
            by_name = isinstance(self.prior, str)
            rate = f"alpha={self._alpha()}" if by_name else f"prior={self.prior!r}"
            warn_about_empty_codes(rate, self.scale_)
        elif is_given and has_atoms and code_density > _NEARLY_FULL:
            warnings.warn(
                f"The codes are nearly full ({code_density:.0%} of their entries are "
                f"not zero): alpha={self._alpha()} is too small for the data "
                f"(scale_={self.scale_:.3g}).",
                UserWarning,
                stacklevel=3,
            )
        warn_about_lost_clusters(counts)


@dataclass
class _Run:
    """One fit: what it is given, checked, and what sees to it."""

    X: Any
    y: Any
    n_missing: np.ndarray  # of each row
    is_incomplete: bool  # whether a row of any process is
    members: slice | np.ndarray  # rows with anything observed
    device: torch.device
    random_state: np.random.RandomState
    task: Any  # for callbacks
    checkpoint: Checkpoint | None
    communicator: Communicator


def _mean(communicator, values):
    """Mean over the rows of all processes."""
    told = communicator.all_gather((float(values.mean()), len(values)))
    total = sum(count for _, count in told)
    return sum(mean * (count / total) for mean, count in told)


def _try_start(estimator, start, rows, members, device, task):
    """Start, train briefly; return the loss, and the attributes before that."""
    task.call_on_fit_task_begin(estimator=estimator)
    random_state = start["random_state"]
    attributes = estimator._start(**start)
    estimator._set(attributes)
    em = estimator._expectation_maximization(
        rows,
        members,
        device,
        learning_rate=_TRIAL_HASTE * estimator.learning_rate,
        generator=make_generator(random_state),
    )
    for _ in range(_TRIAL_EPOCHS):
        em.run_epoch()
    task.call_on_fit_task_end(estimator=estimator)
    return em.mean_loss(), attributes


def _attributes(em):
    """Fitted attributes of the estimator, in the units of X."""
    mixture = em.mixture
    n_clusters, _, n_features = mixture.dictionaries.shape
    if mixture.intercepts is None:
        intercepts = mixture.weights.new_zeros(n_clusters, n_features)
    else:
        intercepts = em.rows.to_data_units(mixture.intercepts)
    return {
        "dictionaries_": mixture.dictionaries.numpy(force=True).copy(),
        "intercepts_": intercepts.numpy(force=True),
        "weights_": mixture.weights.numpy(force=True).copy(),
        "noise_variance_": mixture.noise_variance,
    }
