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

# The bound of `largest_eigenvalue` takes the Schatten norm of order
# 2 ** (_N_SQUARINGS + 1): at most n_atoms ** (1/64), 6% for 50 atoms, too large.
_N_SQUARINGS = 5

# Where entries are missing one layer in so many is exact.
_ANCHOR_PERIOD = 4

# What of residuals is worked on at a time on a CPU, so that it stays in its cache.
_CACHED_ENTRIES = 2**18


def largest_eigenvalue(gram):
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
    >>> from skmixmate.model.encoder import largest_eigenvalue
    >>> largest_eigenvalue(torch.diag(torch.tensor([3.0, 1.0]))[None]).item()
    3.0
    """
    tiny = torch.finfo(gram.dtype).tiny
    power, log_bound, order = gram, 0.0, 1.0
    for _ in range(_N_SQUARINGS):
        # Without the norm taken out, the power would leave the range of floats.
        norm = torch.linalg.matrix_norm(power, keepdim=True).clamp_min(tiny)
        log_bound = log_bound + norm.log() / order
        power = power / norm
        power, order = power @ power, 2 * order
    norm = torch.linalg.matrix_norm(power, keepdim=True).clamp_min(tiny)
    return (log_bound + norm.log() / order).exp()


class _Gram(torch.autograd.Function):
    """``A A^T`` with one product on the way back, where autograd takes two."""

    @staticmethod
    def forward(ctx, dictionaries):
        ctx.save_for_backward(dictionaries)
        return dictionaries @ dictionaries.mT

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (dictionaries,) = ctx.saved_tensors
        return (grad + grad.mT) @ dictionaries


def gram_matrices(dictionaries):
    """Inner products of the atoms of each dictionary.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)

    Returns
    -------
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
        Differentiable, once.
    """
    return _Gram.apply(dictionaries)


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


class _UnrolledFista(torch.autograd.Function):
    """The layers of Eq. 4 with their backward pass written by hand.

    It needs, of every layer, only the code that was put out: where that is not
    zero the gradient passes, and two in a row give the point started from.
    The step size is taken as a constant: no gradient flows through it.
    """

    @staticmethod
    def forward(ctx, correlations, gram, step, prior, n_layers):
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        contraction = eye - step * gram  # (n_clusters, n_atoms, n_atoms)
        pull = step * correlations
        previous = codes = prior.prox(pull, step)  # beta_(0) = 0
        outputs = [codes, codes]  # the first momentum is 0: any code will do
        for momentum in momenta(n_layers):
            points = torch.lerp(previous, codes, 1 + momentum)
            points = torch.baddbmm(pull, contraction, points)
            previous, codes = codes, prior.prox(points, step)
            if any(ctx.needs_input_grad):
                outputs.append(codes)
        ctx.save_for_backward(contraction, step, *outputs)
        ctx.prior, ctx.n_layers = prior, n_layers
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        contraction, step, *outputs = ctx.saved_tensors
        grad_contraction = torch.zeros_like(contraction)
        # The adjoints of the last code and of the one before it; in place, since
        # at usual sizes it is memory and not arithmetic that takes the time.
        grad_previous, grad_pull = torch.zeros_like(grad), torch.zeros_like(grad)
        for momentum in reversed(momenta(ctx.n_layers)):
            grad_step = ctx.prior.prox_backward(grad, outputs.pop())
            grad_pull.add_(grad_step)
            points = torch.lerp(*outputs[-2:], 1 + momentum)
            grad_contraction.baddbmm_(grad_step, points.mT)
            grad_points = contraction.mT @ grad_step
            grad = grad_previous.add_(grad_points, alpha=1 + momentum)
            grad_previous = grad_points.mul_(-momentum)
        grad_pull.add_(ctx.prior.prox_backward(grad, outputs.pop()))
        return grad_pull.mul_(step), grad_contraction.mul_(-step), *[None] * 3


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
    prior : object with the methods of :class:`~skmixmate.model.priors.Laplace`
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
    >>> from skmixmate.model.encoder import encode
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, 1)
    >>> encode(3 * one, one, one, Laplace(1.0), n_layers=5)
    tensor([[[2.]]])
    """
    return _UnrolledFista.apply(correlations, gram, step, prior, n_layers)


def residuals(targets, observed, dictionaries, codes):
    """Give what codes leave of the observed entries, a few clusters at a time.

    All at once would not stay in the processor's cache, and take twice as long.

    Parameters
    ----------
    targets, observed, dictionaries
        As in :func:`encode_incomplete`.
    codes : tensor of shape (n_clusters, n_atoms, n_rows)

    Yields
    ------
    dictionaries : tensor of shape (n_part, n_atoms, n_features)
        Of these clusters.
    residuals : tensor of shape (n_part, n_features, n_rows)
        0 where an entry is missing.
    """
    on_cpu = codes.device.type == "cpu"
    size = max(1, _CACHED_ENTRIES // observed.numel()) if on_cpu else len(codes)
    targets = targets.expand(len(codes), *observed.shape)
    for part in zip(
        *(t.split(size) for t in (targets, dictionaries, codes)), strict=True
    ):
        target, dictionary, code = part
        residual = dictionary.mT @ code
        torch.addcmul(target, residual, observed, value=-1, out=residual)
        yield dictionary, residual


def encode_incomplete(targets, observed, dictionaries, gram, step, prior, n_layers):
    """Sparse codes of rows with missing entries, Psi A in place of A.

    Only every fourth layer has the gradient of Eq. 4 for Psi A, which takes two
    products with all the features. The layers up to the next go on from there as
    if the Gram matrix of row i was :math:`(1 - p_i / 2) G`, where :math:`p_i` is
    the part of the row that is missing. In the mean, if entries miss at random,
    it is :math:`(1 - p_i) G`. That would come closer, but where it is less than
    half of the truth the layers diverge, which this cannot be. Up to four layers
    all are exact.

    Parameters
    ----------
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
    damping = (1 + observed.mean(dim=0)) / 2  # (n_rows,)
    contraction = step * gram
    pull = step * (dictionaries @ targets)
    previous = codes = prior.prox(pull, step)
    for layer, momentum in enumerate(momenta(n_layers), start=1):
        points = torch.lerp(previous, codes, 1 + momentum)
        smoothed = (contraction @ points).mul_(damping)
        if layer % period == 0:
            pull = torch.cat(
                [A @ r for A, r in residuals(targets, observed, dictionaries, points)]
            )
            pull = torch.addcmul(smoothed, step, pull)
        previous, codes = codes, prior.prox(points.add_(pull).sub_(smoothed), step)
    return codes
