"""Adam, by torch's fused kernel.

``torch.optim.Adam(fused=True)`` calls the same kernel and is bit-identical. But the
first optimiser of torch that is created imports torch's compiler, which takes longer
than the whole fit of a small data set, and tens of MiB.
"""

import torch


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
        torch.ops.aten._fused_adam_(
            [self.parameter],
            [gradient],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],  # maxima, which only amsgrad needs
            [moments["step"]],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
