"""Runs a deep clustering of ClustPy, in an environment that has it.

Needs clustpy, numpy and torch and nothing of this repository. Reads the images from
a .npy file, float32 of shape (n_samples, n_features), fits the method with its
defaults, and writes the labels to another .npy file; prints, as JSON, the seconds
that the fit took, by the clock and of the processor, the number of parameters that it
learned, and the versions.

``python clustpy_worker.py METHOD SEED IMAGES LABELS PARAMETERS``, METHOD being DEC or
DCN, and PARAMETERS a JSON object of what is not as by default.
"""

import json
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np

if find_spec("torchvision") is None:
    # ClustPy imports it for data sets and for networks that are not used here, and
    # it has no build for CPUs alone.
    for name in ("", ".models", ".models._api"):
        sys.modules[f"torchvision{name}"] = MagicMock()

from clustpy import deep


def main():
    method, seed, images, labels, parameters = sys.argv[1:]
    estimator = getattr(deep, method)(
        n_clusters=10, random_state=int(seed), **json.loads(parameters)
    )
    X = np.load(images)
    start, processor_start = time.perf_counter(), time.process_time()
    estimator.fit(X)
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    np.save(labels, estimator.labels_)
    learned = estimator.neural_network_trained_.parameters()
    n_parameters = sum(parameter.numel() for parameter in learned)
    report = {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "parameters": n_parameters + estimator.cluster_centers_.size,
        "versions": {name: version(name) for name in ("clustpy", "numpy", "torch")},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
