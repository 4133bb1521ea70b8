"""Benchmark sparse rows: memory, time of a training step, and clusters of texts.

Run ``python -m benchmarks.sparse``, or pass the name of one of the parts. Results are
written to ``benchmarks/results/sparse.json``.

memory
    A matrix of a million rows and 20,000 columns, of which a thousandth of the entries
    are stored, is fitted for one epoch, in mini-batches of 1,024 rows. The memory that
    the fit adds to the process is reported.
steps
    Training steps on sparse rows and on the same rows as a dense array are timed
    alternately, with one thread. One entry in a hundred is stored. Ratios are
    summarised by quartiles. The time of work on the dictionaries alone, which both
    have in common, is reported as well.
text
    Docstrings of packages that are installed with this one are documents, their
    packages are labels, which are used for the score only. The default is fitted to the
    TF-IDF matrix, and to the first 100 components of its truncated singular value
    decomposition, normalised, for ten seeds.
"""

import argparse
import ast
import importlib.util
import json
import sysconfig
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import normalize

from skmixmate import MixMateClustering
from skmixmate.data.sparse import SparseRows
from skmixmate.estimators._fit import make_em
from skmixmate.estimators._state import ModelState
from skmixmate.training.em import normalize_atoms

from . import report
from .speed import in_turn

PACKAGES = ["numpy", "scipy", "sklearn", "torch", "sympy", "networkx"]
N_DOCUMENTS, MIN_WORDS, N_COMPONENTS, SEEDS = 800, 30, 100, range(10)
N_ROWS, N_COLUMNS, N_STORED = 1_000_000, 20_000, 20
SIZES = [(2_000, 256), (5_000, 256), (20_000, 256), (2_000, 1024), (20_000, 1024)]
N_CLUSTERS, DENSITY, N_TURNS, CPU = 8, 0.01, 15, torch.device("cpu")


