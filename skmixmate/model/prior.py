"""The protocol of priors on the codes."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Lower and upper threshold: numbers, or tensors of shape (n_clusters, n_atoms, 1).
Thresholds = tuple[float | Tensor, float | Tensor]


class Prior(ABC):
    r"""Base class of the priors on the codes.

    A subclass defines the penalty g in `value`, and its proximal operator in `prox`.
    All other methods have defaults that use these two and autograd; they are
    overridden for speed, or for what the defaults do not provide: sampling, and the
    constant that makes the prior a density.

    A layer of the encoder ends in the proximal operator
    :math:`\arg\min_x \frac12 \|x - p\|^2 + \eta g(x)`. The encoder computes with
    :math:`x / \eta` and :math:`p / \eta`, and calls `prox_scaled`, which is the
    operator in these units. For a penalty that is proportional to the magnitude of
    the code, such as a norm, `prox_scaled` does not depend on the step size
    :math:`\eta`. A subclass may therefore define `prox_scaled` and `prox_vjp_` in
    place of `prox`.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.prior import Prior
    >>> class Lasso(Prior):
    ...     def value(self, codes):
    ...         return 2.0 * codes.abs().sum(dim=1)
    ...
    ...     def prox(self, points, step):
    ...         return points.sign() * (points.abs() - 2.0 * step).clamp_min(0)
    >>> prior, codes, step = Lasso(), torch.tensor([[[3.0]]]), torch.ones(1, 1, 1)
    >>> prior.value(codes), prior.prox(codes, step)
    (tensor([[6.]]), tensor([[[1.]]]))
    >>> prior.scaled(0.5).prox(codes, step)
    tensor([[[2.]]])
    """

    # Whether `prox_vjp_` uses the points that `prox_scaled` received; to keep them
    # doubles the memory of a training step.
    saves_input: ClassVar[bool] = True

    # Fields of a dataclass that the penalty is proportional to, all together.
    rate_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check that the class defines a proximal operator."""
        super().__init_subclass__(**kwargs)
        has_scaled = (
            cls.prox_scaled is not Prior.prox_scaled
            and cls.prox_vjp_ is not Prior.prox_vjp_
        )
        if cls.prox is Prior.prox and not has_scaled:
            raise TypeError(
                f"{cls.__name__} has no proximal operator; define prox, or both "
                "prox_scaled and prox_vjp_."
            )

    @property
    def thresholds(self) -> Thresholds | None:
        """Thresholds, if `prox_scaled` only subtracts the clamped points.

        Returns
        -------
        thresholds : tuple or None
            Lower and upper threshold, numbers or tensors of shape
            (n_clusters, n_atoms, 1). None if the operator does something else.
        """
        return None

    @abstractmethod
    def value(self, codes: Tensor) -> Tensor:
        """Compute the penalty: the negative log-density up to a constant (Eq. 5).

        Parameters
        ----------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        value : tensor of shape (n_clusters, n_rows)
            Differentiable by autograd.
        """

    def value_grad(self, codes: Tensor, row_weights: Tensor) -> Tensor:
        """Compute the gradient of the weighted sum of the penalties.

        Parameters
        ----------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        row_weights : tensor of shape (n_clusters, n_rows)

        Returns
        -------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
        """
        with torch.enable_grad():
            leaf = codes.detach().requires_grad_()
            return torch.autograd.grad(self.value(leaf), leaf, row_weights)[0]

    def prox(self, points: Tensor, step: Tensor) -> Tensor:
        """Apply the proximal operator of the penalty times the step size.

        Parameters
        ----------
        points : tensor of shape (n_clusters, n_atoms, n_rows)
        step : tensor of shape (n_clusters, 1, 1) or (n_clusters, 1, n_rows)
            Step sizes, eta in the paper.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            Differentiable in the points by autograd, unless there is a
            `prox_backward`.
        """
        points = points / step
        return self.prox_scaled(points, step, out=points) * step

    def prox_backward(self, grad: Tensor, points: Tensor, step: Tensor) -> Tensor:
        """Compute the gradient with respect to the points of `prox`.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to the codes that `prox` returned.
        points, step
            As in `prox`.

        Returns
        -------
        grad_points : tensor of shape (n_clusters, n_atoms, n_rows)
        """
        if type(self).prox is Prior.prox:
            # Written with `out`, which autograd does not support.
            grad, points = grad.clone(), points / step
            codes = self.prox_scaled(points, step, out=torch.empty_like(points))
            self.prox_vjp_(grad, codes, points, step)
            return grad
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            codes = self.prox(points, step).to(points.dtype)
            return torch.autograd.grad(codes, points, grad)[0]

    def prox_scaled(self, points: Tensor, step: Tensor, out: Tensor) -> Tensor:
        """Apply the proximal operator in units of the step size, f of Eq. 4.

        Parameters
        ----------
        points : tensor of shape (n_clusters, n_atoms, n_rows)
        step
            As in `prox`.
        out : tensor of shape (n_clusters, n_atoms, n_rows)
            Receives the codes; may be `points`.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            `out`.
        """
        return torch.div(self.prox(points * step, step), step, out=out)

    def prox_vjp_(
        self, grad: Tensor, codes: Tensor, points: Tensor | None, step: Tensor
    ) -> None:
        """Replace the gradient in the codes by that in the points of `prox_scaled`.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to `codes`; overwritten.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            Output of `prox_scaled`.
        points : tensor of shape (n_clusters, n_atoms, n_rows) or None
            Input of `prox_scaled`; may be None unless `saves_input`.
        step
            As in `prox`.
        """
        # The gradient of codes with respect to points is the same in all units.
        grad.copy_(self.prox_backward(grad, cast(Tensor, points) * step, step))

    def scaled(self, factor: float) -> "Prior":
        """Return the prior whose penalty is multiplied by a factor.

        Parameters
        ----------
        factor : float

        Returns
        -------
        prior : Prior
        """
        if factor == 1:
            return self
        if not self.rate_names:
            return _ScaledPrior(self, factor)
        rates = {name: factor * getattr(self, name) for name in self.rate_names}
        return cast(Prior, replace(cast(Any, self), **rates))

    def __getitem__(self, clusters: slice | Tensor) -> "Prior":
        """Select the prior of some of the clusters.

        Parameters
        ----------
        clusters : slice, or int tensor of shape (n_selected,)

        Returns
        -------
        prior : Prior
        """
        return self

    def log_normalizer(self, n_atoms: int) -> float | None:
        """Compute the logarithm of the integral of ``exp(-value)``.

        Parameters
        ----------
        n_atoms : int

        Returns
        -------
        log_normalizer : float or None
            Infinite if the integral diverges. None if it is unknown, or if the penalty
            is not even, or not concave in the squares of the entries: the evidence
            then has no lower bound.
        """
        return None

    def log_normalizer_ratio(
        self,
        dictionaries: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> float | Tensor:
        r"""Compute the log-normaliser of each cluster relative to noise alone.

        With the energy :math:`E_k` of Eq. 5 without the weights, this is

        .. math:: \log \int e^{-E_k(y)}\,dy - \log \int e^{-\|y\|^2}\,dy

        up to a constant that all clusters share. The codes are in units of the noise,
        so that the squared error enters the energy without a factor.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features), default=None
        observed : tensor of shape (n_features, n_rows), default=None
            0 where an entry is missing, else 1; None if nothing is missing.

        Returns
        -------
        log_ratio : float or tensor of shape (n_clusters, 1) or (n_clusters, n_rows)
            Here 0: if all atoms have the same rate, it does not depend on the cluster.
        """
        return 0.0

    def sample(
        self, n_rows: int, n_atoms: int, rng: np.random.RandomState
    ) -> npt.NDArray[np.float64]:
        """Draw codes from the prior.

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
            If the prior defines no sampler, or is not a density because its rate is 0.
        """
        raise ValueError(
            f"prior={self!r} cannot be sampled from: its class does not define sample."
        )

    def expected_value(self, means: Tensor, variances: Tensor) -> Tensor:
        """Bound the expected penalty under normal distributions from above.

        Parameters
        ----------
        means, variances : tensors of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        expected_value : tensor of shape (n_clusters, n_rows)
            Here the penalty of the root mean squares, by Jensen's inequality.
        """
        return self.value((means.square() + variances).sqrt())


class UserPrior(Prior):
    """Adapter for objects that have the methods `value` and `prox`.

    Parameters
    ----------
    prior : object with `value` and `prox`
        And with `prox_backward`, if autograd cannot differentiate `prox`.
    """

    def __init__(self, prior: Any) -> None:
        self._prior = prior

    def __repr__(self) -> str:
        return repr(self._prior)

    def value(self, codes: Tensor) -> Tensor:
        """Compute the penalty of the user's prior."""
        return cast(Tensor, self._prior.value(codes).to(codes.dtype))

    def prox(self, points: Tensor, step: Tensor) -> Tensor:
        """Apply the proximal operator of the user's prior."""
        return cast(Tensor, self._prior.prox(points, step))

    def prox_backward(self, grad: Tensor, points: Tensor, step: Tensor) -> Tensor:
        """Call the user's `prox_backward`, or autograd if there is none."""
        if hasattr(self._prior, "prox_backward"):
            return cast(Tensor, self._prior.prox_backward(grad, points, step))
        return super().prox_backward(grad, points, step)


class _ScaledPrior(Prior):
    """Another prior with its penalty multiplied by a factor."""

    def __init__(self, prior: Prior, factor: float) -> None:
        self._prior = prior
        self._factor = factor

    def __repr__(self) -> str:
        return f"{self._prior!r}.scaled({self._factor!r})"

    def __getitem__(self, clusters: slice | Tensor) -> Self:
        """Select the prior of some of the clusters."""
        return type(self)(self._prior[clusters], self._factor)

    def scaled(self, factor: float) -> Prior:
        """Multiply the factors."""
        return _ScaledPrior(self._prior, factor * self._factor)

    def value(self, codes: Tensor) -> Tensor:
        """Multiply the penalty by the factor."""
        return self._factor * self._prior.value(codes)

    def prox(self, points: Tensor, step: Tensor) -> Tensor:
        """Multiply the step size by the factor."""
        return self._prior.prox(points, self._factor * step)

    def prox_backward(self, grad: Tensor, points: Tensor, step: Tensor) -> Tensor:
        """Multiply the step size by the factor."""
        return self._prior.prox_backward(grad, points, self._factor * step)


def check_prior(prior: Any, n_atoms: int) -> None:
    """Check the methods of a user's prior on a few codes.

    Parameters
    ----------
    prior : object with `value` and `prox`
    n_atoms : int
        Number of atoms of the codes.

    Raises
    ------
    TypeError
        If `prior` is a class, or its methods do not return tensors.
    ValueError
        If its methods return tensors of a wrong shape, or `prox` is not differentiable
        by autograd and there is no `prox_backward`.
    """
    if isinstance(prior, type):
        raise TypeError(f"prior={prior!r} is a class; pass an instance of it instead.")
    points = torch.linspace(-1, 1, 6 * n_atoms, dtype=torch.float64, device="cpu")
    points = points.view(2, n_atoms, 3)
    step = points.new_tensor([[[0.5]], [[1.0]]])
    uses_autograd = _uses_autograd(prior)
    codes = prior.prox(points.requires_grad_(uses_autograd), step)
    _check_output(prior, "prox", codes, points.shape, points)
    if uses_autograd and not codes.requires_grad:
        raise ValueError(
            f"prior={prior!r} has a prox that autograd cannot differentiate; write it "
            "with differentiable operations of torch, or add a prox_backward."
        )
    _check_output(prior, "value", prior.value(codes.detach()), (2, 3), points)


def _uses_autograd(prior: Any) -> bool:
    """Return whether the gradient of the proximal operator comes from autograd."""
    if isinstance(prior, Prior):
        cls = type(prior)
        return (cls.prox_backward, cls.prox_vjp_) == (
            Prior.prox_backward,
            Prior.prox_vjp_,
        )
    return not hasattr(prior, "prox_backward")


def _check_output(
    prior: Any,
    method: str,
    output: Any,
    shape: tuple[int, ...],
    codes: Tensor,
) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"prior={prior!r} has a {method} that returns {type(output).__name__}; "
            "it should return a tensor."
        )
    if output.shape != shape:
        raise ValueError(
            f"prior={prior!r} has a {method} that returns shape {tuple(output.shape)} "
            f"for codes of shape (n_clusters, n_atoms, n_rows) = {tuple(codes.shape)}; "
            f"it should return shape {tuple(shape)}."
        )
