r"""The encoder: FISTA on Eq. 3, unrolled into `n_layers` layers (Eq. 4).

For a row y, a dictionary A whose atoms are its rows, and :math:`C = A y`, the
gradient of :math:`\frac12 \|y - A^T x\|^2` is :math:`G x - C` with the Gram
matrix :math:`G = A A^T`. So the n_features-long dimension is touched once, in
C, and a layer costs one product of size n_atoms x n_atoms for each row.
Where entries of y are missing, G differs from row to row,
:math:`G_i = A\,\mathrm{diag}(m_i)\,A^T`; then it is applied factor by factor
and never formed.

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


class _SharedGram:
    """The gradient step where all rows of a cluster share one Gram matrix."""

    def __init__(self, gram, step):
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        self.step = step
        self.contraction = eye - step * gram  # (n_clusters, n_atoms, n_atoms)
        self.grad = torch.zeros_like(gram)

    def descend(self, pull, points):
        return torch.baddbmm(pull, self.contraction, points)

    def descend_backward(self, grad, points):
        self.grad.baddbmm_(grad, points.mT)
        return self.contraction.mT @ grad

    def matrices_grad(self):
        return self.grad.mul_(-self.step)


class _MaskedGram:
    """The gradient step where every row has a Gram matrix of its own."""

    def __init__(self, dictionaries, observed, step):
        self.step = step
        self.dictionaries = dictionaries
        self.observed = observed
        self.grad = torch.zeros_like(dictionaries)

    def reconstruct(self, codes):
        """Observed entries of the reconstruction, zero elsewhere."""
        # (n_clusters, n_features, n_rows)
        return (self.dictionaries.mT @ codes).mul_(self.observed)

    def descend(self, pull, points):
        smoothed = self.dictionaries @ self.reconstruct(points)
        return pull + points - self.step * smoothed

    def descend_backward(self, grad, points):
        reconstructed = self.reconstruct(grad)
        self.grad.baddbmm_(grad, self.reconstruct(points).mT)
        self.grad.baddbmm_(points, reconstructed.mT)
        # A diag(m) A^T is its own adjoint.
        return grad - self.step * (self.dictionaries @ reconstructed)

    def matrices_grad(self):
        return self.grad.mul_(-self.step)


class _UnrolledFista(torch.autograd.Function):
    """The layers of Eq. 4 with their backward pass written by hand.

    It needs, of every layer, only the code that was put out: where that is not
    zero the gradient passes, and two in a row give the point started from.
    The step size is taken as a constant: no gradient flows through it.
    """

    @staticmethod
    def forward(ctx, correlations, matrices, observed, step, prior, n_layers):
        operator = _operator(matrices, observed, step)
        pull = step * correlations
        previous = codes = prior.prox(pull, step)  # beta_(0) = 0
        outputs = [codes, codes]  # the first momentum is 0: any code will do
        for momentum in momenta(n_layers):
            point = torch.lerp(previous, codes, 1 + momentum)
            previous, codes = codes, prior.prox(operator.descend(pull, point), step)
            if any(ctx.needs_input_grad):
                outputs.append(codes)
        ctx.save_for_backward(matrices, observed, step, *outputs)
        ctx.prior, ctx.n_layers = prior, n_layers
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        matrices, observed, step, *outputs = ctx.saved_tensors
        operator = _operator(matrices, observed, step)
        # The adjoints of the last code and of the one before it; in place, since
        # at usual sizes it is memory and not arithmetic that takes the time.
        grad_previous, grad_pull = torch.zeros_like(grad), torch.zeros_like(grad)
        for momentum in reversed(momenta(ctx.n_layers)):
            grad_step = ctx.prior.prox_backward(grad, outputs.pop())
            grad_pull.add_(grad_step)
            point = torch.lerp(*outputs[-2:], 1 + momentum)
            grad_point = operator.descend_backward(grad_step, point)
            grad = grad_previous.add_(grad_point, alpha=1 + momentum)
            grad_previous = grad_point.mul_(-momentum)
        grad_pull.add_(ctx.prior.prox_backward(grad, outputs.pop()))
        return grad_pull.mul_(step), operator.matrices_grad(), *[None] * 4


def _operator(matrices, observed, step):
    if observed is None:
        return _SharedGram(matrices, step)
    return _MaskedGram(matrices, observed, step)


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
    return _UnrolledFista.apply(correlations, gram, None, step, prior, n_layers)


def encode_masked(correlations, dictionaries, observed, step, prior, n_layers):
    """Sparse codes of rows with missing entries, Psi A in place of A.

    Parameters
    ----------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products over the observed entries.
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    observed : tensor of shape (n_features, n_rows)
        1 where an entry was observed, 0 where it is missing; the mask Psi of
        the paper's section on incomplete data.
    step, prior, n_layers
        As in :func:`encode`.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
        Differentiable, once, in `correlations` and `dictionaries`.
    """
    return _UnrolledFista.apply(
        correlations, dictionaries, observed, step, prior, n_layers
    )
