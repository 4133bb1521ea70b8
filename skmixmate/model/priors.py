"""What a code is drawn from: one small class for each prior, and their names.

A prior of one's own has `value` and `prox` in plain units, and is adapted here. Those
with a name are a :class:`Prior`: they work in units of the step size, in few passes,
and bring their own way back.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import erfcx
from scipy.stats import truncnorm


class Prior(ABC):
    r"""What the encoder and the energies want of a prior.

    With the penalty g, its `value`, a layer of the encoder ends in the proximal
    operator :math:`\arg\min_x \frac12 \|x - p\|^2 + \eta g(x)`. The encoder keeps
    :math:`x / \eta` and :math:`p / \eta`; `prox_scaled` is the operator in these units.
    For a penalty that grows in proportion to the code, as a norm does, it does not
    depend on the step size :math:`\eta`.
    """

    # Whether `prox_vjp_` is to be given what `prox_scaled` was given; to keep that
    # doubles the memory of a training step.
    saves_input: ClassVar[bool] = False

    # Parameters that the penalty is proportional to, all at a time.
    rate_names: ClassVar[tuple[str, ...]] = ("alpha",)

    @property
    def thresholds(self):
        """Thresholds, if `prox_scaled` does no more than subtract a clamped value.

        Returns
        -------
        thresholds : tuple or None
            Lower and upper one, numbers or tensors of shape (n_clusters, n_atoms, 1).
        """
        return None

    @abstractmethod
    def value(self, codes):
        """Negative logarithm of the prior, up to a constant (Eq. 5).

        Parameters
        ----------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        value : tensor of shape (n_clusters, n_rows)
            Differentiable by autograd.
        """

    @abstractmethod
    def prox_scaled(self, points, step, out):
        """Proximal operator in units of the step size, f of Eq. 4.

        Parameters
        ----------
        points : tensor of shape (n_clusters, n_atoms, n_rows)
        step : tensor of shape (n_clusters, 1, 1)
            Step sizes, eta in the paper.
        out : tensor of shape (n_clusters, n_atoms, n_rows)
            Where the codes go; may be `points`.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            `out`.
        """

    def value_grad(self, codes, weights):
        """Gradient of weighted values.

        Parameters
        ----------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        weights : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        slopes : tensor of shape (n_clusters, n_atoms, n_rows)
        """
        with torch.enable_grad():
            leaf = codes.detach().requires_grad_()
            return torch.autograd.grad(self.value(leaf), leaf, weights)[0]

    def __getitem__(self, part):
        """Give the prior of some of the clusters.

        Parameters
        ----------
        part : slice, or int tensor of shape (n_part,)

        Returns
        -------
        prior : Prior
        """
        return self

    def log_normalizer_ratio(self, dictionaries=None, observed=None):
        """Logarithm of the room that the rows of each cluster fill beside the noise.

        The normaliser of the density whose negative logarithm is the energy, over that
        of the noise alone, up to what all clusters share. Codes are in units of the
        noise: their energy is the squared error as it is, and the penalty.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features), default=None
        observed : tensor of shape (n_features, n_rows), default=None
            0 where an entry is missing, else 1; None if nothing is.

        Returns
        -------
        volume : float or tensor of shape (n_clusters, 1) or (n_clusters, n_rows)
            Here 0: where all atoms have one rate, the clusters have one volume.
        """
        return 0.0

    @abstractmethod
    def prox_vjp_(self, grad, codes, points, step):
        """Gradient with respect to the points of `prox_scaled`, in place.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to `codes`; overwritten.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            What `prox_scaled` returned.
        points : tensor of shape (n_clusters, n_atoms, n_rows) or None
            What `prox_scaled` was given; may be None unless `saves_input`.
        step : tensor of shape (n_clusters, 1, 1)
            Step sizes.
        """

    def scaled(self, factor):
        """Give the prior whose penalty is so many times that of this one.

        Parameters
        ----------
        factor : float

        Returns
        -------
        prior : Prior
        """
        if factor == 1:
            return self
        return replace(
            self, **{name: factor * getattr(self, name) for name in self.rate_names}
        )

    def log_normalizer(self, n_atoms):  # noqa: B027
        """Logarithm of the integral of ``exp(-value)``, which makes it a density.

        Parameters
        ----------
        n_atoms : int

        Returns
        -------
        log_normalizer : float or None
            Infinite if there is no such density. None if it is not known, or the
            penalty is not even, or not concave in the squares of the entries: the
            evidence then has no bound.
        """

    def sample(self, n_rows, n_atoms, rng):
        """Draw codes.

        Parameters
        ----------
        n_rows, n_atoms : int
        rng : RandomState

        Returns
        -------
        codes : float64 ndarray of shape (n_rows, n_atoms)

        Raises
        ------
        ValueError
            If it is not known how, or the rate is 0, which is no density.
        """
        raise ValueError(f"prior={self!r} is not one that codes can be drawn from.")

    def expected_value(self, means, variances):
        """Bound the expected value under normal distributions from above.

        Parameters
        ----------
        means, variances : tensors of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        mean_value : tensor of shape (n_clusters, n_rows)
            Here the value at the root mean squares, by Jensen's inequality.
        """
        return self.value((means.square() + variances).sqrt())


@dataclass(frozen=True)
class Laplace(Prior):
    """Laplace prior on every entry of the code, the paper's own (Eq. 1).

    The penalty is `alpha` times the sum of magnitudes. The right choice where
    nothing more is known: few atoms of many, with either sign.

    Parameters
    ----------
    alpha : float
        Rate of the prior, lambda in the paper: the larger, the sparser the
        codes. Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

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

    def __post_init__(self):
        _check_rate("alpha", self.alpha)

    @property
    def thresholds(self):
        """Minus and plus alpha."""
        return -self.alpha, self.alpha

    def value(self, codes):
        """Rate times the sum of magnitudes."""
        return self.alpha * codes.abs().sum(dim=1)

    def value_grad(self, codes, weights):
        """Rate times signs, weighted."""
        return codes.sign().mul_(self.alpha * weights[:, None])

    def prox_scaled(self, points, step, out):
        """Soft-threshold at alpha."""
        return torch.ops.aten.softshrink.out(points, self.alpha, out=out)

    def prox_vjp_(self, grad, codes, points, step):
        """Keep the gradient where codes are not zero."""
        # One pass without a boolean tensor, which costs several times as much on a
        # CPU.
        torch.ops.aten.softshrink_backward.grad_input(grad, codes, 0.0, grad_input=grad)

    def log_normalizer(self, n_atoms):
        """Logarithm of ``2 / alpha`` for every entry."""
        if n_atoms == 0:
            return 0.0
        return n_atoms * math.log(2 / self.alpha) if self.alpha > 0 else math.inf

    def sample(self, n_rows, n_atoms, rng):
        """Draw every entry by itself."""
        _check_density(self)
        return rng.laplace(scale=1 / self.alpha, size=(n_rows, n_atoms))

    def expected_value(self, means, variances):
        """Rate times the sum of mean magnitudes."""
        return self.alpha * _mean_magnitudes(means, variances).sum(dim=1)


