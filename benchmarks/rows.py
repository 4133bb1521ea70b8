"""Whether a row costs the same among 20 million as among 100,000.

Run ``python -m benchmarks.rows --folder FOLDER``, where FOLDER has room for 20 GB that
are given back, or name one of the parts. Rows of 256 features are drawn from the model,
block by block, into one file, and all that follows is on a memory map of it, in
processes of their own that have one thread. ``--rows`` takes another number in place of
20 million, ``--file`` a file that is there already.

training
    100,000 rows of an epoch on all rows beside an epoch on the first 100,000, in turn.
fits
    Whole fits of one epoch: of the first 100,000 rows, of a million, of all, and of the
    first 100,000 again. A fit is also a clustering of 5,000 rows, and passes to look at
    the data and to label them. Rows a second are given by the clock, and in seconds of
    the processor, which others on the machine disturb less. What a fit adds to the
    memory of the process is given without pages of the file, beside the size of the
    labels, which are its result; what was read from the disk shows how much of the file
    the system did not keep in memory.

Of the times there are quartiles. The figures go to ``benchmarks/results/rows.json``.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

from . import report
from .report import quartiles
from .speed import BATCH_SIZE, CPU, in_turn, steps_of
from .table1 import fit

N_CLUSTERS, N_ATOMS, N_FEATURES = 8, 16, 256
SMALL, MIDDLE, LARGE = 100_000, 1_000_000, 20_000_000
N_TURNS, N_SMALL_FITS = 60, 10


def write_rows(path, n_rows):
    """Draw rows from the model, into a file."""
    sizes = {"n_clusters": N_CLUSTERS, "n_atoms": N_ATOMS}
    mixture = make_sparse_mixture(1, N_FEATURES, random_state=0, **sizes)
    dictionaries = mixture.dictionaries.astype(np.float32)
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, N_FEATURES))
    for start in range(0, n_rows, SMALL):
        rows = rng.standard_normal(X[start : start + SMALL].shape, dtype=np.float32)
        rows *= 0.1
        labels = rng.integers(N_CLUSTERS, size=len(rows))
        for label, dictionary in enumerate(dictionaries):
            own = labels == label
            codes = rng.laplace(scale=1 / 0.75, size=(own.sum(), N_ATOMS))
            rows[own] += codes.astype(np.float32) @ dictionary
        X[start : start + SMALL] = rows
    X.flush()


def bytes_read():
    """Bytes that this process had the system read from a disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("read_bytes"))


def small_estimator():
    return MixMateClustering(
        N_CLUSTERS,
        n_atoms=N_ATOMS,
        max_iter=1,
        batch_size=BATCH_SIZE,
        tol=0,
        random_state=0,
    )


def whole_fits(path, n_rows, n_fits):
    """Fit the first rows of a file; return what it took."""
    X, mixmate = np.load(path, mmap_mode="r")[:n_rows], small_estimator()
    fit(mixmate, np.array(X[:6000]))  # what is there anyway, or slow once
    seconds, processor_seconds, read_before = [], [], bytes_read()
    with report.PeakMemory(of_files=False) as peak:
        for _ in range(n_fits):
            start = time.process_time()
            seconds.append(report.seconds(lambda: fit(mixmate, X)))
            processor_seconds.append(time.process_time() - start)
    return {
        "rows": len(X),
        "data_mib": round(X.nbytes / 2**20),
        "fits": n_fits,
        "rows_per_second": quartiles(len(X) / np.array(seconds), 0),
        "rows_per_processor_second": quartiles(len(X) / np.array(processor_seconds), 0),
        "fit_adds_mib": round((peak.peak - peak.before) / 2**20),
        "labels_mib": round(mixmate.labels_.nbytes / 2**20),
        "read_from_disk_gib": round((bytes_read() - read_before) / 2**30, 1),
        "loss": round(mixmate.loss_, 4),
    }


def training_in_turn(path):
    """Time as many rows of a large epoch as a small one has, again and again."""
    X, mixmate = np.load(path, mmap_mode="r"), small_estimator()
    fit(mixmate, X[:SMALL])
    few, many = (
        mixmate._expectation_maximization(
            rows,
            slice(None),
            CPU,
            learning_rate=1e-3,
            generator=torch.Generator().manual_seed(0),
        )
        for rows in (X[:SMALL], X)
    )
    take_step = steps_of(many)

    def take_steps():
        for _ in range(SMALL // BATCH_SIZE):
            take_step()

    n_turns = min(N_TURNS, len(X) // SMALL - 1)
    seconds = in_turn({"few": few.run_epoch, "many": take_steps}, n_turns, n_warm=1)
    rates = {name: SMALL / values for name, values in seconds.items()}
    return {
        "turns": n_turns,
        "rows_per_second_among_few": quartiles(rates["few"], 0),
        "rows_per_second_among_many": quartiles(rates["many"], 0),
        "among_many_over_among_few": quartiles(rates["many"] / rates["few"]),
    }


def load_figures():
    """Give what is there already."""
    path = report.RESULTS / "rows.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    return {part: figures[part] for part in PARTS if part in figures}


def in_a_process(function, *args):
    """Call a function where nothing is in memory that others left there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        figures = executor.submit(function, *args).result()
    print(figures, flush=True)
    return figures


def fits(path):
    sizes = [(SMALL, N_SMALL_FITS), (MIDDLE, 1), (None, 1), (SMALL, N_SMALL_FITS)]
    return [in_a_process(whole_fits, path, n_rows, n_fits) for n_rows, n_fits in sizes]


PARTS = {
    "training": lambda path: in_a_process(training_in_turn, path),
    "fits": fits,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--folder", help="where a file is written, and deleted")
    parser.add_argument("--rows", type=int, default=LARGE, help="that are written")
    parser.add_argument("--file", help="one that is there already, and is kept")
    options = parser.parse_args()
    with (
        mock.patch.dict(os.environ, OMP_NUM_THREADS="1"),
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
    ):
        path = options.file
        if path is None:
            path = Path(folder, "X.npy")
            write_rows(path, options.rows)
        for part in PARTS if "all" in options.parts else options.parts:
            report.write("rows", load_figures() | {part: PARTS[part](path)})


if __name__ == "__main__":
    main()
