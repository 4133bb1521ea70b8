"""The likelihood protocol: how data are distributed around what a cluster predicts.

A cluster predicts a natural parameter z for every entry of a row: its intercept plus
the combination of its atoms. There are two kinds of likelihoods, each with a mixture
that infers codes for it:

- :class:`SphericalLikelihood`: noise is added to z, and the density of a row depends on
  the noise only through its squared norm. See :mod:`~skmixmate.model.spherical`.
- :class:`EntrywiseLikelihood`: each entry is drawn on its own from a distribution with
  the parameter z. See :mod:`~skmixmate.model.exponential`.

:mod:`~skmixmate.model.likelihoods` has a class for each likelihood.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np
import torch

# Quadrature of an expectation under a normal distribution: half-width in standard
# deviations, and number of nodes.
_QUADRATURE_STDS, _N_NODES = 5.0, 21


@dataclass(frozen=True)
class Likelihood(ABC):
    """A distribution of data given natural parameters.

    A field that can be learned may be "auto"; :meth:`initial` replaces that by a number
    before training starts.
    """

    # Rate of the prior where a user leaves it open.
    default_alpha: ClassVar[float]

    # Whether noise is added, with a variance and, for the data, a scale.
    has_noise_variance: ClassVar[bool]

    # Whether entries cannot be negative.
    is_nonnegative: ClassVar[bool] = False

    # Whether rows have weights, by which outliers can be found.
    is_robust: ClassVar[bool] = False

    # Length of the vector of statistics from which `m_step` learns.
    n_statistics: ClassVar[int] = 0

    # Largest natural parameter for which entries can be drawn.
    largest_natural: ClassVar[float] = math.inf

    @property
    def n_learned(self) -> int:
        """Number of fields that are "auto"."""
        values = [getattr(self, field.name) for field in fields(self)]
        return sum(isinstance(value, str) and value == "auto" for value in values)

    @property
    def is_learned(self) -> bool:
        """Whether a field is "auto"."""
        return self.n_learned > 0

    def initial(
        self, sample: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> Self:
        """Replace "auto" by the value from which training starts.

        Parameters
        ----------
        sample : ndarray of shape (n_samples, n_features), default=None
            Rows without missing entries, from which the value is estimated.
        labels : int ndarray of shape (n_samples,), default=None
            Cluster of each row; negative if it has none.

        Returns
        -------
        likelihood : Likelihood
            Without "auto".
        """
        return self

    def m_step(self, statistics: torch.Tensor) -> Self:
        """Update the learned fields.

        Parameters
        ----------
        statistics : tensor of shape (n_statistics,)

        Returns
        -------
        likelihood : Likelihood
        """
        return self

    @abstractmethod
    def validate(self, rows: torch.Tensor) -> None:
        """Check that the likelihood allows all entries.

        Parameters
        ----------
        rows : tensor

        Raises
        ------
        ValueError
            If it does not allow one of them.
        """

    @abstractmethod
    def mean(
        self, natural: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the mean of entries.

        Parameters
        ----------
        natural : tensor
        out : tensor, default=None
            Output tensor; may be `natural`.

        Returns
        -------
        mean : tensor
        """

    @abstractmethod
    def sample_noise(
        self, shape: Sequence[int], rng: np.random.RandomState
    ) -> np.ndarray:
        """Draw the noise that is added to natural parameters.

        Parameters
        ----------
        shape : tuple (n_rows, n_features)
        rng : RandomState

        Returns
        -------
        noise : float64 ndarray of shape (n_rows, n_features)
            Of scale 1; zeros if the likelihood adds no noise.
        """

    @abstractmethod
    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw entries given natural parameters to which noise has been added.

        Parameters
        ----------
        natural : ndarray
            At most `largest_natural`.
        rng : RandomState

        Returns
        -------
        rows : float64 ndarray
            Of the same shape.
        """

    @abstractmethod
    def variance_stabilize(self, rows: np.ndarray) -> np.ndarray:
        """Transform entries so that their variance depends little on their mean.

        Parameters
        ----------
        rows : ndarray

        Returns
        -------
        rows : ndarray
        """

    @abstractmethod
    def to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Estimate a natural parameter from each single entry.

        Parameters
        ----------
        rows : ndarray

        Returns
        -------
        natural : ndarray
            Of the same shape.
        """

    @abstractmethod
    def mean_to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Estimate one natural parameter for each feature of a group of rows.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)

        Returns
        -------
        natural : ndarray of shape (n_features,)
        """


class SphericalLikelihood(Likelihood):
    r"""Noise whose density depends only on its squared norm over the observed entries.

    With the squared residual s, n observed entries and the noise variance
    :math:`\sigma^2`, methods take the scaled residual :math:`h = s / (2 \sigma^2)`.
    """

    has_noise_variance = True

    @abstractmethod
    def energy(
        self, scaled_residuals: torch.Tensor, n_observed: int | torch.Tensor
    ) -> torch.Tensor:
        r"""Compute the negative log-density, up to a constant.

        Parameters
        ----------
        scaled_residuals : tensor of shape (..., n_rows)
            h; may be overwritten.
        n_observed : int or tensor of shape (n_rows,)

        Returns
        -------
        energies : tensor of shape (..., n_rows)
            The negative log-density less :math:`n \log(2 \pi \sigma^2) / 2`, which is
            h for Gaussian noise. Differentiable by autograd.
        """

    def row_weights(
        self, scaled_residuals: torch.Tensor, n_observed: int | torch.Tensor
    ) -> torch.Tensor | None:
        """Compute the derivative of the energy in h.

        Parameters
        ----------
        scaled_residuals : tensor of shape (..., n_rows)
        n_observed : int or tensor of shape (n_rows,)

        Returns
        -------
        row_weights : tensor of shape (..., n_rows) or None
            None if all weights are 1. Otherwise the posterior mean of the precision
            of each row, relative to the inverse noise variance.
        """
        return None

    def statistics(
        self,
        row_weights: torch.Tensor | None,
        n_observed: int | torch.Tensor,
        responsibilities: torch.Tensor,
    ) -> torch.Tensor:
        """Sum over rows the statistics from which :meth:`m_step` learns.

        Parameters
        ----------
        row_weights : tensor of shape (..., n_rows) or None
            As :meth:`row_weights` returns them.
        n_observed : int or tensor of shape (n_rows,)
        responsibilities : tensor of shape (..., n_rows)

        Returns
        -------
        statistics : tensor of shape (n_statistics,)
        """
        return responsibilities.new_zeros(self.n_statistics)

    def expected_statistics(self, n_rows: float) -> list[float]:
        """Compute statistics of rows which :meth:`m_step` maps to the same fields.

        Parameters
        ----------
        n_rows : float

        Returns
        -------
        statistics : list of float, of length n_statistics
        """
        return [0.0] * self.n_statistics

    def validate(self, rows: torch.Tensor) -> None:
        """Accept all entries."""

    def mean(
        self, natural: torch.Tensor, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the natural parameters themselves."""
        return natural if out is None else out.copy_(natural)

    def sample(self, natural: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Return the natural parameters, which include the noise."""
        return natural

    def to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Return the entries themselves."""
        return rows

    variance_stabilize = to_natural

    def mean_to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Compute the mean of each feature."""
        return np.asarray(rows.mean(axis=0))


class EntrywiseLikelihood(Likelihood):
    r"""Entries that are independent given their natural parameters.

    An entry y with the natural parameter z has the density

    .. math:: p(y \mid z) = \exp(y z - B(z) + c(y)),

    in which the cumulant B is convex in z. In an exponential family B' is the mean of
    y and B'' its variance. B may depend on y as well.
    """

    has_noise_variance = False

    @abstractmethod
    def cumulant(self, natural: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Compute the cumulant B.

        Parameters
        ----------
        natural, targets : tensors
            The shape of the targets broadcasts to that of the natural parameters.

        Returns
        -------
        cumulant : tensor
            Differentiable by autograd.
        """

    def cumulant_grad(
        self,
        natural: torch.Tensor,
        targets: torch.Tensor | float,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the derivative B' in z.

        Parameters
        ----------
        natural : tensor
        targets : tensor or float
        out : tensor, default=None
            May be `natural`.

        Returns
        -------
        grad : tensor
            By default the mean, as in an exponential family.
        """
        return self.mean(natural, out=out)

    @abstractmethod
    def cumulant_hess(
        self, grad: torch.Tensor, targets: torch.Tensor | float
    ) -> torch.Tensor:
        """Compute the second derivative B'' from the first.

        Parameters
        ----------
        grad : tensor
            B', as :meth:`cumulant_grad` returns it.
        targets : tensor or float

        Returns
        -------
        hess : tensor
        """

    @abstractmethod
    def log_base_measure(self, targets: torch.Tensor) -> torch.Tensor:
        """Compute the part c(y) of the log-density.

        Parameters
        ----------
        targets : tensor

        Returns
        -------
        log_base_measure : tensor
        """

    @abstractmethod
    def link(self, mean: np.ndarray) -> np.ndarray:
        """Compute the natural parameter from the mean.

        Parameters
        ----------
        mean : ndarray

        Returns
        -------
        natural : ndarray
        """

    @abstractmethod
    def to_interior(self, rows: np.ndarray) -> np.ndarray:
        """Shrink entries to where the link is finite.

        Parameters
        ----------
        rows : ndarray

        Returns
        -------
        means : ndarray
            An estimate of the mean from each single entry.
        """

    def expectations(
        self, means: torch.Tensor, variances: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute expectations for a normally distributed natural parameter.

        Parameters
        ----------
        means, variances : tensors
            Of the natural parameter.
        targets : tensor

        Returns
        -------
        cumulant, grad, hess : tensors
            Expected B, B' and B''. By default by the trapezoidal rule, whose error for
            logistic functions is below 3e-6 if the standard deviation is at most 2.5.
        """
        stds = variances.sqrt()
        stop = _QUADRATURE_STDS
        nodes = torch.linspace(-stop, stop, _N_NODES, dtype=torch.float64, device="cpu")
        coefs = torch.softmax(-nodes.square() / 2, dim=0)
        cumulants, grads, hesses = (torch.zeros_like(means) for _ in range(3))
        for node, coef in zip(nodes.tolist(), coefs.tolist(), strict=True):
            natural = means + node * stds
            grad = self.cumulant_grad(natural, targets)
            cumulants.add_(self.cumulant(natural, targets), alpha=coef)
            grads.add_(grad, alpha=coef)
            hesses.add_(self.cumulant_hess(grad, targets), alpha=coef)
        return cumulants, grads, hesses

    def statistics(
        self,
        natural: torch.Tensor,
        variances: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        """Sum over entries the statistics from which :meth:`m_step` learns.

        Parameters
        ----------
        natural, variances : float64 tensors of shape (n_rows, n_features)
            Posterior means and variances of the natural parameters.
        targets : tensor of shape (n_rows, n_features)
        weights : tensor of shape (n_rows, n_features) or (n_rows, 1)
            Responsibilities; 0 for missing entries.

        Returns
        -------
        statistics : tensor of shape (n_statistics,)
        """
        return natural.new_zeros(self.n_statistics)

    def expected_statistics(
        self, natural: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Compute statistics of entries which :meth:`m_step` maps to the same fields.

        Parameters
        ----------
        natural : tensor of shape (n_clusters, n_features)
        weights : tensor of shape (n_clusters, 1)
            Number of rows with these natural parameters.

        Returns
        -------
        statistics : tensor of shape (n_statistics,)
        """
        return natural.new_zeros(self.n_statistics)

    def sample_noise(
        self, shape: Sequence[int], rng: np.random.RandomState
    ) -> np.ndarray:
        """Return zeros, and draw nothing."""
        return np.zeros(shape)

    def to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Link entries that have been moved to the interior."""
        return self.link(self.to_interior(rows))

    def mean_to_natural(self, rows: np.ndarray) -> np.ndarray:
        """Link the mean of each feature, with one more row of one half everywhere.

        Training adds the same row: the mean of a feature without events has no finite
        natural parameter.
        """
        return self.link((rows.sum(axis=0) + 0.5) / (len(rows) + 1))