class AtomwiseLaplace(Prior):
    """Laplace prior with a rate for each atom, and the volume that comes with it.

    Where the rates differ, clusters have a size and a shape. Then the penalty alone
    would call the largest cluster the best for all rows; the volume stands against it.

    Parameters
    ----------
    rates : tensor of shape (n_clusters, n_atoms)
        Positive.
    n_features : int
        A dictionary of more atoms than this fills no more than so many dimensions.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import AtomwiseLaplace
    >>> prior = AtomwiseLaplace(torch.tensor([[2.0, 0.5]]), n_features=2)
    >>> prior.value(torch.tensor([[[3.0], [4.0]]]))
    tensor([[8.]])
    """

    def __init__(self, rates, n_features):
        self.rates = rates[:, :, None]  # (n_clusters, n_atoms, 1)
        self._inverse_rates = self.rates.reciprocal()
        self.n_features = n_features

    def __getitem__(self, part):
        """Give the rates of some of the clusters."""
        return AtomwiseLaplace(self.rates[part, :, 0], self.n_features)

    @property
    def thresholds(self):
        """Minus and plus the rate of each atom."""
        return -self.rates, self.rates

    def value(self, codes):
        """Rates times magnitudes, summed."""
        return (self.rates * codes.abs()).sum(dim=1)

    def value_grad(self, codes, weights):
        """Rates times signs, weighted."""
        return codes.sign().mul_(self.rates).mul_(weights[:, None])

    def log_normalizer_ratio(self, dictionaries=None, observed=None):
        """Sum what each atom adds; of one that is observed in part, that part of it."""
        # The integral of exp(-energy) along one atom, over that without a code.
        tails = 2 / math.sqrt(math.pi) / self.rates * torch.exp(-self.rates.square())
        integrals = tails + torch.erf(self.rates)
        n_atoms = max(1, integrals.shape[1])
        logs = integrals.log() * min(1, self.n_features / n_atoms)
        if observed is not None:
            logs = logs * (dictionaries.square() @ observed)
        return logs.sum(dim=1)

    def prox_scaled(self, points, step, out):
        """Soft-threshold each entry at the rate of its atom."""
        # In units of the rates the thresholds are all 1, and three quick passes do:
        # torch clamps to bounds that differ, and are to be spread, three times slower.
        torch.mul(points, self._inverse_rates, out=out)
        return torch.ops.aten.softshrink.out(out, 1.0, out=out).mul_(self.rates)

    prox_vjp_ = Laplace.prox_vjp_

    def scaled(self, factor):
        """Multiply all rates."""
        if factor == 1:
            return self
        return AtomwiseLaplace(factor * self.rates[:, :, 0], self.n_features)

    def log_normalizer(self, n_atoms):
        """Sum of ``log(2 / rate)`` over the atoms of one cluster."""
        return float((2 / self.rates).log().sum())

    def sample(self, n_rows, n_atoms, rng):
        """Draw every entry by itself; of one cluster, see :meth:`__getitem__`."""
        return rng.laplace(
            scale=1 / self.rates[0, :, 0].numpy(), size=(n_rows, n_atoms)
        )

    def expected_value(self, means, variances):
        """Rates times mean magnitudes, summed."""
        return (self.rates * _mean_magnitudes(means, variances)).sum(dim=1)


