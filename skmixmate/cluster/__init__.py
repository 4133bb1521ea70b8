"""Graph clustering of a small subsample, and the number of clusters in it."""

from ._ensemble import EnsembleClustering
from ._n_clusters import estimate_n_clusters
from ._spectral import SpectralGraphClustering
from ._ssc import SparseSubspaceClustering

__all__ = [
    "EnsembleClustering",
    "SparseSubspaceClustering",
    "SpectralGraphClustering",
    "estimate_n_clusters",
]
