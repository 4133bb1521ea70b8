"""What is asked of atoms, beside that they explain the rows."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Smoothness:
    r"""Penalty on atoms that change much from pixel to pixel.

    The mean, over all atoms, of the squared norm of the differences between pixels
    that are next to each other, in height and in width, within each channel. Atoms
    have norm 1, so that it lies between 0, flat atoms, and 8, checkerboards, whatever
    the number of atoms or pixels. It is a normal prior on the atoms, in which
    neighbours are correlated.

    Parameters
    ----------
    strength : float
        What the mean is multiplied by, in the units of the loss. Positive.
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).

    References
    ----------
    The paper names smoothness of the dictionaries as an extension, after A. H. Song,
    B. Tolooshams and D. Ba, Gaussian Process Convolutional Dictionary Learning, 2021.

    Examples
    --------
    An atom of 2 x 2 pixels with one edge in it, between its columns:

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

    def value(self, dictionaries):
        """Penalty of all atoms together.

        Parameters
        ----------
        dictionaries : tensor of shape (n_clusters, n_atoms, n_features)

        Returns
        -------
        value : tensor, a number
        """
        images = self._images(dictionaries)
        squares = [images.diff(dim=axis).square().sum() for axis in (1, 2)]
        return sum(squares) * self._share(dictionaries)

    def gradient(self, dictionaries):
        """Gradient of :meth:`value`.

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
            steps, n_steps = images.diff(dim=axis), images.shape[axis] - 1
            gradient.narrow(axis, 1, n_steps).add_(steps)
            gradient.narrow(axis, 0, n_steps).sub_(steps)
        return gradient.view_as(dictionaries) * (2 * self._share(dictionaries))

    def _images(self, dictionaries):
        """All atoms as images, (n_clusters * n_atoms, *image_shape)."""
        return dictionaries.flatten(0, 1).unflatten(1, self.image_shape)

    def _share(self, dictionaries):
        """Weight of each atom."""
        return self.strength / max(1, dictionaries.shape[:2].numel())
