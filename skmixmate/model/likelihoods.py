"""The likelihoods, one class each, and their names.

Poisson and Bernoulli entries are exponential families with their natural link.
Negative binomial entries have the link of counts, the logarithm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .likelihood import EntrywiseLikelihood, Likelihood, SphericalLikelihood


@dataclass(frozen=True)
class Gaussian(SphericalLikelihood):
    """Independent Gaussian noise on every entry, of one variance.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Gaussian
    >>> Gaussian().energy(torch.tensor([4.0]), n_observed=2)
    tensor([4.])
    """

    default_alpha = 0.75

    def energy(
        self, scaled_residuals: torch.Tensor, n_observed: int | torch.Tensor
    ) -> torch.Tensor:
        """Return the scaled residuals themselves."""
        return scaled_residuals

    def sample_noise(
        self, shape: Sequence[int], rng: np.random.RandomState
    ) -> np.ndarray:
        """Draw standard normal noise."""
        return rng.standard_normal(tuple(shape))


@dataclass(frozen=True)
class Poisson(EntrywiseLikelihood):
    """Counts whose variance equals their mean; z is the logarithm of the mean.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Poisson
    >>> Poisson().mean(torch.tensor([0.0, 2.0]))
    tensor([1.0000, 7.3891])
    """

    default_alpha = 1.0
    is_nonnegative = True

    # Counts are drawn as 64-bit integers.
    largest_natural = 43.0

    def validate(self, rows: torch.Tensor) -> None:
        """Check for negative entries; fractions, such as expected counts, are valid."""
        _check_range(rows, 0, math.inf, "poisson", "counts, which are not negative")

    def cumulant(self, natural: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Exponential function."""
        return natural.exp()

    def mean(
        self, natural: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Exponential function."""
        return torch.exp(natural, out=out)

    def cumulant_hess(
        self, grad: torch.Tensor, targets: torch.Tensor | float
    ) -> torch.Tensor:
        """Return the mean, which is also the variance."""
        return grad

    def expectations(
        self, means: torch.Tensor, variances: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the mean of a log-normal distribution, which is all three."""
        mean = torch.exp(means + variances / 2)
        return mean, mean, mean

    def log_base_measure(self, targets: torch.Tensor) -> torch.Tensor:
        """Logarithm of one over the factorial."""
        return -torch.lgamma(targets + 1)

    def link(self, mean: np.ndarray) -> np.ndarray:
        """Logarithm."""
        return np.asarray(np.log(mean))

    def to_interior(self, rows: np.ndarray) -> np.ndarray:
        """Add half an event."""
        return rows + 0.5

    def variance_stabilize(self, rows: np.ndarray) -> np.ndarray:
        """Square root."""
        return np.asarray(np.sqrt(rows))

    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw counts."""
        return np.asarray(rng.poisson(np.exp(natural)), dtype=np.float64)


@dataclass(frozen=True)
class Bernoulli(EntrywiseLikelihood):
    """Binary entries; z is the logarithm of the odds of a 1.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Bernoulli
    >>> Bernoulli().mean(torch.tensor([0.0, 100.0]))
    tensor([0.5000, 1.0000])
    """

    default_alpha = 0.5

    def validate(self, rows: torch.Tensor) -> None:
        """Check that entries are between 0 and 1; fractions of events are valid."""
        _check_range(rows, 0, 1, "bernoulli", "0 and 1, or shares between them")

    def cumulant(self, natural: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Softplus function."""
        return torch.nn.functional.softplus(natural)

    def mean(
        self, natural: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Logistic function."""
        return torch.sigmoid(natural, out=out)

    def cumulant_hess(
        self, grad: torch.Tensor, targets: torch.Tensor | float
    ) -> torch.Tensor:
        """Compute the variance p (1 - p) from the mean p."""
        return grad * (1 - grad)

    def log_base_measure(self, targets: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(targets)

    def link(self, mean: np.ndarray) -> np.ndarray:
        """Logarithm of the odds."""
        return np.asarray(np.log(mean) - np.log1p(-mean))

    def to_interior(self, rows: np.ndarray) -> np.ndarray:
        """Compute the mean of the entry and one half."""
        return (rows + 0.5) / 2

    def variance_stabilize(self, rows: np.ndarray) -> np.ndarray:
        """Return the entries themselves."""
        return rows

    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw zeros and ones."""
        with np.errstate(over="ignore"):  # the odds are 0 then
            means = 1 / (1 + np.exp(-natural))
        return np.asarray(rng.uniform(size=natural.shape) < means, dtype=np.float64)


# The likelihood classes by name.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "poisson": Poisson,
    "bernoulli": Bernoulli,
}


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """Resolve a name or an instance to a likelihood.

    Parameters
    ----------
    likelihood : str or Likelihood
        A name of `LIKELIHOODS`, or an instance, which is returned as it is.

    Returns
    -------
    likelihood : Likelihood

    Raises
    ------
    ValueError
        If there is no likelihood of this name.
    TypeError
        If it is neither a name nor a likelihood.
    """
    if isinstance(likelihood, Likelihood):
        return likelihood
    if not isinstance(likelihood, str):
        raise TypeError(
            f"likelihood={likelihood!r} should be one of {sorted(LIKELIHOODS)}, or an "
            "instance of a class of skmixmate.model.likelihoods."
        )
    if likelihood not in LIKELIHOODS:
        raise ValueError(
            f"likelihood={likelihood!r} should be one of {sorted(LIKELIHOODS)}."
        )
    return LIKELIHOODS[likelihood]()


def _check_range(
    rows: torch.Tensor, minimum: float, maximum: float, name: str, description: str
) -> None:
    """Check that entries lie in an interval; the name is that of the likelihood."""
    if not rows.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(rows))
    if low < minimum or high > maximum:
        prefix = "Negative values in data: " if low < 0 else ""
        raise ValueError(
            f"{prefix}X has an entry of {low if low < minimum else high:.6g}, but "
            f"likelihood={name!r} is for {description}."
        )
