"""Table 1 of the paper: three sets of images, before and after training.

Run ``python -m benchmarks.table1`` with the data sets in the folder named by
SKMIXMATE_DATA. All images, seeds 0 to 4, defaults but for `n_clusters`,
`image_shape` and `representation`; labels are used for the scores alone. INIT is
one start of the same seed, untrained. "incomplete" is the model of pixels where 90%
of the images lack 25% of their pixels. ``--quick`` takes USPS and one seed. The
figures go to ``benchmarks/results/table1.json`` after every fit; fits that are there
already, from the same machine and versions, are not run again, and several of these
commands may run side by side.
"""

import argparse
import json
import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from skmixmate import MixMateClustering, clustering_accuracy_score, datasets

from . import report

IMAGE_SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "usps": (16, 16)}
METHODS = ["scattering", "pixels", "incomplete", "kmeans", "gaussian_mixture"]


def scores(y, labels):
    return {
        "ACC": round(clustering_accuracy_score(y, labels), 4),
        "NMI": round(normalized_mutual_info_score(y, labels), 4),
        "ARI": round(adjusted_rand_score(y, labels), 4),
    }


def make(method, name, seed, **params):
    """Return the estimator of one fit."""
    if method == "kmeans":
        return KMeans(10, n_init=10, random_state=seed)
    if method == "gaussian_mixture":
        # The pixels at the margins hardly vary: some variance has to be added.
        return GaussianMixture(
            10, covariance_type="diag", reg_covar=1e-2, random_state=seed
        )
    return MixMateClustering(
        10,
        image_shape=IMAGE_SHAPES[name],
        representation="scattering" if method == "scattering" else "pixels",
        random_state=seed,
        **params,
    )


def n_parameters(mixmate):
    """Count all that was learned, of the representation too."""
    learned = [mixmate.dictionaries_, mixmate.intercepts_]
    representation = mixmate.representation_
    if representation is not None:
        learned += [representation.mean_, representation.components_]
    return sum(array.size for array in learned if array.any())


def without_pixels(images, seed):
    """Take 25% of the pixels, drawn at random, from 90% of the images."""
    rng = np.random.default_rng(seed)
    images = images.copy()
    missing = rng.random(images.shape, dtype=np.float32) < 0.25
    missing[rng.random(len(images)) >= 0.9] = False
    images[missing] = np.nan
    return images


def run(method, name, seed, bunch):
    """Fit once, and score before and after."""
    X, y = bunch.data, bunch.target
    if method == "incomplete":
        X = without_pixels(X, seed)
    estimator = make(method, name, seed)
    seconds = report.seconds(lambda: fit(estimator, X))
    result = {"seconds": round(seconds, 1), "TRAIN": scores(y, estimator.predict(X))}
    if isinstance(estimator, MixMateClustering):
        initial = make(method, name, seed, max_iter=0, n_init=1)
        fit(initial, X)
        result |= {
            "INIT": scores(y, initial.labels_),
            "loss": round(estimator.loss_, 4),
            "epochs": estimator.n_iter_,
            "parameters": n_parameters(estimator),
        }
    return result


def fit(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X)


def summarize(runs):
    """Mean and standard deviation over the seeds, and the worst seed."""
    summary = {}
    for key, fits in runs.items():
        for stage in ("INIT", "TRAIN"):
            of_stage = [fit[stage] for fit in fits.values() if stage in fit]
            for score in ("ACC", "NMI", "ARI") if of_stage else ():
                values = [one[score] for one in of_stage]
                summary.setdefault(key, {"seeds": len(values)})[f"{stage} {score}"] = {
                    "mean": round(float(np.mean(values)), 4),
                    "std": round(float(np.std(values)), 4),
                    "worst": round(float(np.min(values)), 4),
                }
    return summary


def load_runs():
    path = report.RESULTS / "table1.json"
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    return earlier["runs"] if earlier["machine"] == report.machine() else {}


def write(runs):
    report.write("table1", {"summary": summarize(runs), "runs": runs})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(IMAGE_SHAPES))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.data, options.seeds = ["usps"], [0]
    for name in options.data:
        bunch = getattr(datasets, f"load_{name}")()
        for method in options.methods:
            for seed in options.seeds:
                key = f"{name} {method}"
                if str(seed) in load_runs().get(key, {}):
                    continue
                if method == "incomplete" and name != "mnist":
                    continue  # as in the paper
                result = run(method, name, seed, bunch)
                runs = load_runs()  # others may have written since
                runs.setdefault(key, {})[str(seed)] = result
                write(runs)
    write(load_runs())


if __name__ == "__main__":
    main()
