"""What several processes on one machine gain, and whether they learn the same.

Run ``python -m benchmarks.distributed`` with the data sets in the folder named by
SKMIXMATE_DATA, on a quiet machine of two cores or more. MNIST in pixels, one thread for
each process, launched by torchrun and joined by gloo. One process and two are run
in turn, several times:

strong
    the same images and mini-batches, shared by the two
weak
    for each process as many images, and as large a part of a mini-batch, as for one

Throughputs are images a second in training, medians over epochs, and their ratios have
quartiles over the runs. `loss` is that of two processes over that of one on all images
after a whole fit. `reducer` is what a step sends and how long summing it takes. The
figures go to ``benchmarks/results/distributed.json``.
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
    """Keeps the time of every epoch."""

    def __init__(self):
        super().__init__(scoring=None)
        self.seconds = []

    def on_fit_task_begin(self, estimator, context):  # noqa: D102
        if context.task_name == "epoch":
            self.began = time.perf_counter()

    def on_fit_task_end(self, estimator, context):  # noqa: D102
        if context.task_name == "epoch":
            self.seconds.append(time.perf_counter() - self.began)


def work(n_images, batch_size, max_iter):
    """Fit this process's images; returns figures of the fit."""
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
        "reducer": reducer(mixmate, communicator),
    }


def reducer(mixmate, communicator, n_times=200):
    """Size of what is summed at a step, and milliseconds that this takes."""
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
    """Run `work` in processes of their own; figures of the first."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={n_processes}", "-m", "benchmarks.distributed"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        command += ["--worker", str(path), json.dumps(settings)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def in_turn(one, two):
    """Ratio of throughputs of two processes to that of one."""
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
    figures = {"strong": {}, "weak": {}}
    for batch_size in BATCH_SIZES:
        one = {"n_images": N_IMAGES, "batch_size": batch_size}
        two = {"n_images": 2 * N_IMAGES, "batch_size": 2 * batch_size}
        figures["strong"][batch_size] = in_turn(one, one)
        figures["weak"][batch_size] = in_turn(one, two)
        report.write("distributed", figures)
    whole = [launch(n, **LOSS) for n in (1, 2)]
    figures["loss"] = {
        "one": whole[0]["loss"],
        "two": whole[1]["loss"],
        "two_over_one": round(whole[1]["loss"] / whole[0]["loss"], 4),
    }
    figures["reducer"] = whole[1]["reducer"]
    report.write("distributed", figures)


def main():
    if sys.argv[1:2] != ["--worker"]:
        measure()
        return
    path, settings = sys.argv[2:]
    figures = work(**json.loads(settings))
    if find_communicator("auto").rank == 0:
        Path(path).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
