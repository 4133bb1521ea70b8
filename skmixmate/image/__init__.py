"""Features of images, to cluster in place of their pixels."""

from ._detection import find_image_shape
from ._scattering import ScatteringTransform

__all__ = ["ScatteringTransform", "find_image_shape"]
