"""The Laplace prior with a separate rate for each atom."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .prior import Prior, Thresholds
from .prior_formulas import expected_magnitudes, mask_zero_codes_, soft_threshold


class AtomwiseLaplace(Prior):
    """Laplace prior with a separate rate for each atom.

    If the rates differ, so do the log-normalisers of the clusters. The penalty alone
    would be lowest in the cluster with the lowest rates, for all rows; the energies
    therefore include `log_normalizer_ratio`.

    Parameters
    ----------
    rates : tensor of shape (n_clusters, n_atoms)
        Positive.
    n_features : int
        A dictionary with more atoms than features spans at most this many dimensions.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import AtomwiseLaplace
    >>> prior = AtomwiseLaplace(torch.tensor([[2.0, 0.5]]), n_features=2)
    >>> prior.value(torch.tensor([[[3.0], [4.0]]]))
    tensor([[8.]])
    """

    saves_input = False

    def __init__(self, rates: Tensor, n_features: int) -> None:
        self.rates = rates[:, :, None]  # (n_clusters, n_atoms, 1)
        self._inverse_rates = self.rates.reciprocal()
        self.n_features = n_features

    def __getitem__(self, clusters: slice | Tensor) -> "AtomwiseLaplace":
        """Select the rates of some of the clusters."""
        return AtomwiseLaplace(self.rates[clusters, :, 0], self.n_features)

    @property
    def thresholds(self) -> Thresholds:
        """Return minus and plus the rate of each atom."""
        return -self.rates, self.rates

    def value(self, codes: Tensor) -> Tensor:
        """Sum the magnitudes times the rates."""
        return (self.rates * codes.abs()).sum(dim=1)

    def value_grad(self, codes: Tensor, row_weights: Tensor) -> Tensor:
        """Multiply the signs of the codes by the rates and the weights."""
        return codes.sign().mul_(self.rates).mul_(row_weights[:, None])

    def log_normalizer_ratio(
        self,
        dictionaries: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Tensor:
        r"""Compute the log-normaliser of each cluster relative to noise alone.

        For a single atom of rate r and a row p along it, the encoder returns the
        soft-thresholded :math:`x = \mathrm{sign}(p) \max(|p| - r, 0)`, so that the
        energy :math:`(p - x)^2 + r |x|` is :math:`p^2` up to r, and :math:`r |p|` from
        there on. The ratio of the integrals of its exponential and of the noise is

        .. math::

            \frac{1}{\sqrt\pi} \int e^{-E(p)}\,dp
            = \mathrm{erf}(r) + \frac{2}{\sqrt\pi\, r} e^{-r^2}.

        The result is the sum of its logarithm over the atoms. It is multiplied by
        n_features / n_atoms if a dictionary has more atoms than features. If entries
        are missing, each atom is weighted by the squared norm of its observed part.

        Parameters
        ----------
        dictionaries, observed
            As in :meth:`Prior.log_normalizer_ratio`.

        Returns
        -------
        log_ratio : tensor of shape (n_clusters, 1) or (n_clusters, n_rows)
        """
        tails = 2 / math.sqrt(math.pi) / self.rates * torch.exp(-self.rates.square())
        integrals = tails + torch.erf(self.rates)
        n_atoms = max(1, integrals.shape[1])
        logs = integrals.log() * min(1, self.n_features / n_atoms)
        if dictionaries is not None and observed is not None:
            logs = logs * (dictionaries.square() @ observed)
        return logs.sum(dim=1)

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Soft-threshold each entry at the rate of its atom."""
        # In units of the rates all thresholds are 1, which takes three fast passes:
        # torch clamps to broadcast tensors three times as slowly.
        torch.mul(points, self._inverse_rates, out=out)
        return soft_threshold(out, 1.0, out=out).mul_(self.rates)

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Set the gradient to zero where the codes are zero."""
        mask_zero_codes_(grad, codes)

    def scaled(self, factor: float) -> "AtomwiseLaplace":
        """Multiply all rates."""
        if factor == 1:
            return self
        return AtomwiseLaplace(factor * self.rates[:, :, 0], self.n_features)

    def log_normalizer(self, n_atoms: int) -> float:
        """Sum ``log(2 / rate)`` over the atoms of one cluster."""
        return float((2 / self.rates).log().sum())

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw every entry independently, for a prior of a single cluster."""
        return rng.laplace(
            scale=1 / self.rates[0, :, 0].numpy(), size=(n_rows, n_atoms)
        )

    def expected_value(self, means: Tensor, variances: Tensor) -> Tensor:
        """Sum the expected magnitudes times the rates."""
        return (self.rates * expected_magnitudes(means, variances)).sum(dim=1)
