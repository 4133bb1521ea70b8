"""Displays of fitted models; they need matplotlib, the extra ``plot``."""

from ._confusion import ConfusionDisplay
from ._dendrogram import DendrogramDisplay
from ._dictionary import DictionaryDisplay
from ._energy import EnergyDisplay
from ._loss_curve import LossCurveDisplay
from ._map import MapDisplay
from ._n_clusters import NClustersDisplay
from ._profile import ProfileDisplay
from ._reconstruction import ReconstructionDisplay

__all__ = [
    "ConfusionDisplay",
    "DendrogramDisplay",
    "DictionaryDisplay",
    "EnergyDisplay",
    "LossCurveDisplay",
    "MapDisplay",
    "NClustersDisplay",
    "ProfileDisplay",
    "ReconstructionDisplay",
]
