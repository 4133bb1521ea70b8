"""Build the mixture that infers codes for a likelihood."""

from typing import Any

import torch

from .exponential import ExponentialMixture
from .likelihood import EntrywiseLikelihood, Likelihood, SphericalLikelihood
from .mixture import Mixture
from .prior import Prior
from .spherical import SphericalMixture


def build_mixture(
    likelihood: Likelihood,
    *,
    dictionaries: torch.Tensor,
    intercepts: torch.Tensor | None,
    weights: torch.Tensor,
    prior: Prior,
    n_layers: int,
    step_size: float | None = None,
    noise_variance: float = 0.5,
) -> Mixture:
    """Build a mixture of the class that the kind of the likelihood needs.

    Parameters
    ----------
    likelihood : Likelihood
        Without "auto".
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    intercepts : tensor of shape (n_clusters, n_features) or None
    weights : tensor of shape (n_clusters,)
    prior : Prior
    n_layers : int
    step_size : float or None, default=None
        Step size of the encoder; None to compute it from the dictionaries. Ignored
        unless the likelihood has a noise variance.
    noise_variance : float, default=0.5
        Ignored unless the likelihood has a noise variance.

    Returns
    -------
    mixture : Mixture

    Raises
    ------
    ValueError
        If a field of the likelihood is "auto".
    TypeError
        If the likelihood is of neither kind.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.build import build_mixture
    >>> from skmixmate.model.likelihoods import Poisson
    >>> from skmixmate.model.priors import Laplace
    >>> mixture = build_mixture(
    ...     Poisson(), dictionaries=torch.eye(2)[:, None], intercepts=None,
    ...     weights=torch.full((2,), 0.5), prior=Laplace(1.0), n_layers=15,
    ... )
    >>> type(mixture).__name__
    'ExponentialMixture'
    """
    if likelihood.is_learned:
        raise ValueError(
            f"likelihood={likelihood!r} should have numbers in place of 'auto' before "
            "a mixture is built; its method initial returns such a likelihood."
        )
    shared: dict[str, Any] = {
        "dictionaries": dictionaries,
        "intercepts": intercepts,
        "weights": weights,
        "prior": prior,
        "n_layers": n_layers,
    }
    if isinstance(likelihood, EntrywiseLikelihood):
        return ExponentialMixture(**shared, likelihood=likelihood)
    if isinstance(likelihood, SphericalLikelihood):
        return SphericalMixture(
            **shared,
            likelihood=likelihood,
            step_size=step_size,
            noise_variance=noise_variance,
        )
    raise TypeError(
        f"likelihood={likelihood!r} should be an EntrywiseLikelihood or a "
        "SphericalLikelihood."
    )
