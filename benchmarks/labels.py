"""Compare fits to a few known labels with peers that use the same labels.

Run ``python -m benchmarks.labels`` with the data sets in the folder of the environment
variable SKMIXMATE_DATA. For each class 10 (``--per-class``) labels are known, drawn at
random with seeds 0, 1 and 2 (``--seeds``), and the accuracy on all other rows is
reported, without any matching of clusters and classes.

Of images, the peers get the features that a fit without labels and with default
parameters models; ours get the images. Sets of the folder ``suite`` have their columns
standardised. Labels are drawn among 20,000 rows (all rows of most sets), which are all
that `LabelSpreading` is fitted to; the labels of other rows are the majority of its
neighbours' there. Neighbours are found once for all seeds.

The peers have their parameters chosen with all labels: the best one, in the mean, of
two scalings of the features (as they are; columns of variance 1), two numbers of
neighbours, two factors of clamping and six strengths of the penalty. Our parameters are
the defaults.

``--data`` runs some of the sets, and keeps what ``benchmarks/results/labels.json`` has
of the others.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from skmixmate import MixMateClustering, datasets

from . import report, suite
from .table1 import scattering_features

IMAGES = ["fashion_mnist", "mnist", "usps"]
N_GRAPH, N_NEIGHBORS, CLAMPING = 20_000, (7, 15), (0.2, 0.8)
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
OURS, UNSUPERVISED = "MixMate", "MixMate, without labels"
SPREADING, REGRESSION = "LabelSpreading", "LogisticRegression"
NORM = 9.2  # of a row, root mean square


def load(name):
    """Return the rows for MixMate, those for the peers, and the classes."""
    if name in IMAGES:
        images = getattr(datasets, f"load_{name}")()
        return images.data, scattering_features(images.data, 0)[0], images.target
    X, y = suite.load(Path(os.environ["SKMIXMATE_DATA"]) / "suite" / f"{name}.npz")
    return X, X, y


def draw(y, indices, n_per_class, seed):
    """Draw known labels among the rows of some indices; -1 for all other rows."""
    random_state, known = np.random.RandomState(seed), np.full(len(y), -1)
    for label in np.unique(y):
        candidates = indices[y[indices] == label]
        known[random_state.permutation(candidates)[:n_per_class]] = label
    return known


def nearest(X, reference):
    """Find the nearest neighbours of rows among others, of shape (n_rows, 15)."""
    reference = torch.from_numpy(reference)
    found = [
        torch.cdist(rows, reference).topk(max(N_NEIGHBORS), largest=False).indices
        for rows in torch.from_numpy(X).split(2048)
    ]
    return torch.cat(found).numpy()


class Spreading:
    """`LabelSpreading` on a graph that is built once."""

    def __init__(self, X, indices, others):
        self.indices, self.others = indices, others
        # Each row is its own first neighbour, as in scikit-learn's graph.
        self.inner = nearest(X[indices], X[indices])
        self.outer = nearest(X[others], X[indices])

    def predict(self, known, n_neighbors, clamping):
        """Label all rows."""
        n_rows = len(self.indices)
        neighbors = self.inner[:, :n_neighbors]
        graph = sparse.csr_matrix(
            (
                np.ones(neighbors.size),
                neighbors.ravel(),
                np.arange(0, neighbors.size + 1, n_neighbors),
            ),
            shape=(n_rows, n_rows),
        )
        spreading = LabelSpreading(kernel=lambda *_: graph, alpha=clamping)
        # The kernel is given: these columns are not used.
        spreading.fit(np.zeros((n_rows, 1)), known[self.indices])
        votes = spreading.label_distributions_[self.outer[:, :n_neighbors]].sum(axis=1)
        labels = np.empty(len(known), dtype=known.dtype)
        labels[self.indices] = spreading.transduction_
        labels[self.others] = spreading.classes_[votes.argmax(axis=1)]
        return labels


def best(accuracies):
    """Return the parameters of the highest mean accuracy, and the accuracies."""
    parameters = max(accuracies, key=lambda key: np.mean(accuracies[key]))
    values = accuracies[parameters]
    return {"ACC": [round(value, 4) for value in values], "parameters": parameters}


def run_peers(X, y, indices, all_known):
    """Return the accuracies of the peers with their best parameters."""
    X = np.nan_to_num(X)  # the mean of a standardised column
    others = np.setdiff1d(np.arange(len(y)), indices)
    found = {SPREADING: {}, REGRESSION: {}}
    for scaling in ("as they are", "variance 1"):
        if scaling == "variance 1":
            points = StandardScaler().fit_transform(X)
        else:
            points = X - X.mean(axis=0)
        points = points * (NORM / np.sqrt(np.mean(np.sum(points**2, axis=1))))
        graph = Spreading(points, indices, others)
        for known in all_known:
            is_known = known >= 0

            def add(peer, parameters, labels, is_open=~is_known):
                accuracy = float(np.mean(labels[is_open] == y[is_open]))
                found[peer].setdefault(parameters, []).append(accuracy)

            for n in N_NEIGHBORS:
                for clamping in CLAMPING:
                    key = f"features {scaling}, n_neighbors={n}, alpha={clamping}"
                    add(SPREADING, key, graph.predict(known, n, clamping))
            for C in STRENGTHS:
                model = LogisticRegression(C=C, max_iter=1000)
                model.fit(points[is_known], known[is_known])
                key = f"features {scaling}, C={C}"
                add(REGRESSION, key, model.predict(points))
    return {peer: best(accuracies) for peer, accuracies in found.items()}


def run(name, n_per_class, seeds):
    """Run all methods on a data set; yield their accuracies by number of labels."""
    X, features, y = load(name)
    classes, y = np.unique(y, return_inverse=True)
    order = np.random.RandomState(0).permutation(len(y))
    indices = np.sort(order[:N_GRAPH])
    for n in n_per_class:
        if n * len(classes) > len(y) / 2:
            continue
        all_known = [draw(y, indices, n, seed) for seed in seeds]
        results = run_peers(features, y, indices, all_known)
        accuracies, seconds = [], []
        for seed, known in zip(seeds, all_known, strict=True):
            mixmate = MixMateClustering(
                len(classes), supervision="auto", random_state=seed
            )
            start = time.perf_counter()
            mixmate.fit(X, known)
            seconds.append(round(time.perf_counter() - start, 1))
            is_open = known < 0
            accuracies.append(np.mean(mixmate.labels_[is_open] == y[is_open]))
        results[OURS] = {
            "ACC": [round(float(accuracy), 4) for accuracy in accuracies],
            "seconds": seconds,
        }
        yield {f"{n} per class": results}


def summarize(sets):
    """Average over the data sets of the suite, and compare with fits without labels."""
    unsupervised = json.loads((report.RESULTS / "suite.json").read_text())["sets"]
    rows = [
        row | {UNSUPERVISED: unsupervised[name]["methods"]["MixMate"]["ACC"]["mean"]}
        for name, row in sets.items()
        if name not in IMAGES
    ]
    numbers = sorted({key for row in rows for key in row} - {UNSUPERVISED})
    summary = {}
    for key in numbers:
        shared = [row for row in rows if key in row]
        summary[key] = {"sets": len(shared)} | {
            method: round(
                float(np.mean([np.mean(row[key][method]["ACC"]) for row in shared])), 4
            )
            for method in (OURS, SPREADING, REGRESSION)
        }
        summary[key][UNSUPERVISED] = round(
            float(np.mean([row[UNSUPERVISED] for row in shared])), 4
        )
    return summary


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=None)
    parser.add_argument("--per-class", nargs="+", type=int, default=[10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    folder = Path(os.environ["SKMIXMATE_DATA"]) / "suite"
    names = arguments.data or IMAGES + sorted(p.stem for p in folder.glob("*.npz"))
    if "suite" in names:
        names = sorted(p.stem for p in folder.glob("*.npz"))
    path = report.RESULTS / "labels.json"
    sets = json.loads(path.read_text())["sets"] if path.exists() else {}
    warnings.simplefilter("ignore")
    for name in names:
        for found in run(name, arguments.per_class, arguments.seeds):
            sets[name] = sets.get(name, {}) | found
            figures = {"suite": summarize(sets), "sets": sets}
            report.write("labels", figures, {name: found})


if __name__ == "__main__":
    main()
