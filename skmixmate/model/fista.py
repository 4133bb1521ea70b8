r"""The encoder: FISTA on Eq. 3, unrolled into `n_layers` layers (Eq. 4).

For a row y, a dictionary A whose atoms are its rows, and :math:`C = A y`, the
gradient of :math:`\frac12 \|y - A^T x\|^2` is :math:`G x - C` with the Gram
matrix :math:`G = A A^T`. The n_features-long dimension therefore only occurs in C,
and a layer costs one product of size n_atoms x n_atoms for each row. Rows with missing
entries are encoded in :mod:`~skmixmate.model.incomplete`.

Codes have the shape (n_clusters, n_atoms, n_rows), with rows last: this is the layout
of the product of all dictionaries with a mini-batch, and every layer is one batched
matrix product without a transposition.

Eq. 4 minimises :math:`\frac12\|\cdot\|^2 + \alpha\|\cdot\|_1`, whereas the energy
of Eq. 5 has no factor of one half. The published results use this pair, and so does
this module.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from .native import binding
from .prior import Prior

# The bound of `lipschitz_bound` is the Schatten norm of order
# 2 ** (_N_SQUARINGS + 1): too large by a factor of at most n_atoms ** (1/64), or 6%
# for 50 atoms.
_N_SQUARINGS = 5

# Entries of residuals or codes that each thread works on at a time on a CPU, so that
# they stay in its cache. The layers keep several arrays of the size of the codes.
_CACHED_ENTRIES = 2**17


def lipschitz_bound(gram: torch.Tensor) -> torch.Tensor:
    """Bound the largest eigenvalue of every Gram matrix from above.

    The bound is the Schatten norm of order 64, computed by repeated squaring. It is
    never too small, so that FISTA with its inverse as the step size cannot diverge,
    and about ten times as fast as an eigenvalue decomposition.

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
    >>> bound = lipschitz_bound(torch.diag(torch.tensor([3.0, 1.0]))[None])
    >>> round(float(bound), 3)
    3.0
    """
    tiny = torch.finfo(gram.dtype).tiny

    def norms(matrices: torch.Tensor) -> torch.Tensor:
        norms: torch.Tensor = torch.linalg.vector_norm(
            matrices, dim=(-2, -1), keepdim=True
        )
        return norms.clamp_min(tiny)

    power, log_bound, order = gram, gram.new_zeros(()), 1.0
    for squaring in range(_N_SQUARINGS):
        if squaring % 3 == 0:
            # Prevents overflow and underflow of the power.
            norm = norms(power)
            log_bound = log_bound + norm.log() / order
            power = power / norm
        power, order = power @ power, 2 * order
    return (log_bound + norms(power).log() / order).exp()


def momenta(n_layers: int) -> list[float]:
    """Compute the momentum of every layer except the last.

    These are the factors (t_(l-1) - 1) / t_l of Eq. 4.

    Parameters
    ----------
    n_layers : int

    Returns
    -------
    momenta : list of float, of length n_layers - 1
    """
    values, t = [], 1.0
    for _ in range(n_layers - 1):
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        values.append((t - 1) / t_next)
        t = t_next
    return values


def unroll(
    correlations: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    prior: Prior,
    n_layers: int,
    keep_tape: bool = False,
) -> tuple[torch.Tensor, "Tape | binding.CompiledTape | None"]:
    """Run the layers of Eq. 4.

    Codes are in units of the step size, in which the thresholds of all clusters are
    equal. The momentum is applied to the products of the layers instead of their
    inputs, which takes fewer passes over the codes, and the passes reuse a few buffers:
    at usual sizes, a pass or newly allocated memory costs as much as a product. The
    compiled layers are used if the library is available and the prior has thresholds.

    Parameters
    ----------
    correlations, gram, step, prior, n_layers
        As in :func:`encode`.
    keep_tape : bool, default=False
        Whether to record the layers for the backward pass.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    tape : Tape or CompiledTape, or None
        None unless `keep_tape`.
    """
    thresholds = prior.thresholds
    if thresholds is not None and binding.can_run(correlations):
        layers = (gram, step, thresholds, momenta(n_layers))
        return binding.unroll(correlations, *layers, keep_tape)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    contraction = eye - step * gram  # (n_clusters, n_atoms, n_atoms)
    # beta_(0) = 0
    codes = prior.prox_scaled(correlations, step, out=torch.empty_like(correlations))
    propagated, previous = torch.zeros_like(codes), torch.empty_like(codes)
    tape = Tape(contraction, step, prior, correlations, codes) if keep_tape else None
    for momentum in momenta(n_layers):
        previous, propagated = propagated, previous
        torch.bmm(contraction, codes, out=propagated)
        points = torch.add(correlations, previous, alpha=-momentum, out=previous)
        points.add_(propagated, alpha=1 + momentum)
        if tape is not None:
            codes = torch.empty_like(codes)
            tape.add(points, codes)
        prior.prox_scaled(points, step, out=codes)
    return codes * step, tape


class Tape:
    """Record of the layers, and their backward pass.

    For every layer it keeps the output, and the input of the proximal operator if
    `prior.saves_input`. The step size is a constant: it receives no gradient.

    Parameters
    ----------
    contraction : tensor of shape (n_clusters, n_atoms, n_atoms)
        Matrices that the layers multiply the codes by, 1 - step * gram.
    step : tensor of shape (n_clusters, 1, 1)
    prior : Prior
    correlations, codes : tensors of shape (n_clusters, n_atoms, n_rows)
        Input and output of the first layer.
    """

    def __init__(
        self,
        contraction: torch.Tensor,
        step: torch.Tensor,
        prior: Prior,
        correlations: torch.Tensor,
        codes: torch.Tensor,
    ) -> None:
        self.contraction, self.step, self.prior = contraction, step, prior
        self.outputs = [codes]
        self.inputs: list[torch.Tensor | None] = [correlations]

    def add(self, points: torch.Tensor, codes: torch.Tensor) -> None:
        """Record a layer."""
        self.outputs.append(codes)
        self.inputs.append(points.clone() if self.prior.saves_input else None)

    def backward(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients with respect to the inputs of the layers.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to the codes.

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
        next_grad, scratch = torch.zeros_like(grad), torch.empty_like(grad)
        next_momentum = 0.0
        for layer, momentum in zip(
            range(n_layers - 1, 0, -1), reversed(momenta(n_layers)), strict=True
        ):
            prox_vjp_(grad, outputs[layer], inputs[layer], self.step)
            grad_correlations.add_(grad)
            # The gradient of the product in this layer, up to `scale`.
            scale = 1 + momentum
            torch.add(grad, next_grad, alpha=-next_momentum / scale, out=next_grad)
            grad_contraction.baddbmm_(next_grad, outputs[layer - 1].mT, alpha=scale)
            scratch.baddbmm_(contraction.mT, next_grad, beta=0, alpha=scale)
            grad, next_grad, scratch = scratch, grad, next_grad
            next_momentum = momentum
        prox_vjp_(grad, outputs[0], inputs[0], self.step)
        return grad_correlations.add_(grad), grad_contraction.mul_(-self.step)


class _UnrolledFista(torch.autograd.Function):
    """The layers with their own backward pass, for autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        correlations: torch.Tensor,
        gram: torch.Tensor,
        step: torch.Tensor,
        prior: Prior,
        n_layers: int,
    ) -> torch.Tensor:
        keep_tape = any(ctx.needs_input_grad)
        codes, ctx.tape = unroll(correlations, gram, step, prior, n_layers, keep_tape)
        return codes

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        return *ctx.tape.backward(grad), None, None, None


