"""Graph clustering, used to initialize a fit on a small subsample."""

from ._spectral import SpectralGraphClustering
from ._ssc import SparseSubspaceClustering

__all__ = ["SparseSubspaceClustering", "SpectralGraphClustering"]
