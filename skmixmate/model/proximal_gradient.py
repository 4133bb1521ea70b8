"""The encoder for entrywise likelihoods: accelerated proximal gradient descent."""

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from .likelihood import EntrywiseLikelihood
from .prior import Prior

# Smallest and largest factor by which a step size that was too large shrinks: the
# change of the gradient far away says little about its change nearby.
_MIN_BACKTRACK, _MAX_BACKTRACK = 2.0, 16.0

# Relative tolerance of the test of step sizes, for rounding errors.
_RTOL = 1e-3


def proximal_gradient(
    dictionaries: torch.Tensor,
    intercepts: torch.Tensor,
    targets: torch.Tensor,
    observed: torch.Tensor | None,
    likelihood: EntrywiseLikelihood,
    prior: Prior,
    n_layers: int,
    tape: list["_Layer"] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Infer sparse codes by proximal gradient steps, accelerated as in FISTA.

    The first step size of a row is the inverse curvature along its gradient. Where a
    step changes the gradient by more than the step size allows,
    :math:`\langle B'(z') - B'(z), z' - z \rangle > \|x' - x\|^2 / \eta`, the row
    returns to the last code, loses its momentum, and continues with a smaller step
    size.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    intercepts : tensor of shape (n_clusters, n_features, 1)
    targets : tensor of shape (n_features, n_rows) or \
            (n_clusters, n_features, n_rows)
        The rows; 0 where an entry is missing.
    observed : tensor of the same shape, or None
        1 where an entry was observed, 0 where it is missing; None if none is.
    likelihood : EntrywiseLikelihood
    prior : Prior
    n_layers : int
        Number of steps, rejected ones included.
    tape : list, default=None
        For each layer, the intermediate results that the backward pass needs are
        appended to it.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    natural : tensor of shape (n_clusters, n_features, n_rows)
        Natural parameters of the entries given these codes.

    Examples
    --------
    One atom, one entry, seven events, and a prior that subtracts two of them:

    >>> import torch
    >>> from skmixmate.model.likelihoods import Poisson
    >>> from skmixmate.model.priors import Laplace
    >>> from skmixmate.model.proximal_gradient import proximal_gradient
    >>> one = torch.ones(1, 1, 1)
    >>> codes, natural = proximal_gradient(
    ...     one, 0 * one, 7 * one[0], None, Poisson(), Laplace(2.0), n_layers=15
    ... )
    >>> natural.exp()
    tensor([[[5.0000]]])
    """
    n_clusters, n_features, _ = intercepts.shape
    n_rows = targets.shape[-1]
    points = codes = dictionaries.new_zeros(n_clusters, dictionaries.shape[1], n_rows)
    # Arrays with all features are kept in a few buffers: allocating memory takes longer
    # than the arithmetic on it.
    natural_points, natural_codes, natural_candidate, grad, residual = (
        dictionaries.new_empty(n_clusters, n_features, n_rows) for _ in range(5)
    )
    natural_codes.copy_(intercepts)
    natural_points.copy_(intercepts)
    likelihood.cumulant_grad(natural_points, targets, out=grad)
    step = _initial_step(dictionaries, targets, observed, likelihood, grad)
    t = torch.ones_like(step)  # of Eq. 4
    for _ in range(n_layers):
        _masked(torch.sub(targets, grad, out=residual), observed)
        prox_in = (points / step).baddbmm_(dictionaries, residual)
        prox_out = prior.prox_scaled(prox_in, step, out=torch.empty_like(prox_in))
        candidate = prox_out * step
        torch.baddbmm(intercepts, dictionaries.mT, candidate, out=natural_candidate)
        change = likelihood.cumulant_grad(natural_candidate, targets, out=residual)
        change = _masked(change.sub_(grad), observed)
        change.mul_(torch.sub(natural_candidate, natural_points, out=natural_points))
        curvature = change.sum(dim=1, keepdim=True) * step
        bound = (candidate - points).square_().sum(dim=1, keepdim=True)
        accept = curvature <= (1 + _RTOL) * bound  # NaN is rejected
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        momentum = (t - 1) / t_next
        if tape is not None:
            tape.append(_Layer(points, prox_in, prox_out, step, accept, momentum))
        extrapolation = torch.where(accept, 1 + momentum, 0)
        points = torch.lerp(codes, candidate, extrapolation)
        torch.lerp(natural_codes, natural_candidate, extrapolation, out=natural_points)
        codes = torch.where(accept, candidate, codes)
        torch.where(accept, natural_candidate, natural_codes, out=natural_codes)
        t = torch.where(accept, t_next, 1)
        shrinkage = (curvature / bound).nan_to_num(_MAX_BACKTRACK)
        shrinkage = shrinkage.clamp(_MIN_BACKTRACK, _MAX_BACKTRACK)
        step = torch.where(accept, step, step / shrinkage)
        likelihood.cumulant_grad(natural_points, targets, out=grad)
    return codes, natural_codes


def _initial_step(
    dictionaries: torch.Tensor,
    targets: torch.Tensor,
    observed: torch.Tensor | None,
    likelihood: EntrywiseLikelihood,
    grad: torch.Tensor,
) -> torch.Tensor:
    """Compute the inverse curvature along the gradient of each row at code 0.

    The curvature is taken halfway between B' and the observed entry: codes move B'
    towards the entry. 1 where there is no curvature. Of shape (n_clusters, 1, n_rows).
    """
    hess = _masked(likelihood.cumulant_hess((targets + grad) / 2, targets), observed)
    grad_codes = dictionaries @ _masked(targets - grad, observed)
    curvature = (dictionaries.mT @ grad_codes).square_().mul_(hess)
    curvature = curvature.sum(dim=1, keepdim=True)
    step = grad_codes.square().sum(dim=1, keepdim=True) / curvature
    return torch.where(curvature > 0, step, 1)


def _masked(entries: torch.Tensor, observed: torch.Tensor | None) -> torch.Tensor:
    """Set missing entries to 0, in place."""
    return entries if observed is None else entries.mul_(observed)


class _Layer(NamedTuple):
    """Intermediate results of one layer for the backward pass."""

    points: torch.Tensor  # (n_clusters, n_atoms, n_rows)
    prox_in: torch.Tensor  # argument of the proximal operator, in units of the step
    prox_out: torch.Tensor  # its result
    step: torch.Tensor  # (n_clusters, 1, n_rows), like the following
    accept: torch.Tensor
    momentum: torch.Tensor


class UnrolledProximalGradient(torch.autograd.Function):
    """The layers of :func:`proximal_gradient` with a hand-written backward pass.

    Only the codes of each layer are stored. Arrays with all features are computed
    again, which takes one more product and saves most of the memory. Step sizes, and
    which steps were rejected, are treated as constants.
    """

    @staticmethod
    def forward(
        ctx: Any,
        dictionaries: torch.Tensor,
        intercepts: torch.Tensor,
        targets: torch.Tensor,
        observed: torch.Tensor | None,
        likelihood: EntrywiseLikelihood,
        prior: Prior,
        n_layers: int,
    ) -> torch.Tensor:
        """Compute codes; see :func:`proximal_gradient`."""
        tape: list[_Layer] = []
        data = (intercepts, targets, observed, likelihood, prior)
        codes, _ = proximal_gradient(dictionaries, *data, n_layers, tape)
        ctx.save_for_backward(dictionaries)
        ctx.tape, ctx.data = tape, data
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradient in the dictionaries from the gradient in the codes."""
        (dictionaries,) = ctx.saved_tensors
        intercepts, targets, observed, likelihood, prior = ctx.data
        gradient = torch.zeros_like(dictionaries)
        grad_points = torch.zeros_like(grad)  # in the points of the next layer
        natural, grad_natural = (
            dictionaries.new_empty(*intercepts.shape[:2], targets.shape[-1])
            for _ in range(2)
        )
        for points, prox_in, prox_out, step, accept, momentum in reversed(ctx.tape):
            carried = momentum * grad_points
            grad_prox = torch.where(accept, grad + grad_points + carried, 0)
            grad = torch.where(accept, -carried, grad + grad_points)
            prior.prox_vjp_(grad_prox, prox_out, prox_in, step)
            torch.baddbmm(intercepts, dictionaries.mT, points, out=natural)
            mean = likelihood.cumulant_grad(natural, targets, out=natural)
            grad_scaled = grad_prox * step
            torch.bmm(dictionaries.mT, grad_scaled, out=grad_natural)
            grad_natural.mul_(likelihood.cumulant_hess(mean, targets))
            _masked(grad_natural, observed)
            residual = _masked(torch.sub(targets, mean, out=mean), observed)
            gradient.baddbmm_(grad_scaled, residual.mT)
            gradient.baddbmm_(points, grad_natural.mT, alpha=-1)
            grad_points = grad_prox.baddbmm_(dictionaries, grad_natural, alpha=-1)
        return gradient, *[None] * 6
