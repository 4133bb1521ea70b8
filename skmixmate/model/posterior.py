"""The posterior over clusters, and the loss (Eq. 7 and 8), from the energies alone."""

import torch


def with_known_labels(
    energies: torch.Tensor, labels: torch.Tensor | None
) -> torch.Tensor:
    """Exclude all clusters but the known one from the posterior of labelled rows.

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)
    labels : int64 tensor of shape (n_rows,) or None
        Cluster of each row, -1 where it is not known; None if no label is known.

    Returns
    -------
    energies : tensor of shape (n_clusters, n_rows)
        The posterior of a labelled row is 1 in its cluster and 0 in all others, and
        its loss is the energy of its cluster. A tensor of its own, unless `labels` is
        None.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import posterior, with_known_labels
    >>> energies = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    >>> posterior(with_known_labels(energies, torch.tensor([-1, 1])))
    tensor([[0.5000, 0.0000],
            [0.5000, 1.0000]])
    """
    if labels is None:
        return energies
    excluded = is_excluded(labels, len(energies))
    # Not infinity, whose product with a posterior of 0 is not a number.
    return energies.masked_fill(excluded, torch.finfo(energies.dtype).max)


def is_excluded(labels: torch.Tensor, n_clusters: int) -> torch.Tensor:
    """Return whether a row is known not to belong to a cluster.

    Parameters
    ----------
    labels : int64 tensor of shape (n_rows,)
        Cluster of each row, -1 where it is not known.
    n_clusters : int

    Returns
    -------
    is_excluded : bool tensor of shape (n_clusters, n_rows)
    """
    clusters = torch.arange(n_clusters, device=labels.device)
    return (labels >= 0) & (labels != clusters[:, None])


def posterior(energies: torch.Tensor) -> torch.Tensor:
    """Compute the probability of each cluster given the row (Eq. 7).

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


def union_energies(energies: torch.Tensor, clusters: torch.Tensor) -> torch.Tensor:
    """Compute the energies of clusters that consist of several components.

    The probability of a union is the sum of the probabilities of its members, so that
    its energy is minus the logarithm of the sum of theirs.

    Parameters
    ----------
    energies : tensor of shape (n_components, n_rows)
    clusters : int tensor of shape (n_components,)
        Cluster of each component, from 0 without gaps.

    Returns
    -------
    energies : tensor of shape (n_clusters, n_rows)
        Those of a cluster of one component are the same to the last bit.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.model.posterior import union_energies
    >>> energies = torch.tensor([[2.0], [2.0], [3.0]])
    >>> union_energies(energies, torch.tensor([0, 0, 1]))
    tensor([[1.3069],
            [3.0000]])
    """
    n_clusters = int(clusters.max()) + 1
    members = [(-energies[clusters == k]).logsumexp(dim=0) for k in range(n_clusters)]
    return -torch.stack(members)


def thresholded_responsibilities(energies: torch.Tensor) -> torch.Tensor:
    """Compute the posterior with probabilities below machine epsilon set to 0.

    Such probabilities contribute nothing to the gradient, and many of them are
    denormal numbers, which would slow down every operation that uses them.

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


def loss(energies: torch.Tensor) -> torch.Tensor:
    """Compute the expected energy of each row under its posterior (Eq. 8).

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


def loss_gradient(
    energies: torch.Tensor, responsibilities: torch.Tensor
) -> torch.Tensor:
    r"""Compute the gradient of :func:`loss` with respect to the energies.

    With the energies :math:`E_k`, the responsibilities
    :math:`r_k = e^{-E_k} / \sum_j e^{-E_j}` and the loss :math:`L = \sum_j r_j E_j`,
    the derivative of the softmax is
    :math:`\partial r_j / \partial E_k = r_j (r_k - \delta_{jk})`. Hence

    .. math::

        \frac{\partial L}{\partial E_k}
        = r_k + \sum_j E_j r_j (r_k - \delta_{jk}) = r_k (1 - E_k + L).

    Parameters
    ----------
    energies : tensor of shape (n_clusters, n_rows)
    responsibilities : tensor of shape (n_clusters, n_rows)
        The posterior of the energies, in which small entries may be set to 0.

    Returns
    -------
    gradient : tensor of shape (n_clusters, n_rows)
        Exactly 0 where the responsibility is 0.

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
