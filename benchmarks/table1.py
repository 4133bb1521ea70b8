"""Reproduce Table 1 of the paper: three sets of images, before and after training.

Run ``python -m benchmarks.table1`` with the data sets in the folder of the environment
variable SKMIXMATE_DATA. All images, seeds 0 to 4; labels are used for the scores only.
INIT is the initialisation of the same fit, before training. "scattering" is the bare
call, ``MixMateClustering(n_clusters=10)``, which recognises images; "pixels" has that
representation, and "features" is told that the rows are no images.
"incomplete" is the default if 90% of the images lack 25% of their pixels. The last two
are for MNIST only.

The methods for comparison are KMeans, GaussianMixture, K-DAE and DAMIC
(``benchmarks/peers``), ClustPy's DEC and DCN with their defaults, and Gaussian mixtures
of UMAPs: "umap" of the pixels, "umap_scattering" of the features that "scattering"
models, and "n2d" of the codes of an auto-encoder. The latter has 50 epochs, like those
of K-DAE and DAMIC, and not the 1,000 of the paper that proposed it. ClustPy and UMAP
need separate environments, with clustpy 0.0.3 and torch, and with umap-learn 0.5.12;
pass their ``python`` by ``--clustpy-python`` and ``--umap-python``. Without it the
methods are left out.

``--quick`` uses USPS, one seed, the default representation, and for comparison only
KMeans and GaussianMixture; it takes about a minute. The figures are written to
``benchmarks/results/table1.json`` (``table1_quick.json``) after every fit, with the
machine and the versions; fits that the file already contains, from the same ones, are
not repeated, and several of these commands may run at the same time.
"""

import argparse
import json
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from skmixmate import MixMateClustering, clustering_accuracy_score, datasets

from . import report
from .peers import embeddings
from .peers.autoencoders import MixtureOfAutoencoders
from .peers.worker import ClustPy

IMAGE_SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "usps": (16, 16)}
OURS = {
    "scattering": {},
    "pixels": {"representation": "pixels"},
    "features": {"image_shape": None},
    "incomplete": {},
}
MNIST_ONLY = ["features", "incomplete"]
QUICK = ["scattering", "kmeans", "gaussian_mixture"]
CLUSTPY = ["dec", "dcn"]
UMAP = ["umap", "umap_scattering", "n2d"]
METHODS = [*OURS, "kmeans", "gaussian_mixture", "k_dae", "damic", *CLUSTPY, *UMAP]


def scores(y, labels):
    return {
        "ACC": round(clustering_accuracy_score(y, labels), 4),
        "NMI": round(normalized_mutual_info_score(y, labels), 4),
        "ARI": round(adjusted_rand_score(y, labels), 4),
    }


def scattering_features(X, seed):
    """Return the features that a default fit models, and the number of parameters."""
    mixmate = MixMateClustering(10, init="random", max_iter=0, random_state=seed)
    representation = mixmate.fit(X).representation_
    n_parameters = representation.mean_.size + representation.components_.size
    return representation.transform(X), n_parameters


def make(method, seed, python=None, **params):
    """Create the estimator of one fit; `python` has the packages of its worker."""
    if method == "kmeans":
        return KMeans(10, n_init=10, random_state=seed)
    if method == "gaussian_mixture":
        # Pixels at the margins hardly vary: the covariance needs regularisation.
        return GaussianMixture(
            10, covariance_type="diag", reg_covar=1e-2, random_state=seed
        )
    if method in CLUSTPY:
        return ClustPy(python, method.upper(), seed)
    if method in UMAP:
        features = {"umap_scattering": scattering_features, "n2d": embeddings.codes}
        return embeddings.UmapMixture(
            python, 10, seed, features.get(method, embeddings.no_features)
        )
    if method not in OURS:
        return MixtureOfAutoencoders(10, method, seed)
    return MixMateClustering(10, random_state=seed, **OURS[method], **params)


