"""Graph clustering, used to initialize a fit on a small subsample."""

from ._ensemble import EnsembleClustering
from ._spectral import SpectralGraphClustering
from ._ssc import SparseSubspaceClustering

__all__ = ["EnsembleClustering", "SparseSubspaceClustering", "SpectralGraphClustering"]
