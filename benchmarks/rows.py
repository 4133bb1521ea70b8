"""Benchmark whether the time per row depends on the number of rows.

Run ``python -m benchmarks.rows --folder FOLDER``, where FOLDER has 20 GB of free space,
which are used temporarily, or pass the name of one of the parts. Rows of 256 features
are sampled from the model into a file. All measurements use a memory map of this file,
in separate processes with one thread. ``--rows`` sets another number than 20 million,
``--file`` uses an existing file.

training
    Training on 100,000 rows of an epoch on all rows, and epochs on the first 100,000
    rows, are timed alternately.
fits
    Complete fits of one epoch on the first 100,000 rows, a million, all rows, and the
    first 100,000 again. A fit also clusters a subsample of 5,000 rows, and makes passes
    over the data to compute statistics and labels. Rows per second are reported for
    elapsed time and for processor time, which depends less on other processes. The
    memory that a fit adds to the process is reported without pages of the file,
    together with the size of the labels. The amount read from disk shows how much of
    the file was not in the page cache.

Times are summarized by quartiles. Results are written to
``benchmarks/results/rows.json``.
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
    """Sample rows from the model, and write them to a file."""
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
            indices = np.flatnonzero(labels == label)
            codes = rng.laplace(scale=1 / 0.75, size=(len(indices), N_ATOMS))
            rows[indices] += codes.astype(np.float32) @ dictionary
        X[start : start + SMALL] = rows
    X.flush()


def bytes_read():
    """Return the number of bytes that this process has read from disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("read_bytes"))


def make_estimator():
    """Return an estimator that trains for one epoch."""
    return MixMateClustering(
        N_CLUSTERS,
        n_atoms=N_ATOMS,
        max_iter=1,
        batch_size=BATCH_SIZE,
        tol=0,
        random_state=0,
    )


def measure_fits(path, n_rows, n_fits):
    """Fit the first rows of a file; return time, memory and disk access."""
    X, mixmate = np.load(path, mmap_mode="r")[:n_rows], make_estimator()
    fit(mixmate, np.array(X[:6000]))  # warm up
    seconds, processor_seconds, bytes_before = [], [], bytes_read()
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
        "read_from_disk_gib": round((bytes_read() - bytes_before) / 2**30, 1),
        "loss": round(mixmate.loss_, 4),
    }


def compare_training(path):
    """Time alternately a small epoch, and as many rows of a large one."""
    X, mixmate = np.load(path, mmap_mode="r"), make_estimator()
    fit(mixmate, X[:SMALL])
    small, large = (
        mixmate._expectation_maximization(
            rows,
            slice(None),
            CPU,
            learning_rate=1e-3,
            generator=torch.Generator().manual_seed(0),
        )
        for rows in (X[:SMALL], X)
    )
    take_step = steps_of(large)

    def take_steps():
        for _ in range(SMALL // BATCH_SIZE):
            take_step()

    n_turns = min(N_TURNS, len(X) // SMALL - 1)
    seconds = in_turn({"few": small.run_epoch, "many": take_steps}, n_turns, n_warm=1)
    rates = {name: SMALL / values for name, values in seconds.items()}
    return {
        "turns": n_turns,
        "rows_per_second_among_few": quartiles(rates["few"], 0),
        "rows_per_second_among_many": quartiles(rates["many"], 0),
        "among_many_over_among_few": quartiles(rates["many"] / rates["few"]),
    }


def load_figures():
    """Return the results in the file, if there are any."""
    path = report.RESULTS / "rows.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    return {part: figures[part] for part in PARTS if part in figures}


def run_in_process(function, *args):
    """Call a function in a new process, and print and return its results."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        figures = executor.submit(function, *args).result()
    print(figures, flush=True)
    return figures


def measure_all_fits(path):
    """Fit different numbers of rows, each in a new process."""
    sizes = [(SMALL, N_SMALL_FITS), (MIDDLE, 1), (None, 1), (SMALL, N_SMALL_FITS)]
    return [
        run_in_process(measure_fits, path, n_rows, n_fits) for n_rows, n_fits in sizes
    ]


PARTS = {
    "training": lambda path: run_in_process(compare_training, path),
    "fits": measure_all_fits,
}


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--folder", help="folder for the temporary file")
    parser.add_argument("--rows", type=int, default=LARGE, help="number of rows")
    parser.add_argument("--file", help="existing file to use instead")
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
