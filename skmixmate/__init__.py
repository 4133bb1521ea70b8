"""Mixture Model Auto-Encoders (MixMate) as a scikit-learn estimator on torch."""

from ._version import __version__
from .cluster import (
    EnsembleClustering,
    SparseSubspaceClustering,
    SpectralGraphClustering,
)
from .estimators._mixmate import MixMateClustering
from .image import ScatteringTransform
from .io import load
from .metrics import clustering_accuracy_score

__all__ = [
    "EnsembleClustering",
    "MixMateClustering",
    "ScatteringTransform",
    "SparseSubspaceClustering",
    "SpectralGraphClustering",
    "__version__",
    "clustering_accuracy_score",
    "load",
]
