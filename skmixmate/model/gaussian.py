"""The paper's mixture: entries with normal noise, the energies of Eq. 5."""

import math
from dataclasses import dataclass

import torch

from .active_rows import ActiveRows
from .elbo import code_posterior
from .fista import (
    cluster_chunks,
    encode_incomplete,
    encode_with_energy_drop,
    lipschitz_bound,
    residual_correlations,
    unroll,
)
from .mixture import Mixture
from .posterior import loss_gradient


@dataclass
class NormalMixture(Mixture):
    """A mixture of sparse dictionary models with normal noise (Eq. 1).

    Parameters
    ----------
    dictionaries, intercepts, weights, prior, n_layers
        As in :class:`Mixture`; ``y = intercept_k + A_k x + noise``.
    step_size : float or None
        Step size of the encoder; None for the inverse of (an upper bound of)
        the largest eigenvalue of each Gram matrix.
    noise_variance : float, default=0.5
        Of every entry, the same in all clusters. One half is the paper's: the squared
        error is then in the energy as it is.

    Examples
    --------
    Two clusters, one atom each, along the two axes:

    >>> import torch
    >>> from skmixmate.model.gaussian import NormalMixture
    >>> from skmixmate.model.posterior import posterior
    >>> from skmixmate.model.priors import Laplace
    >>> mixture = NormalMixture(
    ...     dictionaries=torch.eye(2)[:, None], intercepts=None,
    ...     weights=torch.full((2,), 0.5), prior=Laplace(0.75), n_layers=15,
    ... )
    >>> codes, energies = mixture.infer(torch.tensor([[3.0, 0.0]]))
    >>> posterior(energies).argmax(dim=0)
    tensor([0])
    """

    step_size: float | None = None
    noise_variance: float = 0.5

    def precompute(self):
        """Gram matrices of the dictionaries and the step sizes they allow.

        Returns
        -------
        gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        step : tensor of shape (n_clusters, 1, 1)
        """
        gram = self.dictionaries @ self.dictionaries.mT
        if self.step_size is None:
            return gram, lipschitz_bound(gram).reciprocal()
        return gram, gram.new_full((len(gram), 1, 1), self.step_size)

    def e_step(self, rows, observed, precomputed):
        """Infer codes and energies, and what is missing.

        Parameters
        ----------
        rows, observed, curvature
            As in :meth:`infer`.

        Returns
        -------
        correlated : tuple of tensors
            Inner products and squared norms, as :meth:`project` gives them, of
            the rows as each cluster fills them: a missing entry is what the code
            says of it, and adds nothing to the energy.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
        """
        if observed is None:
            correlated = self.project(rows)
            return correlated, *self.energies_from_gram(*correlated, precomputed)
        n_observed = observed.sum(dim=1, dtype=rows.dtype)
        targets, observed = self._targets(rows, observed)
        penalty = self._penalty(self.prior)
        data = (targets, observed, self.dictionaries)
        correlations = self.dictionaries @ targets
        codes = encode_incomplete(
            correlations, *data, *precomputed, penalty, self.n_layers
        )
        # With r the residual, ||r||^2 = ||y||^2 - x.(A y + A r), and filled rows are
        # A^T x + r.
        pulled = residual_correlations(*data, codes)
        norms = torch.linalg.vector_norm(targets, dim=-2).square_()
        squares = norms - (codes * correlations.add_(pulled)).sum(dim=1)
        squares = squares.clamp_min_(0)  # rounding may take it below
        correlations = torch.baddbmm(pulled, precomputed[0], codes)
        norms = squares + (codes * pulled.add_(correlations)).sum(dim=1)
        costs = squares / (2 * self.noise_variance) + self.prior.value(codes)
        costs = costs + self._constants(n_observed, self.dictionaries, observed)
        return (correlations, norms), codes, costs

    def _penalty(self, prior):
        """Penalty on the codes beside half the squared error, as in Eq. 4."""
        return prior.scaled(2 * self.noise_variance)

    def _constants(self, n_observed, *observed):
        """Part of the energies that no code changes; see :meth:`energies_from_gram`."""
        log_widths = math.log(2 * self.noise_variance) / 2 * n_observed
        in_noise = self.prior.scaled(math.sqrt(2 * self.noise_variance))
        volumes = in_noise.log_normalizer_ratio(*observed)
        return log_widths + volumes - self.weights.log()[:, None]

    def project(self, rows):
        """Give what the encoder needs of complete rows.

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)

        Returns
        -------
        correlations : tensor of shape (n_clusters, n_atoms, n_rows)
            Inner products with the atoms.
        norms : tensor of shape (n_clusters, n_rows)
            Squared norms. Both are of rows less the intercept of each cluster.
        """
        correlations = self.dictionaries @ rows.mT
        norms = torch.linalg.vector_norm(rows, dim=-1).square()
        norms = norms.expand(len(correlations), -1)
        if self.intercepts is None:
            return correlations, norms
        # Shared rows less each intercept would be n_clusters times as many.
        offsets = self.intercepts[:, :, None]  # (n_clusters, n_features, 1)
        shifts = offsets.mT @ offsets - 2 * (offsets.mT @ rows.mT)
        return correlations - self.dictionaries @ offsets, norms + shifts[:, 0]

    def energies_from_gram(self, correlations, norms, precomputed):
        """Codes and energies from inner products alone, in the Gram form.

        Parameters
        ----------
        correlations, norms
            As :meth:`project` gives them.
        curvature : tuple of tensors
            What :meth:`precomputed` gives.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
            Both differentiable in the correlations and Gram matrices. The normal
            density has a part that grows with its width; it is 0 for the paper's.
        """
        codes, costs = torch.empty_like(correlations), torch.empty_like(norms)
        for part in cluster_chunks(codes, codes[:1].numel()):
            codes[part], costs[part] = self._cost(
                *(whole[part] for whole in (correlations, norms, *precomputed)),
                prior=self.prior[part],
            )
        return codes, costs + self._constants(self.dictionaries.shape[2])

    def _cost(self, correlations, norms, gram, step, prior):
        """Codes, and the part of their energies that depends on them."""
        encoder = (gram, step, self._penalty(prior), self.n_layers)
        codes, explained_energy = encode_with_energy_drop(correlations, *encoder)
        # Rounding may take it below zero.
        squares = (norms - explained_energy).clamp_min(0) / (2 * self.noise_variance)
        return codes, squares + prior.value(codes)

    def _targets(self, rows, observed):
        """Rows less the intercepts, and the mask, both with rows last."""
        # (n_features, n_rows), laid out as the residuals they are combined with
        targets, seen = (
            rows.new_empty(whole.mT.shape).copy_(whole.mT) for whole in (rows, observed)
        )
        if self.intercepts is None:
            return targets, seen
        # (n_clusters, n_features, n_rows)
        return targets - self.intercepts[:, :, None] * seen, seen

    def add_gradient(
        self, gradient, rows, observed, inferred, responsibilities, precomputed
    ):
        """Add the gradient of the summed loss in the dictionaries, through all layers.

        Parameters
        ----------
        gradient, rows, observed, inferred, responsibilities, curvature
            As in :meth:`Mixture.add_gradient`.
        """
        correlated, codes, energies = inferred
        blocks = ActiveRows.from_responsibilities(responsibilities)
        weights = blocks.gather(loss_gradient(energies, responsibilities))
        slopes, gram_slopes = self._slopes(
            blocks.gather(correlated[0]),
            weights,
            *(whole[blocks.cluster_ids] for whole in precomputed),
            self.prior[blocks.cluster_ids],
        )
        if observed is None:
            blocks.add_gradient_products(gradient, slopes, rows)
            self._center_gradient(gradient, slopes, blocks.cluster_ids)
        else:
            for part, filled in self._filled(rows, observed, codes, blocks):
                gradient.index_add_(0, blocks.cluster_ids[part], slopes[part] @ filled)
        totals = torch.zeros_like(precomputed[0])
        totals.index_add_(0, blocks.cluster_ids, gram_slopes)
        gradient.baddbmm_(totals + totals.mT, self.dictionaries)

    def _center_gradient(self, gradient, slopes, cluster_ids):
        """Leave of the products with rows those with rows less the intercepts."""
        if self.intercepts is not None:
            sums = torch.zeros_like(gradient[:, :, :1])
            sums.index_add_(0, cluster_ids, slopes.sum(dim=2, keepdim=True))
            gradient.baddbmm_(sums, self.intercepts[:, None], alpha=-1)

    def _slopes(self, correlations, weights, gram, step, prior):
        """Differentiate weighted energies in inner products of atoms, by hand.

        Returns
        -------
        slopes : tensor of shape (n_blocks, n_atoms, n_block)
            Gradient in the correlations.
        gram_slopes : tensor of shape (n_blocks, n_atoms, n_atoms)
            Gradient in the Gram matrices.
        """
        encoder = (gram, step, self._penalty(prior), self.n_layers)
        codes, tape = unroll(correlations, *encoder, keep_tape=True)
        code_slopes = prior.value_grad(codes, weights)
        # Of ||y||^2 + x.(G x - 2 C) over twice the noise variance.
        weights = weights[:, None] / self.noise_variance
        residual_correlations = torch.baddbmm(correlations, gram, codes, beta=-1)
        code_slopes = torch.addcmul(code_slopes, residual_correlations, weights)
        slopes, gram_slopes = tape.backward(code_slopes)
        weighted = codes * weights
        gram_slopes.baddbmm_(weighted, codes.mT, alpha=0.5)
        return slopes.sub_(weighted), gram_slopes

    def _filled(self, rows, observed, codes, blocks):
        """Go through blocks of rows, less the intercepts, as their clusters fill them.

        Yields
        ------
        part : slice
            Some of the blocks.
        filled : tensor of shape (n_part, n_block, n_features)
        """
        seen = observed.to(rows.dtype)
        for part in cluster_chunks(blocks.index, blocks.index.shape[1] * rows.shape[1]):
            some = blocks[part]
            filled = some.gather_rows(rows)
            if self.intercepts is not None:
                filled.sub_(self.intercepts[some.cluster_ids, None])
            # As torch.where, which takes ten times as long.
            explained = self._explained(codes, some)
            yield (
                part,
                torch.lerp(explained, filled, some.gather_rows(seen), out=filled),
            )

    def _explained(self, codes, blocks):
        """Give what codes say of rows, (n_blocks, n_block, n_features)."""
        return blocks.gather(codes).mT @ self.dictionaries[blocks.cluster_ids]

    def intercept_statistics(self, rows, codes, responsibilities, observed=None):
        """Sum, over rows, what the dictionaries leave unexplained.

        Divided by the counts this is the intercept that minimises the expected
        energy while codes and posterior stand: the M-step of Eq. 2 in closed
        form.

        Parameters
        ----------
        rows, codes, responsibilities, observed
            As in :meth:`Mixture.intercept_statistics`.

        Returns
        -------
        sums : tensor of shape (n_clusters, n_features)
            ``y - A_k x`` weighted by the posterior, over observed entries.
        counts : tensor of shape (n_clusters, n_features) or (n_clusters, 1)
            Sum of the posterior over the same entries.
        """
        sums = responsibilities @ rows
        if observed is None:
            explained = (codes @ responsibilities[:, :, None]).mT @ self.dictionaries
            return sums - explained[:, 0], responsibilities.sum(dim=1, keepdim=True)
        seen = observed.to(rows.dtype)
        blocks = ActiveRows.from_responsibilities(responsibilities)
        for part in cluster_chunks(blocks.index, blocks.index.shape[1] * rows.shape[1]):
            some = blocks[part]
            explained = self._explained(codes, some).mul_(some.gather_rows(seen))
            shares = some.gather(responsibilities)[:, None]  # (n_part, 1, n_block)
            sums.index_add_(0, some.cluster_ids, (shares @ explained)[:, 0], alpha=-1)
        return sums, responsibilities @ seen

    def intercept_fisher_information(self):
        """Fisher information of a row on the intercept of its cluster.

        In units of the inverse of the noise variance, in which it is 1.
        """
        return 1.0

    def m_step_intercepts(self, sums, counts):
        """Give the intercepts that minimise the expected energy.

        Parameters
        ----------
        sums, counts : tensors
            As :meth:`intercept_statistics` gives them, for many rows.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
            As they were where nothing counts.
        """
        return torch.where(counts > 0, sums / counts, self.intercepts)

    def evidence_lower_bounds(self, rows, observed, codes, counting):
        """Bound the density of rows under single clusters.

        Parameters
        ----------
        rows, observed, codes, counting
            As in :meth:`Mixture.evidence_lower_bounds`.

        Yields
        ------
        k, index, bounds
            The same.
        """
        n_observed = rows.new_full((len(rows),), rows.shape[1], dtype=torch.float64)
        if observed is not None:
            n_observed = observed.sum(dim=1, dtype=torch.float64)
        log_widths = math.log(2 * math.pi * self.noise_variance) / 2 * n_observed
        for k, index, squares, divergences in self._code_posteriors(
            rows, observed, codes, counting
        ):
            errors = squares / (2 * self.noise_variance)
            yield k, index, -errors - divergences - log_widths[index]

    def expected_squared_error(self, rows, observed, codes, responsibilities):
        """Sum the expected squared errors of rows, over codes and clusters.

        Divided by the number of entries this is the noise variance of largest bound
        while the posterior stands: the M-step of Eq. 2 in closed form. A single code
        in place of its posterior would fit the noise as well, and leave too little.

        Parameters
        ----------
        rows, observed, codes
            As in :meth:`Mixture.log_evidence`.
        responsibilities : tensor of shape (n_clusters, n_rows)
            Posterior probability of the cluster for each row.

        Returns
        -------
        total : float64 tensor, a number
        """
        total = 0.0
        for k, index, squares, _ in self._code_posteriors(
            rows, observed, codes, responsibilities > 0
        ):
            total = total + responsibilities[k, index].to(squares.dtype) @ squares
        return total

    def _code_posteriors(self, rows, observed, codes, counting):
        """Go through the clusters that count for a row, and integrate the code out.

        Yields
        ------
        k : int
            A cluster.
        index : int tensor of shape (n_index,)
            Some of the rows that it counts for.
        squares, divergences : float64 tensors of shape (n_index,)
            As :func:`code_posterior` gives them.
        """
        n_atoms, n_features = self.dictionaries.shape[1:]
        n_entries = n_atoms**2
        if observed is None:
            correlations, norms = self.project(rows)
        else:
            targets, _ = self._targets(rows, observed)
            correlations = self.dictionaries @ targets
            norms = targets.square().sum(dim=-2).expand(len(codes), -1)
            n_entries += n_atoms * n_features
        for k, index, atoms, prior in self._iter_active(counting, n_entries):
            seen = atoms
            if observed is not None:
                seen = atoms * observed[index, None]  # (n_index, n_atoms, n_features)
            found = code_posterior(
                correlations[k, :, index].mT.double(),
                codes[k, :, index].mT.double(),
                norms[k, index].double(),
                seen @ atoms.mT,
                prior,
                self.noise_variance,
            )
            yield k, index, *found
