"""The state of a model: the bridge to attributes, tensors, files and processes."""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from ..data.containers import as_numpy
from ..data.loader import RowLoader
from ..data.readers import MapReader, RowReader
from ..data.sparse import SparseRows
from ..data.validation import as_floats, read_dense
from ..files.model_content import set_earlier_alpha
from ..image._features import IMAGES_AT_A_TIME, ScatteringFeatures
from ..model.build import build_mixture
from ..model.likelihood import Likelihood
from ..model.likelihoods import Gaussian, as_likelihood
from ..model.mixture import Mixture
from ..model.priors import AtomwiseLaplace, Prior
from ..training.em import ExpectationMaximization
from ._settings import Settings

Rows = np.ndarray | torch.Tensor | RowReader | SparseRows

# Noise variance of the paper, from which training starts where it is learned.
INITIAL_NOISE_VARIANCE = 0.5

# Mark of the cluster of an empty code, in standard deviations of the noise: far below
# these, and yet a number that survives float16 and scalers.
_MARK = 1e-4
# Largest rounding error of the energies of sparse rows that are not shifted.
_MAX_ENERGY_ERROR = 1e-3

# Attributes that training changes, and those that a checkpoint holds.
_LEARNED = (
    "dictionaries_",
    "intercepts_",
    "weights_",
    "noise_variance_",
    "likelihood_",
)
CHECKPOINTED = (
    "dictionaries_",
    "intercepts_",
    "weights_",
    "rates_",
    "noise_variance_",
    "scale_",
)


# Private attributes of earlier versions, and their names now.
RENAMED = {
    "_settings": "_fitted_params",
    "_waiting": "_row_buffer",
    "_state": "_optimizer_state",
}

# Parameters that earlier versions did not have, and their defaults.
ADDED_PARAMS = {"supervision": "ignore"}


