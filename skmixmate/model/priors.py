"""The named priors on the codes.

A prior with a name is a subclass of :class:`Prior` and an entry of `PRIORS`. The
classes here define `prox_scaled` and `prox_vjp_`, which takes fewer passes than `prox`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import erfcx
from scipy.stats import truncnorm
from torch import Tensor

from .atomwise_laplace import AtomwiseLaplace
from .prior import Prior, Thresholds, UserPrior, check_prior
from .prior_formulas import (
    expected_magnitudes,
    group_inner_products,
    group_norms,
    mask_zero_codes_,
    safe_ratio,
    soft_threshold,
)

__all__ = [
    "PRIORS",
    "AtomwiseLaplace",
    "ElasticNet",
    "Exponential",
    "GroupLaplace",
    "Laplace",
    "Prior",
    "as_prior",
    "check_prior",
]


@dataclass(frozen=True)
class Laplace(Prior):
    """Laplace prior on every entry of the code, as in the paper (Eq. 1).

    The penalty is `alpha` times the sum of the magnitudes. Use it if nothing else is
    known: codes have few nonzero entries, of either sign.

    Parameters
    ----------
    alpha : float
        Rate of the prior, lambda in the paper: the larger, the sparser the
        codes. Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import Laplace
    >>> prior = Laplace(alpha=2.0)
    >>> codes = torch.tensor([[[3.0], [0.5]]])
    >>> prior.value(codes)
    tensor([[7.]])
    >>> prior.prox_scaled(codes, step=torch.ones(1, 1, 1), out=torch.empty_like(codes))
    tensor([[[1.],
             [0.]]])
    """

    alpha: float

    rate_names: ClassVar[tuple[str, ...]] = ("alpha",)
    saves_input = False

    def __post_init__(self) -> None:
        _check_rate("alpha", self.alpha)

    @property
    def thresholds(self) -> Thresholds | None:
        """Return minus and plus alpha."""
        return -self.alpha, self.alpha

    def value(self, codes: Tensor) -> Tensor:
        """Multiply the sum of the magnitudes by the rate."""
        return self.alpha * codes.abs().sum(dim=1)

    def value_grad(self, codes: Tensor, row_weights: Tensor) -> Tensor:
        """Multiply the signs of the codes by the rate and the weights."""
        return codes.sign().mul_(self.alpha * row_weights[:, None])

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Soft-threshold at alpha."""
        return soft_threshold(points, self.alpha, out=out)

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Set the gradient to zero where the codes are zero."""
        mask_zero_codes_(grad, codes)

    def log_normalizer(self, n_atoms: int) -> float:
        """Sum ``log(2 / alpha)`` over the entries."""
        if n_atoms == 0:
            return 0.0
        return n_atoms * math.log(2 / self.alpha) if self.alpha > 0 else math.inf

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw every entry independently."""
        _check_density(self, self.alpha)
        return rng.laplace(scale=1 / self.alpha, size=(n_rows, n_atoms))

    def expected_value(self, means: Tensor, variances: Tensor) -> Tensor:
        """Multiply the sum of the expected magnitudes by the rate."""
        return self.alpha * expected_magnitudes(means, variances).sum(dim=1)


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential prior on every entry of the code; no entry is negative.

    The penalty is `alpha` times the sum of the entries. Use it if samples are sums of
    parts that can be present or absent but not subtracted, such as intensities,
    counts or spectra. An atom and its negative are then two atoms.

    Parameters
    ----------
    alpha : float
        Rate of the prior: the larger, the sparser the codes. Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    P. O. Hoyer, Non-negative sparse coding, NNSP 2002.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import Exponential
    >>> points = torch.tensor([[[3.0], [-3.0]]])
    >>> codes = torch.empty_like(points)
    >>> Exponential(alpha=2.0).prox_scaled(points, step=torch.ones(1, 1, 1), out=codes)
    tensor([[[1.],
             [0.]]])
    """

    alpha: float

    rate_names = ("alpha",)
    saves_input = False

    def __post_init__(self) -> None:
        _check_rate("alpha", self.alpha)

    @property
    def thresholds(self) -> Thresholds:
        """Return alpha, and no lower threshold."""
        return -math.inf, self.alpha

    def value(self, codes: Tensor) -> Tensor:
        """Multiply the sum of the entries, which are not negative, by the rate."""
        return self.alpha * codes.sum(dim=1)

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Subtract alpha, and clamp at 0."""
        return torch.sub(points, self.alpha, out=out).clamp_min_(0)

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Set the gradient to zero where the codes are zero."""
        torch.ops.aten.threshold_backward.grad_input(grad, codes, 0, grad_input=grad)

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw every entry independently."""
        _check_density(self, self.alpha)
        return rng.exponential(scale=1 / self.alpha, size=(n_rows, n_atoms))


