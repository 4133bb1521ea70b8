"""Mixture Model Auto-Encoders (MixMate) as a scikit-learn estimator on torch."""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import cluster as cluster
    from . import datasets as datasets
    from . import distributed as distributed
    from . import image as image
    from . import metrics as metrics
    from . import model as model
    from . import plotting as plotting
    from ._show_versions import show_versions
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
    "show_versions",
]

# Imported when they are used, so that the command line can print its help without
# torch: the modules of the names above, and public modules.
_MODULES = {
    "EnsembleClustering": "cluster",
    "MixMateClustering": "estimators._mixmate",
    "ScatteringTransform": "image",
    "SparseSubspaceClustering": "cluster",
    "SpectralGraphClustering": "cluster",
    "clustering_accuracy_score": "metrics",
    "load": "io",
    "show_versions": "_show_versions",
}
_PUBLIC_MODULES = {
    "cluster",
    "datasets",
    "distributed",
    "image",
    "metrics",
    "model",
    "plotting",
}


if not TYPE_CHECKING:  # for which names that do not exist are errors

    def __getattr__(name: str) -> object:
        if name in _PUBLIC_MODULES:
            return import_module(f".{name}", __name__)
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value  # found without this function from now on
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PUBLIC_MODULES})
