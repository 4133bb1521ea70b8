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
from .sparse import dictionaries_from_sparse, initial_likelihood
from .subsample import (
    draw_rows,
    draw_subsample,
    find_distinct,
    gather_rows,
    impute_means,
)

__all__ = [
    "INITIALIZERS",
    "add_seeds",
    "cluster_subsample",
    "dictionaries_from_array",
    "dictionaries_from_labels",
    "dictionaries_from_sparse",
    "draw_rows",
    "draw_subsample",
    "estimate_initial_n_clusters",
    "find_distinct",
    "gather_rows",
    "impute_means",
    "initial_likelihood",
    "mean_abs_projections",
]
