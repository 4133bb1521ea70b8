"""Tables of the documentation, from the figures in ``benchmarks/results``."""

import json
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
DATA = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "usps": "USPS"}
# Titles of the rows, and where their figures are: (stage, key in our results, key
# in the paper's table).
ROWS = {
    "MixMate, scattering, untrained": ("INIT", "scattering", None),
    "**MixMate, scattering**": ("TRAIN", "scattering", None),
    "MixMate, pixels, untrained": ("INIT", "pixels", "INIT"),
    "**MixMate, pixels**": ("TRAIN", "pixels", "TRAIN"),
    "MixMate, pixels, incomplete images": ("TRAIN", "incomplete", "incomplete"),
    "DEC": ("TRAIN", "dec", "dec"),
    "DCN": ("TRAIN", "dcn", "dcn"),
    "DAMIC": ("TRAIN", "damic", "damic"),
    "K-DAE": ("TRAIN", "k_dae", "k_dae"),
    "GaussianMixture, diagonal": ("TRAIN", "gaussian_mixture", None),
    "KMeans": ("TRAIN", "kmeans", None),
}
HEADER = ["", "ACC", "NMI", "ARI", "worst ACC", "seeds", "seconds", "parameters"]


def list_table(header, rows):
    """Lines of a reStructuredText table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for row in [header, *rows]:
        bullets = ["   * -", *["     -"] * (len(row) - 1)]
        lines += [
            f"{bullet} {cell}".rstrip()
            for bullet, cell in zip(bullets, row, strict=True)
        ]
    return [*lines, ""]


def millions(n_parameters):
    """Format a number of parameters."""
    return f"{n_parameters / 1e6:.2g} M"


def ours(fits, stage):
    """Cells of a row from the fits of all seeds, or None if there are none."""
    fits = [fit for fit in fits.values() if stage in fit]
    if not fits:
        return None
    cells = []
    for score in ("ACC", "NMI", "ARI"):
        values = [fit[stage][score] for fit in fits]
        mean = sum(values) / len(values)
        deviation = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        cells.append(f"{mean:.3f} ± {deviation:.3f}")
    cells += [f"{min(fit[stage]['ACC'] for fit in fits):.3f}", str(len(fits))]
    if stage == "INIT":
        return [*cells, "", ""]
    seconds = sum(fit["seconds"] for fit in fits) / len(fits)
    return [*cells, f"{seconds:.0f}", millions(fits[0]["parameters"])]


def published(figures):
    """Cells of a row of the paper."""
    cells = [f"{figures[s]:.2f}" if s in figures else "" for s in ("ACC", "NMI", "ARI")]
    parameters = figures.get("parameters")
    return [*cells, "", "", "", millions(parameters) if parameters else ""]


def table1():
    """Table 1 of the paper beside what was measured, data set by data set."""
    results = json.loads((BENCHMARKS / "results" / "table1.json").read_text())
    paper = json.loads((BENCHMARKS / "paper_table1.json").read_text())
    lines = []
    for name, title in DATA.items():
        rows = []
        for row, (stage, key, published_key) in ROWS.items():
            cells = ours(results["runs"].get(f"{name} {key}", {}), stage)
            if cells is not None:
                rows.append([row, *cells])
            if (figures := paper[name].get(published_key)) is not None:
                rows.append([f"{row.strip('*')}, *in the paper*", *published(figures)])
        lines += [title, "~" * len(title), "", *list_table(HEADER, rows)]
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    return [*lines, f"Measured on: {machine}.", ""]


def write(folder):
    """Write all tables into a folder, for ``include``."""
    folder.mkdir(exist_ok=True)
    (folder / "table1.rst").write_text("\n".join(table1()))
