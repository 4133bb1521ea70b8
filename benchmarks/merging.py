"""Compare clusters that were merged along the tree with a new fit.

Run ``python -m benchmarks.merging`` with the folder of the environment variable
SKMIXMATE_DATA. Each set is fitted with half as many clusters more than there are
classes, and with twice as many, and cut to the number of classes. Compared are

- "new fit": with the number of classes from the start;
- "cut": ``fit(...).cut(number of classes)``;
- "posteriors": the same with the posteriors as they are, without a temperature;
- "Ward on centres": the clusters of the fit, merged by Ward's criterion on the means
  of their samples;
- "k-means, Ward": k-means with as many clusters, merged in the same way;
- "best": each cluster counts as its most frequent class, the most that any merging
  to classes can reach in accuracy.

Labels are used for the scores, the number of classes, and "best". The data are those
of :mod:`benchmarks.plain`, data of the model, sets of the suite, and 3,000 images of
MNIST and of USPS. "not the largest posterior" is the fraction of samples whose merged
cluster, that of the dictionary of lowest energy, is not the one of the largest summed
probability. ``--sets`` runs some, and keeps what
``benchmarks/results/merging.json`` has of the others.
"""

import argparse
import json
import math
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.cluster.hierarchy import cut_tree
from sklearn import datasets
from sklearn.cluster import KMeans

from skmixmate import MixMateClustering
from skmixmate.cluster._overlaps import overlap_linkage, soft_overlaps
from skmixmate.datasets import load_mnist, load_usps, make_sparse_mixture

from . import report
from .plain import SETS as PLAIN
from .suite import load
from .table1 import scores

FACTORS = (1.5, 2)
SUITE = (
    "breast_tissue",
    "glass_identification",
    "letter_recognition",
    "mnist64",
    "optical_recognition_of_handwritten_digits",
    "ph_recognition",
    "turkish_music_emotion",
    "vehicle",
    "weather",
    "wireless_indoor_localization",
    "world12d",
    "zoo",
)


def sizes():
    return datasets.make_blobs(
        [100, 200, 400, 800], 10, cluster_std=[1, 2, 1, 1.5], random_state=0
    )


def model(n_features, n_clusters, n_atoms):
    bunch = make_sparse_mixture(
        1500,
        n_features,
        n_clusters=n_clusters,
        n_atoms=n_atoms,
        noise=0.2,
        random_state=0,
    )
    return bunch.data, bunch.target


def images(load_images):
    bunch = load_images()
    rows = np.random.default_rng(0).permutation(len(bunch.data))[:3000]
    return bunch.data[rows], bunch.target[rows]


def suite(name):
    return load(Path(os.environ["SKMIXMATE_DATA"], "suite", f"{name}.npz"))


# Each draws X and y, with further parameters of the estimator.
SETS = {
    **{
        name: (partial(draw, seed=0), {"image_shape": None})
        for name, draw in PLAIN.items()
    },
    "digits, images": (partial(datasets.load_digits, return_X_y=True), {}),
    "blobs of four sizes": (sizes, {}),
    "model, 3 clusters": (partial(model, 32, 3, 4), {"n_atoms": 4}),
    "model, 6 clusters": (partial(model, 32, 6, 4), {"n_atoms": 4}),
    "model, 4 clusters, 64 features": (partial(model, 64, 4, 8), {"n_atoms": 8}),
    **{name: (partial(suite, name), {}) for name in SUITE},
    "USPS": (partial(images, load_usps), {}),
    "MNIST": (partial(images, load_mnist), {}),
}


def ward(X, labels, n_clusters):
    """Merge clusters by Ward's criterion on the means of their samples."""
    numbers, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    X = np.nan_to_num(X)
    centers = np.array([X[labels == k].mean(axis=0) for k in range(len(numbers))])
    groups = np.arange(len(numbers))
    while len(centers) > n_clusters:
        squares = np.square(centers[:, None] - centers).sum(axis=2)
        growth = squares / (1 / counts[:, None] + 1 / counts)
        np.fill_diagonal(growth, np.inf)
        i, j = sorted(np.unravel_index(growth.argmin(), growth.shape))
        centers[i] = np.average(centers[[i, j]], axis=0, weights=counts[[i, j]])
        counts[i] += counts[j]
        centers, counts = np.delete(centers, j, axis=0), np.delete(counts, j)
        groups[groups == j] = i
        groups[groups > j] -= 1
    return groups[labels]


def majority(y, labels):
    """Name each cluster by its most frequent class."""
    _, y = np.unique(y, return_inverse=True)
    return np.array([np.bincount(y[labels == k]).argmax() for k in labels])


def compare(draw, params):
    """Return the scores of each way to the number of classes, for each factor."""
    X, y = draw()
    n_classes = len(np.unique(y))

    def fit(n_clusters):
        return MixMateClustering(n_clusters, random_state=0, **params).fit(X)

    result = {"rows": len(y), "classes": n_classes}
    result["new fit"] = scores(y, fit(n_classes).labels_)
    for factor in FACTORS:
        n_clusters = math.ceil(factor * n_classes)
        mixmate = fit(n_clusters)
        merged, labels = mixmate.cut(n_classes), mixmate.labels_
        energies = mixmate.energies(X)
        margins = energies - energies.min(axis=1, keepdims=True)
        hard = cut_tree(overlap_linkage(soft_overlaps(margins, 1.0)), n_classes)[:, 0]
        kmeans = KMeans(n_clusters, n_init=10, random_state=0)
        found = {
            "cut": merged.labels_,
            "posteriors": hard[labels],
            "Ward on centres": ward(X, labels, n_classes),
            "k-means, Ward": ward(X, kmeans.fit_predict(np.nan_to_num(X)), n_classes),
            "best": majority(y, labels),
        }
        of_factor = {name: scores(y, values) for name, values in found.items()}
        largest = merged.predict_proba(X).argmax(axis=1)
        of_factor["not the largest posterior"] = round(
            float((largest != merged.labels_).mean()), 5
        )
        result[f"{factor} times"] = of_factor
    return result


def summarize(sets):
    """Return mean scores of each method, over all sets."""
    summary = {
        "new fit": {
            score: round(
                float(np.mean([s["new fit"][score] for s in sets.values()])), 4
            )
            for score in ("NMI", "ARI")
        }
    }
    for factor in FACTORS:
        key = f"{factor} times"
        methods = [m for m in next(iter(sets.values()))[key] if "not" not in m]
        summary[key] = {
            method: {
                score: round(mean(s[key][method][score] for s in sets.values()), 4)
                for score in ("NMI", "ARI")
            }
            for method in methods
        }
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    stored = report.RESULTS / "merging.json"
    sets = json.loads(stored.read_text())["sets"] if stored.exists() else {}
    for name in parser.parse_args().sets:
        draw, params = SETS[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sets[name] = compare(draw, params)
        print(name, file=sys.stderr, flush=True)
        summary = summarize(sets)
        report.write("merging", {"summary": summary, "sets": sets}, shown=summary)


if __name__ == "__main__":
    main()