@dataclass(frozen=True)
class Exponential(Prior):
    """Exponential prior on every entry of the code, none of which is negative.

    The penalty is `alpha` times the sum of the entries. The right choice where
    samples are sums of parts that can be present or not, but not subtracted:
    intensities, counts, spectra. An atom and its negative are then two atoms.

    Parameters
    ----------
    alpha : float
        Rate of the prior: the larger, the sparser the codes. Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

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

    def __post_init__(self):
        _check_rate("alpha", self.alpha)

    @property
    def thresholds(self):
        """Alpha above, none below."""
        return -math.inf, self.alpha

    def value(self, codes):
        """Rate times the sum of the entries, which `prox_scaled` left none negative."""
        return self.alpha * codes.sum(dim=1)

    def prox_scaled(self, points, step, out):
        """Subtract alpha, and cut off at 0."""
        return torch.sub(points, self.alpha, out=out).clamp_min_(0)

    def prox_vjp_(self, grad, codes, points, step):
        """Keep the gradient where codes are not zero."""
        torch.ops.aten.threshold_backward.grad_input(grad, codes, 0, grad_input=grad)

    def sample(self, n_rows, n_atoms, rng):
        """Draw every entry by itself."""
        _check_density(self)
        return rng.exponential(scale=1 / self.alpha, size=(n_rows, n_atoms))


@dataclass(frozen=True)
class ElasticNet(Laplace):
    """Laplace prior times a normal one on every entry of the code.

    The penalty is ``alpha * |x| + ridge / 2 * x ** 2``, summed over the entries x.
    The right choice where atoms are much alike: without the second part one of them
    is used and the others are not, by chance; with it they share. It also bounds the
    codes of samples that are far out, and so their hold on the dictionaries.

    Parameters
    ----------
    alpha : float
        Rate of the Laplace prior: the larger, the sparser the codes. Non-negative.
    ridge : float, default=0.1
        Inverse of the variance of the normal prior. As atoms have norm 1, it is to be
        compared with 1: codes of a single atom are divided by ``1 + ridge``.
        Non-negative.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

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
    thresholds = None  # what is left is divided, too

    def __post_init__(self):
        super().__post_init__()
        _check_rate("ridge", self.ridge)

    def value(self, codes):
        """Both penalties, summed over the entries."""
        return super().value(codes) + self.ridge / 2 * codes.square().sum(dim=1)

    def value_grad(self, codes, weights):
        """Those of both penalties, weighted."""
        slopes = super().value_grad(codes, weights)
        return slopes.addcmul_(codes, weights[:, None], value=self.ridge)

    def prox_scaled(self, points, step, out):
        """Soft-threshold at alpha, and pull towards 0."""
        return super().prox_scaled(points, step, out).div_(1 + step * self.ridge)

    def prox_vjp_(self, grad, codes, points, step):
        """Keep the gradient where codes are not zero, scaled as they are."""
        super().prox_vjp_(grad, codes, points, step)
        grad.div_(1 + step * self.ridge)

    def log_normalizer(self, n_atoms):
        """Logarithm of the integral of both factors, for every entry."""
        if self.ridge == 0:
            return super().log_normalizer(n_atoms)
        root = math.sqrt(2 * self.ridge)
        return n_atoms * math.log(
            2 * math.sqrt(math.pi) / root * erfcx(self.alpha / root)
        )

    def sample(self, n_rows, n_atoms, rng):
        """Draw every entry by itself: half a normal distribution to either side."""
        if self.ridge == 0:
            return super().sample(n_rows, n_atoms, rng)
        shift = self.alpha / math.sqrt(self.ridge)
        magnitudes = truncnorm.rvs(
            shift, math.inf, size=(n_rows, n_atoms), random_state=rng
        )
        signs = rng.choice([-1, 1], size=(n_rows, n_atoms))
        return signs * (magnitudes - shift) / math.sqrt(self.ridge)

    def expected_value(self, means, variances):
        """Both penalties, in the mean, summed over the entries."""
        squares = (means.square() + variances).sum(dim=1)
        return super().expected_value(means, variances) + self.ridge / 2 * squares


