"""Penalties on the atoms, which are added to the loss."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Smoothness:
    r"""Penalty on differences between neighbouring pixels of the atoms.

    The penalty is the mean, over all atoms, of the squared norm of the differences
    between adjacent pixels, along the height and the width, within each channel. As
    atoms have norm 1, it lies between 0 (constant atoms) and 8 (checkerboards) for any
    number of atoms or pixels. It is the negative log-density of a normal prior on the
    atoms in which neighbouring pixels are correlated.

    Parameters
    ----------
    strength : float
        Factor of the mean, in the units of the loss. Positive.
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).

    References
    ----------
    The paper names smoothness of the dictionaries as an extension, after A. H. Song,
    B. Tolooshams and D. Ba, Gaussian Process Convolutional Dictionary Learning, 2021.

    Examples
    --------
    An atom of 2 x 2 pixels with an edge between its columns:

    >>> import torch
    >>> from skmixmate.model.penalties import Smoothness
    >>> atom = torch.tensor([0.5, -0.5, 0.5, -0.5])
    >>> penalty = Smoothness(strength=1.0, image_shape=(2, 2))
    >>> penalty.value(atom[None, None])
    tensor(2.)
    >>> penalty.gradient(atom[None, None])
    tensor([[[ 2., -2.,  2., -2.]]])
    """

    strength: float
    image_shape: tuple[int, ...]

    def value(self, dictionaries: torch.Tensor) -> torch.Tensor:
        """Compute the penalty of all atoms.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features)

        Returns
        -------
        value : tensor of shape ()
        """
        images = self._images(dictionaries)
        vertical, horizontal = (images.diff(dim=axis).square().sum() for axis in (1, 2))
        return (vertical + horizontal) * self._atom_weight(dictionaries)

    def gradient(self, dictionaries: torch.Tensor) -> torch.Tensor:
        """Compute the gradient of :meth:`value`.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features)

        Returns
        -------
        gradient : tensor of shape (n_clusters, n_atoms, n_features)
        """
        images = self._images(dictionaries)
        gradient = torch.zeros_like(images)
        for axis in (1, 2):
            differences, n_differences = images.diff(dim=axis), images.shape[axis] - 1
            gradient.narrow(axis, 1, n_differences).add_(differences)
            gradient.narrow(axis, 0, n_differences).sub_(differences)
        return gradient.view_as(dictionaries) * (2 * self._atom_weight(dictionaries))

    def _images(self, dictionaries: torch.Tensor) -> torch.Tensor:
        """View all atoms as images, (n_clusters * n_atoms, *image_shape)."""
        return torch.unflatten(dictionaries.flatten(0, 1), 1, self.image_shape)

    def _atom_weight(self, dictionaries: torch.Tensor) -> float:
        """Compute the weight of each atom in the mean, times the strength."""
        return self.strength / max(1, dictionaries.shape[:2].numel())