def n_parameters(estimator):
    """Count the learned parameters, including the representation."""
    if hasattr(estimator, "n_parameters_"):
        return estimator.n_parameters_
    names = ["dictionaries_", "intercepts_", "cluster_centers_"]
    names += ["means_", "covariances_", "weights_"] * hasattr(estimator, "means_")
    learned = [getattr(estimator, name) for name in names if hasattr(estimator, name)]
    if (representation := getattr(estimator, "representation_", None)) is not None:
        learned += [representation.mean_, representation.components_]
    return sum(array.size for array in learned if array.any())


def without_pixels(images, seed):
    """Remove 25% of the pixels, drawn at random, from 90% of the images."""
    rng = np.random.default_rng(seed)
    images = images.copy()
    missing = rng.random(images.shape, dtype=np.float32) < 0.25
    missing[rng.random(len(images)) >= 0.9] = False
    images[missing] = np.nan
    return images


def run(method, seed, bunch, python):
    """Fit once, and score the labels before and after training."""
    X, y = bunch.data, bunch.target
    if method == "incomplete":
        X = without_pixels(X, seed)
    estimator = make(method, seed, python)
    seconds = report.seconds(lambda: fit(estimator, X))
    labels = getattr(estimator, "labels_", None)
    result = {
        "seconds": round(seconds, 1),
        "TRAIN": scores(y, estimator.predict(X) if labels is None else labels),
        "parameters": n_parameters(estimator),
        "machine": report.machine(),
    }
    if hasattr(estimator, "description_"):
        result["description"] = estimator.description_
    if method in OURS:
        untrained = clone(estimator).set_params(max_iter=0).fit(X)
        result |= {
            "INIT": scores(y, untrained.labels_),
            "loss": round(estimator.loss_, 4),
            "epochs": estimator.n_iter_,
        }
    return result


def fit(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(X)


def summarize(runs):
    """Return the mean, the standard deviation and the worst score over the seeds."""
    summary = {}
    for key, fits in runs.items():
        for stage in ("INIT", "TRAIN"):
            of_stage = [fit[stage] for fit in fits.values() if stage in fit]
            for score in ("ACC", "NMI", "ARI") if of_stage else ():
                values = [one[score] for one in of_stage]
                summary.setdefault(key, {"seeds": len(values)})[f"{stage} {score}"] = {
                    "mean": round(float(np.mean(values)), 6),
                    "std": round(float(np.std(values)), 6),
                    "worst": round(float(np.min(values)), 4),
                }
    return summary


def load_runs(report_name):
    path = report.RESULTS / f"{report_name}.json"
    return json.loads(path.read_text())["runs"] if path.exists() else {}


def write(report_name, runs):
    report.write(report_name, {"summary": summarize(runs), "runs": runs})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(IMAGE_SHAPES))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--clustpy-python", help="Python interpreter of the environment with ClustPy"
    )
    parser.add_argument(
        "--umap-python", help="Python interpreter of the environment with umap-learn"
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report_name = "table1_quick" if options.quick else "table1"
    if options.quick:
        options.data, options.methods, options.seeds = ["usps"], QUICK, [0]
    pythons = dict.fromkeys(CLUSTPY, options.clustpy_python)
    pythons |= dict.fromkeys(UMAP, options.umap_python)
    for name in options.data:
        bunch = getattr(datasets, f"load_{name}")()
        for method in options.methods:
            python = pythons.get(method)
            if method in pythons and python is None:
                continue
            if method in MNIST_ONLY and name != "mnist":
                continue
            for seed in options.seeds:
                key = f"{name} {method}"
                earlier = load_runs(report_name).get(key, {}).get(str(seed), {})
                if earlier.get("machine") == report.machine():
                    continue
                result = run(method, seed, bunch, python)
                runs = load_runs(report_name)  # other processes may have written since
                runs.setdefault(key, {})[str(seed)] = result
                write(report_name, runs)
    write(report_name, load_runs(report_name))


if __name__ == "__main__":
    main()
