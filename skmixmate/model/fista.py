r"""The encoder: FISTA on Eq. 3, unrolled into `n_layers` layers (Eq. 4).

For a row y, a dictionary A whose atoms are its rows, and :math:`C = A y`, the
gradient of :math:`\frac12 \|y - A^T x\|^2` is :math:`G x - C` with the Gram
matrix :math:`G = A A^T`. So the n_features-long dimension is touched once, in
C, and a layer costs one product of size n_atoms x n_atoms for each row.
Where entries of y are missing, G differs from row to row,
:math:`G_i = A\,\mathrm{diag}(m_i)\,A^T`. It is never formed: a few layers apply
its factors, the others a correction of G (:func:`encode_incomplete`).

Codes are laid out as (n_clusters, n_atoms, n_rows), rows last: the product of
all dictionaries with a mini-batch falls in that order, and every layer is one
batched matrix product without a transposition.

Note that Eq. 4 descends on :math:`\frac12\|\cdot\|^2 + \alpha\|\cdot\|_1`,
whereas the energy of Eq. 5 has no factor one half. The published results were
made with this pair, and it is kept.
"""

import math

import torch
from torch.autograd.function import once_differentiable

from .native import binding

# The bound of `lipschitz_bound` takes the Schatten norm of order
# 2 ** (_N_SQUARINGS + 1): at most n_atoms ** (1/64), 6% for 50 atoms, too large.
_N_SQUARINGS = 5

# Where entries are missing one layer in so many is exact.
_ANCHOR_PERIOD = 4

# What of residuals, or of codes, each thread works on at a time on a CPU, so that it
# stays in its cache. The layers keep several arrays of the size of the codes.
_CACHED_ENTRIES = 2**17


def lipschitz_bound(gram):
    """Bound the largest eigenvalue of every Gram matrix from above.

    The bound is the Schatten norm of order 64, by repeated squaring: never too
    small, so that FISTA with its inverse as the step size cannot diverge, and
    some ten times as fast as an eigenvalue decomposition.

    Parameters
    ----------
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        Symmetric positive semi-definite matrices.

    Returns
    -------
    bound : tensor of shape (n_clusters, 1, 1)

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.fista import lipschitz_bound
    >>> lipschitz_bound(torch.diag(torch.tensor([3.0, 1.0]))[None])
    tensor([[[3.0000]]])
    """
    tiny = torch.finfo(gram.dtype).tiny

    def norms(matrices):
        norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)
        return norms.clamp_min(tiny)

    power, log_bound, order = gram, 0.0, 1.0
    for squaring in range(_N_SQUARINGS):
        if squaring % 2 == 0:
            # Without the norm taken out, the power would leave the range of floats.
            norm = norms(power)
            log_bound = log_bound + norm.log() / order
            power = power / norm
        power, order = power @ power, 2 * order
    return (log_bound + norms(power).log() / order).exp()


def momenta(n_layers):
    """Momentum of every layer but the last, (t_(l-1) - 1) / t_l of Eq. 4.

    Parameters
    ----------
    n_layers : int

    Returns
    -------
    momenta : list of float, of length n_layers - 1
    """
    values, t_old = [], 1.0
    for _ in range(n_layers - 1):
        t_new = (1 + math.sqrt(1 + 4 * t_old * t_old)) / 2
        values.append((t_old - 1) / t_new)
        t_old = t_new
    return values


def _is_compiled(correlations, prior):
    return binding.can_run(correlations) and prior.thresholds is not None


def unroll(correlations, gram, step, prior, n_layers, keep_tape=False):
    """Run the layers of Eq. 4.

    Codes are kept in units of the step size, in which a threshold is the same for
    every cluster. The momentum is added to what the layers multiply, not to what they
    are given, which takes fewer passes over the codes; and these are made in few
    buffers: at usual sizes a pass, and memory that is new, cost as much as a
    product. Compiled layers need neither, and are used where there are any.

    Parameters
    ----------
    correlations, gram, step, prior, n_layers
        As in :func:`encode`.
    keep_tape : bool, default=False
        Whether to keep what the way back needs.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    tape : Tape or CompiledTape, or None
        None unless it is to be kept.
    """
    if _is_compiled(correlations, prior):
        layers = (gram, step, prior.thresholds, momenta(n_layers))
        return binding.unroll(correlations, *layers, keep_tape)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    contraction = eye - step * gram  # (n_clusters, n_atoms, n_atoms)
    # beta_(0) = 0
    codes = prior.prox_scaled(correlations, step, out=torch.empty_like(correlations))
    smoothed, before = torch.zeros_like(codes), torch.empty_like(codes)
    tape = Tape(contraction, step, prior, correlations, codes) if keep_tape else None
    for momentum in momenta(n_layers):
        before, smoothed = smoothed, before
        torch.bmm(contraction, codes, out=smoothed)
        points = torch.add(correlations, before, alpha=-momentum, out=before)
        points.add_(smoothed, alpha=1 + momentum)
        if keep_tape:
            codes = torch.empty_like(codes)
            tape.add(points, codes)
        prior.prox_scaled(points, step, out=codes)
    return codes * step, tape


