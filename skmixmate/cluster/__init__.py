"""Clusterings of a graph, made for the small subsample that starts a fit."""

from ._spectral import SpectralGraphClustering
from ._ssc import SparseSubspaceClustering

__all__ = ["SparseSubspaceClustering", "SpectralGraphClustering"]
