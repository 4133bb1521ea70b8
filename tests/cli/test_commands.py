"""From files to labels, a picture and a report; options of parameters are tested in
test_main."""

import csv
import re
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

import skmixmate
from skmixmate.cli._main import main

QUICK = ["--n-clusters", "3", "--n-atoms", "2", "--random-state", "0", "-o", "model"]
TABLE = ["--index", "id", "--drop", "comment", "--categorical", "home", "--standardize"]


def people():
    """Return a table with an id, text, categories and missing entries, and groups."""
    rng = np.random.default_rng(0)
    n = 240
    group = rng.integers(3, size=n)
    noisy = np.where(rng.random(n) < 0.8, group, rng.integers(3, size=n))
    frame = pd.DataFrame(
        {
            "id": [f"p{i:03d}" for i in range(n)],
            "income": [20_000, 35_000, 60_000] @ np.eye(3)[group].T,
            "home": np.array(["rent", "own", "loan"])[noisy],
            "comment": rng.choice(["ok", "call again"], n),
            "age": [25, 60, 45] @ np.eye(3)[group].T,
        }
    )
    frame["income"] += 4000 * rng.normal(size=n)
    frame["age"] += 5 * rng.normal(size=n)
    frame.loc[::10, "income"] = np.nan
    frame.loc[5::10, "home"] = None
    return frame, group


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with a table."""
    monkeypatch.chdir(tmp_path)
    frame, _ = people()
    frame.to_csv("people.csv", index=False)
    return tmp_path


def read_labels(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_mixed_table_to_labels_a_picture_and_a_report(folder, capsys):
    results = ["--labels", "labels.csv", "--report", "r.html", "--picture", "map.png"]
    assert main(["fit", "people.csv", *TABLE, *QUICK, *results]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "columns        2 of numbers, 1 of categories" in out
    rows = read_labels("labels.csv")
    frame, group = people()
    assert [row["id"] for row in rows] == list(frame["id"])
    labels = [int(row["cluster"]) for row in rows]
    assert adjusted_rand_score(group, labels) > 0.9
    html = (folder / "r.html").read_text()
    assert all(text in html for text in ("home=rent", "income", "<td>p0"))
    assert (folder / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["semicolons", "order", "parquet"])
def test_predict_finds_the_columns_of_the_model_by_name(kind, folder):
    assert main(["fit", "people.csv", *TABLE, *QUICK, "--labels", "labels.csv"]) == 0
    frame, _ = people()
    path = "more.parquet" if kind == "parquet" else "more.csv"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "order":
        frame[frame.columns[::-1]].to_csv(path, index=False)
    else:
        frame.to_csv(path, index=False, sep=";", decimal=",", na_rep="NA")
    command = ["predict", "model", path, "--index", "id", "-o", "more_labels.csv"]
    assert main(command) == 0
    assert read_labels("more_labels.csv") == read_labels("labels.csv")


def test_predict_names_a_column_that_is_missing(folder, capsys):
    assert main(["fit", "people.csv", *TABLE, *QUICK]) == 0
    people()[0].drop(columns="age").to_csv("more.csv", index=False)
    assert main(["predict", "model", "more.csv", "-o", "labels.csv"]) == 1
    assert "more.csv has no column 'age'" in capsys.readouterr().err


def test_the_model_knows_its_features(folder):
    assert main(["fit", "people.csv", *TABLE, *QUICK]) == 0
    with pytest.warns(UserWarning, match="fitted by the command line to features"):
        mixmate = skmixmate.load("model")
    names = ["income", "age", "home=loan", "home=own", "home=rent"]
    assert list(mixmate.feature_names_in_) == names


def test_a_header_names_the_features_of_numbers(folder):
    (people()[0][["income", "age"]] / [1e4, 10]).to_csv("numbers.csv", index=False)
    assert main(["fit", "numbers.csv", *QUICK]) == 0
    assert list(skmixmate.load("model").feature_names_in_) == ["income", "age"]


def test_a_folder_of_images(folder, capsys):
    image = pytest.importorskip("PIL.Image")
    X, y = load_digits(n_class=3, return_X_y=True)
    (folder / "images").mkdir()
    for i, pixels in enumerate(X[:90]):
        values = (15 * pixels.reshape(8, 8)).astype(np.uint8)
        image.fromarray(values).save(folder / "images" / f"{i:02d}.png")
    results = ["--labels", "labels.csv", "--report", "report.html"]
    assert main(["fit", "images", *QUICK, *results]) == 0
    assert "image shape    8x8" in capsys.readouterr().out
    rows = read_labels("labels.csv")
    assert rows[3]["file"] == "03.png"
    labels = [int(row["cluster"]) for row in rows]
    assert adjusted_rand_score(y[:90], labels) > 0.9
    assert ".png</figcaption>" in (folder / "report.html").read_text()
    assert main(["predict", "model", "images", "-o", "again.csv"]) == 0
    assert read_labels("again.csv") == rows


def test_embeddings_to_a_picture_and_a_report(folder):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 64))
    X = centers[rng.integers(3, size=200)] + 0.3 * rng.normal(size=(200, 64))
    np.save("embeddings.npy", X)
    results = ["--picture", "map.svg", "--report", "report.html"]
    assert main(["fit", "embeddings.npy", *QUICK, *results]) == 0
    assert "<svg" in (folder / "map.svg").read_text()
    assert "3 clusters of 200 samples" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "report.pdf"], r"report\.pdf should end in \.html"),
        (["--picture", "map.jpg"], r"map\.jpg should end in \.png or \.svg or \.pdf"),
        (["--report", "model"], "should end in"),
        (["--image-size", "8x8"], "--image-size is for folders of images only"),
        (["--columns", "income,ages"], "has no column 'ages'"),
        (["--categorical", "id"], "240 different values in the column id"),
    ],
)
def test_invalid_options_are_named(options, message, folder, capsys):
    command = ["fit", "people.csv", "--drop", "comment,home", *QUICK, *options]
    if "--categorical" not in options:
        command += ["--index", "id"]
    assert main(command) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert re.search(message, err)
    assert not (folder / "model").exists()


def test_a_picture_needs_matplotlib_before_any_work(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    command = ["fit", "people.csv", *TABLE, *QUICK, "--picture", "map.png"]
    assert main(command) == 1
    assert "--picture needs matplotlib" in capsys.readouterr().err
    assert not (folder / "model").exists()
