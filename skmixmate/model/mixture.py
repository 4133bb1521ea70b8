"""The generative model: energies, posterior and loss (Eq. 5-8)."""

from dataclasses import dataclass

import torch

from .encoder import (
    encode,
    encode_incomplete,
    gram_matrices,
    largest_eigenvalue,
    residuals,
)
from .priors import Laplace


@dataclass
class Mixture:
    """A mixture of sparse dictionary models (Eq. 1).

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
        The atoms are the rows, of norm 1; A_k^T in the paper.
    intercepts : tensor of shape (n_clusters, n_features) or None
        Offset of each cluster, ``y = intercept_k + A_k x + noise``; none in the
        paper.
    weights : tensor of shape (n_clusters,)
        Prior probability of each cluster, pi in the paper.
    prior : object with the methods of :class:`~skmixmate.model.priors.Laplace`
        What the codes are drawn from.
    n_layers : int
        Number of layers of the encoder.
    step_size : float or None
        Step size of the encoder; None for the inverse of (an upper bound of)
        the largest eigenvalue of each Gram matrix.

    Examples
    --------
    Two clusters, one atom each, along the two axes:

    >>> import torch
    >>> from skmixmate.model.mixture import Mixture, posterior
    >>> from skmixmate.model.priors import Laplace
    >>> mixture = Mixture(
    ...     dictionaries=torch.eye(2)[:, None], intercepts=None,
    ...     weights=torch.full((2,), 0.5), prior=Laplace(0.75), n_layers=15,
    ... )
    >>> codes, energies = mixture.infer(torch.tensor([[3.0, 0.0]]))
    >>> posterior(energies).argmax(dim=0)
    tensor([0])
    """

    dictionaries: torch.Tensor
    intercepts: torch.Tensor | None
    weights: torch.Tensor
    prior: Laplace
    n_layers: int
    step_size: float | None = None

    def curvature(self):
        """Gram matrices of the dictionaries and the step sizes they allow.

        Returns
        -------
        gram : tensor of shape (n_clusters, n_atoms, n_atoms)
            Differentiable in the dictionaries.
        step : tensor of shape (n_clusters, 1, 1)
        """
        gram = gram_matrices(self.dictionaries)
        if self.step_size is None:
            return gram, largest_eigenvalue(gram.detach()).reciprocal()
        return gram, gram.new_full((len(gram), 1, 1), self.step_size)

    def infer(self, rows, observed=None, curvature=None):
        """Codes and energies of rows under every cluster (Eq. 3-5).

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features) or \
                (n_clusters, n_rows, n_features)
            The same rows for all clusters, or rows of its own for each. Missing
            entries hold 0.
        observed : bool tensor of shape (n_rows, n_features), default=None
            False where an entry is missing; None if nothing is. Only without it
            the answer can be differentiated, and may each cluster have rows of
            its own.
        curvature : tuple of tensors, default=None
            What :meth:`curvature` gives, if at hand.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
        """
        gram, step = curvature or self.curvature()
        if observed is None:
            codes, residuals = self._infer_complete(rows, gram, step)
        else:
            codes, residuals = self._infer_incomplete(
                rows.mT, observed.mT.to(rows.dtype), gram, step
            )
        bias = self.weights.log()[:, None]
        return codes, residuals + self.prior.value(codes) - bias

    def _infer_complete(self, rows, gram, step):
        """Codes and squared residual norms, in the Gram form."""
        correlations = self.dictionaries @ rows.mT  # (n_clusters, n_atoms, n_rows)
        # (n_rows,), or (n_clusters, n_rows)
        norms = torch.linalg.vector_norm(rows, dim=-1).square()
        if self.intercepts is not None:
            # The same as for rows less the intercept of each cluster, which for
            # shared rows would be n_clusters times as many.
            offsets = self.intercepts[:, :, None]  # (n_clusters, n_features, 1)
            correlations = correlations - self.dictionaries @ offsets
            # (n_clusters, 1, n_rows)
            shifts = offsets.mT @ offsets - 2 * (offsets.mT @ rows.mT)
            norms = norms + shifts[:, 0]
        codes = encode(correlations, gram, step, self.prior, self.n_layers)
        # ||y - A^T x||^2 = ||y||^2 + x.(G x - 2 C)
        slopes = torch.baddbmm(correlations, gram, codes, beta=-2)
        residuals = norms + (codes * slopes).sum(dim=1)
        return codes, residuals.clamp_min(0)  # rounding may take it below zero

    def _infer_incomplete(self, targets, observed, gram, step):
        """Codes and squared residual norms over the observed entries."""
        if self.intercepts is not None:
            # (n_clusters, n_features, n_rows)
            targets = targets - self.intercepts[:, :, None] * observed
        codes = encode_incomplete(
            targets, observed, self.dictionaries, gram, step, self.prior, self.n_layers
        )
        parts = residuals(targets, observed, self.dictionaries, codes)
        return codes, torch.cat([r.square_().sum(dim=1) for _, r in parts])

    def fill(self, rows, observed, codes):
        """Fill what is missing with what each cluster says of it.

        The E-step for missing entries: a row that is filled has the energy, and
        in the dictionary the gradient, that it has over its observed entries.

        Parameters
        ----------
        rows : tensor of shape (n_clusters, n_rows, n_features)
            Rows of each cluster.
        observed : bool tensor of the shape of rows
        codes : tensor of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        filled : tensor of shape (n_clusters, n_rows, n_features)
        """
        explained = codes.mT @ self.dictionaries
        if self.intercepts is not None:
            explained += self.intercepts[:, None]
        return torch.where(observed, rows, explained)

    def decode(self, codes, labels):
        """Reconstruct rows from their codes in given clusters (the decoder).

        Parameters
        ----------
        codes : tensor of shape (n_rows, n_atoms)
            Code of each row in the dictionary of its label.
        labels : int tensor of shape (n_rows,)

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
        """
        rows = codes.new_empty(len(codes), self.dictionaries.shape[2])
        for label in labels.unique():
            members = labels == label
            rows[members] = codes[members] @ self.dictionaries[label]
        return rows if self.intercepts is None else rows + self.intercepts[labels]

    def unexplained(self, rows, codes, responsibilities, observed=None):
        """Sum, over rows, what the dictionaries leave unexplained.

        Divided by the counts this is the intercept that minimises the expected
        energy while codes and posterior stand: the M-step of Eq. 2 in closed
        form.

        Parameters
        ----------
        rows : tensor of shape (n_clusters, n_rows, n_features)
            Rows of each cluster. Missing entries hold 0.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        responsibilities : tensor of shape (n_clusters, n_rows)
            Posterior probability of the cluster for each of its rows.
        observed : bool tensor of the shape of rows, default=None

        Returns
        -------
        sums : tensor of shape (n_clusters, n_features)
            ``y - A_k x`` weighted by the posterior, over observed entries.
        counts : tensor of shape (n_clusters, n_features) or (n_clusters, 1)
            Sum of the posterior over the same entries.
        """
        shares = responsibilities[:, None]  # (n_clusters, 1, n_rows)
        if observed is None:
            explained = (shares @ codes.mT) @ self.dictionaries
            counts = shares.sum(dim=2, keepdim=True)
        else:
            observed = observed.to(rows.dtype)
            decoded = (codes * shares).mT @ self.dictionaries
            explained = (decoded * observed).sum(dim=1, keepdim=True)
            counts = shares @ observed
        return (shares @ rows - explained)[:, 0], counts[:, 0]


