"""Cluster more sets of images with the defaults, and see what limits the accuracy.

Run ``python -m benchmarks.images`` with the folder of the environment variable
SKMIXMATE_DATA. The fits are ``MixMateClustering(n_clusters)`` with `image_shape` given
and the number of classes as number of clusters, before training (``max_iter=0``) and
after it, and KMeans with ten starts on the pixels; labels are used for the scores only.
Two more fits are given labels, to tell what limits the others:

"labels of half"
    MixMate with ``supervision="auto"``, fitted to a random half of the images with all
    their labels, and scored on the other half. The difference to the fit without labels
    is what better initial clusters could give.
"logistic regression"
    `LogisticRegression` of the same half, on the same features. Its errors show
    what the representation has lost, or what cannot be learned from as few labels.

The sets are scikit-learn's digits; three sets of the folder ``suite``, of which mnist64
has images of six of these digits again; and each file ``NAME.npz`` of those named in
`FILES`, with arrays `X` of shape (n, height, width) or (n, height, width, channels) and
`y`. By default the small ones are run (`SMALL`); ``--data`` names others. Sets without
a file are skipped. Results are written to ``benchmarks/results/images.json`` after
every set, and those of other sets are kept.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from skmixmate import MixMateClustering

from . import report
from .plain import summarize
from .table1 import scores

SEEDS = [0, 1, 2, 3, 4]
SUITE = {
    "optical_recognition_of_handwritten_digits": (8, 8),
    "mnist64": (8, 8),
    "street_view_house_numbers": (32, 32),
}
SMALL = ["digits", *SUITE, "olivetti", "coil20", "umist"]
FILES = ["olivetti", "coil20", "umist", "usps", "mnist", "fashion_mnist"]
FILES += ["kmnist", "emnist", "stl10"]


def load(name):
    """Read a set of images.

    Parameters
    ----------
    name : str

    Returns
    -------
    images : float32 ndarray of shape (n, height, width) or (n, height, width, channels)
    y : ndarray of shape (n,)
        The classes as integers from 0.

    Raises
    ------
    FileNotFoundError
        If the set has no file.
    """
    if name == "digits":
        images, y = load_digits().images, load_digits().target
    else:
        folder = Path(os.environ["SKMIXMATE_DATA"])
        path = folder / "suite" / name if name in SUITE else folder / name
        with np.load(path.with_suffix(".npz")) as arrays:
            images, y = arrays["X"], arrays["y"]
        images = images.reshape(len(images), *SUITE.get(name, images.shape[1:]))
    return images.astype(np.float32), np.unique(y, return_inverse=True)[1]


def with_labels(mixmate, images, y, seed):
    """Fit one half of each class with its labels, and score the other half."""
    halves = train_test_split(
        np.arange(len(y)), test_size=0.5, stratify=y, random_state=seed
    )
    known, rest = map(np.sort, halves)
    mixmate.set_params(supervision="auto").fit(images[known], y[known])
    rows = images.reshape(len(images), -1)
    if mixmate.representation_ is not None:
        rows = mixmate.representation_.transform(rows)
    # In the units of the model, as the weight of the penalty depends on them.
    rows = rows * mixmate.scale_
    regression = LogisticRegression(max_iter=1000).fit(rows[known], y[known])
    predicted = {
        "labels of half": mixmate.predict(images[rest]),
        "logistic regression": regression.predict(rows[rest]),
    }
    # Cluster k is class k: the accuracy needs no matching.
    return {
        fit: scores(y[rest], labels)
        | {"ACC": round(accuracy_score(y[rest], labels), 4)}
        for fit, labels in predicted.items()
    }


def run(images, y, seed):
    """Return the scores of each fit with one seed, and the seconds of the default's."""
    n_clusters, rows = len(np.unique(y)), images.reshape(len(images), -1)

    def mixmate(**params):
        shape = images.shape[1:]
        return MixMateClustering(
            n_clusters, image_shape=shape, random_state=seed, **params
        )

    untrained, trained = mixmate(max_iter=0).fit(images), mixmate()
    seconds = report.seconds(lambda: trained.fit(images))
    kmeans = KMeans(n_clusters, n_init=10, random_state=seed).fit(rows)
    results = {
        "untrained": scores(y, untrained.labels_),
        "MixMate": scores(y, trained.labels_),
        "KMeans": scores(y, kmeans.labels_),
        **with_labels(mixmate(), images, y, seed),
    }
    return results, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["digits", *SUITE, *FILES]
    parser.add_argument("--data", nargs="+", default=SMALL, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    path = report.RESULTS / "images.json"
    sets = json.loads(path.read_text())["sets"] if path.exists() else {}
    for name in options.data:
        try:
            images, y = load(name)
        except FileNotFoundError as error:
            print(f"{name} is skipped: there is no {error.filename}.")
            continue
        runs, seconds = {}, []
        for seed in options.seeds:
            results, took = run(images, y, seed)
            seconds.append(took)
            for fit, result in results.items():
                runs.setdefault(fit, []).append(result)
        sets[name] = {
            "images": len(images),
            "shape": images.shape[1:],
            "classes": len(np.unique(y)),
            "seeds": len(options.seeds),
            "seconds": round(float(np.mean(seconds)), 1),  # of a fit
            "machine": report.machine(),
            "fits": summarize(runs),
        }
        report.write("images", {"sets": sets}, shown={name: sets[name]})


if __name__ == "__main__":
    main()