@dataclass(frozen=True)
class GroupLaplace(Prior):
    r"""Laplace prior on the norms of groups of entries of the code.

    Atoms next to each other are a group. The penalty is
    :math:`\alpha \sum_g \sqrt{s_g} \|x_g\|` with :math:`s_g` the size of group g.
    The root, as in the source below, makes `alpha` mean the same for all sizes: what
    noise adds to the norm of a group grows with it. The right choice where atoms come
    in sets that are used together, such as the sine and the cosine of a wave: each
    group spans a small subspace of the cluster, in which all directions cost the
    same. Training does not regroup atoms: an array as `init` says which belong
    together, and otherwise groups form from what was drawn.

    Parameters
    ----------
    alpha : float
        Rate of the prior: the larger, the fewer groups in a code. Non-negative.
    group_size : int, default=2
        Atoms in a group; 1 is :class:`Laplace`. Where `n_atoms` is no multiple of it
        the last group has fewer.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

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

    def __post_init__(self):
        _check_rate("alpha", self.alpha)
        if not isinstance(self.group_size, Integral) or self.group_size < 1:
            raise ValueError(
                f"group_size={self.group_size!r} should be an integer, at least 1."
            )

    def value(self, codes):
        """Rate times the sum of the norms of the groups."""
        tiny = torch.finfo(codes.dtype).tiny
        value = 0.0
        for (groups,) in self._groups(codes):
            # Autograd has no slope for the root at 0.
            norms = groups.square().sum(dim=2).clamp_min(tiny).sqrt()
            value = value + self._threshold(groups) * norms.sum(dim=1)
        return value

    def prox_scaled(self, points, step, out):
        """Soft-threshold the norm of each group."""
        for groups, codes in self._groups(points, out):
            norms = _norms(groups)
            left = (norms - self._threshold(groups)).clamp_min_(0)
            torch.mul(groups, _ratio(left, norms), out=codes)
        return out

    def prox_vjp_(self, grad, codes, points, step):
        """Keep the gradient along a group's code, and shorten what is across it."""
        for slopes, groups in self._groups(grad, codes):
            norms = _norms(groups)
            across = _ratio(norms, norms + self._threshold(groups))
            directions = _ratio(groups, norms)
            along = _inner_products(slopes, directions)
            slopes.mul_(across).addcmul_(directions, along.mul_(1 - across))

    def log_normalizer(self, n_atoms):
        """Logarithm of an integral over spheres, for every group."""
        if self.alpha == 0 and n_atoms > 0:
            return math.inf
        n_groups, n_left = divmod(n_atoms, self.group_size)
        total = 0.0
        for size in [self.group_size] * n_groups + [n_left] * (n_left > 0):
            log_sphere = math.log(2) + size / 2 * math.log(math.pi)
            log_sphere -= math.lgamma(size / 2)
            log_rate = math.log(self.alpha * math.sqrt(size))
            total += log_sphere + math.lgamma(size) - size * log_rate
        return total

    def sample(self, n_rows, n_atoms, rng):
        """Draw the direction of each group, and its norm."""
        _check_density(self)
        codes = rng.standard_normal((n_rows, n_atoms))
        for start in range(0, n_atoms, self.group_size):
            group = codes[:, start : start + self.group_size]  # a view
            size = group.shape[1]
            group /= np.linalg.norm(group, axis=1, keepdims=True)
            rate = self.alpha * math.sqrt(size)
            group *= rng.gamma(size, 1 / rate, size=(n_rows, 1))
        return codes

    def _groups(self, *tensors):
        """View whole groups, then the rest, as (n_clusters, n_groups, size, n_rows)."""
        n_atoms = tensors[0].shape[1]
        size = min(self.group_size, max(1, n_atoms))
        n_groups, n_left = divmod(n_atoms, size)
        n_whole = n_groups * size
        shape = (n_groups, size)
        yield [tensor[:, :n_whole].unflatten(1, shape) for tensor in tensors]
        if n_left:
            yield [tensor[:, None, n_whole:] for tensor in tensors]

    def _threshold(self, groups):
        return self.alpha * math.sqrt(groups.shape[2])


