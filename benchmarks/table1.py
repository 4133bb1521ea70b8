"""Reproduce Table 1 of the paper: three sets of images, before and after training.

Run ``python -m benchmarks.table1`` with the data sets in the folder of the environment
variable SKMIXMATE_DATA. All images, seeds 0 to 4; labels are used for the scores only.
INIT is the initialisation of the same fit, before training. "scattering" is the bare
call, ``MixMateClustering(n_clusters=10)``, which recognises images; "pixels" has that
representation, and "features" is told that the rows are no images.
"incomplete" is the default if 90% of the images lack 25% of their pixels. The last two
are for MNIST only.

The methods for comparison are KMeans, GaussianMixture, K-DAE and DAMIC
(``benchmarks/peers``), and ClustPy's DEC and DCN with their defaults. ClustPy needs a
separate environment, with clustpy 0.0.3 and torch; pass its ``python`` by
``--clustpy-python``. Without it DEC and DCN are left out.

``--quick`` uses USPS, one seed, the default representation, and for comparison only
KMeans and GaussianMixture; it takes about a minute. The figures are written to
``benchmarks/results/table1.json`` (``table1_quick.json``) after every fit, with the
machine and the versions; fits that the file already contains, from the same ones, are
not repeated, and several of these commands may run at the same time.
"""

import argparse
import json
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from skmixmate import MixMateClustering, clustering_accuracy_score, datasets

from . import report
from .peers.autoencoders import MixtureOfAutoencoders

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
METHODS = [*OURS, "kmeans", "gaussian_mixture", "k_dae", "damic", *CLUSTPY]


def scores(y, labels):
    return {
        "ACC": round(clustering_accuracy_score(y, labels), 4),
        "NMI": round(normalized_mutual_info_score(y, labels), 4),
        "ARI": round(adjusted_rand_score(y, labels), 4),
    }


class ClustPy:
    """A deep clustering method of ClustPy, run in a separate environment.

    Parameters
    ----------
    python : str
        Path of the Python interpreter of that environment.
    method : {"DEC", "DCN"}
    seed : int
    **parameters : dict
        Parameters of the method that differ from its defaults.
    """

    def __init__(self, python, method, seed, **parameters):
        self.arguments = [python, "-W", "ignore", "clustpy_worker.py", method, seed]
        self.parameters = json.dumps(parameters)

    def fit(self, X):
        """Cluster the rows of X, float32 of shape (n_samples, n_features)."""
        with tempfile.TemporaryDirectory() as folder:
            images, labels = Path(folder, "images.npy"), Path(folder, "labels.npy")
            np.save(images, X)
            output = subprocess.run(
                [*map(str, self.arguments), images, labels, self.parameters],
                cwd=Path(__file__).with_name("peers"),
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            self.labels_ = np.load(labels)
        self.description_ = json.loads(output.splitlines()[-1])
        self.n_parameters_ = self.description_["parameters"]
        return self


def make(method, seed, clustpy_python=None, **params):
    """Create the estimator of one fit."""
    if method == "kmeans":
        return KMeans(10, n_init=10, random_state=seed)
    if method == "gaussian_mixture":
        # Pixels at the margins hardly vary: the covariance needs regularisation.
        return GaussianMixture(
            10, covariance_type="diag", reg_covar=1e-2, random_state=seed
        )
    if method in CLUSTPY:
        return ClustPy(clustpy_python, method.upper(), seed)
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


def run(method, seed, bunch, clustpy_python):
    """Fit once, and score the labels before and after training."""
    X, y = bunch.data, bunch.target
    if method == "incomplete":
        X = without_pixels(X, seed)
    estimator = make(method, seed, clustpy_python)
    seconds = report.seconds(lambda: fit(estimator, X))
    labels = getattr(estimator, "labels_", None)
    result = {
        "seconds": round(seconds, 1),
        "TRAIN": scores(y, estimator.predict(X) if labels is None else labels),
        "parameters": n_parameters(estimator),
        "machine": report.machine(),
    }
    if method in CLUSTPY:
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
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    report_name = "table1_quick" if options.quick else "table1"
    if options.quick:
        options.data, options.methods, options.seeds = ["usps"], QUICK, [0]
    for name in options.data:
        bunch = getattr(datasets, f"load_{name}")()
        for method in options.methods:
            if method in CLUSTPY and options.clustpy_python is None:
                continue
            if method in MNIST_ONLY and name != "mnist":
                continue
            for seed in options.seeds:
                key = f"{name} {method}"
                earlier = load_runs(report_name).get(key, {}).get(str(seed), {})
                if earlier.get("machine") == report.machine():
                    continue
                result = run(method, seed, bunch, options.clustpy_python)
                runs = load_runs(report_name)  # other processes may have written since
                runs.setdefault(key, {})[str(seed)] = result
                write(report_name, runs)
    write(report_name, load_runs(report_name))


if __name__ == "__main__":
    main()
