"""The estimator: its parameters and their documentation, fit and partial_fit."""

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClusterMixin, _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags

from ..distributed.communicator import Communicator
from ..distributed.launch import find_communicator
from ..files.model_file import write_model
from ..model.likelihood import Likelihood
from ..model.likelihoods import LIKELIHOODS
from ..utils.guards import all_or_nothing, default_modes
from ..utils.types import Data
from ._constraints import CONSTRAINTS
from ._fit import finalize_fit, train_mixture, validate_fit
from ._initialize import initialize
from ._logging import log_to_stdout
from ._streaming import StreamingMixMate


class MixMateClustering(CallbackSupportMixin, StreamingMixMate):
    """Mixture Model Auto-Encoders: clustering through dictionary learning.

    Each cluster is a dictionary, and a sample belongs to the cluster whose atoms
    reconstruct it best from the fewest of them. In the paper's terms:
    `n_clusters` auto-encoders, whose encoder is `n_layers` steps of FISTA, whose
    decoder is the same dictionary, and an attention over their energies. Training
    is EM, by gradient steps through the unrolled encoder, from dictionaries made of
    a clustered subsample.

    Most fits need `n_clusters` only. Parameters are in groups: the clusters
    (`n_clusters` to `alpha`), images (`image_shape` to `dictionary_penalty`), the model
    (`prior` to `scale`), the initialisation (`init` to `supervision`), training
    (`max_iter` to `warm_start`), and computing. :doc:`/choosing` says which to change
    first, :doc:`/method` what they mean.

    Parameters
    ----------
    n_clusters : int or "auto", default=8
        Number of clusters, K in the paper. "auto" estimates it from the subsample that
        is clustered first, at most 20, see
        :func:`~skmixmate.cluster.estimate_n_clusters`; arrays as `weights` or `init`
        give the number themselves.
    n_atoms : int or "auto", default="auto"
        Atoms in each dictionary, D in the paper. "auto" is 100 for images and 50 for
        tabular data or pixels, or less: for tabular data the number of features, or
        half of the rows per cluster if these are few; a ninth of the pixels; the number
        in an array as `init`. With 0 atoms and an intercept the model is k-means.
    alpha : float or "auto", default="auto"
        Rate of the prior on the codes, lambda in the paper: the larger, the
        sparser. In the units of the scaled data, see `scale`. "auto" is the
        paper's 0.75 on pixels, and 0.4 on scattering coefficients, which lie much
        closer to the subspaces of their clusters. On tabular data of at most 200
        features, with the prior "laplace", intercepts and no array as `init`, each
        atom has its own rate, see `rates_`; otherwise "auto" is 0.75. With the
        likelihoods "poisson" and "negative_binomial" it is 1, with "bernoulli" 0.5. A
        `prior` given as an instance has its own rate, and `alpha` must then be "auto".
    image_shape : tuple of int, "auto" or None, default="auto"
        (height, width) or (height, width, n_channels) if the rows of X are
        flattened images, channels last. "auto" recognises images by the correlations of
        their pixels, see `image_shape_`. None means that rows are no images.
    representation : {"auto", "pixels", "scattering"}, default="auto"
        Features of images that are modelled: their pixels, or the 200 principal
        components of the square roots of their scattering coefficients.
        Dictionaries and intercepts are then in these components, and
        reconstructions are mapped back to pixels by a linear decoder. Missing pixels
        are imputed first, see :doc:`/missing_data`. "auto" is "scattering", which
        clusters better, for images, and "pixels" for anything else, also for images
        with a likelihood of counts or binary data.
    dictionary_penalty : float, default=0.0
        Strength of a penalty on atoms that are not smooth, for images with noise: the
        loss of a sample increases by this multiple of the mean, over all atoms, of the
        summed squared differences between adjacent pixels. For an atom the sum lies
        between 0, flat, and 8, a checkerboard. Only with `image_shape`, on pixels.
    prior : {"laplace", "nonnegative", "group", "elastic_net"} or object, \
            default="laplace"
        Prior of the codes, which decides the penalty on them.

        - "laplace": :class:`~skmixmate.model.priors.Laplace`, the paper's: few
          atoms, with either sign. The right choice where nothing more is known;
        - "nonnegative": :class:`~skmixmate.model.priors.Exponential`: no entry is
          negative. For sums of parts, such as intensities, counts and spectra;
        - "group": :class:`~skmixmate.model.priors.GroupLaplace`: adjacent atoms,
          two by two, are used together. For atoms that come in sets;
        - "elastic_net": :class:`~skmixmate.model.priors.ElasticNet`: similar atoms
          share a code. For correlated atoms, and against outliers;
        - an instance of one of these, for their further parameters:
          ``prior=GroupLaplace(alpha=0.75, group_size=4)``;
        - any object with `value` and `prox`, see :doc:`/priors`.
    likelihood : {"gaussian", "student_t", "poisson", "negative_binomial", \
            "bernoulli"} or Likelihood, default="gaussian"
        Distribution of the entries about what a code reconstructs, see
        :doc:`/likelihoods`.

        - "gaussian": normal noise, the paper's;
        - "student_t": noise with heavy tails, so that outliers have less influence;
          its degrees of freedom are learned. See :meth:`outlier_scores`;
        - "poisson": counts; dictionaries and intercepts form the logarithm of their
          rates;
        - "negative_binomial": counts that vary more than with "poisson", such as
          counts of single cells; the dispersion is learned;
        - "bernoulli": 0 and 1, or fractions between them; dictionaries and intercepts
          form the log-odds;
        - an instance, for a parameter that is known:
          ``likelihood=StudentT(df=3.0)``.

        With "poisson", "negative_binomial" and "bernoulli" the data are not scaled,
        there is no noise variance and steps are found sample by sample, so that
        `scale`, `noise_variance` and `step_size` must keep their defaults;
        `fit_intercept="auto"` is True; images are modelled on their pixels. A layer
        takes two products with all features, and a fit several times as long.
    n_layers : int, default=15
        Iterations of FISTA that are unrolled, L in the paper.
    step_size : float or "auto", default="auto"
        Step size of FISTA, eta in the paper. "auto" is the inverse of the
        largest eigenvalue of each dictionary's Gram matrix, updated as the
        atoms move, so that FISTA cannot diverge.
    noise_variance : float or "auto", default=0.5
        Variance of the noise, the same for all entries and clusters, in the units of
        the scaled data. The default is the paper's, and a setting rather than a
        property of the data: it controls how soft the posterior is. "auto" learns
        it, which maximises :meth:`score`, and makes probabilities calibrated on data
        of the model, whose residuals are uncorrelated, unlike pixels'. The penalty in
        the encoder follows the noise: the less noise, the fuller the codes. A fit
        then takes several times as long. Not for the prior "nonnegative" and
        user-defined priors.
    weights : {"uniform", "learned"} or array-like of shape (n_clusters,), \
            default="uniform"
        Prior probabilities of the clusters, pi in the paper: equal, the
        mean of the posterior after every epoch, or as given.
    fit_intercept : bool or "auto", default="auto"
        Whether each cluster has an offset, so that it is an affine subspace
        instead of a linear one. "auto" is True, except on image pixels: there 0 means
        background, and an offset does harm.
    scale : float or "auto", default="auto"
        Factor that X is multiplied by. "auto" scales the root-mean-square norm
        of a row (with `fit_intercept`, of its deviation from the mean) to 9.2,
        the norm of MNIST, for which the default `alpha` was chosen, so that
        multiplying X by a constant does not change the clusters. 1.0 is the paper's
        setting.
    init : {"auto", "spectral", "ssc", "kmeans", "random"}, clusterer or \
            array-like of shape (n_clusters, n_atoms, n_features), default="auto"
        Method for initialisation.

        - "auto": for tabular data :class:`EnsembleClustering`, or "spectral" if
          entries were imputed or are counts or binary; for images, given or
          recognised, :class:`SpectralGraphClustering` with whitened neighbours by
          cosine and self-representation; `fit` keeps images in its clusters;
        - "spectral": :class:`SpectralGraphClustering`;
        - "ssc": :class:`SparseSubspaceClustering`;
        - "kmeans": :class:`sklearn.cluster.KMeans`;
        - "random": a random partition;
        - any object with `fit_predict`, also a Pipeline: a clone of it is fitted;
          it has to find `n_clusters` clusters, and may mark noise by -1;
        - an array: for each cluster the rows that become its atoms, in the units of
          X. With `fit_intercept` their mean is the first intercept and the
          atoms are deviations from it.

        All but the array cluster a subsample and make the atoms from its rows.
        The named methods cluster scattering features of images.
    init_size : int or "auto", default="auto"
        Size of the subsample, at most n_samples. "auto" is 20,000 with known labels,
        10,000 if `init` is "auto" and rows are no images, 5,000 otherwise and for
        streams. Rows with missing entries are drawn only if too few are
        complete, and imputed with means, except for images, which are imputed anyway.
    n_init : int, default=1
        Number of initialisations to try, each with its own subsample. Each is
        trained for five epochs on up to 10,000 rows; training starts from the one
        with the lowest loss. Useful where initialisations differ much, as those of
        "kmeans" and "random" do. An array as `init` is one initialisation.
    supervision : {"ignore", "auto"}, default="ignore"
        Whether `fit` uses the known labels in y, see :doc:`/partial_labels`. By default
        it does not: pipelines and searches pass y to clusterers for scoring, and a fit
        that used it would leak the answers.
    max_iter : int, default=50
        Maximum number of epochs. With 0 the model is left as initialised.
    batch_size : int, default=256
        Rows in a mini-batch. The last, incomplete one of each epoch is
        dropped, unless it is the only one.
    learning_rate : float, default=1e-3
        Learning rate of Adam.
    tol : float, default=1e-2
        Training stops when `n_iter_no_change` epochs in a row improved the loss by
        less than this fraction. With 0 all `max_iter` epochs are run. The default
        stops early: the last percent of the loss takes most of the time, and
        improves reconstructions but not clusters.
    n_iter_no_change : int, default=1
        Epochs to wait for an improvement.
    warm_start : bool, default=False
        Whether a further call of `fit` continues from the fitted parameters.
    device : str or torch.device, default="auto"
        Device to compute on. "auto" is the device of X if that is a tensor, else a
        CUDA device if there is one, else the CPU.
    n_jobs : int or None, default=None
        Initialisations to try in parallel, by joblib; None is 1 outside of a
        :obj:`joblib.parallel_backend` context, -1 all processors.
    verbose : int, default=0
        If positive, one line per epoch goes to the logger "skmixmate", and to
        standard output if it has no handler.
    checkpoint : str, path-like or None, default=None
        File that `fit` writes its state to: at the start of training, after every
        epoch that ends at least a minute after the last write, and when it is
        interrupted. A fit with the same data and parameters that finds the file
        continues from it, with the result of an uninterrupted fit, bit for bit on a
        CPU. The file is removed at the end of a fit. A path is for one fit at a
        time, and so not for searches.
    distributed : bool or "auto", default="auto"
        Whether `fit` learns one model together with other processes, each with its
        own rows, see :doc:`/distributed`. "auto" is True where torch has a
        process group, or the program was launched by ``torchrun``.
    random_state : int, RandomState instance or None, default=None
        An int makes the result reproducible. With None the operating system provides
        the seed: the global random states of numpy and torch are not used.

    Attributes
    ----------
    n_clusters_ : int
        Number of clusters: given, estimated, or left by :meth:`cut` and :meth:`merge`.
    n_clusters_scores_ : dict of str to ndarray or None
        If `n_clusters` was estimated: the candidates, ``"n_clusters"``, and their
        scores; the highest ``"score"`` decides, see
        :func:`~skmixmate.cluster.estimate_n_clusters`.
    linkage_ : ndarray of shape (n_clusters - 1, 4)
        Tree in which the clusters merge, see :meth:`cut`, for
        :func:`scipy.cluster.hierarchy.dendrogram`.
    overlaps_ : ndarray of shape (n_clusters, n_clusters) or None
        From which `linkage_` is computed: row i has the sums, over the samples of
        cluster i, of the posteriors at the temperature of the median margin of energy,
        as fractions of all samples. After :meth:`partial_fit` for the X of the last
        call; None if an earlier version fitted the model.
    component_labels_ : ndarray of int, of shape (n_clusters,), or None
        Cluster of each dictionary, where clusters were merged: see :meth:`merge`. The
        other arrays then have one row for each dictionary, not for each cluster.
    dictionaries_ : ndarray of shape (n_clusters, n_atoms, n_features)
        The atoms of each cluster, of norm 1.
    intercepts_ : ndarray of shape (n_clusters, n_features)
        Offsets of the clusters, in the units of X; zeros without
        `fit_intercept`. As `dictionaries_`, in components where
        `representation` is "scattering"; in natural parameters with the likelihoods
        of counts and of binary data.
    weights_ : ndarray of shape (n_clusters,)
        Prior probabilities of the clusters.
    rates_ : ndarray of shape (n_clusters, n_atoms) or None
        Rate of the prior of each atom, in the units of the scaled data: the inverse
        of the mean magnitude, over the samples of the cluster, of the projection on
        it at initialisation. So clusters have individual sizes and shapes, and
        `energies` includes their log-normalisers. None where all atoms have the rate
        `alpha`.
    noise_variance_ : float
        Of an entry of the scaled data; divided by ``scale_ ** 2`` it is in the units
        of X, squared.
    likelihood_ : Likelihood
        With its learned parameters, such as ``likelihood_.df``.
    labels_ : ndarray of shape (n_samples,)
        Cluster of each sample: the known label or, without one, ``predict(X)``; after
        :meth:`partial_fit` for the X of the last call.
    loss_ : float
        Mean loss (Eq. 8) of the fitted model over the same X, weighted by
        `sample_weight`, with any penalty.
    loss_curve_ : list of float
        Mean training loss of each epoch (and of partial_fit calls that trained).
    n_iter_ : int
        Number of epochs (and of partial_fit calls that trained).
    converged_ : bool
        Whether the loss stopped falling before `max_iter`.
    scale_ : float
        Factor that X, or its representation, is multiplied by.
    image_shape_ : tuple of int or None
        Shape of the images that the rows of X are, given or recognised; None where they
        are no images, or not recognised as such.
    representation_ : ScatteringFeatures or None
        Transformer from images to the components that are modelled, with
        `inverse_transform`; None for pixels and tabular data.
    n_samples_seen_ : int
        Number of rows given to :meth:`partial_fit`; set by it only.
    n_steps_ : int
        Number of mini-batches that :meth:`partial_fit` trained on; set by it only.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all are strings.

    Notes
    -----
    NaN is missing data: such entries are ignored in fitting, or imputed first where
    `representation` is "scattering", and :meth:`reconstruct` imputes them. A row
    without observed entries has `weights_` as its probabilities.

    Data need not be in memory: memory maps, arrays in files, and data sets and loaders
    of torch are read in chunks, see :doc:`/large_data`.

    float32 data are computed and returned in float32, all other in float64. Results are
    tensors on the device of X for a torch tensor, and lazy dask arrays for a dask
    array; fitted attributes are always numpy arrays.

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
    >>> round(normalized_mutual_info_score(y, labels), 1)
    0.9
    >>> mixmate.image_shape_
    (8, 8)
    """

    _parameter_constraints = CONSTRAINTS

    def __init__(
        self,
        n_clusters: int | str = 8,
        *,
        n_atoms: int | str = "auto",
        alpha: float | str = "auto",
        image_shape: Sequence[int] | str | None = "auto",
        representation: str = "auto",
        dictionary_penalty: float = 0.0,
        prior: Any = "laplace",
        likelihood: str | Likelihood = "gaussian",
        n_layers: int = 15,
        step_size: float | str = "auto",
        noise_variance: float | str = 0.5,
        weights: str | npt.ArrayLike = "uniform",
        fit_intercept: bool | str = "auto",
        scale: float | str = "auto",
        init: str | npt.ArrayLike | ClusterMixin = "auto",
        init_size: int | str = "auto",
        n_init: int = 1,
        supervision: str = "ignore",
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
        self.image_shape = image_shape
        self.representation = representation
        self.dictionary_penalty = dictionary_penalty
        self.prior = prior
        self.likelihood = likelihood
        self.n_layers = n_layers
        self.step_size = step_size
        self.noise_variance = noise_variance
        self.weights = weights
        self.fit_intercept = fit_intercept
        self.scale = scale
        self.init = init
        self.init_size = init_size
        self.n_init = n_init
        self.supervision = supervision
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        likelihood = LIKELIHOODS.get(str(self.likelihood), self.likelihood)
        tags.input_tags.positive_only = getattr(likelihood, "is_nonnegative", False)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @default_modes()
    @with_callbacks
    def fit(self, X: Data, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn the dictionaries.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            The data; NaN is missing. Images may have the shape (n_samples, height,
            width) or (n_samples, height, width, n_channels), here and in all methods.
            X is not copied if float32 or float64, and may be sparse, a memory map, an
            array in a file, a Dataset or a DataLoader: see :doc:`/large_data`.
        y : array-like of shape (n_samples,), default=None
            Only for callbacks, except with ``supervision="auto"``: then integers, -1
            where the cluster of a sample is unknown. Class k is cluster k.
        sample_weight : array-like of shape (n_samples,), default=None
            A row of weight w counts as w rows, one of weight 0 not at all. Weights that
            are not all integers are scaled to a mean of 1.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range; if X has infinite entries, entries that
            `likelihood` does not allow, entries so small or large that its dtype cannot
            represent a scale for them (below 1e-37 in float32), or fewer rows with an
            observed entry than `n_clusters`; if weights are negative, not finite, or
            all 0; if y has other entries than ``supervision="auto"`` allows, or is
            combined with weights; if `checkpoint` is not a checkpoint,
            damaged, or of other data or parameters.
        TypeError
            If X is a sparse tensor or a stream, or a parameter has the wrong type.
        OSError
            If `checkpoint` cannot be read or written.
        RuntimeError
            If another process that fits the same model has failed or ended.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` epochs were not enough.
        UserWarning
            If the scales of the columns differ so much that few of them decide the
            clusters; if all codes are empty; if with a given `alpha` and
            `noise_variance` they are nearly full; if a cluster has lost all its
            samples; if `step_size` is so large that the encoder may diverge, or the
            loss is no longer finite; if training was interrupted, after which the
            model is that of the last complete epoch.

        Notes
        -----
        A fit that raises, or is interrupted before training, changes nothing.
        """
        with find_communicator(self.distributed) as communicator:
            self._fit(X, y, sample_weight, communicator)
            communicator.all_gather(None)  # another process may yet fail
        return self

    # Validation is inside the context: if a parameter is refused in one process, the
    # fit ends in all.
    @_fit_context(prefer_skip_nested_validation=False)
    def _fit(
        self, X: Data, y: Any, sample_weight: Any, communicator: Communicator
    ) -> None:
        ctx = validate_fit(self, X, y, sample_weight, communicator)
        state, features, labels = initialize(self, ctx)
        with log_to_stdout(self.verbose and communicator.rank == 0):
            history = train_mixture(self, ctx, state, features, labels)
        finalize_fit(self, ctx, state, features, history)

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted estimator to a file, for :func:`skmixmate.load`.

        The file holds the parameters and fitted attributes as arrays and JSON;
        unlike a pickle it runs no code when it is loaded. It replaces an existing file
        only once it is complete. Callbacks, the choice of `set_output`, and the
        buffer and optimizer state of ``partial_fit`` are not stored.

        Parameters
        ----------
        path : str or path-like
            Path of the file, with any suffix. An existing file is replaced; the new
            one gets its mode and, where that is allowed, its owner and group.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If a parameter cannot be stored: a clusterer as `init`, a RandomState,
            or a custom prior.
        ValueError
            If the estimator could not be loaded again, since a parameter is out of its
            range or attributes do not fit together. An existing file is kept.
        OSError
            If the file cannot be written.
        """
        write_model(self, path, {"MixMateClustering": MixMateClustering})