class Tape:
    """What the layers did, and the way back through them.

    It needs, of every layer, only the code that was put out, and what the prior was
    given if that asks for it. The step size is taken as a constant: no gradient flows
    through it.

    Parameters
    ----------
    contraction : tensor of shape (n_clusters, n_atoms, n_atoms)
        What the layers multiply with.
    step : tensor of shape (n_clusters, 1, 1)
    prior : Prior
    correlations, codes : tensors of shape (n_clusters, n_atoms, n_rows)
        What the first layer was given, and put out.
    """

    def __init__(self, contraction, step, prior, correlations, codes):
        self.contraction, self.step, self.prior = contraction, step, prior
        self.outputs, self.inputs = [codes], [correlations]

    def add(self, points, codes):
        """Keep a layer."""
        self.outputs.append(codes)
        self.inputs.append(points.clone() if self.prior.saves_input else None)

    def backward(self, grad):
        """Go back.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient in the codes.

        Returns
        -------
        grad_correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        grad_gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        """
        prox_vjp_ = self.prior.prox_vjp_
        contraction, outputs, inputs = self.contraction, self.outputs, self.inputs
        n_layers = len(outputs)
        grad = grad * self.step  # of the last codes, in units of the step size
        grad_contraction = torch.zeros_like(contraction)
        grad_correlations = torch.zeros_like(grad)
        later, free = torch.zeros_like(grad), torch.empty_like(grad)
        momentum_later = 0.0
        for layer, momentum in zip(
            range(n_layers - 1, 0, -1), reversed(momenta(n_layers)), strict=True
        ):
            prox_vjp_(grad, outputs[layer], inputs[layer], self.step)
            grad_correlations.add_(grad)
            # The gradient of what this layer multiplied, up to `scale`.
            scale = 1 + momentum
            torch.add(grad, later, alpha=-momentum_later / scale, out=later)
            grad_contraction.baddbmm_(later, outputs[layer - 1].mT, alpha=scale)
            free.baddbmm_(contraction.mT, later, beta=0, alpha=scale)
            grad, later, free = free, grad, later
            momentum_later = momentum
        prox_vjp_(grad, outputs[0], inputs[0], self.step)
        return grad_correlations.add_(grad), grad_contraction.mul_(-self.step)


class _UnrolledFista(torch.autograd.Function):
    """The layers, and their way back, as autograd wants them."""

    @staticmethod
    def forward(ctx, correlations, gram, *settings):
        keep_tape = any(ctx.needs_input_grad)
        codes, ctx.tape = unroll(correlations, gram, *settings, keep_tape=keep_tape)
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return *ctx.tape.backward(grad), *[None] * 3


def encode(correlations, gram, step, prior, n_layers):
    """Sparse codes of complete rows in every dictionary, in the Gram form.

    Parameters
    ----------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products of the atoms with the rows, less the intercept if any.
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        Inner products of the atoms of each dictionary.
    step : tensor of shape (n_clusters, 1, 1)
        Step sizes, eta in the paper.
    prior : Prior
    n_layers : int
        Number of FISTA iterations, L in the paper.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
        Differentiable, once, in `correlations` and `gram`.

    Examples
    --------
    One atom, a row three times as long, and a penalty that takes 1 off:

    >>> import torch
    >>> from skmixmate.model.fista import encode
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, 1)
    >>> encode(3 * one, one, one, Laplace(1.0), n_layers=5)
    tensor([[[2.]]])
    """
    return _UnrolledFista.apply(correlations, gram, step, prior, n_layers)