def encode(
    correlations: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    prior: Prior,
    n_layers: int,
) -> torch.Tensor:
    """Compute the sparse codes of complete rows in every dictionary.

    Parameters
    ----------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products of the atoms with the rows minus the intercept.
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
    One atom, a row that is three times the atom, and a threshold of 1:

    >>> import torch
    >>> from skmixmate.model.fista import encode
    >>> from skmixmate.model.priors import Laplace
    >>> one = torch.ones(1, 1, 1)
    >>> encode(3 * one, one, one, Laplace(1.0), n_layers=5)
    tensor([[[2.]]])
    """
    codes: torch.Tensor = _UnrolledFista.apply(  # type: ignore[no-untyped-call]
        correlations, gram, step, prior, n_layers
    )
    return codes


def encode_with_energy_drop(
    correlations: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    prior: Prior,
    n_layers: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Compute the sparse codes and the energy that they explain.

    Parameters
    ----------
    correlations, gram, step, prior, n_layers
        As in :func:`encode`.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    explained_energy : tensor of shape (n_clusters, n_rows)
        Reduction of the squared error,
        :math:`\|y\|^2 - \|y - A^T x\|^2 = x \cdot (2 C - G x)`. Both results are
        differentiable, once, in `correlations` and `gram`.
    """
    thresholds = prior.thresholds
    if (
        thresholds is not None
        and binding.can_run(correlations)
        and not torch.is_grad_enabled()
    ):
        layers = (gram, step, thresholds, momenta(n_layers))
        explained_energy = correlations.new_empty(correlations[:, 0].shape)
        codes, _ = binding.unroll(
            correlations, *layers, explained_energy=explained_energy
        )
        return codes, explained_energy
    results = []
    for part in cluster_chunks(correlations, correlations[:1].numel()):
        inputs = correlations[part], gram[part]
        codes = encode(*inputs, step[part], prior[part], n_layers)
        products = torch.baddbmm(*inputs, codes, beta=2, alpha=-1)
        results.append((codes, (codes * products).sum(dim=1)))
    if len(results) == 1:
        return results[0]
    codes, explained_energy = map(torch.cat, zip(*results, strict=True))
    return codes, explained_energy


def cluster_chunks(codes: torch.Tensor, n_entries: int) -> Iterator[slice]:
    """Split the clusters into chunks that fit into the cache of a processor.

    All clusters at once take up to three times as long.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    n_entries : int
        Size of the largest array in the computation, for one cluster.

    Yields
    ------
    chunk : slice
        Consecutive clusters; all of them if the device is not a CPU.
    """
    size = max(1, len(codes))
    if codes.device.type == "cpu":
        # An equal number of clusters for each thread, so that none waits for another.
        size = torch.get_num_threads() * max(1, _CACHED_ENTRIES // max(1, n_entries))
    for start in range(0, len(codes), size):
        yield slice(start, start + size)
