"""Times kymatio for ``benchmarks.scattering``, in an environment that has it.

Needs kymatio, numpy and torch and nothing of this repository. First prints the
versions as JSON; then, for each line that it reads, scatters the images once and
prints the seconds that took.
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
