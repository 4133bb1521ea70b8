r"""The mixture for entries that are not normal: counts and binary ones.

In place of the squared error of Eq. 5 stands the negative logarithm of the likelihood,

.. math:: \sum_j B(z_j) - y_j z_j, \qquad z = b + A^T x,

whose gradient in the code is :math:`-A (y - \mu(z))`: the encoder is that of Eq. 4 with
the mean in place of the reconstruction. It no longer goes by inner products alone; a
layer costs two products with all features. The curvature, :math:`A\,\mathrm{diag}(
\mu'(z)) A^T`, moves with the code, and for counts has no bound: each row has a step of
its own, which becomes shorter where the gradient turns out to change faster than it
allows.

Encoder and energy have the same objective here, without the factor one half that
Eq. 4 and 5 of the paper differ by.

References
----------
B. Tolooshams, A. H. Song, S. Temereanca and D. Ba, Convolutional Dictionary Learning
Based Auto-Encoders for Natural Exponential-Family Distributions, ICML 2020.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from .active_rows import ActiveRows
from .elbo import log_evidence
from .fista import cluster_chunks
from .likelihoods import Likelihood
from .mixture import Mixture
from .posterior import loss_gradient

# A step that was too long becomes shorter by at least the first factor, at most the
# second: how the gradient changes far away says little of how it does nearby.
_LEAST_CUT, _LARGEST_CUT = 2.0, 16.0

# By how much a step may seem too long, for the sake of rounding.
_SLACK = 1e-3

# How far an intercept moves in one mini-batch, in units of the natural parameter:
# from far away Newton's steps are too long.
_LONGEST_MOVE = 1.0


@dataclass
class ExponentialMixture(Mixture):
    """A mixture of sparse dictionary models with another likelihood.

    Parameters
    ----------
    dictionaries, intercepts, weights, prior, n_layers
        As in :class:`Mixture`; what dictionaries and intercepts make are natural
        parameters.
    likelihood : Likelihood

    Examples
    --------
    Two kinds of coins, thrown twice each:

    >>> import torch
    >>> from skmixmate.model.exponential import ExponentialMixture
    >>> from skmixmate.model.likelihoods import Bernoulli
    >>> from skmixmate.model.posterior import posterior
    >>> from skmixmate.model.priors import Laplace
    >>> mixture = ExponentialMixture(
    ...     dictionaries=torch.zeros(2, 0, 2),
    ...     intercepts=torch.tensor([[2.0, 2.0], [-2.0, -2.0]]),
    ...     weights=torch.full((2,), 0.5), prior=Laplace(1.0), n_layers=1,
    ...     likelihood=Bernoulli(),
    ... )
    >>> _, energies = mixture.infer(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    >>> posterior(energies)
    tensor([[0.9820, 0.5000],
            [0.0180, 0.5000]])
    """

    likelihood: Likelihood

    def precompute(self):
        """Give nothing: it is another for each row and code."""

    def e_step(self, rows, observed, precomputed):
        """Infer codes and energies.

        Parameters
        ----------
        rows, observed
            As in :meth:`infer`.
        curvature : None

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        energies : tensor of shape (n_clusters, n_rows)
        """
        targets, seen = _rows_last(rows, observed)
        codes = rows.new_empty(*self.dictionaries.shape[:2], len(rows))
        costs = rows.new_empty(len(codes), len(rows))
        for part in cluster_chunks(codes, rows.numel()):
            prior = self.prior[part]
            codes[part], natural = descend(
                self.dictionaries[part],
                self._offsets(part),
                targets,
                seen,
                self.likelihood,
                prior,
                self.n_layers,
            )
            costs[part] = self._costs(targets, seen, natural, codes[part], prior)
        return codes, costs - self.weights.log()[:, None]

    def add_gradient(
        self, gradient, rows, observed, inferred, responsibilities, precomputed
    ):
        """Add the gradient of the summed loss in the dictionaries, through all layers.

        Parameters
        ----------
        gradient, rows, observed, inferred, responsibilities, curvature
            As in :meth:`Mixture.add_gradient`.
        """
        slopes = loss_gradient(inferred[1], responsibilities)
        for blocks, targets, seen in self._iter_active_blocks(
            rows, observed, responsibilities
        ):
            cluster_ids = blocks.cluster_ids
            prior, offsets = self.prior[cluster_ids], self._offsets(cluster_ids)
            with torch.enable_grad():
                dictionaries = self.dictionaries[cluster_ids].detach().requires_grad_()
                codes = _UnrolledDescent.apply(
                    dictionaries,
                    offsets,
                    targets,
                    seen,
                    self.likelihood,
                    prior,
                    self.n_layers,
                )
                natural = offsets + dictionaries.mT @ codes
                costs = self._costs(targets, seen, natural, codes, prior)
                (own_gradient,) = torch.autograd.grad(
                    costs, dictionaries, blocks.gather(slopes)
                )
            gradient.index_add_(0, cluster_ids, own_gradient)

    def intercept_statistics(self, rows, codes, responsibilities, observed=None):
        """Sum what a step of Newton's method on the intercepts needs.

        Parameters
        ----------
        rows, codes, responsibilities, observed
            As in :meth:`Mixture.intercept_statistics`.

        Returns
        -------
        sums, counts : tensors of shape (n_clusters, n_features)
            Weighted by the posterior, over observed entries. Counts are variances of
            the entries, the curvatures of their likelihood; sums are these times the
            intercept, and what the mean leaves of the entries.
        """
        counts, sums = (torch.zeros_like(self.intercepts) for _ in range(2))
        for blocks, targets, seen in self._iter_active_blocks(
            rows, observed, responsibilities
        ):
            cluster_ids = blocks.cluster_ids
            explained = self.dictionaries[cluster_ids].mT @ blocks.gather(codes)
            means = self.likelihood.mean(self._offsets(cluster_ids) + explained)
            shares = blocks.gather(responsibilities)[:, None]
            shares = shares if seen is None else shares * seen
            variances = self.likelihood.variance(means)
            counts.index_add_(0, cluster_ids, (variances * shares).sum(dim=2))
            sums.index_add_(0, cluster_ids, ((targets - means) * shares).sum(dim=2))
        return sums.addcmul_(counts, self.intercepts), counts

    def intercept_fisher_information(self):
        """Fisher information of a row on the intercept of each cluster, at no code."""
        return self.likelihood.variance(self.likelihood.mean(self.intercepts))

    def m_step_intercepts(self, sums, counts):
        """Move intercepts by a step of Newton's method, or less.

        As if each cluster had one more row with one half everywhere: an entry that
        none of its rows has would have no finite parameter.

        Parameters
        ----------
        sums, counts : tensors of shape (n_clusters, n_features)
            As :meth:`intercept_statistics` gives them, for many rows.

        Returns
        -------
        intercepts : tensor of shape (n_clusters, n_features)
        """
        means = self.likelihood.mean(self.intercepts)
        variances = self.likelihood.variance(means)
        sums = sums + variances * self.intercepts + 0.5 - means
        tiny = torch.finfo(sums.dtype).tiny
        moves = sums / (counts + variances).clamp_min(tiny) - self.intercepts
        return self.intercepts + moves.clamp(-_LONGEST_MOVE, _LONGEST_MOVE)

    def decode(self, codes, labels):
        """Mean of rows by their codes in given clusters (the decoder).

        Parameters
        ----------
        codes, labels
            As in :meth:`Mixture.decode`.

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
        """
        return self.likelihood.mean(super().decode(codes, labels))

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
        n_atoms, n_features = self.dictionaries.shape[1:]
        n_entries = n_atoms * (n_atoms + n_features)
        for k, index, atoms, prior in self._iter_active(counting, n_entries):
            targets = rows[index].double()
            seen = torch.ones_like(targets)
            if observed is not None:
                seen = observed[index].double()
            bounds = log_evidence(
                targets,
                seen,
                self._offsets(slice(k, k + 1))[0, :, 0].double(),
                atoms,
                codes[k, :, index].mT.double(),
                self.likelihood,
                prior,
            )
            yield k, index, bounds

    def _offsets(self, part):
        """Give the intercepts of some clusters, of shape (n_part, n_features, 1)."""
        if self.intercepts is None:
            n_clusters, _, n_features = self.dictionaries.shape
            return self.dictionaries.new_zeros(n_clusters, n_features, 1)[part]
        return self.intercepts[part, :, None]

    def _costs(self, targets, seen, natural, codes, prior):
        """Energies (n_part, n_rows) but for the weights."""
        losses = self.likelihood.cumulant(natural) - targets * natural
        losses = losses - self.likelihood.log_base_measure(targets)
        losses = losses if seen is None else losses * seen
        return losses.sum(dim=1) + prior.value(codes)

    def _iter_active_blocks(self, rows, observed, responsibilities):
        """Go through the rows that each cluster is responsible for.

        Yields
        ------
        blocks : ActiveRows
            Some of them.
        targets : tensor of shape (n_blocks, n_features, n_block)
            These rows.
        seen : tensor of the same shape, or None
            1 where an entry was observed, 0 where it is missing.
        """
        whole = ActiveRows.from_responsibilities(responsibilities)
        for part in cluster_chunks(whole.index, rows.shape[1] * whole.index.shape[1]):
            blocks, seen = whole[part], None
            if observed is not None:
                seen = blocks.gather_rows(observed).mT.to(rows.dtype)
            yield blocks, blocks.gather_rows(rows).mT, seen


def descend(
    dictionaries, offsets, targets, seen, likelihood, prior, n_layers, tape=None
):
    r"""Sparse codes of rows by proximal gradient steps, accelerated, as in FISTA.

    A row begins with the inverse curvature along its own gradient. Where a step finds
    the gradient to change by more than it allows,
    :math:`\langle \mu(z') - \mu(z), z' - z \rangle > \|x' - x\|^2 / \eta`, the row
    goes back to the last code, without momentum, and on with a shorter one.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    offsets : tensor of shape (n_clusters, n_features, 1)
    targets : tensor of shape (n_features, n_rows) or \
            (n_clusters, n_features, n_rows)
        The rows; 0 where an entry is missing.
    seen : tensor of the same shape, or None
        1 where an entry was observed, 0 where it is missing; None if nothing is.
    likelihood : Likelihood
    prior : Prior
    n_layers : int
        Steps, those that were too long too.
    tape : list, default=None
        What each layer did is appended to it, for the way back.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    natural : tensor of shape (n_clusters, n_features, n_rows)
        Natural parameters of the entries under these codes.

    Examples
    --------
    One atom, one entry, seven events, and a prior that takes two off:

    >>> import torch
    >>> from skmixmate.model.exponential import descend
    >>> from skmixmate.model.likelihoods import Poisson
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, 1)
    >>> codes, natural = descend(
    ...     one, 0 * one, 7 * one[0], None, Poisson(), Laplace(2.0), n_layers=15
    ... )
    >>> natural.exp()
    tensor([[[5.0000]]])
    """
    n_clusters, n_features, _ = offsets.shape
    n_rows = targets.shape[-1]
    points = codes = dictionaries.new_zeros(n_clusters, dictionaries.shape[1], n_rows)
    # What has all features stays in a few buffers: memory that is new costs more than
    # what is done with it.
    at_points, at_codes, at_new, means, left = (
        dictionaries.new_empty(n_clusters, n_features, n_rows) for _ in range(5)
    )
    at_codes.copy_(offsets)
    at_points.copy_(offsets)
    likelihood.mean(at_points, out=means)
    step = _first_step(dictionaries, targets, seen, likelihood, means)
    order = torch.ones_like(step)  # t of Eq. 4
    for _ in range(n_layers):
        _masked(torch.sub(targets, means, out=left), seen)
        given = (points / step).baddbmm_(dictionaries, left)
        shrunk = prior.prox_scaled(given, step, out=torch.empty_like(given))
        new = shrunk * step
        torch.baddbmm(offsets, dictionaries.mT, new, out=at_new)
        change = _masked(likelihood.mean(at_new, out=left).sub_(means), seen)
        change.mul_(torch.sub(at_new, at_points, out=at_points))
        bend = change.sum(dim=1, keepdim=True) * step
        allowed = (new - points).square_().sum(dim=1, keepdim=True)
        fits = bend <= (1 + _SLACK) * allowed  # what is no number does not
        longer = (1 + (1 + 4 * order.square()).sqrt()) / 2
        momentum = (order - 1) / longer
        if tape is not None:
            tape.append(_Layer(points, given, shrunk, step, fits, momentum))
        ahead = torch.where(fits, 1 + momentum, 0)
        points = torch.lerp(codes, new, ahead)
        torch.lerp(at_codes, at_new, ahead, out=at_points)
        codes = torch.where(fits, new, codes)
        torch.where(fits, at_new, at_codes, out=at_codes)
        order = torch.where(fits, longer, 1)
        cut = (bend / allowed).nan_to_num(_LARGEST_CUT)
        step = torch.where(fits, step, step / cut.clamp(_LEAST_CUT, _LARGEST_CUT))
        likelihood.mean(at_points, out=means)
    return codes, at_codes


def _first_step(dictionaries, targets, seen, likelihood, means):
    """Give the inverse curvature along the gradient of each row, at no code.

    It is taken halfway between what is expected and what is seen: there the mean will
    be. 1 where there is no curvature. Of shape (n_clusters, 1, n_rows).
    """
    halfway = _masked(likelihood.variance((targets + means) / 2), seen)
    pull = dictionaries @ _masked(targets - means, seen)
    curved = (dictionaries.mT @ pull).square_().mul_(halfway).sum(dim=1, keepdim=True)
    step = pull.square().sum(dim=1, keepdim=True) / curved
    return torch.where(curved > 0, step, 1)


def _masked(entries, seen):
    """Set missing entries to 0, in place."""
    return entries if seen is None else entries.mul_(seen)


class _Layer(NamedTuple):
    """What one layer did, for the way back."""

    points: torch.Tensor  # (n_clusters, n_atoms, n_rows)
    given: torch.Tensor  # what the prior was given, in units of the step
    shrunk: torch.Tensor  # what it made of it
    step: torch.Tensor  # (n_clusters, 1, n_rows), as what follows
    fits: torch.Tensor
    momentum: torch.Tensor


class _UnrolledDescent(torch.autograd.Function):
    """The layers of :func:`descend` with their backward pass written by hand.

    Of each layer the codes are kept; what has all the features is made again, which
    costs one more product and saves most of the memory. Step sizes, and where a step
    was too long, are taken as constants.
    """

    @staticmethod
    def forward(ctx, dictionaries, offsets, targets, seen, likelihood, prior, n_layers):
        tape = []
        data = (offsets, targets, seen, likelihood, prior)
        codes, _ = descend(dictionaries, *data, n_layers, tape)
        ctx.save_for_backward(dictionaries)
        ctx.tape, ctx.data = tape, data
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (dictionaries,) = ctx.saved_tensors
        offsets, targets, seen, likelihood, prior = ctx.data
        gradient = torch.zeros_like(dictionaries)
        grad_points = torch.zeros_like(grad)  # of what the next layer was given
        means, bent = (
            dictionaries.new_empty(*offsets.shape[:2], targets.shape[-1])
            for _ in range(2)
        )
        for points, given, shrunk, step, fits, momentum in reversed(ctx.tape):
            ahead = momentum * grad_points
            slope = torch.where(fits, grad + grad_points + ahead, 0)
            grad = torch.where(fits, -ahead, grad + grad_points)
            prior.prox_vjp_(slope, shrunk, given, step)
            torch.baddbmm(offsets, dictionaries.mT, points, out=means)
            likelihood.mean(means, out=means)
            pushed = slope * step
            torch.bmm(dictionaries.mT, pushed, out=bent)
            _masked(bent.mul_(likelihood.variance(means)), seen)
            left = _masked(torch.sub(targets, means, out=means), seen)
            gradient.baddbmm_(pushed, left.mT).baddbmm_(points, bent.mT, alpha=-1)
            grad_points = slope.baddbmm_(dictionaries, bent, alpha=-1)
        return gradient, *[None] * 6


def _rows_last(rows, observed):
    """Rows and mask, both laid out with rows last."""
    seen = None if observed is None else observed.mT.to(rows.dtype).contiguous()
    return rows.mT.contiguous(), seen
