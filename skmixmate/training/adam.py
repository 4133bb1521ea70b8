"""Adam, by torch's fused kernel.

``torch.optim.Adam(fused=True)`` calls the same kernel and is bit-identical. But the
first optimiser of torch that is created imports torch's compiler, which takes longer
than the whole fit of a small data set, and tens of MiB.
"""

import torch

from ..utils.operators import find_operator

_fused_adam = find_operator("_fused_adam_")

# Decay rates of the moments, and the constant that keeps the division finite.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam on one tensor.

    Parameters
    ----------
    parameter : tensor
        Updated in place.
    learning_rate : float

    References
    ----------
    D. P. Kingma and J. Ba, Adam: A Method for Stochastic Optimization, ICLR 2015;
    the decay rates are the ones they recommend.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.training.adam import Adam
    >>> parameter = torch.zeros(2)
    >>> Adam(parameter, learning_rate=0.1).step(torch.tensor([5.0, -0.01]))
    >>> parameter
    tensor([-0.1000,  0.1000])
    """

    def __init__(self, parameter: torch.Tensor, learning_rate: float) -> None:
        self.parameter = parameter
        self.learning_rate = learning_rate
        self.moments = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def step(self, gradient: torch.Tensor) -> None:
        """Update the parameter and the moments of the gradient.

        Parameters
        ----------
        gradient : tensor
            Of the shape of the parameter.
        """
        moments = self.moments
        moments["step"] += 1
        if _fused_adam is None:
            self._step_unfused(gradient)
            return
        _fused_adam(
            [self.parameter],
            [gradient],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],  # maxima, which only amsgrad needs
            [moments["step"]],
            lr=self.learning_rate,
            beta1=_BETA1,
            beta2=_BETA2,
            weight_decay=0.0,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def _step_unfused(self, gradient: torch.Tensor) -> None:
        """Update by public operations of torch, without waiting for a device."""
        mean, mean_square = self.moments["exp_avg"], self.moments["exp_avg_sq"]
        mean.lerp_(gradient, 1 - _BETA1)
        mean_square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        n_steps = self.moments["step"].to(self.parameter.dtype)
        deviation = (mean_square / (1 - _BETA2**n_steps)).sqrt_().add_(_EPSILON)
        self.parameter.sub_(
            self.learning_rate / (1 - _BETA1**n_steps) * mean / deviation
        )
