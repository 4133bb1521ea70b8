"""Initialisation: a subsample, its clusters, and the first atoms."""

from .atoms import (
    dictionaries_from_array,
    dictionaries_from_labels,
    mean_abs_projections,
)
from .initializers import (
    INITIALIZERS,
    cluster_subsample,
    estimate_initial_n_clusters,
)
from .partial_labels import add_seeds
from .subsample import draw_subsample, gather_rows, impute_means

__all__ = [
    "INITIALIZERS",
    "add_seeds",
    "cluster_subsample",
    "dictionaries_from_array",
    "dictionaries_from_labels",
    "draw_subsample",
    "estimate_initial_n_clusters",
    "gather_rows",
    "impute_means",
    "mean_abs_projections",
]
