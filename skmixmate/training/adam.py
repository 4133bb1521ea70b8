"""Adam, by the kernel that torch has for it.

``torch.optim.Adam(fused=True)`` calls the same kernel, and gives the same numbers. But
the first optimiser of torch that is made brings its compiler in, which takes longer
than all else in the fit of a small set, and tens of MiB.
"""

import torch


class Adam:
    """Adam on one tensor, with the moments of a gradient that is given.

    Parameters
    ----------
    parameter : tensor
        Moved in place.
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

    def __init__(self, parameter, learning_rate):
        self.parameter = parameter
        self.learning_rate = learning_rate
        self.moments = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def step(self, gradient):
        """Move the parameter.

        Parameters
        ----------
        gradient : tensor
            Of the same shape.
        """
        moments = self.moments
        moments["step"] += 1
        torch.ops.aten._fused_adam_(
            [self.parameter],
            [gradient],
            [moments["exp_avg"]],
            [moments["exp_avg_sq"]],
            [],  # the largest so far, which only amsgrad keeps
            [moments["step"]],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
