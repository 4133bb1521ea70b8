"""Mixture Model Auto-Encoders (MixMate) as a scikit-learn estimator on torch."""

__version__ = "0.1.0"

from ._mixmate import MixMateClustering
from ._persistence import load
from .cluster import SparseSubspaceClustering, SpectralGraphClustering
from .image import ScatteringTransform
from .metrics import clustering_accuracy_score

__all__ = [
    "MixMateClustering",
    "ScatteringTransform",
    "SparseSubspaceClustering",
    "SpectralGraphClustering",
    "__version__",
    "clustering_accuracy_score",
    "load",
]
