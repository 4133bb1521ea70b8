"""Features of images, to cluster in place of their pixels."""

from ._scattering import ScatteringTransform

__all__ = ["ScatteringTransform"]