def draw_rows(n_rows, n_columns, n_stored):
    """Draw rows of clusters that differ in the columns with stored entries.

    Half of the entries of a row are in columns of its cluster: 400, or a tenth of all.
    """
    rng = np.random.default_rng(0)
    n_own = min(400, n_columns // 10)
    own = rng.integers(n_columns, size=(N_CLUSTERS, n_own), dtype=np.int32)
    indices = np.empty((n_rows, n_stored), np.int32)
    for start in range(0, n_rows, 100_000):
        part = indices[start : start + 100_000]
        labels = rng.integers(N_CLUSTERS, size=len(part))
        drawn = own[labels[:, None], rng.integers(n_own, size=part.shape)]
        others = rng.integers(n_columns, size=part.shape, dtype=np.int32)
        part[:] = np.where(rng.random(part.shape) < 0.5, drawn, others)
    entries = rng.random(indices.size, dtype=np.float32) + 0.5
    starts = np.arange(0, indices.size + 1, n_stored, dtype=np.int32)
    rows = sparse.csr_array(
        (entries, indices.reshape(-1), starts), shape=(n_rows, n_columns)
    )
    rows.sum_duplicates()
    return rows


def docstrings(folder):
    """Return all long docstrings of the modules in a folder."""
    found = set()
    for path in sorted(Path(folder).rglob("*.py")):
        if "site-packages" in path.relative_to(folder).parts or "tests" in path.parts:
            continue
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        nodes = (node for node in ast.walk(tree) if isinstance(node, kinds))
        texts = (ast.get_docstring(node) or "" for node in nodes)
        found.update(text for text in texts if len(text.split()) >= MIN_WORDS)
    return sorted(found)


def load_documents():
    """Return documents, and the number of the package of each."""
    folders = [Path(importlib.util.find_spec(name).origin).parent for name in PACKAGES]
    folders.append(Path(sysconfig.get_paths()["stdlib"]))
    documents, labels = [], []
    rng = np.random.default_rng(0)
    for label, folder in enumerate(folders):
        texts = docstrings(folder)
        drawn = rng.permutation(len(texts))[:N_DOCUMENTS]
        documents += [texts[i] for i in drawn]
        labels += [label] * len(drawn)
    return documents, np.array(labels)


def measure_memory(n_rows):
    """Fit a matrix that would take 80 GB as a dense array."""
    X = draw_rows(n_rows, N_COLUMNS, N_STORED)
    mixmate = MixMateClustering(
        N_CLUSTERS, max_iter=1, tol=0, batch_size=1024, random_state=0
    )
    start = time.perf_counter()
    with report.PeakMemory() as peak:
        mixmate.fit(X)
    return {
        "rows": n_rows,
        "columns": N_COLUMNS,
        "entries": X.nnz,
        "data_mib": round((X.data.nbytes + X.indices.nbytes) / 2**20),
        "fit_adds_mib": round((peak.peak - peak.before) / 2**20),
        "seconds": round(time.perf_counter() - start),
    }


def make_training(mixmate, X):
    """Return a training of a fitted model on other rows of its data."""
    settings = mixmate._model().settings
    return make_em(
        mixmate,
        settings,
        ModelState.from_estimator(mixmate),
        X,
        slice(None),
        CPU,
        learning_rate=1e-3,
        generator=torch.Generator().manual_seed(0),
    )


def measure_steps(n_columns, batch_size, n_atoms):
    """Time steps on sparse and on dense rows alternately, and their common work."""
    X = draw_rows(4 * batch_size, n_columns, int(DENSITY * n_columns))
    mixmate = MixMateClustering(
        N_CLUSTERS,
        n_atoms=n_atoms,
        max_iter=0,
        init="kmeans",
        batch_size=batch_size,
        random_state=0,
    ).fit(X)
    trainings = {
        "sparse": make_training(mixmate, SparseRows(X)),
        "dense": make_training(mixmate, X.toarray()),
    }
    index = torch.arange(batch_size)
    mixture, gradient = trainings["sparse"].mixture, trainings["sparse"]._gradient
    totals = torch.zeros(N_CLUSTERS, n_atoms, n_atoms)

    def update_dictionaries():
        mixture.precompute()
        gradient.zero_().baddbmm_(totals, mixture.dictionaries)
        gradient.div_(batch_size)
        trainings["sparse"].optimizer.step(gradient)
        normalize_atoms(mixture.dictionaries)

    def step(em):
        return lambda: em.step(em.rows.load(index))

    seconds = in_turn(
        {
            **{name: step(em) for name, em in trainings.items()},
            "dictionaries": update_dictionaries,
        },
        N_TURNS,
        n_warm=2,
    )
    return {
        "columns": n_columns,
        "batch_size": batch_size,
        "n_atoms": n_atoms,
        "dense_over_sparse": report.quartiles(seconds["dense"] / seconds["sparse"]),
        "sparse_ms": report.quartiles(1000 * seconds["sparse"], 1),
        "dictionaries_over_sparse": report.quartiles(
            seconds["dictionaries"] / seconds["sparse"]
        ),
    }


def measure_text():
    """Compare the default on the TF-IDF matrix and on its components."""
    documents, labels = load_documents()
    X = TfidfVectorizer(stop_words="english", min_df=3, dtype=np.float32).fit_transform(
        documents
    )
    n_clusters = len(np.unique(labels))
    scores = {"sparse": [], "components": []}
    for seed in SEEDS:
        svd = TruncatedSVD(N_COMPONENTS, random_state=seed)
        data = {"sparse": X, "components": normalize(svd.fit_transform(X))}
        for name, rows in data.items():
            mixmate = MixMateClustering(n_clusters, random_state=seed).fit(rows)
            score = normalized_mutual_info_score(labels, mixmate.labels_)
            scores[name].append(round(score, 4))
    return {
        "documents": X.shape[0],
        "words": X.shape[1],
        "classes": n_clusters,
        **{f"nmi_{name}": values for name, values in scores.items()},
        "mean_nmi": {
            name: round(float(np.mean(values)), 4) for name, values in scores.items()
        },
    }


PARTS = {
    "memory": lambda rows: measure_memory(rows),
    "steps": lambda rows: [
        measure_steps(*size, n_atoms) for n_atoms in (50, 16) for size in SIZES
    ],
    "text": lambda rows: measure_text(),
}


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--rows", type=int, default=N_ROWS, help="rows for memory")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = report.RESULTS / "sparse.json"
    for part in PARTS if "all" in options.parts else options.parts:
        measured = PARTS[part](options.rows)
        figures = json.loads(path.read_text()) if path.exists() else {}
        figures = {name: figures[name] for name in PARTS if name in figures}
        report.write("sparse", figures | {part: measured})


if __name__ == "__main__":
    main()