def encode_with_energy_drop(correlations, gram, step, prior, n_layers):
    r"""Sparse codes, and what they take off the squared norms of rows.

    Parameters
    ----------
    correlations, gram, step, prior, n_layers
        As in :func:`encode`.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    gains : tensor of shape (n_clusters, n_rows)
        :math:`\|y\|^2 - \|y - A^T x\|^2 = x \cdot (2 C - G x)`. Both are
        differentiable, once, in `correlations` and `gram`.
    """
    if _is_compiled(correlations, prior) and not torch.is_grad_enabled():
        layers = (gram, step, prior.thresholds, momenta(n_layers))
        explained_energy = correlations.new_empty(correlations[:, 0].shape)
        return binding.unroll(correlations, *layers, explained_energy=explained_energy)[
            0
        ], explained_energy
    codes = encode(correlations, gram, step, prior, n_layers)
    slopes = torch.baddbmm(correlations, gram, codes, beta=2, alpha=-1)
    return codes, (codes * slopes).sum(dim=1)


def cluster_chunks(codes, n_entries):
    """Split clusters into parts that stay in the cache of a processor.

    All at once takes up to three times as long.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    n_entries : int
        Entries of the array that is worked on, for one cluster.

    Yields
    ------
    part : slice
        Which clusters; all of them off a CPU.
    """
    size = max(1, len(codes))
    if codes.device.type == "cpu":
        # As many clusters for each thread, or some would wait for others.
        size = torch.get_num_threads() * max(1, _CACHED_ENTRIES // max(1, n_entries))
    for start in range(0, len(codes), size):
        yield slice(start, start + size)


def residual_correlations(targets, observed, dictionaries, codes):
    """Give the inner products of the atoms with what codes leave of observed entries.

    Parameters
    ----------
    targets, observed, dictionaries
        As in :func:`encode_incomplete`.
    codes : tensor of shape (n_clusters, n_atoms, n_rows)

    Returns
    -------
    pulls : tensor of shape (n_clusters, n_atoms, n_rows)
    """
    if binding.can_run(codes):
        return binding.residual_correlations(targets, observed, dictionaries, codes)
    targets = targets.expand(len(codes), *observed.shape)
    residual_correlations = torch.empty_like(codes)
    for part in cluster_chunks(codes, observed.numel()):
        left = dictionaries[part].mT @ codes[part]  # (n_part, n_features, n_rows)
        torch.addcmul(targets[part], left, observed, value=-1, out=left)
        torch.bmm(dictionaries[part], left, out=residual_correlations[part])
    return residual_correlations


def encode_incomplete(
    correlations, targets, observed, dictionaries, gram, step, prior, n_layers
):
    r"""Sparse codes of rows with missing entries, Psi A in place of A.

    Only every fourth layer has the gradient of Eq. 4 for Psi A, which takes two
    products with all the features. The layers up to the next go on from there as
    if the Gram matrix of row i was :math:`d_i G`. If entries miss at random it is
    :math:`(1 - p_i) G` in the mean, where :math:`p_i` is the part of the row that
    is missing; but it may be all of G, and with the momentum :math:`\beta` a layer
    stands :math:`2 (1 + \beta) / (1 + 2 \beta)` times the curvature it was made
    for. Hence :math:`d_i = 1 - \frac12 \min(p_i, 1 / (1 + \beta))`. Up to four
    layers all are exact.

    Parameters
    ----------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products of the atoms with `targets`.
    targets : tensor of shape (n_features, n_rows) or \
            (n_clusters, n_features, n_rows)
        The rows, less the intercept if any; 0 where an entry is missing.
    observed : tensor of shape (n_features, n_rows)
        1 where an entry was observed, 0 where it is missing; the mask Psi of
        the paper's section on incomplete data.
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    gram, step, prior, n_layers
        As in :func:`encode`.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
        Not differentiable.
    """
    period = 1 if n_layers <= _ANCHOR_PERIOD else _ANCHOR_PERIOD
    missing = 1 - observed.mean(dim=0)  # (n_rows,)
    precomputed = step * gram
    pull = correlations
    # In units of the step size, as in _UnrolledFista.
    codes = prior.prox_scaled(pull, step, out=torch.empty_like(pull))
    before, smoothed = codes.clone(), torch.empty_like(pull)
    for layer, momentum in enumerate(momenta(n_layers), start=1):
        points = torch.lerp(before, codes, 1 + momentum, out=before)
        torch.bmm(precomputed, points, out=smoothed)
        damping = 1 - missing.clamp_max(1 / (1 + momentum)) / 2  # (n_rows,)
        if layer % period == 0:
            pull = residual_correlations(targets, observed, dictionaries, points * step)
            points.add_(pull)
            pull.addcmul_(smoothed, damping)
        else:
            points.add_(pull).addcmul_(smoothed, damping, value=-1)
        before, codes = codes, points
        prior.prox_scaled(points, step, out=codes)
    return codes.mul_(step)
