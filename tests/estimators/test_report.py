"""Reports of fitted estimators; their HTML is tested in tests/report."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from skmixmate import MixMateClustering

X = load_iris(as_frame=True).data


@pytest.fixture(scope="module")
def mixmate():
    return MixMateClustering(3, random_state=0).fit(X)


def report(mixmate, X, path, **kwargs):
    assert mixmate.report(X, path, **kwargs) is None
    return path.read_text(encoding="utf-8")


def cells(html, row):
    """Return the cells of a table row that begins with `row`."""
    found = re.search(rf"<tr><td>{re.escape(row)}</td>.*?</tr>", html).group()
    return re.findall(r"<td>(.*?)</td>", found)


def test_a_report_shows_sizes_and_profiles(mixmate, tmp_path):
    html = report(mixmate, X, tmp_path / "iris.html")
    assert "3 clusters of 150 samples" in html
    profile = mixmate.profile(X, n_features=1)
    for _, row in profile.iterrows():
        section = html.split(f'<h2 id="cluster{row.cluster}"')[1]
        assert f"<p>{row['size']} samples" in section
        _, _, mean, others = cells(section, row.feature)
        assert (mean, others) == (f"{row['mean']:.4g}", f"{row.mean_of_others:.4g}")


def test_a_report_shows_typical_rows(mixmate, tmp_path):
    html = report(mixmate, X, tmp_path / "iris.html")
    index = mixmate.representatives(X, n=1).typical[0, 0]
    section = html.split('<h2 id="cluster0"')[1]
    assert cells(section, str(index))[1:] == [f"{v:.4g}" for v in X.iloc[index]]


@pytest.mark.parametrize("container", [pd.DataFrame, dict])
def test_records_are_shown_in_place_of_features(container, tmp_path):
    pipeline = make_pipeline(
        StandardScaler().set_output(transform="pandas"),
        MixMateClustering(3, random_state=0),
    ).fit(X)
    mixmate, transformed = pipeline[-1], pipeline[:-1].transform(X)
    names = [f"flower {i}" for i in range(len(X))]
    records = container({"name": names, **{name: X[name] for name in X}})
    html = report(mixmate, transformed, tmp_path / "iris.html", records=records)
    index = mixmate.representatives(transformed, n=1).typical[0, 0]
    assert f"flower {index}" in html
    # Means are in the units of the records.
    labels = mixmate.predict(transformed)
    feature = mixmate.profile(transformed, n_features=1)["feature"][0]
    section = html.split('<h2 id="cluster0"')[1]
    assert cells(section, feature)[2] == f"{X[feature][labels == 0].mean():.4g}"


def test_images_are_shown_as_images(tmp_path):
    X = load_digits(n_class=3).data
    mixmate = MixMateClustering(3, image_shape=(8, 8), random_state=0).fit(X)
    html = report(mixmate, X, tmp_path / "digits.html")
    assert "images of 8 x 8" in html
    assert html.count("<img") == 3 * 2 * 12


def test_embeddings_have_no_profile(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3, 60))[rng.integers(3, size=200)]
    X += 0.1 * rng.normal(size=X.shape)
    mixmate = MixMateClustering(3, random_state=0).fit(X)
    html = report(mixmate, X, tmp_path / "texts.html")
    assert "What tells it apart" not in html
    texts = [f"text {i}" for i in range(200)]
    html = report(mixmate, X, tmp_path / "texts.html", records={"text": texts})
    index = mixmate.representatives(X, n=1).typical[1, 0]
    assert f"text {index}<" in html


@pytest.mark.parametrize(
    "container", [sparse.csr_array, torch.from_numpy, np.asarray, "loader"]
)
def test_samples_in_any_container(mixmate, container, tmp_path):
    values = X.to_numpy(copy=True)
    bare = MixMateClustering(3, random_state=0).fit(values)
    expected = report(bare, values, tmp_path / "expected.html")
    if container == "loader":
        data = DataLoader(TensorDataset(torch.from_numpy(values)), 50)
    else:
        data = container(values)
    html = report(bare, data, tmp_path / "iris.html")
    assert cells(html, "x2")[0] == cells(expected, "x2")[0]
    assert html.count("<tr>") == expected.count("<tr>")


def test_a_single_cluster_has_typical_samples_only(tmp_path):
    mixmate = MixMateClustering(1, random_state=0).fit(X)
    html = report(mixmate, X, tmp_path / "iris.html")
    assert "1 cluster of 150 samples" in html
    assert "Typical samples" in html
    assert "Doubtful samples" not in html


def test_errors_come_before_any_work(mixmate, tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        MixMateClustering().report(X, tmp_path / "iris.html")
    monkeypatch.setattr(MixMateClustering, "energies", None)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        mixmate.report(X, tmp_path / "missing" / "iris.html")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        mixmate.report(X, tmp_path / "iris.html", records={"name": ["a"]})
    with pytest.raises(ValueError, match="feature names should match"):
        mixmate.report(X.iloc[:, :3], tmp_path / "iris.html")
