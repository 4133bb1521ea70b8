import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KEYS = {
    "MixMate": "scattering",
    "DCN": "dcn",
    "DEC": "dec",
    "KMeans": "kmeans",
    "GaussianMixture": "gaussian_mixture",
}


@pytest.mark.skipif(
    not (ROOT / "benchmarks").exists(), reason="not in a clone of the repository"
)
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
