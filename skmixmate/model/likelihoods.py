"""The likelihoods, one class each, and their names.

Poisson and Bernoulli entries are exponential families with their natural link.
Negative binomial entries have the link of counts, the logarithm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.optimize import brentq

from .likelihood import EntrywiseLikelihood, Likelihood, SphericalLikelihood
from .likelihood_formulas import (
    as_number,
    check_number,
    check_range,
    expected_log,
)

# Degrees of freedom that training starts from, and the range of learned ones.
_INITIAL_DF, _DF_RANGE = 10.0, (0.5, 200.0)

# Dispersion that training starts from without data, and its range.
_INITIAL_DISPERSION, _DISPERSION_RANGE = 0.5, (1e-6, 1e6)

# Nodes and weights of a quadrature over a normal distribution.
_HERMITE = tuple(array.tolist() for array in np.polynomial.hermite_e.hermegauss(5))

# Iterations of the moment equation, whose weights depend on the dispersion.
_N_MOMENT_ITERATIONS = 20


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
class StudentT(SphericalLikelihood):
    """Heavy-tailed noise: a multivariate t distribution over each row.

    Given a precision drawn from a gamma distribution, one for each row, the noise is
    Gaussian. Rows far from all clusters have a low expected precision, by which they
    are weighted in training: a few of them hardly move the parameters.

    Parameters
    ----------
    df : float or "auto", default="auto"
        Degrees of freedom; the fewer, the heavier the tails. Positive. If "auto", a
        number from 0.5 to 200 is learned.

    References
    ----------
    D. Peel and G. J. McLachlan, Robust mixture modelling using the t distribution,
    Statistics and Computing 10, 2000.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import StudentT
    >>> StudentT(df=3.0).row_weights(torch.tensor([0.5, 50.0]), n_observed=1)
    tensor([1.0000, 0.0388])
    """

    df: float | str = "auto"

    default_alpha = 0.75
    is_robust = True
    n_statistics = 3

    def __post_init__(self) -> None:
        """Check the degrees of freedom."""
        check_number("df", self.df, 0.0, math.inf)

    @property
    def _df(self) -> float:
        return as_number("df", self.df)

    def initial(
        self, sample: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> Self:
        """Start with tails that are neither heavy nor light."""
        return replace(self, df=_INITIAL_DF) if self.is_learned else self

    def energy(
        self, scaled_residuals: torch.Tensor, n_observed: int | torch.Tensor
    ) -> torch.Tensor:
        """Compute the logarithm of one plus the residual, scaled."""
        df = self._df
        if isinstance(n_observed, int):
            log_ratio: torch.Tensor | float = -math.lgamma((df + n_observed) / 2)
        else:
            log_ratio = -torch.lgamma((df + n_observed.double()) / 2)
        constants = log_ratio + math.lgamma(df / 2) + n_observed / 2 * math.log(df / 2)
        if isinstance(constants, torch.Tensor):
            constants = constants.to(scaled_residuals.dtype)
        exponents = (df + n_observed) / 2
        return exponents * torch.log1p(scaled_residuals * (2 / df)) + constants

    def row_weights(
        self, scaled_residuals: torch.Tensor, n_observed: int | torch.Tensor
    ) -> torch.Tensor:
        """Compute the posterior mean of the precision of each row."""
        return (self._df + n_observed) / (self._df + 2 * scaled_residuals)

    def statistics(
        self,
        row_weights: torch.Tensor | None,
        n_observed: int | torch.Tensor,
        responsibilities: torch.Tensor,
    ) -> torch.Tensor:
        """Sum expected values of log u and u, for precisions u, and count rows."""
        assert row_weights is not None
        row_weights = row_weights.clamp_min(torch.finfo(row_weights.dtype).tiny)
        shapes = (self._df + torch.as_tensor(n_observed).to(row_weights)) / 2
        # The posterior of u is a gamma distribution with this shape and mean u.
        log_weights = row_weights.log() + torch.digamma(shapes) - shapes.log()
        terms = torch.stack((log_weights, row_weights, torch.ones_like(row_weights)))
        return (responsibilities * terms).flatten(1).sum(dim=1)

    def expected_statistics(self, n_rows: float) -> list[float]:
        """Compute statistics for which :meth:`m_step` returns the same number."""
        return [n_rows * expected_log(self._df), float(n_rows), float(n_rows)]

    def m_step(self, statistics: torch.Tensor) -> Self:
        """Maximise the expected log-likelihood of the precisions over df.

        Precisions are divided by their mean, which is 1 for the optimal noise variance.
        Otherwise df would compensate for another noise variance.
        """
        total_log, total, n_rows = statistics.tolist()
        if not (total > 0 and math.isfinite(total_log)):  # training has diverged
            return self
        mean_log = total_log / n_rows - math.log(total / n_rows)
        low, high = _DF_RANGE
        mean_log = min(max(mean_log, expected_log(low)), expected_log(high))
        df = brentq(lambda df: expected_log(df) - mean_log, low, high)
        return replace(self, df=float(df))

    def sample_noise(
        self, shape: Sequence[int], rng: np.random.RandomState
    ) -> np.ndarray:
        """Draw normal noise, and divide each row by the root of its precision."""
        noise = rng.standard_normal(tuple(shape))
        precisions = rng.gamma(self._df / 2, 2 / self._df, size=(shape[0], 1))
        return np.asarray(noise / np.sqrt(precisions))


class _Counts(EntrywiseLikelihood):
    """Counts; the natural parameter is the logarithm of their mean."""

    default_alpha = 1.0
    is_nonnegative = True

    # Counts are drawn as 64-bit integers.
    largest_natural = 43.0

    # Name in `LIKELIHOODS`.
    name: ClassVar[str]

    def validate(self, rows: torch.Tensor) -> None:
        """Check for negative entries; fractions, such as expected counts, are valid."""
        check_range(rows, 0, math.inf, self.name, "counts, which are not negative")

    def mean(
        self, natural: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Exponential function."""
        return torch.exp(natural, out=out)

    def link(self, mean: np.ndarray) -> np.ndarray:
        """Logarithm."""
        return np.asarray(np.log(mean))

    def to_interior(self, rows: np.ndarray) -> np.ndarray:
        """Add half an event."""
        return rows + 0.5


