"""Content of the report of a fitted estimator."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..cluster._map import map_points
from ..data.containers import as_numpy
from ..data.sparse import as_dense
from ..report import ClusterSection, Page, Sample, image_tags, write_page
from ..utils.types import Data

# Features in the profile of a cluster, and typical and doubtful samples: images and
# rows of a table.
_N_FEATURES, _N_IMAGES, _N_ROWS = 8, 12, 5

# Features without names say little one by one if there are more than this: embeddings.
# Columns of a sample that are shown.
_MAX_UNNAMED, _MAX_COLUMNS = 50, 16

# Rows of a profile: a feature, its means in the cluster and in all others, and its
# part in the margin.
_Profile: TypeAlias = list[tuple[str, float, float, float]]


def write_report(
    mixmate: Any,
    X: Data,
    rows: Any,
    path: str | os.PathLike[str],
    records: Mapping[str, Sequence[Any]] | None,
) -> None:
    """Write the report of samples.

    Parameters
    ----------
    mixmate : MixMateClustering
        Fitted.
    X : array-like, tensor or data that are not in memory
    rows : Rows
        The same, validated.
    path : str or path-like
    records : DataFrame, mapping of str to sequence, or None
        What is shown of the samples in place of their features. Means in profiles are
        those of its columns, where these have the names of features.
    """
    energies = np.asarray(as_numpy(mixmate.energies(X)), dtype=np.float64)
    labels = energies.argmin(axis=1)
    sections = _sections(mixmate, X, rows, energies, labels, records)
    page = Page(
        n_samples=len(labels),
        n_clusters=mixmate.n_clusters_,
        facts=_facts(mixmate),
        points=map_points(energies) if mixmate.n_clusters_ > 1 else None,
        labels=labels,
        sections=sections,
    )
    write_page(path, page)


def _facts(mixmate: Any) -> list[str]:
    facts = [f"{mixmate.n_features_in_:,} features", f"{mixmate.n_iter_} epochs"]
    if mixmate.image_shape_ is not None:
        facts[0] = "images of " + " x ".join(map(str, mixmate.image_shape_))
    return facts


def _sections(
    mixmate: Any,
    X: Data,
    rows: Any,
    energies: np.ndarray,
    labels: np.ndarray,
    records: Mapping[str, Sequence[Any]] | None,
) -> list[ClusterSection]:
    """Return a section for each cluster that has samples."""
    is_image = mixmate.image_shape_ is not None
    examples = mixmate.representatives(X, n=_N_IMAGES if is_image else _N_ROWS)
    has_margins = mixmate.n_clusters_ > 1
    margins = np.zeros(len(labels))
    if has_margins:
        lowest, second = np.partition(energies, 1, axis=1)[:, :2].T
        margins = second - lowest
    profile = _profile(mixmate, X)
    sections = []
    for k in np.unique(labels):
        names = [name for name, *_ in profile.get(k, [])]
        if records is not None and k in profile:
            profile[k] = _in_units_of_records(profile[k], records, labels == k)
        typical, doubtful = (
            _samples(mixmate, rows, found[k][found[k] >= 0], records, names)
            for found in (examples.typical, examples.doubtful)
        )
        sections.append(
            ClusterSection(
                cluster=int(k),
                size=int((labels == k).sum()),
                margin=float(np.median(margins[labels == k])) if has_margins else None,
                profile=profile.get(k, []),
                typical=typical,
                doubtful=doubtful if has_margins else [],
            )
        )
    return sections


def _in_units_of_records(
    profile: _Profile, records: Mapping[str, Sequence[Any]], is_member: np.ndarray
) -> _Profile:
    """Replace means by those of the columns of records that have the same name."""
    rows = []
    for name, mean, others, part in profile:
        values = np.asarray(records.get(name, []))
        if len(values) and values.dtype.kind in "biuf":
            mean, others = (
                float(np.nanmean(chosen)) if not np.isnan(chosen).all() else np.nan
                for chosen in (values[is_member], values[~is_member])
            )
        rows.append((name, mean, others, part))
    return rows


def _profile(mixmate: Any, X: Data) -> dict[int, _Profile]:
    """Return the features that tell clusters apart, if single features mean anything.

    Returns
    -------
    profile : dict of int to list of tuple
        Of each cluster, the rows of its profile whose part in the margin is positive.
    """
    is_explained = mixmate.n_clusters_ > 1 and mixmate.representation_ is None
    if not is_explained or mixmate.image_shape_ is not None or _is_embedding(mixmate):
        return {}
    table = mixmate.profile(X, n_features=_N_FEATURES)
    names = ("feature", "mean", "mean_of_others", "contribution")
    columns = [np.asarray(table[name]) for name in names]
    profile: dict[int, _Profile] = {}
    for k, name, mean, others, part in zip(table["cluster"], *columns, strict=True):
        if part > 0:
            row = str(name), float(mean), float(others), float(part)
            profile.setdefault(int(k), []).append(row)
    return profile


def _is_embedding(mixmate: Any) -> bool:
    has_names = hasattr(mixmate, "feature_names_in_")
    return not has_names and mixmate.n_features_in_ > _MAX_UNNAMED


def _samples(
    mixmate: Any,
    rows: Any,
    indices: np.ndarray,
    records: Mapping[str, Sequence[Any]] | None,
    telling: list[str],
) -> list[Sample]:
    """Return samples with their image, their record or their features.

    Parameters
    ----------
    mixmate, rows, records
        As in :func:`write_report`.
    indices : int ndarray of shape (n_shown,)
    telling : list of str
        Names of the features of the profile of their cluster, which are shown if there
        are too many.
    """
    if not len(indices):
        return []
    values = np.concatenate([as_dense(rows[i : i + 1]) for i in indices])
    if mixmate.image_shape_ is not None:
        captions = [str(i) for i in indices]
        if records is not None:
            captions = [str(next(iter(_record(records, i).values()))) for i in indices]
        pictures = image_tags(values, mixmate.image_shape_)
        return [
            Sample(caption, {}, picture)
            for caption, picture in zip(captions, pictures, strict=True)
        ]
    if records is not None:
        return [Sample(str(i), _record(records, i)) for i in indices]
    if _is_embedding(mixmate):
        return [Sample(str(i), {}) for i in indices]
    names = getattr(mixmate, "feature_names_in_", None)
    if names is None:
        names = [f"x{index}" for index in range(values.shape[1])]
    is_shown = [len(names) <= _MAX_COLUMNS or name in telling for name in names]
    return [
        Sample(
            str(i),
            {
                str(name): value
                for name, value, shown in zip(names, row, is_shown, strict=True)
                if shown
            },
        )
        for i, row in zip(indices, values, strict=True)
    ]


def _record(records: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    """Return the first columns of a record."""
    names = list(records)[:_MAX_COLUMNS]
    return {str(name): np.asarray(records[name])[index] for name in names}
