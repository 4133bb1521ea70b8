"""What a code is drawn from: one small class for each prior.

A prior is any object with the two methods of :class:`Laplace`. The encoder
calls `prox` in every layer, the energy adds `value`.
"""

import torch


class Laplace:
    """Laplace prior on every entry of the code, the paper's own (Eq. 1).

    Parameters
    ----------
    alpha : float
        Rate of the prior, lambda in the paper: the larger, the sparser the
        codes. Non-negative.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.priors import Laplace
    >>> prior = Laplace(alpha=2.0)
    >>> codes = torch.tensor([[[3.0], [-0.5]]])
    >>> prior.value(codes)
    tensor([[7.]])
    >>> prior.prox(codes, step=torch.tensor(0.5))
    tensor([[[2.],
             [0.]]])
    """

    def __init__(self, alpha):
        self.alpha = alpha

    def value(self, codes):
        """Negative logarithm of the prior, up to a constant (Eq. 5).

        Parameters
        ----------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)

        Returns
        -------
        value : tensor of shape (n_clusters, n_rows)
        """
        return self.alpha * codes.abs().sum(dim=1)

    def prox(self, points, step):
        """Soft-threshold at ``step * alpha``, f of Eq. 4.

        Parameters
        ----------
        points : tensor of shape (n_clusters, n_atoms, n_rows)
        step : tensor that broadcasts to `points`

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
        """
        threshold = step * self.alpha
        # torch.clamp takes several times as long with tensors for its bounds.
        clipped = torch.minimum(points, threshold)
        torch.maximum(clipped, -threshold, out=clipped)
        return torch.sub(points, clipped, out=clipped)

    def prox_backward(self, grad, codes):
        """Gradient with respect to the points of `prox`, given its output.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to `codes`.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            What `prox` returned.

        Returns
        -------
        grad_points : tensor of shape (n_clusters, n_atoms, n_rows)
            `grad` where the code is not zero, 0 elsewhere.
        """
        # The same as ``grad * (codes != 0)`` in one pass without a boolean
        # tensor, which costs several times as much on a CPU.
        return torch.ops.aten.softshrink_backward(grad, codes, 0.0)