@dataclass
class ModelState:
    """A mixture as arrays and numbers.

    Parameters
    ----------
    weights : ndarray of shape (n_clusters,)
    noise_variance : float
    dictionaries : ndarray of shape (n_clusters, n_atoms, n_features)
        Of the features that are modelled, as `intercepts`.
    intercepts : ndarray of shape (n_clusters, n_features)
        In the units of these features; zeros without intercepts.
    rates : ndarray of shape (n_clusters, n_atoms) or None
        Of the prior of each atom; None where all have one rate.
    scale : float
    likelihood : Likelihood
        With its learned parameters.
    representation : ScatteringFeatures or None
    n_clusters_scores : dict or None
        Evidence for the number of clusters, if it was estimated; see
        :func:`~skmixmate.cluster.estimate_n_clusters`.
    component_labels : int ndarray of shape (n_components,) or None
        Cluster of each dictionary, where clusters were merged. Training does not use
        it: each dictionary is a component of the mixture as before.
    """

    weights: np.ndarray
    noise_variance: float = INITIAL_NOISE_VARIANCE
    dictionaries: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 0)))
    intercepts: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    rates: np.ndarray | None = None
    scale: float = 1.0
    likelihood: Likelihood = field(default_factory=Gaussian)
    representation: ScatteringFeatures | None = None
    n_clusters_scores: dict[str, np.ndarray] | None = None
    component_labels: np.ndarray | None = None

    @classmethod
    def from_estimator(cls, estimator: Any) -> "ModelState":
        """Read the fitted attributes of an estimator.

        Parameters
        ----------
        estimator : estimator

        Returns
        -------
        state : ModelState
            Arrays are shared.
        """
        names = (field.name for field in fields(cls))
        return cls(**{name: getattr(estimator, f"{name}_") for name in names})

    def attributes(self) -> dict[str, Any]:
        """Return the fitted attributes of an estimator by name."""
        return {f"{name}_": value for name, value in vars(self).items()}

    def adopt_likelihood(self, likelihood: Likelihood) -> None:
        """Continue with a likelihood, and what was learned of the same one.

        Parameters
        ----------
        likelihood : Likelihood
            Of the settings; it may have changed since the last fit.
        """
        if not (likelihood.is_learned and type(self.likelihood) is type(likelihood)):
            self.likelihood = likelihood.initial()

    def learned_attributes(self) -> dict[str, Any]:
        """Return the attributes that training changes."""
        attributes = self.attributes()
        return {name: attributes[name] for name in _LEARNED}

    def update_from(self, em: ExpectationMaximization) -> "ModelState":
        """Replace what training changes.

        Parameters
        ----------
        em : ExpectationMaximization

        Returns
        -------
        state : ModelState
            This object.
        """
        mixture = em.mixture
        n_clusters, _, n_features = mixture.dictionaries.shape
        if mixture.intercepts is None:
            intercepts = mixture.weights.new_zeros(n_clusters, n_features)
        else:
            intercepts = em.rows.to_data_units(mixture.intercepts)
        self.dictionaries = mixture.dictionaries.numpy(force=True).copy()
        self.intercepts = intercepts.numpy(force=True)
        self.weights = mixture.weights.numpy(force=True).copy()
        self.noise_variance = mixture.noise_variance
        self.likelihood = mixture.likelihood
        return self

    def data_shape(self) -> tuple[int, int, int]:
        """(n_clusters, n_atoms, n_features) of the model in data space."""
        n_clusters, n_atoms, n_features = self.dictionaries.shape
        if self.representation is not None:
            n_features = self.representation.decoder_.shape[1]
        return n_clusters, n_atoms, n_features

    @property
    def mark(self) -> float:
        """Value that marks the cluster of an empty code, in the units of X."""
        return _MARK * math.sqrt(self.noise_variance) / self.scale

    def has_atom_rates(self, settings: Settings) -> bool:
        """Return whether the rates of the atoms are used."""
        return settings.allows_atom_rates and self.rates is not None

    def prior(self, settings: Settings, like: dict[str, Any]) -> Prior:
        """Return the prior of the codes.

        Parameters
        ----------
        settings : Settings
        like : mapping
            Dtype and device of its tensors.

        Returns
        -------
        prior : Prior
        """
        if not self.has_atom_rates(settings):
            return settings.prior
        rates = torch.tensor(self.rates, **like)
        return AtomwiseLaplace(rates, self.dictionaries.shape[2])

    def to_model_space(self, X: Any) -> Any:
        """Compute the features that are modelled."""
        if self.representation is None:
            return X
        return self.representation.transform(as_numpy(read_dense(X)))

    def to_model_space_turned(self, X: Any, degrees: float) -> np.ndarray:
        """Compute the features of images that are turned."""
        assert self.representation is not None
        return self.representation.transform_turned(as_numpy(read_dense(X)), degrees)

    def impute(self, X: Rows, out: np.ndarray) -> None:
        """Impute the missing pixels of images whose features are modelled.

        The observed pixels tell more about them than the features do.

        Parameters
        ----------
        X : ndarray, tensor or RowReader of shape (n_samples, n_features)
            NaN is missing.
        out : ndarray of shape (n_samples, n_features)
            Reconstructions; entries that are missing in X are replaced.
        """
        if self.representation is None:
            return
        for start in range(0, len(out), IMAGES_AT_A_TIME):
            chunk = slice(start, start + IMAGES_AT_A_TIME)
            images = as_numpy(X[chunk])
            is_missing = np.isnan(images)
            np.copyto(out[chunk], self.representation.impute(images), where=is_missing)

    def lazy_model_space(self, X: Any) -> Any:
        """Return the features that are modelled, computed as they are read."""
        if self.representation is None:
            return X
        return MapReader(
            as_numpy(X), self.representation.transform, IMAGES_AT_A_TIME, as_floats
        )

    def to_data_space(self, features: np.ndarray) -> np.ndarray:
        """Map modelled features back to data space."""
        if self.representation is None:
            return features
        return self.representation.inverse_transform(features)

    def build(
        self,
        settings: Settings,
        X: Rows,
        device: torch.device,
        with_intercepts: bool,
        sample_weight: np.ndarray | torch.Tensor | None = None,
        labels: np.ndarray | None = None,
    ) -> tuple[Mixture, RowLoader]:
        """Bring model and rows to the scale and device of the computation.

        Rows are shifted by the mean of the intercepts, so that an origin far away
        costs no precision. Sparse rows near the origin are not, as they would become
        dense; those far from it are made dense, a mini-batch at a time.

        Parameters
        ----------
        settings : Settings
        X : ndarray, tensor or RowReader of shape (n_samples, n_features)
            Features that are modelled.
        device : torch.device
        with_intercepts : bool
        sample_weight : ndarray or tensor of shape (n_samples,), default=None
            As :class:`RowLoader` takes it.
        labels : int ndarray of shape (n_samples,), default=None
            Clusters of the rows, -1 where unknown; None if no label is known.

        Returns
        -------
        mixture : Mixture
        loader : RowLoader
        """
        like: dict[str, Any] = {"dtype": torch_dtype(X), "device": device}
        intercepts = location = None
        if with_intercepts:
            intercepts = torch.tensor(self.intercepts, **like)
        is_spherical = settings.likelihood.has_noise_variance
        if intercepts is not None and is_spherical:
            # The mean of equal numbers may round: a constant feature, however large,
            # is to leave nothing.
            first = intercepts[0]
            is_constant = (intercepts == first).all(dim=0)
            location = torch.where(is_constant, first, intercepts.mean(dim=0))
            if isinstance(X, SparseRows) and self._is_near_origin(location):
                location = torch.zeros_like(location)
            intercepts = (intercepts - location) * self.scale
        mixture = build_mixture(
            self.likelihood,
            dictionaries=torch.tensor(self.dictionaries, **like),
            intercepts=intercepts,
            weights=torch.tensor(self.weights, **like),
            prior=self.prior(settings, like),
            n_layers=settings.n_layers,
            step_size=settings.step_size,
            noise_variance=self.noise_variance,
        )
        loader = RowLoader(
            X,
            device=device,
            location=location,
            scale=self.scale,
            sample_weight=sample_weight,
            labels=labels,
            needs_dense=not is_spherical,
        )
        return mixture, loader

    def _is_near_origin(self, location: torch.Tensor) -> bool:
        """Return whether squared norms of rows that are not shifted are precise."""
        squared_norm = float((location.double() * self.scale).square().sum())
        return squared_norm * torch.finfo(location.dtype).eps < _MAX_ENERGY_ERROR


def count_clusters(weights: np.ndarray, component_labels: np.ndarray | None) -> int:
    """Count the clusters of a model, each of one or of several components."""
    if component_labels is None:
        return len(weights)
    return int(component_labels.max()) + 1


def torch_dtype(X: Rows) -> torch.dtype:
    """Return the dtype of rows, as torch names it."""
    return X.dtype if isinstance(X, torch.Tensor) else getattr(torch, X.dtype.name)


def numpy_dtype(X: Rows) -> np.dtype:
    """Return the dtype of rows, as numpy names it."""
    return as_numpy(X[:0]).dtype


def add_later_attributes(estimator: Any) -> None:
    """Set the attributes that a model fitted by an earlier version lacks.

    Parameters
    ----------
    estimator : MixMateClustering
        Fitted.
    """
    params = estimator._fitted_params
    image_shape = params["image_shape"]
    later = {
        "likelihood_": as_likelihood(params["likelihood"]),
        "image_shape_": None if image_shape is None else tuple(image_shape),
        "n_clusters_scores_": None,
        "component_labels_": None,
        "overlaps_": None,
    }
    for name, value in later.items():
        if not hasattr(estimator, name):
            setattr(estimator, name, value)
    set_earlier_alpha(estimator)
