import json
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from skmixmate.cli._main import main

ROOT = Path(__file__).parents[1]
KEYS = {
    "MixMate": "scattering",
    "DCN": "dcn",
    "DEC": "dec",
    "KMeans": "kmeans",
    "GaussianMixture": "gaussian_mixture",
}


in_a_clone = pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="not in a clone of the repository"
)


@in_a_clone
@pytest.mark.parametrize("method", KEYS)
def test_figures_of_the_readme_are_those_of_the_benchmark(method):
    readme = (ROOT / "README.rst").read_text()
    row = rf"^\**{method}[*, a-z-]* +([\d.]+) +(\d+) min$"
    ((accuracy, minutes),) = re.findall(row, readme, re.MULTILINE)
    results = json.loads((ROOT / "benchmarks/results/table1.json").read_text())
    key = f"mnist {KEYS[method]}"
    mean = results["summary"][key]["TRAIN ACC"]["mean"]
    seconds = [fit["seconds"] for fit in results["runs"][key].values()]
    assert accuracy == f"{mean:.3f}"
    assert minutes == f"{sum(seconds) / len(seconds) / 60:.0f}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with the files of the README's commands."""
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "photos").mkdir()
    for i, pixels in enumerate(load_digits().data[:200]):
        values = (15 * pixels.reshape(8, 8)).astype(np.uint8)
        image.fromarray(values).save(tmp_path / "photos" / f"{i:03d}.png")
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 64))
    X = centers[rng.integers(4, size=300)] + 0.3 * rng.normal(size=(300, 64))
    np.save("embeddings.npy", X)
    return tmp_path


@in_a_clone
def test_the_commands_of_the_readme_write_labels_pictures_and_reports(folder):
    readme = (ROOT / "README.rst").read_text()
    block = readme.split(".. command line:")[1].split("code-block:: bash\n\n")[1]
    commands = re.findall("^    skmixmate (.*)$", block.split("\n\n")[0], re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)) == 0
    people = pd.read_csv("examples/people.csv", index_col="id")
    labels = pd.read_csv("labels.csv", index_col="id")
    assert adjusted_rand_score(people["kind"], labels["cluster"]) > 0.8
    pd.testing.assert_frame_equal(
        labels, pd.read_csv("more_labels.csv", index_col="id")
    )
    assert len(pd.read_csv("photos.csv", index_col="file")) == 200
    assert pd.read_csv("embeddings.csv")["cluster"].nunique() == 4
    for name in ("clusters.html", "photos.html", "embeddings.html"):
        assert (folder / name).read_text().startswith("<!doctype html>")
    for name in ("map.png", "embeddings.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


@in_a_clone
def test_the_people_are_those_that_the_script_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "make_people.py"), run_name="__main__")
    expected = (ROOT / "examples" / "people.csv").read_bytes()
    assert (tmp_path / "people.csv").read_bytes() == expected
