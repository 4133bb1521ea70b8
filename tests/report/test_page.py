"""The page of a report."""

from html.parser import HTMLParser

import numpy as np
import pytest

from skmixmate.report import ClusterSection, Page, Sample, write_page

VOID = {"meta", "img"}


class Outline(HTMLParser):
    """Checks that elements are closed in order, and collects the text."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.sources = [], [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


def read(path):
    outline = Outline()
    outline.feed(path.read_text(encoding="utf-8"))
    assert not outline.open
    return outline


def section(cluster, **kwargs):
    defaults = {
        "cluster": cluster,
        "size": 6,
        "margin": 2.5,
        "profile": [("height <cm>", 1.5, float("nan"), 3.0), ("age", 2.0, 1.0, 1.5)],
        "typical": [Sample("4", {"name": "Ann & Bob", "height": 1.23456})],
        "doubtful": [Sample("7", {}, '<img alt="" src="data:image/png;base64,">')],
    }
    return ClusterSection(**{**defaults, **kwargs})


def write(path, sections, points=None, n_clusters=2):
    labels = np.array([0] * 6 + [1] * 6)
    write_page(path, Page(12, n_clusters, ["9 epochs"], points, labels, sections))
    return read(path)


def test_the_page_has_sizes_profiles_and_samples(tmp_path):
    points = np.random.default_rng(0).normal(size=(12, 2))
    outline = write(tmp_path / "page.html", [section(0), section(1)], points)
    text = outline.text
    assert "2 clusters of 12 samples" in text
    assert text.count("50.0%") == 2
    assert "height <cm>" in text
    assert "Ann & Bob" in text
    assert {"1.235", "-", "2.5", "Cluster 1"} <= set(text)


def test_the_page_needs_no_network(tmp_path):
    points = np.zeros((12, 2))
    outline = write(tmp_path / "page.html", [section(0)], points)
    assert outline.sources
    assert all(source.startswith(("#", "data:")) for source in outline.sources)
    assert "http" not in (tmp_path / "page.html").read_text()


def test_a_single_cluster_has_no_map(tmp_path):
    single = section(0, margin=None, profile=[], doubtful=[])
    outline = write(tmp_path / "page.html", [single], n_clusters=1)
    assert "1 cluster of 12 samples" in outline.text
    assert "Doubtful samples" not in outline.text
    assert "<svg" not in (tmp_path / "page.html").read_text()


def test_an_existing_file_is_kept_if_the_page_cannot_be_written(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(AttributeError):
        write(path, [None])
    assert path.read_text() == "before"
