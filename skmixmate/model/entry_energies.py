"""How the entries of a row share in its energy."""

import torch

from ..data.batch import Batch
from .likelihood import EntrywiseLikelihood, SphericalLikelihood
from .mixture import Mixture


def entry_energies(
    mixture: Mixture, batch: Batch, codes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    r"""Divide the energy of rows among their entries.

    The error divides by itself; where the noise is not normal, in proportion to the
    squared residuals. The penalty divides since codes minimise the sum of both: with
    the atoms :math:`A`, the code :math:`x` and the residual :math:`r`, the derivative
    of the penalty at :math:`x` is :math:`A^T r / 2 \sigma^2`, so that a penalty like
    the Laplace prior's, which is proportional to the length of the code, is
    :math:`(A x)^T r / 2 \sigma^2`.

    Parameters
    ----------
    mixture : Mixture
    batch : Batch
    codes : tensor of shape (n_rows, n_atoms)
        Code of each row in the dictionary of its label.
    labels : int tensor of shape (n_rows,)
        The cluster of each row whose energy is divided.

    Returns
    -------
    energies : tensor of shape (n_rows, n_features)
        0 for missing entries. What they lack of the energy of the row are constants,
        and what the penalty differs from the above: other priors, and codes of too few
        layers.
    """
    likelihood, rows = mixture.likelihood, batch.rows
    explained = mixture.combine_atoms(codes, labels)
    natural = explained
    if mixture.intercepts is not None:
        natural = explained + mixture.intercepts[labels]
    residuals = rows - likelihood.mean(natural)
    if isinstance(likelihood, EntrywiseLikelihood):
        errors = likelihood.cumulant(natural, rows) - rows * natural
        errors = errors - likelihood.log_base_measure(rows)
    else:
        residuals = residuals / (2 * mixture.noise_variance)
        errors = residuals.square() * (2 * mixture.noise_variance)
    if batch.observed is not None:
        errors, residuals = errors * batch.observed, residuals * batch.observed
    if isinstance(likelihood, SphericalLikelihood):
        total = errors.sum(dim=1)
        n_observed = batch.n_observed(errors.dtype)
        energies = likelihood.energy(total.clone(), n_observed)
        energies = energies - likelihood.energy(torch.zeros_like(total), n_observed)
        tiny = torch.finfo(errors.dtype).tiny
        errors = errors * (energies / total.clamp_min(tiny))[:, None]
    return errors + explained * residuals