# Priors by name. Each is called with alpha alone.
PRIORS = {
    "laplace": Laplace,
    "nonnegative": Exponential,
    "group": GroupLaplace,
    "elastic_net": ElasticNet,
}


def as_prior(prior, alpha):
    """Give what the encoder wants for what a user says.

    Parameters
    ----------
    prior : str, Prior, or object with `value` and `prox`
        A key of `PRIORS`, or an instance with an alpha of its own.
    alpha : float
        Rate of a prior that goes by its name.

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


def check_prior(prior, n_atoms):
    """Try a prior from outside on a few codes.

    Parameters
    ----------
    prior : object with `value` and `prox`
    n_atoms : int
        Atoms of the codes it is tried on.

    Raises
    ------
    TypeError
        If it is a class, or its methods do not return tensors.
    ValueError
        If its methods return tensors of other shapes than they should, or `prox`
        cannot be differentiated and there is no `prox_backward`.
    """
    if isinstance(prior, type):
        raise TypeError(f"prior={prior!r} is a class; should be an instance of it.")
    points = torch.linspace(-1, 1, 6 * n_atoms, dtype=torch.float64, device="cpu")
    points = points.view(2, n_atoms, 3).requires_grad_()
    codes = prior.prox(points, points.new_tensor([[[0.5]], [[1.0]]]))
    _check_answer(prior, "prox", codes, points.shape, points)
    if not codes.requires_grad and not hasattr(prior, "prox_backward"):
        raise ValueError(
            f"prior={prior!r} has a prox that autograd cannot differentiate; should "
            "be made of operations of torch, or stand beside a prox_backward."
        )
    _check_answer(prior, "value", prior.value(codes.detach()), (2, 3), points)


class UserPrior(Prior):
    """A prior from outside, in plain units, as the encoder wants it.

    Parameters
    ----------
    prior : object with `value` and `prox`
        In the layout and units of the page on priors.
    """

    saves_input = True

    def __init__(self, prior: Any, factor: float = 1.0) -> None:
        self._prior = prior
        self._factor = factor

    def __repr__(self):
        return repr(self._prior)

    def scaled(self, factor):
        """Multiply the penalty by a factor."""
        return UserPrior(self._prior, factor * self._factor)

    def value(self, codes):
        """Value of the user's prior, times the factor."""
        return self._factor * self._prior.value(codes).to(codes.dtype)

    def prox_scaled(self, points, step, out):
        """Proximal operator of the user's prior, in units of the step size."""
        codes = self._prior.prox(points * step, self._factor * step)
        return torch.div(codes, step, out=out)

    def prox_vjp_(self, grad, codes, points, step):
        """Backward pass of the user's proximal operator, or of autograd."""
        # A gradient of codes in points is the same in all units.
        points, step = points * step, self._factor * step
        if hasattr(self._prior, "prox_backward"):
            grad.copy_(self._prior.prox_backward(grad, points, step))
            return
        with torch.enable_grad():
            points.requires_grad_()
            codes = self._prior.prox(points, step).to(points.dtype)
            grad.copy_(*torch.autograd.grad(codes, points, grad))


