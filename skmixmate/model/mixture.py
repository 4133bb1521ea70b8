"""What is asked of a mixture of dictionaries, whatever its entries are drawn from."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from .active_rows import use_dense_rows
from .posterior import posterior
from .priors import Prior

# Numbers in the covariances of codes that are worked on at a time.
_COVARIANCE_ENTRIES = 2**20


@dataclass
class Mixture(ABC):
    """A mixture of sparse dictionary models (Eq. 1).

    What a subclass gives, with the names that are abstract here, is all that training
    knows of it.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
        The atoms are the rows, of norm 1; A_k^T in the paper.
    intercepts : tensor of shape (n_clusters, n_features) or None
        Offset of each cluster, ``intercept_k + A_k x``; none in the paper.
    weights : tensor of shape (n_clusters,)
        Prior probability of each cluster, pi in the paper.
    prior : Prior
        What the codes are drawn from.
    n_layers : int
        Number of layers of the encoder.
    """

    dictionaries: torch.Tensor
    intercepts: torch.Tensor | None
    weights: torch.Tensor
    prior: Prior
    n_layers: int

    # The paper's. Where it may be another a mixture has its own.
    noise_variance = 0.5

    @property
    def is_sync_free(self):
        """Whether the host need know nothing of what a training step finds."""
        return use_dense_rows(len(self.dictionaries), self.dictionaries.device)

    @abstractmethod
    def precompute(self):
        """Give what rows share as long as the dictionaries stand; None if nothing."""

    @abstractmethod
    def e_step(self, rows, observed, precomputed):
        """Infer codes and energies, and what :meth:`gradient` needs besides.

        Parameters
        ----------
        rows, observed
            As in :meth:`infer`.
        curvature
            What :meth:`precomputed` gave.

        Returns
        -------
        *inferred
            Whatever it is.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
        """

    @abstractmethod
    def add_gradient(
        self, gradient, rows, observed, inferred, responsibilities, precomputed
    ):
        """Add the gradient of the summed loss in the dictionaries, through all layers.

        A cluster has no gradient from a row that it takes no responsibility for:
        each goes forward once more, and backward, with the rows that count for it.

        Parameters
        ----------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
            What it is added to: a step of many clusters would else take longer to get
            memory for it than to find it.
        rows, observed, curvature
            As in :meth:`e_step`.
        inferred : tuple
            What :meth:`e_step` gave.
        responsibilities : tensor of shape (n_clusters, n_rows)
            As :func:`thresholded_responsibilities` gives them.
        """

    @abstractmethod
    def intercept_statistics(self, rows, codes, responsibilities, observed=None):
        """Sum, over rows, what :meth:`m_step_intercepts` needs.

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)
            Missing entries hold 0.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        responsibilities : tensor of shape (n_clusters, n_rows)
            Posterior probability of the cluster for each row.
        observed : bool tensor of shape (n_rows, n_features), default=None

        Returns
        -------
        sums : tensor of shape (n_clusters, n_features)
        counts : tensor of shape (n_clusters, n_features) or (n_clusters, 1)
            Fisher information of the rows on the intercept;
            sums = counts x per-row intercept estimate.
        """

    @abstractmethod
    def intercept_fisher_information(self):
        """Fisher information of a row on the intercept of its cluster, at no code."""

    @abstractmethod
    def m_step_intercepts(self, sums, counts):
        """Give the intercepts that minimise the expected energy, or come nearer.

        Parameters
        ----------
        sums, counts : tensors
            As :meth:`intercept_statistics` gives them, for many rows.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
        """

    def infer(self, rows, observed=None, precomputed=None):
        """Codes and energies of rows under every cluster (Eq. 3-5).

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)
            Missing entries hold 0.
        observed : bool tensor of shape (n_rows, n_features), default=None
            False where an entry is missing; None if nothing is.
        curvature : default=None
            What :meth:`precomputed` gives, if at hand.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
        """
        return self.e_step(rows, observed, precomputed or self.precompute())[-2:]

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

    def log_evidence(self, rows, observed, codes, energies):
        """Bound the logarithm of the density of rows from below.

        Parameters
        ----------
        rows, observed
            As in :meth:`infer`.
        codes, energies
            As :meth:`infer` gives them.

        Returns
        -------
        log_evidence : tensor of shape (n_rows,)
            Of the observed entries. Clusters that a float cannot hold beside the most
            likely one are left out, which is a bound too. For a prior that is not
            known as a density, the logarithm of the evidence of Eq. 6, up to a
            constant.
        """
        if self.prior.log_normalizer(1) is None:
            return (-energies).logsumexp(dim=0)
        bounds = torch.full_like(energies, -math.inf, dtype=torch.float64)
        counting = posterior(energies) > torch.finfo(energies.dtype).eps
        for k, index, values in self.evidence_lower_bounds(
            rows, observed, codes, counting
        ):
            bounds[k, index] = values
        bounds += self.weights.log()[:, None]
        return bounds.logsumexp(dim=0).to(rows.dtype)

    @abstractmethod
    def evidence_lower_bounds(self, rows, observed, codes, counting):
        """Bound the density of rows under single clusters, the code integrated out.

        Parameters
        ----------
        rows, observed, codes
            As in :meth:`log_evidence`.
        counting : bool tensor of shape (n_clusters, n_rows)
            Where it is wanted.

        Yields
        ------
        k : int
            A cluster.
        index : int tensor of shape (n_index,)
            Some of the rows that count for it.
        bounds : float64 tensor of shape (n_index,)
            Of the logarithm.
        """

    def _iter_active(self, counting, n_entries):
        """Go through the clusters that count for rows, some rows at a time.

        Parameters
        ----------
        counting : bool tensor of shape (n_clusters, n_rows)
        n_entries : int
            Numbers that are worked on for each row.

        Yields
        ------
        k : int
            A cluster.
        index : int tensor of shape (n_index,)
            Some of the rows that it counts for.
        atoms : float64 tensor of shape (n_atoms, n_features)
            Of its dictionary.
        prior : Prior
            Of its codes.
        """
        size = max(1, _COVARIANCE_ENTRIES // max(1, n_entries))
        for k, atoms in enumerate(self.dictionaries.double()):
            for index in counting[k].nonzero()[:, 0].split(size):
                yield k, index, atoms, self.prior[slice(k, k + 1)]
