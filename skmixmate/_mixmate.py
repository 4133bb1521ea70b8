"""Where ``MixMateClustering`` was before; pickles of that time look for it here."""

from .estimators._mixmate import MixMateClustering

__all__ = ["MixMateClustering"]
