"""The parameters of an estimator, each "auto" resolved, once and in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.likelihood import Likelihood
from ..model.likelihoods import as_likelihood
from ..model.penalties import Smoothness
from ..model.priors import Prior, as_prior

# Default n_atoms. Pixels of small images have fewer, as a dictionary that spans much of
# the space discriminates less between clusters; tabular data have at most as many as
# features, the directions in which a cluster may extend. Scattering coefficients, of
# which 200 components are modelled, allow for more.
N_ATOMS, _PIXELS_PER_ATOM, _SCATTERING_ATOMS = 50, 9, 100

# Default init_size: with neighbours of more rows more clusters of plain features are
# found; images need fewer. Labels are propagated the better, the more rows there are.
_INIT_SIZE, _ENSEMBLE_SIZE, _PROPAGATION_SIZE = 5_000, 10_000, 20_000

# Most features of plain rows whose atoms have their own rates. Among many more features
# than atoms the volume of a cluster in the directions of its atoms says little.
_MAX_RATED_FEATURES = 4 * N_ATOMS

# Default alpha on scattering coefficients, which lie much closer to subspaces than
# pixels do. Elsewhere it is a fact of the likelihood.
_SCATTERING_ALPHA = 0.4


@dataclass(frozen=True)
class Settings:
    """Settings of a fit and of the predictions of its model.

    Parameters
    ----------
    n_features : int
        Features of X.
    n_atoms : int
        Atoms of each dictionary where a fit starts.
    alpha : float
        Rate of a prior that is given by name.
    rate_description : str
        The parameter that sets the rate of the prior, and its value, for messages.
    prior : Prior
        Of the codes; where atoms have rates, these take its place.
    likelihood : Likelihood
        Of the entries, as given: its own parameters may be "auto".
    n_layers : int
    step_size : float or None
        None for the inverse of the largest eigenvalue of each Gram matrix.
    noise_variance : float or None
        None if it is learned.
    learns_weights : bool
        Whether weights are updated in training.
    fit_intercept : bool
    allows_atom_rates : bool
        Whether no parameter fixes the rates of the prior.
    image_shape : tuple of int or None
    models_scattering : bool
        Whether scattering coefficients are modelled in place of X.
    penalty : Smoothness or None
        Of the dictionaries.
    """

    n_features: int
    n_atoms: int
    alpha: float
    rate_description: str
    prior: Prior
    likelihood: Likelihood
    n_layers: int
    step_size: float | None
    noise_variance: float | None
    learns_weights: bool
    fit_intercept: bool
    allows_atom_rates: bool
    image_shape: tuple[int, ...] | None
    models_scattering: bool
    penalty: Smoothness | None

    @classmethod
    def resolve(
        cls,
        params: Mapping[str, Any],
        n_features: int,
        image_shape: tuple[int, ...] | None,
        models_scattering: bool,
    ) -> "Settings":
        """Resolve every "auto".

        Parameters
        ----------
        params : mapping
            Parameters of the estimator, valid ones.
        n_features : int
            Features of X.
        image_shape : tuple of int or None
            The resolved one.
        models_scattering : bool

        Returns
        -------
        settings : Settings
        """
        likelihood = as_likelihood(params["likelihood"])
        on_pixels = image_shape is not None and not models_scattering
        alpha = params["alpha"]
        if alpha == "auto":
            alpha = _SCATTERING_ALPHA if models_scattering else likelihood.default_alpha
        alpha = float(alpha)
        step_size, noise_variance = params["step_size"], params["noise_variance"]
        fit_intercept = params["fit_intercept"]
        if isinstance(fit_intercept, str):
            # On pixels 0 means that nothing is there. The natural parameter 0 of
            # other likelihoods means one event, or a fair coin: an arbitrary origin.
            is_origin_meaningful = likelihood.has_noise_variance and on_pixels
            fit_intercept = params["n_atoms"] == 0 or not is_origin_meaningful
        strength = params["dictionary_penalty"]
        return cls(
            n_features=n_features,
            n_atoms=_resolve_n_atoms(
                params["n_atoms"], n_features, image_shape, on_pixels
            ),
            alpha=alpha,
            rate_description=(
                f"alpha={alpha}"
                if isinstance(params["prior"], str)
                else f"prior={params['prior']!r}"
            ),
            prior=as_prior(params["prior"], alpha),
            likelihood=likelihood,
            n_layers=params["n_layers"],
            step_size=None if step_size == "auto" else float(step_size),
            noise_variance=None if noise_variance == "auto" else float(noise_variance),
            learns_weights=learns_weights(params["weights"]),
            fit_intercept=bool(fit_intercept),
            allows_atom_rates=(
                isinstance(params["prior"], str)
                and params["prior"] == "laplace"
                and params["alpha"] == "auto"
                and likelihood.has_noise_variance
            ),
            image_shape=image_shape,
            models_scattering=models_scattering,
            penalty=(
                Smoothness(strength, image_shape)
                if strength > 0 and image_shape
                else None
            ),
        )

    @property
    def uses_atom_rates(self) -> bool:
        """Whether a new start finds a rate of the prior for each atom."""
        is_tabular = not self.image_shape and self.n_features <= _MAX_RATED_FEATURES
        return self.allows_atom_rates and self.fit_intercept and is_tabular


def read_params(estimator: Any) -> dict[str, Any]:
    """Return all parameters by name, also those that a subclass does not expose."""
    return {name: getattr(estimator, name) for name in estimator._parameter_constraints}


def is_init_array(init: Any) -> bool:
    """Return whether the parameter `init` holds the first atoms themselves."""
    return not isinstance(init, str) and not hasattr(init, "fit_predict")


def given_n_clusters(params: Mapping[str, Any]) -> int | None:
    """Return the number of clusters that the parameters give, or None.

    Parameters
    ----------
    params : mapping
        If `n_clusters` is "auto", arrays as `weights` or `init` give the number.

    Returns
    -------
    n_clusters : int or None
        None if it has to be estimated.
    """
    if params["n_clusters"] != "auto":
        return int(params["n_clusters"])
    if not isinstance(params["weights"], str):
        return len(np.atleast_1d(params["weights"]))
    return len(np.atleast_1d(params["init"])) if is_init_array(params["init"]) else None


def learns_weights(weights: Any) -> bool:
    """Return whether the parameter `weights` asks for learned weights."""
    return isinstance(weights, str) and weights == "learned"


def resolve_models_scattering(
    params: Mapping[str, Any], image_shape: tuple[int, ...] | None
) -> bool:
    """Decide whether a new fit models scattering coefficients.

    Parameters
    ----------
    params : mapping
    image_shape : tuple of int or None

    Returns
    -------
    models_scattering : bool
    """
    if params["representation"] != "auto":
        return params["representation"] == "scattering"
    can_model = as_likelihood(params["likelihood"]).has_noise_variance
    return can_model and image_shape is not None


def stream_init_size(estimator: Any) -> int:
    """Return the number of rows that a stream waits for."""
    if estimator.init_size != "auto":
        return int(estimator.init_size)
    return max(_INIT_SIZE, given_n_clusters(read_params(estimator)) or 0)


def resolve_init_size(
    estimator: Any, image_shape: tuple[int, ...] | None, has_labels: bool = False
) -> int:
    """Return the number of rows that a fit clusters, or classifies, where it starts."""
    if estimator.init_size == "auto" and has_labels:
        return max(_PROPAGATION_SIZE, stream_init_size(estimator))
    is_ensemble = isinstance(estimator.init, str) and estimator.init == "auto"
    if estimator.init_size == "auto" and is_ensemble and image_shape is None:
        return max(_ENSEMBLE_SIZE, stream_init_size(estimator))
    return stream_init_size(estimator)


def _resolve_n_atoms(
    n_atoms: int | str,
    n_features: int,
    image_shape: tuple[int, ...] | None,
    on_pixels: bool,
) -> int:
    if not isinstance(n_atoms, str):
        return n_atoms
    if on_pixels:
        return min(N_ATOMS, max(1, n_features // _PIXELS_PER_ATOM))
    # Whatever the size of the images.
    return min(N_ATOMS, n_features) if image_shape is None else _SCATTERING_ATOMS
