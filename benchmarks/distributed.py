"""Speedup by two processes on one machine, and the loss with one and with two.

Run ``python -m benchmarks.distributed`` with the data sets in the folder named by
SKMIXMATE_DATA, on an idle machine with at least two cores. It fits the pixels of MNIST
with one thread per process, started by torchrun and connected by gloo. Runs with one
process and with two alternate:

strong
    strong scaling: two processes share the images and mini-batches of one
weak
    weak scaling: two processes have twice as many images and twice the batch size

Throughputs are images per second of training, medians over epochs; their ratios have
quartiles over the runs. `loss` compares the losses of a complete fit of all images.
`reducer` is the size of the all-reduce of a training step, and its duration. The
results go to ``benchmarks/results/distributed.json``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.callback import ScoringMonitor
from torch import distributed as dist

from skmixmate import MixMateClustering
from skmixmate.datasets import load_mnist
from skmixmate.distributed.launch import find_communicator

from . import report
from .report import quartiles
from .table1 import fit

N_TURNS, N_EPOCHS, N_IMAGES = 3, 5, 20_480
BATCH_SIZES = [256, 1024]
LOSS = {"n_images": 70_000, "batch_size": 256, "max_iter": 10}


class Clock(ScoringMonitor):
    """Measures the time of every epoch."""

    def __init__(self):
        super().__init__(scoring=None)
        self.seconds = []

    def on_fit_task_begin(self, estimator, context):  # noqa: D102
        if context.task_name == "epoch":
            self.start = time.perf_counter()

    def on_fit_task_end(self, estimator, context):  # noqa: D102
        if context.task_name == "epoch":
            self.seconds.append(time.perf_counter() - self.start)


def work(n_images, batch_size, max_iter):
    """Fit the images of this process; return throughput, loss and all-reduce."""
    communicator = find_communicator("auto")
    X = load_mnist().data[communicator.rank : n_images : communicator.size]
    clock = Clock()
    mixmate = MixMateClustering(
        10,
        image_shape=(28, 28),
        representation="pixels",
        init_size=2000,
        batch_size=batch_size,
        max_iter=max_iter,
        tol=0,
        random_state=0,
    )
    fit(mixmate.set_callbacks(clock), X)
    return {
        "images_per_second": n_images / float(np.median(clock.seconds)),
        "loss": mixmate.loss_,
        "reducer": measure_all_reduce(mixmate, communicator),
    }


def measure_all_reduce(mixmate, communicator, n_times=200):
    """Measure the size of the all-reduce of a step, and its time in milliseconds."""
    buffer = torch.zeros(mixmate.dictionaries_.size + len(mixmate.weights_) + 1)
    if communicator.size == 1:
        return None
    seconds = []
    with communicator:
        for _ in range(n_times):
            dist.barrier()
            seconds.append(
                report.seconds(lambda: communicator.all_reduce_in_place(buffer))
            )
    return {
        "bytes": buffer.nbytes,
        "milliseconds": quartiles(np.array(seconds) * 1e3),
    }


def launch(n_processes, **settings):
    """Run `work` in new processes; return the results of the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={n_processes}", "-m", "benchmarks.distributed"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command += ["--worker", str(path), json.dumps(settings)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def compare_throughputs(one, two):
    """Measure the throughputs of one process and of two, and their ratio."""
    ratios, throughputs = [], []
    for _ in range(N_TURNS):
        pair = [
            launch(n, max_iter=N_EPOCHS, **settings)["images_per_second"]
            for n, settings in ((1, one), (2, two))
        ]
        throughputs.append(pair)
        ratios.append(pair[1] / pair[0])
    return {
        "images_per_second": np.median(throughputs, axis=0).round().tolist(),
        "two_over_one": quartiles(ratios),
    }


def measure():
    results = {"strong": {}, "weak": {}}
    for batch_size in BATCH_SIZES:
        single = {"n_images": N_IMAGES, "batch_size": batch_size}
        double = {"n_images": 2 * N_IMAGES, "batch_size": 2 * batch_size}
        results["strong"][batch_size] = compare_throughputs(single, single)
        results["weak"][batch_size] = compare_throughputs(single, double)
        report.write("distributed", results)
    one, two = (launch(n, **LOSS) for n in (1, 2))
    results["loss"] = {
        "one": one["loss"],
        "two": two["loss"],
        "two_over_one": round(two["loss"] / one["loss"], 4),
    }
    results["reducer"] = two["reducer"]
    report.write("distributed", results)


def main():
    if sys.argv[1:2] != ["--worker"]:
        measure()
        return
    path, settings = sys.argv[2:]
    results = work(**json.loads(settings))
    if find_communicator("auto").rank == 0:
        Path(path).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
