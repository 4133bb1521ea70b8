"""The posterior over clusters, and the loss (Eq. 7 and 8).

They follow from the energies alone, whatever the mixture. Most rows belong to one
cluster, and to the others with a probability that a float cannot hold beside 1: here is
also how to leave out what does not count.
"""

import torch


def posterior(energies):
    """Probability of each cluster given the row (Eq. 7).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    posterior : tensor of shape (n_clusters, n_rows)
        Columns sum to 1.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import posterior
    >>> posterior(torch.tensor([[0.0], [0.0]]))
    tensor([[0.5000],
            [0.5000]])
    """
    return torch.softmax(-energies, dim=0)


def counting_posterior(energies):
    """Posterior (Eq. 7) without what a float cannot hold beside 1.

    That needs no gradient; besides, the tail of a softmax is in part denormal
    numbers, which would slow down all that follows many times over.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    responsibilities : tensor of shape (n_clusters, n_rows)
    """
    responsibilities = posterior(energies)
    is_negligible = responsibilities < torch.finfo(energies.dtype).eps
    return responsibilities.masked_fill_(is_negligible, 0)


def counting_rows(responsibilities):
    """Find the rows that each cluster has a gradient from.

    Only they have to go forward with a tape, and backward.

    Parameters
    ----------
    responsibilities : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    index : int tensor of shape (n_clusters, n_counting)
        All rows of positive responsibility; clusters with fewer than others are
        topped up with rows whose responsibility, and so whose gradient, is 0.
    """
    counting = responsibilities > 0
    n_counting = int(counting.sum(dim=1).max())
    return counting.to(torch.uint8).topk(n_counting, dim=1, sorted=False).indices


def take(tensor, index):
    """Take rows of its own for each cluster.

    Parameters
    ----------
    tensor : tensor of shape (n_clusters, n_rows) or (n_clusters, n_atoms, n_rows)
    index : int tensor of shape (n_clusters, n_index)

    Returns
    -------
    taken : tensor of shape (n_clusters, n_index) or (n_clusters, n_atoms, n_index)
    """
    if tensor.dim() == 3:
        index = index[:, None].expand(-1, tensor.shape[1], -1)
    return tensor.gather(-1, index)


def loss(energies):
    """Take the expected energy of each row under its posterior (Eq. 8).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)

    Returns
    -------
    loss : tensor of shape (n_rows,)

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import loss
    >>> loss(torch.tensor([[2.0], [2.0]]))
    tensor([2.])
    """
    return (energies * posterior(energies)).sum(dim=0)


def loss_gradient(energies, responsibilities):
    """Gradient of :func:`loss` with respect to the energies.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)
    responsibilities : tensor of shape (n_clusters, n_rows)
        Their posterior, some small entries of which may be set to 0.

    Returns
    -------
    gradient : tensor of shape (n_clusters, n_rows)
        Exactly 0 where the responsibility is.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import loss_gradient, posterior
    >>> energies = torch.tensor([[2.0], [2.0]])
    >>> loss_gradient(energies, posterior(energies))
    tensor([[0.5000],
            [0.5000]])
    """
    return responsibilities * (1 - energies + loss(energies))
