"""Compare the time of wavelet scattering with kymatio on torch.

kymatio does not run with current numpy and scipy. It needs a separate environment,
with kymatio 0.3.0, whose ``python`` is passed as ``--python``. Both transform the same
images alternately with ``--threads`` threads; kymatio uses its fastest batch size.
Ratios are between two successive passes, so that other processes affect both equally.
On a busy machine, waiting threads should sleep: set OMP_WAIT_POLICY=PASSIVE.

Run ``python -m benchmarks.scattering --python PYTHON_WITH_KYMATIO``. Results are
written to ``benchmarks/results/scattering.json``.
"""

import argparse
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import torch

from skmixmate.image import ScatteringTransform

from . import report

N_IMAGES, SIZE, J, L = 1000, 28, 3, 8
N_ROUNDS = 15


class Kymatio:
    """A process that runs kymatio on request."""

    def __init__(self, python, n_threads):
        worker = Path(__file__).with_name("kymatio_worker.py")
        sizes = map(str, (N_IMAGES, SIZE, J, L, n_threads))
        self.process = subprocess.Popen(
            [python, "-W", "ignore", worker, *sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = json.loads(self.process.stdout.readline())

    def seconds(self):
        """Transform all images; return the time measured by the process."""
        print(file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True, help="python that has kymatio")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    kymatio = Kymatio(arguments.python, arguments.threads)
    torch.set_num_threads(arguments.threads)
    images = np.random.default_rng(0).random((N_IMAGES, SIZE, SIZE), np.float32)
    X = images.reshape(N_IMAGES, -1)
    scattering = ScatteringTransform((SIZE, SIZE), J=J, L=L, device="cpu").fit(X)
    scattering.transform(X)  # warm up
    times = np.array(
        [
            (kymatio.seconds(), report.seconds(lambda: scattering.transform(X)))
            for _ in range(N_ROUNDS)
        ]
    )
    kymatio.close()
    ratios = times[:, 0] / times[:, 1]
    per_image = 1e3 * np.median(times, axis=0) / N_IMAGES
    report.write(
        "scattering",
        {
            "kymatio": kymatio.description,
            "n_images": N_IMAGES,
            "n_threads": arguments.threads,
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
            "kymatio_ms_per_image": round(float(per_image[0]), 3),
            "ms_per_image": round(float(per_image[1]), 3),
            "ratio_quartiles": report.quartiles(ratios, 1),
        },
    )


if __name__ == "__main__":
    main()
