"""Time kymatio for ``benchmarks.scattering``, in an environment that contains it.

This requires kymatio, numpy and torch, and nothing from this repository. It first
prints the versions as JSON. Then, for each line of its input, it transforms the images
once and prints the time in seconds.
"""

import json
import platform
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from kymatio.torch import Scattering2D


def main():
    """Answer requests until the input ends."""
    n_images, size, J, L, n_threads = map(int, sys.argv[1:])
    torch.set_num_threads(n_threads)
    images = np.random.default_rng(0).random((n_images, size, size), np.float32)
    images = torch.from_numpy(images)
    scattering = Scattering2D(J, (size, size), L=L)

    def seconds(batch_size):
        start = time.perf_counter()
        with torch.no_grad():
            torch.cat([scattering(batch) for batch in images.split(batch_size)])
        return time.perf_counter() - start

    sizes = [64, 256, n_images]
    fastest = min(
        sizes, key=lambda batch_size: min(seconds(batch_size), seconds(batch_size))
    )
    versions = {name: version(name) for name in ("kymatio", "numpy", "torch")}
    versions["python"] = platform.python_version()
    print(json.dumps({"batch_size": fastest, **versions}), flush=True)
    for _ in sys.stdin:
        print(seconds(fastest), flush=True)


if __name__ == "__main__":
    main()