@dataclass(frozen=True)
class Poisson(_Counts):
    """Counts whose variance equals their mean; z is the logarithm of the mean.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Poisson
    >>> Poisson().mean(torch.tensor([0.0, 2.0]))
    tensor([1.0000, 7.3891])
    """

    name = "poisson"

    def cumulant(self, natural: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Exponential function."""
        return natural.exp()

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

    def variance_stabilize(self, rows: np.ndarray) -> np.ndarray:
        """Square root."""
        return np.asarray(np.sqrt(rows))

    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw counts."""
        return np.asarray(rng.poisson(np.exp(natural)), dtype=np.float64)


@dataclass(frozen=True)
class NegativeBinomial(_Counts):
    r"""Counts whose variance exceeds their mean; z is the logarithm of the mean.

    The variance of a count with the mean :math:`\mu` is
    :math:`\mu + \mathrm{dispersion} \cdot \mu^2`. With r = 1 / dispersion, the cumulant
    :math:`B(z) = (y + r) \log(1 + e^z / r)` depends on the count y.

    Parameters
    ----------
    dispersion : float or "auto", default="auto"
        From 1e-6 to 1e6, the same for all entries. If "auto", it is learned.

    References
    ----------
    J. M. Hilbe, Negative Binomial Regression, Cambridge University Press, 2011.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import NegativeBinomial
    >>> NegativeBinomial(dispersion=0.5).mean(torch.tensor([0.0, 2.0]))
    tensor([1.0000, 7.3891])
    """

    dispersion: float | str = "auto"

    name = "negative_binomial"
    n_statistics = 2

    def __post_init__(self) -> None:
        """Check the dispersion."""
        check_number("dispersion", self.dispersion, *_DISPERSION_RANGE)

    @property
    def _dispersion(self) -> float:
        return as_number("dispersion", self.dispersion)

    def initial(
        self, sample: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> Self:
        """Estimate the dispersion within clusters by the method of moments."""
        if not self.is_learned:
            return self
        initial = replace(self, dispersion=_INITIAL_DISPERSION)
        if sample is None or labels is None:
            return initial
        groups = [sample[labels == k] for k in np.unique(labels[labels >= 0])]
        groups = [group for group in groups if len(group) > 1]
        if not groups:
            return initial
        natural = [np.tile(self.mean_to_natural(g), (len(g), 1)) for g in groups]
        eta = torch.from_numpy(np.concatenate(natural)).double()
        targets = torch.from_numpy(np.concatenate(groups)).double()
        # The estimate of a mean from n rows has the n-th part of their variance.
        counts = torch.tensor([[len(g)] for g in groups for _ in g])
        weights = torch.ones_like(eta)
        for _ in range(_N_MOMENT_ITERATIONS):
            variances = ((-eta).exp() + initial._dispersion) / counts
            moments = initial.statistics(eta, variances, targets, weights)
            initial = initial.m_step(moments)
        return initial

    def cumulant(self, natural: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Softplus function, scaled by the count plus r."""
        r = 1 / self._dispersion
        return (targets + r) * torch.nn.functional.softplus(
            natural - math.log(r), threshold=40.0
        )

    def cumulant_grad(
        self,
        natural: torch.Tensor,
        targets: torch.Tensor | float,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logistic function, scaled by the count plus r."""
        r = 1 / self._dispersion
        if out is None:
            return torch.sigmoid(natural - math.log(r)) * (targets + r)
        return torch.sub(natural, math.log(r), out=out).sigmoid_().mul_(targets + r)

    def cumulant_hess(
        self, grad: torch.Tensor, targets: torch.Tensor | float
    ) -> torch.Tensor:
        """Compute the derivative of the logistic function from its value."""
        return grad * (1 - grad / (targets + 1 / self._dispersion))

    def log_base_measure(self, targets: torch.Tensor) -> torch.Tensor:
        """Logarithm of the binomial coefficient, less y log r."""
        r = 1 / self._dispersion
        counts = targets.double()  # the terms are large, and nearly cancel
        log_coefs = torch.lgamma(counts + r) - math.lgamma(r) - torch.lgamma(counts + 1)
        return (log_coefs - counts * math.log(r)).to(targets)

    def statistics(
        self,
        natural: torch.Tensor,
        variances: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """Sum the excess variance of entries, and its multiple of the dispersion.

        Both are expected values over the natural parameters, by quadrature.
        """
        totals = natural.new_zeros(2)
        for node, coef in zip(*_HERMITE, strict=True):
            mean = (natural + node * variances.sqrt()).exp()
            excess = (targets - mean).square() - mean
            terms = torch.stack((excess, mean.square()))
            terms = terms * (weights * self._precision(mean))
            totals.add_(terms.sum(dim=(1, 2)), alpha=coef / math.sqrt(2 * math.pi))
        return totals

    def expected_statistics(
        self, natural: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Compute statistics for which :meth:`m_step` returns the same number."""
        mean = natural.double().exp()
        total = (weights * self._precision(mean) * mean.square()).sum()
        return torch.stack((self._dispersion * total, total))

    def _precision(self, mean: torch.Tensor) -> torch.Tensor:
        """Compute weights for an efficient estimate from the excess variances."""
        dispersion = self._dispersion
        squared_mean = mean.square()
        variance = mean + dispersion * squared_mean
        return squared_mean / (variance + (2 + 6 * dispersion) * variance.square())

    def m_step(self, statistics: torch.Tensor) -> Self:
        """Solve the moment equation."""
        excess, total = statistics.tolist()
        if not (total > 0 and math.isfinite(excess / total)):
            return self
        low, high = _DISPERSION_RANGE
        return replace(self, dispersion=min(max(excess / total, low), high))

    def variance_stabilize(self, rows: np.ndarray) -> np.ndarray:
        """Inverse hyperbolic sine of the square root, scaled."""
        dispersion = _INITIAL_DISPERSION if self.is_learned else self._dispersion
        root = math.sqrt(dispersion)
        return np.asarray(np.arcsinh(root * np.sqrt(rows)) / root)

    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw counts with rates drawn from a gamma distribution."""
        r = 1 / self._dispersion
        rates = np.exp(natural) * rng.gamma(r, 1 / r, size=natural.shape)
        rates = np.minimum(rates, math.exp(self.largest_natural))
        return np.asarray(rng.poisson(rates), dtype=np.float64)


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
        check_range(rows, 0, 1, "bernoulli", "0 and 1, or shares between them")

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
    "student_t": StudentT,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
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