@dataclass(frozen=True)
class ElasticNet(Laplace):
    """Product of a Laplace and a normal prior on every entry of the code.

    The penalty is ``alpha * |x| + ridge / 2 * x ** 2``, summed over the entries x.
    Use it if atoms are strongly correlated: without the second term an arbitrary one
    of them is used, with it they share the code. The second term also limits the codes
    of outliers, and hence their influence on the dictionaries.

    Parameters
    ----------
    alpha : float
        Rate of the Laplace prior: the larger, the sparser the codes. Non-negative.
    ridge : float, default=0.1
        Inverse of the variance of the normal prior. Its scale is that of the squared
        norm of an atom, 1: the code of a single atom is divided by ``1 + ridge``.
        Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    H. Zou and T. Hastie, Regularization and variable selection via the elastic net,
    Journal of the Royal Statistical Society B 67, 2005.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import ElasticNet
    >>> prior = ElasticNet(alpha=2.0, ridge=1.0)
    >>> prior.value(torch.tensor([[[3.0], [1.0]]]))
    tensor([[13.]])
    """

    ridge: float = 0.1

    rate_names = ("alpha", "ridge")

    @property
    def thresholds(self) -> None:
        """Return None: the result is also divided."""
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_rate("ridge", self.ridge)

    def value(self, codes: Tensor) -> Tensor:
        """Sum both penalties over the entries."""
        return super().value(codes) + self.ridge / 2 * codes.square().sum(dim=1)

    def value_grad(self, codes: Tensor, row_weights: Tensor) -> Tensor:
        """Add the weighted gradients of both penalties."""
        grad = super().value_grad(codes, row_weights)
        return grad.addcmul_(codes, row_weights[:, None], value=self.ridge)

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Soft-threshold at alpha, and shrink towards 0."""
        return super().prox_scaled(points, step, out).div_(1 + step * self.ridge)

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Shrink the gradient as the codes, and mask it where they are zero."""
        super().prox_vjp_(grad, codes, points, step)
        grad.div_(1 + step * self.ridge)

    def log_normalizer(self, n_atoms: int) -> float:
        """Sum the logarithm of the integral of the density over the entries."""
        if self.ridge == 0:
            return super().log_normalizer(n_atoms)
        root = math.sqrt(2 * self.ridge)
        return n_atoms * math.log(
            2 * math.sqrt(math.pi) / root * erfcx(self.alpha / root)
        )

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw signs, and magnitudes from the tail of a normal distribution."""
        if self.ridge == 0:
            return super().sample(n_rows, n_atoms, rng)
        shift = self.alpha / math.sqrt(self.ridge)
        magnitudes: npt.NDArray[np.float64] = truncnorm.rvs(
            shift, math.inf, size=(n_rows, n_atoms), random_state=rng
        )
        signs = rng.choice([-1, 1], size=(n_rows, n_atoms))
        return signs * (magnitudes - shift) / math.sqrt(self.ridge)

    def expected_value(self, means: Tensor, variances: Tensor) -> Tensor:
        """Sum both expected penalties over the entries."""
        squares = (means.square() + variances).sum(dim=1)
        return super().expected_value(means, variances) + self.ridge / 2 * squares


@dataclass(frozen=True)
class GroupLaplace(Prior):
    r"""Laplace prior on the norms of groups of entries of the code.

    Consecutive atoms form a group. The penalty is
    :math:`\alpha \sum_g \sqrt{s_g} \|x_g\|`, where :math:`s_g` is the size of group g.
    The root, as in the reference below, makes `alpha` comparable between sizes: the
    contribution of noise to the norm of a group grows with it. Use it if atoms are
    used in sets, such as the sine and the cosine of a wave: each group spans a small
    subspace of the cluster, in which all directions have the same penalty. Training
    does not change which atoms form a group; pass an array as `init` to choose the
    groups.

    Parameters
    ----------
    alpha : float
        Rate of the prior: the larger, the fewer groups in a code. Non-negative.
    group_size : int, default=2
        Number of atoms in a group; 1 is :class:`Laplace`. The last group is smaller
        if `n_atoms` is not a multiple of it.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    M. Yuan and Y. Lin, Model selection and estimation in regression with grouped
    variables, Journal of the Royal Statistical Society B 68, 2006.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import GroupLaplace
    >>> codes = torch.tensor([[[3.0], [4.0], [0.0], [0.0]]])
    >>> prior = GroupLaplace(alpha=1.0, group_size=2)
    >>> round(prior.value(codes).item(), 3)  # 5 times the root of 2
    7.071
    """

    alpha: float
    group_size: int = 2

    rate_names = ("alpha",)
    saves_input = False

    def __post_init__(self) -> None:
        _check_rate("alpha", self.alpha)
        if not isinstance(self.group_size, Integral) or self.group_size < 1:
            raise ValueError(
                f"group_size={self.group_size!r} should be an integer and at least 1."
            )

    def value(self, codes: Tensor) -> Tensor:
        """Sum the norms of the groups times the rates."""
        tiny = torch.finfo(codes.dtype).tiny
        value = codes.new_zeros(())
        for (groups,) in self._groups(codes):
            # The derivative of the root is infinite at 0.
            norms = groups.square().sum(dim=2).clamp_min(tiny).sqrt()
            value = value + self._threshold(groups) * norms.sum(dim=1)
        return value

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Soft-threshold the norm of each group."""
        for groups, codes in self._groups(points, out):
            norms = group_norms(groups)
            shrunk = (norms - self._threshold(groups)).clamp_min_(0)
            torch.mul(groups, safe_ratio(shrunk, norms), out=codes)
        return out

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Shrink the part of the gradient that is orthogonal to the group's code."""
        for group_grad, groups in self._groups(grad, codes):
            norms = group_norms(groups)
            shrinkage = safe_ratio(norms, norms + self._threshold(groups))
            directions = safe_ratio(groups, norms)
            radial = group_inner_products(group_grad, directions)
            group_grad.mul_(shrinkage)
            group_grad.addcmul_(directions, radial.mul_(1 - shrinkage))

    def log_normalizer(self, n_atoms: int) -> float:
        """Sum the logarithm of an integral over spheres over the groups."""
        if self.alpha == 0 and n_atoms > 0:
            return math.inf
        n_groups, remainder = divmod(n_atoms, self.group_size)
        total = 0.0
        for size in [self.group_size] * n_groups + [remainder] * (remainder > 0):
            log_sphere = math.log(2) + size / 2 * math.log(math.pi)
            log_sphere -= math.lgamma(size / 2)
            log_rate = math.log(self.alpha * math.sqrt(size))
            total += log_sphere + math.lgamma(size) - size * log_rate
        return total

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw the direction and the norm of each group."""
        _check_density(self, self.alpha)
        codes = rng.standard_normal((n_rows, n_atoms))
        for start in range(0, n_atoms, self.group_size):
            group = codes[:, start : start + self.group_size]  # a view
            size = group.shape[1]
            group /= np.linalg.norm(group, axis=1, keepdims=True)
            rate = self.alpha * math.sqrt(size)
            group *= rng.gamma(size, 1 / rate, size=(n_rows, 1))
        return codes

    def _groups(self, *tensors: Tensor) -> Iterator[list[Tensor]]:
        """View groups as (n_clusters, n_groups, size, n_rows); the rest comes last."""
        n_atoms = tensors[0].shape[1]
        size = min(self.group_size, max(1, n_atoms))
        n_groups, remainder = divmod(n_atoms, size)
        n_whole = n_groups * size
        shape = (n_groups, size)
        yield [torch.unflatten(tensor[:, :n_whole], 1, shape) for tensor in tensors]
        if remainder:
            yield [tensor[:, None, n_whole:] for tensor in tensors]

    def _threshold(self, groups: Tensor) -> float:
        return self.alpha * math.sqrt(groups.shape[2])


# Priors by name; each is called with alpha alone.
PRIORS: dict[str, Callable[..., Prior]] = {
    "laplace": Laplace,
    "nonnegative": Exponential,
    "group": GroupLaplace,
    "elastic_net": ElasticNet,
}


def as_prior(prior: Any, alpha: float) -> Prior:
    """Resolve a name or an object to a :class:`Prior`.

    Parameters
    ----------
    prior : str, Prior, or object with `value` and `prox`
        A key of `PRIORS`, or an instance, which has its own rate.
    alpha : float
        Rate of a prior given by name.

    Returns
    -------
    prior : Prior

    Examples
    --------
    >>> from skmixmate.model.priors import as_prior
    >>> as_prior("group", alpha=0.5)
    GroupLaplace(alpha=0.5, group_size=2)
    """
    if isinstance(prior, str):
        return PRIORS[prior](alpha)
    return prior if isinstance(prior, Prior) else UserPrior(prior)


def _check_rate(name: str, value: Any) -> None:
    is_number = isinstance(value, Real)
    if not is_number or not 0 <= value < math.inf:
        raise ValueError(
            f"{name}={value!r} should be a number that is finite and at least 0."
        )


def _check_density(prior: Prior, alpha: float) -> None:
    if alpha == 0:
        raise ValueError(
            f"prior={prior!r} is not a density, because alpha is 0; set alpha to a "
            "positive number to draw codes."
        )