def posterior(energies):
    """Probability of each cluster given the row (Eq. 7).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    posterior : tensor of shape (n_clusters, n_rows)
        Columns sum to 1.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.mixture import posterior
    >>> posterior(torch.tensor([[0.0], [0.0]]))
    tensor([[0.5000],
            [0.5000]])
    """
    return torch.softmax(-energies, dim=0)


def loss(energies):
    """Take the expected energy of each row under its posterior (Eq. 8).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    loss : tensor of shape (n_rows,)

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.mixture import loss
    >>> loss(torch.tensor([[2.0], [2.0]]))
    tensor([2.])
    """
    return (energies * posterior(energies)).sum(dim=0)


def loss_gradient(energies, responsibilities):
    """Gradient of :func:`loss` with respect to the energies.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)
    responsibilities : tensor of shape (n_clusters, n_rows)
        Their posterior, some small entries of which may be set to 0.

    Returns
    -------
    gradient : tensor of shape (n_clusters, n_rows)
        Exactly 0 where the responsibility is.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.mixture import loss_gradient, posterior
    >>> energies = torch.tensor([[2.0], [2.0]])
    >>> loss_gradient(energies, posterior(energies))
    tensor([[0.5000],
            [0.5000]])
    """
    return responsibilities * (1 - energies + loss(energies))
