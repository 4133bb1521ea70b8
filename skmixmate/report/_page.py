"""The page of a report."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from .._version import __version__
from ..files.atomic import atomic_write
from ._pictures import color_of, map_svg

_STYLE = """\
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .5rem 0;
        font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; max-width: 20rem; overflow: hidden;
         text-overflow: ellipsis; }
th { font-weight: 600; }
td:first-child, th:first-child, td:has(.bar) { text-align: left; }
.bar { display: block; height: .8em; border-radius: 2px; }
td:has(.bar) { min-width: 7rem; width: 12rem; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
svg { width: 100%; height: auto; } svg circle { opacity: .55; }
svg .number { fill: white; stroke: #888; opacity: .9; }
svg text { font-size: 13px; text-anchor: middle; dominant-baseline: central;
           fill: black; }
.images { display: flex; flex-wrap: wrap; gap: .4rem; }
figure { margin: 0; } .images img { height: 4.5rem; display: block;
  image-rendering: pixelated;
  background: repeating-linear-gradient(45deg, #888 0 1px, transparent 1px 5px); }
figcaption, .note { font-size: .85rem; opacity: .75; }
"""


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sample that a report shows.

    Parameters
    ----------
    name : str
        Its number or the name of its row.
    values : mapping of str to object
        Its columns; empty if `picture` is given.
    picture : str or None
        HTML of its image.
    """

    name: str
    values: Mapping[str, Any]
    picture: str | None = None


@dataclasses.dataclass(frozen=True)
class ClusterSection:
    """The part of a report about one cluster.

    Parameters
    ----------
    cluster, size : int
    margin : float or None
        Median margin of its samples; None if there is only one cluster.
    profile : list of tuple
        The name of a feature, its means in this cluster and in all others, and its
        part in the margin, which is positive.
    typical, doubtful : list of Sample
    """

    cluster: int
    size: int
    margin: float | None
    profile: Sequence[tuple[str, float, float, float]]
    typical: Sequence[Sample]
    doubtful: Sequence[Sample]


@dataclasses.dataclass(frozen=True)
class Page:
    """Content of a report.

    Parameters
    ----------
    n_samples, n_clusters : int
    facts : list of str
        About the data and the fit.
    points : ndarray of shape (n_samples, 2) or None
        Places of the samples on the map; None if there is only one cluster.
    labels : ndarray of shape (n_samples,)
    sections : list of ClusterSection
        One for each cluster that has samples.
    """

    n_samples: int
    n_clusters: int
    facts: Sequence[str]
    points: np.ndarray | None
    labels: np.ndarray
    sections: Sequence[ClusterSection]


def write_page(path: str | os.PathLike[str], page: Page) -> None:
    """Write a report atomically.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists.
    page : Page

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    text = _html(page)
    with atomic_write(path) as file:
        file.write(text.encode())


def _html(page: Page) -> str:
    count = f"{page.n_clusters} cluster{'s' * (page.n_clusters != 1)}"
    title = f"{count} of {page.n_samples:,} samples"
    facts = " · ".join([*page.facts, f"skmixmate {__version__}"])
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>\n{_STYLE}</style></head><body>",
        f'<h1>{title}</h1>\n<p class="note">{escape(facts)}</p>',
    ]
    if page.points is not None:
        parts.append(
            f"<figure>{map_svg(page.points, page.labels, page.n_clusters)}<figcaption>"
            "Clusters that are similar are near each other; a sample lies between the "
            "clusters that fit it best.</figcaption></figure>"
        )
    parts.append(_sizes(page))
    parts += [_section(section, page) for section in page.sections]
    return "\n".join([*parts, "</body></html>\n"])


def _sizes(page: Page) -> str:
    largest = max(section.size for section in page.sections)
    rows = []
    for section in page.sections:
        k = section.cluster
        color = color_of(k, page.n_clusters)
        rows.append(
            [
                f'<a href="#cluster{k}">{k}</a>',
                f"{section.size:,}",
                f"{section.size / page.n_samples:.1%}",
                _format(section.margin),
                _bar(section.size / largest, color),
            ]
        )
    note = (
        '<p class="note">Margin: median of the log-odds of the cluster of a sample '
        "against the next one. Above 5, hardly any sample is doubtful.</p>"
    )
    header = ["cluster", "samples", "share", "margin", ""]
    return f"<h2>Sizes</h2>\n{_table(header, rows)}\n{note}"


def _section(section: ClusterSection, page: Page) -> str:
    k = section.cluster
    color = color_of(k, page.n_clusters)
    share = f"{section.size / page.n_samples:.1%}"
    parts = [
        f'<h2 id="cluster{k}"><span class="key" style="background:{color}"></span> '
        f"Cluster {k}</h2>",
        f"<p>{section.size:,} samples, {share}</p>",
    ]
    if section.profile:
        largest = max(row[3] for row in section.profile)
        rows = [
            [
                escape(name),
                _bar(part / largest, color),
                _format(mean),
                _format(others),
            ]
            for name, mean, others, part in section.profile
        ]
        header = ["feature", "part of the margin", "mean here", "mean elsewhere"]
        parts.append(f"<h3>What tells it apart</h3>\n{_table(header, rows)}")
    parts.append(_samples("Typical samples", section.typical))
    parts.append(_samples("Doubtful samples", section.doubtful))
    return "\n".join(parts)


def _samples(title: str, samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    if any(sample.picture is not None for sample in samples):
        figures = [
            f"<figure>{sample.picture}<figcaption>{escape(sample.name)}</figcaption>"
            "</figure>"
            for sample in samples
        ]
        return f'<h3>{title}</h3>\n<div class="images">{"".join(figures)}</div>'
    header = ["sample", *(escape(name) for name in samples[0].values)]
    rows = [
        [escape(sample.name), *(escape(_format(v)) for v in sample.values.values())]
        for sample in samples
    ]
    return f"<h3>{title}</h3>\n{_table(header, rows)}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are HTML."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def _bar(fraction: float, color: str) -> str:
    return f'<i class="bar" style="width:{fraction:.1%};background:{color}"></i>'


def _format(value: Any) -> str:
    """Return a value as text: a dash if it is missing, few digits of a number."""
    if value is None or value != value:
        return "-"
    if isinstance(value, (float, np.floating)):
        value = float(value)
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"
    return str(value)