def _norms(groups):
    """Norm of each group."""
    return _inner_products(groups, groups).sqrt_()


def _inner_products(left, right):
    """Of groups, (n_clusters, n_groups, 1, n_rows); sums on this axis are slow."""
    total = left[:, :, 0] * right[:, :, 0]
    for member in range(1, left.shape[2]):
        total.addcmul_(left[:, :, member], right[:, :, member])
    return total.unsqueeze(2)


def _ratio(part, whole):
    """Divide, and give 0 for 0 of 0."""
    return part / whole.clamp_min(torch.finfo(whole.dtype).tiny)


def _check_rate(name, value):
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{name}={value!r} should be a number, finite and at least 0.")


def _mean_magnitudes(means, variances):
    """Mean magnitudes under normal distributions."""
    deviations = variances.sqrt()
    ratios = means / deviations
    spreads = math.sqrt(2 / math.pi) * deviations * torch.exp(-ratios.square() / 2)
    return means * torch.erf(ratios / math.sqrt(2)) + spreads


def _check_density(prior):
    if prior.alpha == 0:
        raise ValueError(
            f"prior={prior!r} is no density to draw codes from; alpha should "
            "be positive."
        )


def _check_answer(prior, method, answer, shape, codes):
    if not isinstance(answer, torch.Tensor):
        raise TypeError(
            f"prior={prior!r} has a {method} that returns {type(answer).__name__}; "
            "should be a tensor."
        )
    if answer.shape != shape:
        raise ValueError(
            f"prior={prior!r} has a {method} that returns shape {tuple(answer.shape)} "
            f"for codes of shape (n_clusters, n_atoms, n_rows) = {tuple(codes.shape)}; "
            f"should be {tuple(shape)}."
        )
