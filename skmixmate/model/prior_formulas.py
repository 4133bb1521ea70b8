"""Formulas that several priors share."""

import math

import torch
from torch import Tensor

from ..utils.operators import find_operator

# One pass without a boolean tensor, which costs several times as much on a CPU.
_softshrink = find_operator("softshrink", "out")
_softshrink_backward = find_operator("softshrink_backward", "grad_input")
# Early versions of torch return 0 for NaN, and would hide a training that diverges.
if not torch.nn.functional.softshrink(torch.tensor(math.nan)).isnan():
    _softshrink = None


def soft_threshold(points: Tensor, threshold: float, out: Tensor) -> Tensor:
    """Move all points towards zero, by the threshold at most; return `out`."""
    if _softshrink is None:
        return torch.sub(points, points.clamp(-threshold, threshold), out=out)
    _softshrink(points, threshold, out=out)
    return out


def mask_zero_codes_(grad: Tensor, codes: Tensor) -> None:
    """Set a gradient to zero where the codes are zero."""
    if _softshrink_backward is None:
        grad.masked_fill_(codes == 0, 0.0)
    else:
        _softshrink_backward(grad, codes, 0.0, grad_input=grad)


def expected_magnitudes(means: Tensor, variances: Tensor) -> Tensor:
    """Compute the expected magnitudes under normal distributions."""
    deviations = variances.sqrt()
    ratios = means / deviations
    spreads = math.sqrt(2 / math.pi) * deviations * torch.exp(-ratios.square() / 2)
    return means * torch.erf(ratios / math.sqrt(2)) + spreads


def group_norms(groups: Tensor) -> Tensor:
    """Compute the norm of each group."""
    return group_inner_products(groups, groups).sqrt_()


def group_inner_products(a: Tensor, b: Tensor) -> Tensor:
    """Multiply groups, of shape (n_clusters, n_groups, 1, n_rows).

    This is faster than a sum over an axis that is neither the first nor the last.
    """
    total = a[:, :, 0] * b[:, :, 0]
    for i in range(1, a.shape[2]):
        total.addcmul_(a[:, :, i], b[:, :, i])
    return total.unsqueeze(2)


def safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide, with 0 for 0 / 0."""
    return numerator / denominator.clamp_min(torch.finfo(denominator.dtype).tiny)
