"""What an entry is drawn from, given its natural parameter: one small class each.

These are exponential families with their natural link. An entry y has the natural
parameter z, its intercept and what the code says of it, and the density

    p(y | z) = exp(y z - B(z) + base(y)),

in which B, the cumulant, is convex; its slope is the mean of y, the slope of that its
variance. The normal distribution, which is one of them, has a mixture of its own:
there B is a square, and all can be said by inner products.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch

# Of an expectation under a normal distribution: how many deviations, in so many steps.
_REACH, _N_NODES = 5.0, 21


class Likelihood(ABC):
    """What an exponential family has to say of itself."""

    # Largest natural parameter that entries can be drawn for.
    largest_natural = math.inf

    @abstractmethod
    def validate(self, rows):
        """Check that entries are possible.

        Parameters
        ----------
        rows : tensor

        Raises
        ------
        ValueError
            If one is not.
        """

    @abstractmethod
    def cumulant(self, natural):
        """Logarithm of the normaliser, B.

        Parameters
        ----------
        natural : tensor

        Returns
        -------
        cumulant : tensor
            Of the same shape, differentiable by autograd.
        """

    @abstractmethod
    def mean(self, natural, out=None):
        """Mean of an entry, the slope of B.

        Parameters
        ----------
        natural : tensor
        out : tensor, default=None
            Where it goes; may be `natural`.

        Returns
        -------
        mean : tensor
        """

    @abstractmethod
    def variance(self, mean):
        """Variance of an entry, the curvature of B, by its mean.

        Parameters
        ----------
        mean : tensor

        Returns
        -------
        variance : tensor
        """

    def expectations(self, means, variances):
        """Give expected cumulant, mean and variance, of a normal natural parameter.

        Parameters
        ----------
        means, variances : tensors
            Of the natural parameter.

        Returns
        -------
        cumulant, mean, variance : tensors
            Of the same shape. Here by the trapezoidal rule, which for functions as
            smooth as the logistic one is wrong by less than 3e-6 as long as the natural
            parameter has a deviation of at most 2.5.
        """
        roots = variances.sqrt()
        nodes = torch.linspace(
            -_REACH, _REACH, _N_NODES, dtype=torch.float64, device="cpu"
        )
        shares = torch.softmax(-nodes.square() / 2, dim=0)
        totals = [torch.zeros_like(means) for _ in range(3)]
        for node, share in zip(nodes.tolist(), shares.tolist(), strict=True):
            natural = means + node * roots
            mean = self.mean(natural)
            values = self.cumulant(natural), mean, self.variance(mean)
            for total, value in zip(totals, values, strict=True):
                total.add_(value, alpha=share)
        return tuple(totals)

    @abstractmethod
    def log_base_measure(self, rows):
        """Give the part of the logarithm of the density that no parameter changes.

        Parameters
        ----------
        rows : tensor

        Returns
        -------
        log_base : tensor
        """

    @abstractmethod
    def link(self, mean):
        """Natural parameter of a mean.

        Parameters
        ----------
        mean : ndarray

        Returns
        -------
        natural : ndarray
        """

    @abstractmethod
    def to_interior(self, rows):
        """Move entries to where the link is finite.

        Parameters
        ----------
        rows : ndarray

        Returns
        -------
        means : ndarray
            What a single entry says of its own mean.
        """

    @abstractmethod
    def variance_stabilize(self, rows):
        """Transform entries so that their variance depends little on the mean.

        Parameters
        ----------
        rows : ndarray

        Returns
        -------
        rows : ndarray
            For distances.
        """

    @abstractmethod
    def sample(self, natural, rng):
        """Draw entries.

        Parameters
        ----------
        natural : ndarray
        rng : RandomState

        Returns
        -------
        rows : float64 ndarray
            Of the same shape.
        """


class Poisson(Likelihood):
    """Counts: an entry is a number of events, and z the logarithm of their rate.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Poisson
    >>> Poisson().mean(torch.tensor([0.0, 2.0]))
    tensor([1.0000, 7.3891])
    """

    # Counts are drawn as 64-bit integers.
    largest_natural = 43.0

    def validate(self, rows):
        """Refuse what is negative. Fractions are taken, as expected counts are."""
        _check_range(rows, 0, np.inf, "poisson", "counts, which are not negative")

    def cumulant(self, natural):
        """Exponential."""
        return natural.exp()

    def mean(self, natural, out=None):
        """Exponential."""
        return torch.exp(natural, out=out)

    def variance(self, mean):
        """Give the mean itself."""
        return mean

    def expectations(self, means, variances):
        """Mean of a log-normal distribution, three times."""
        mean = torch.exp(means + variances / 2)
        return mean, mean, mean

    def log_base_measure(self, rows):
        """Logarithm of one over the factorial."""
        return -torch.lgamma(rows + 1)

    def link(self, mean):
        """Logarithm."""
        return np.log(mean)

    def to_interior(self, rows):
        """Half an event more."""
        return rows + 0.5

    def variance_stabilize(self, rows):
        """Square root."""
        return np.sqrt(rows)

    def sample(self, natural, rng):
        """Draw counts."""
        return rng.poisson(np.exp(natural)).astype(np.float64)


class Bernoulli(Likelihood):
    """Binary entries, and z the logarithm of their odds.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.likelihoods import Bernoulli
    >>> Bernoulli().mean(torch.tensor([0.0, 100.0]))
    tensor([0.5000, 1.0000])
    """

    def validate(self, rows):
        """Refuse what is not between 0 and 1. Fractions are taken, as shares are."""
        _check_range(rows, 0, 1, "bernoulli", "0 and 1, or shares between them")

    def cumulant(self, natural):
        """Softplus."""
        return torch.nn.functional.softplus(natural)

    def mean(self, natural, out=None):
        """Logistic function."""
        return torch.sigmoid(natural, out=out)

    def variance(self, mean):
        """Give that of a coin."""
        return mean * (1 - mean)

    def log_base_measure(self, rows):
        """Nothing: zeros."""
        return torch.zeros_like(rows)

    def link(self, mean):
        """Logarithm of the odds."""
        return np.log(mean) - np.log1p(-mean)

    def to_interior(self, rows):
        """Give the mean of the entry and of a fair coin."""
        return (rows + 0.5) / 2

    def variance_stabilize(self, rows):
        """As they are."""
        return rows

    def sample(self, natural, rng):
        """Draw zeros and ones."""
        with np.errstate(over="ignore"):  # the odds are 0 then
            means = 1 / (1 + np.exp(-natural))
        return (rng.uniform(size=natural.shape) < means).astype(np.float64)


# Likelihoods by name. None is the normal distribution, see the top of this file.
LIKELIHOODS = {"gaussian": None, "poisson": Poisson(), "bernoulli": Bernoulli()}


def _check_range(rows, least, largest, name, what):
    if not rows.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(rows))
    if low < least or high > largest:
        kind = "Negative values in data: " if low < 0 else ""
        raise ValueError(
            f"{kind}X has an entry of {low if low < least else high:.6g}, but "
            f"likelihood={name!r} is for {what}."
        )
