"""Images that are turned a little."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample


def turn_images(
    images: np.ndarray, image_shape: Sequence[int], degrees: float
) -> np.ndarray:
    """Turn images about their centre.

    Parameters
    ----------
    images : ndarray of shape (n_images, n_pixels)
        Finite.
    image_shape : tuple of int
        (height, width) or (height, width, n_channels).
    degrees : float
        Counterclockwise, if the first row is at the top.

    Returns
    -------
    turned : ndarray of shape (n_images, n_pixels)
        Interpolated linearly; pixels at the edge are continued outside.

    Examples
    --------
    >>> import numpy as np
    >>> from skmixmate.image._turning import turn_images
    >>> image = np.array([[0.0, 1.0, 0.0, 0.0]])
    >>> turn_images(image, (2, 2), 90).round(6) + 0.0
    array([[1., 0., 0., 0.]])
    """
    height, width = image_shape[:2]
    planes = torch.from_numpy(images).reshape(len(images), height, width, -1)
    planes = planes.permute(0, 3, 1, 2)  # (n_images, n_channels, height, width)
    # Channels share a grid: all images are channels of one.
    whole = planes.reshape(1, -1, height, width)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # In units in which both sides have length 2.
    turn = [[cos, -sin * height / width, 0], [sin * width / height, cos, 0]]
    grid = affine_grid(whole.new_tensor([turn]), [1, 1, height, width], False)
    turned = grid_sample(whole, grid, padding_mode="border", align_corners=False)
    turned = turned.reshape(planes.shape).permute(0, 2, 3, 1)
    return turned.reshape(len(images), -1).numpy()
