"""Clusters rows by a Gaussian mixture of their UMAP, in an environment that has it.

Needs umap-learn and scikit-learn and nothing of this repository. Reads the rows from a
.npy file, float32 of shape (n_samples, n_features), embeds them, fits a mixture with
full covariances to the embedding, and writes the labels to another .npy file; prints,
as JSON, the seconds that this took, by the clock and of the processor, the number of
parameters (coordinates of the embedding, and the mixture's), the parameters of UMAP,
and the versions.

``python umap_worker.py N_CLUSTERS SEED ROWS LABELS PARAMETERS``, PARAMETERS being a
JSON object of what is not UMAP's default.
"""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from sklearn.mixture import GaussianMixture
from umap import UMAP

PACKAGES = ("umap-learn", "pynndescent", "numba", "numpy", "scikit-learn")


def main():
    n_clusters, seed = map(int, sys.argv[1:3])
    rows, labels, parameters = sys.argv[3:]
    parameters = json.loads(parameters)
    X = np.load(rows)
    mixture = GaussianMixture(n_clusters, covariance_type="full", random_state=seed)
    start, processor_start = time.perf_counter(), time.process_time()
    embedding = UMAP(**parameters, random_state=seed).fit_transform(X)
    # Clusters of little extent have covariances that float32 cannot invert.
    found = mixture.fit_predict(embedding.astype(np.float64))
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    np.save(labels, found)
    learned = [embedding, mixture.means_, mixture.covariances_, mixture.weights_]
    report = {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "parameters": sum(array.size for array in learned),
        "umap": parameters,
        "versions": {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
