"""What a code is drawn from: one small class for each prior.

A prior is any object with the methods of :class:`Laplace`. The encoder calls `prox`
in every layer and `prox_backward_` on the way back, the energy adds `value`.
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
    >>> codes = torch.tensor([[[3.0], [0.5]]])
    >>> prior.value(codes)
    tensor([[7.]])
    >>> prior.prox(codes, out=torch.empty_like(codes))
    tensor([[[1.],
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

    def prox(self, points, out):
        """Soft-threshold at alpha, f of Eq. 4 in units of the step size.

        Parameters
        ----------
        points : tensor of shape (n_clusters, n_atoms, n_rows)
        out : tensor of shape (n_clusters, n_atoms, n_rows)
            Where the codes go; may be `points`.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            `out`.
        """
        return torch.ops.aten.softshrink.out(points, self.alpha, out=out)

    def prox_backward_(self, grad, codes):
        """Gradient with respect to the points of `prox`, in place.

        Parameters
        ----------
        grad : tensor of shape (n_clusters, n_atoms, n_rows)
            Gradient with respect to `codes`; kept where these are not zero, and
            set to 0 elsewhere.
        codes : tensor of shape (n_clusters, n_atoms, n_rows)
            What `prox` returned.
        """
        # One pass without a boolean tensor, which costs several times as much on a
        # CPU.
        torch.ops.aten.softshrink_backward.grad_input(grad, codes, 0.0, grad_input=grad)
