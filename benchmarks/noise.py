"""Measure the effect of learned noise on clusters, calibration, likelihood and time.

Run ``python -m benchmarks.noise``. Each model is fitted to one half of a data set, with
the paper's noise and with learned noise, and labels and scores the other half:
normalised mutual information with the classes, expected calibration error (the
difference between the probability of the most probable cluster and the frequency with
which it is correct, in ten bins), and mean log-density. Means of three seeds, on a
sample of the model, on data sets of scikit-learn (standardised except for the digits)
and, if available, on the pixels of 4,000 images of MNIST, are written to
``benchmarks/results/noise.json``.
"""

import time
import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import confusion_matrix, normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from skmixmate import MixMateClustering, datasets

from . import report

N_BINS = 10
NOISE = {"fixed": 0.5, "learned": "auto"}


def from_the_model(seed):
    """Draw samples from the model with a scale of one and the default rate."""
    bunch = datasets.make_sparse_mixture(
        3000, 16, n_clusters=4, n_atoms=4, noise=0.4, random_state=seed
    )
    params = {"n_atoms": 4, "scale": 1.0, "fit_intercept": False, "init": "ssc"}
    # Train until the atoms are recovered: the error of the atoms counts as noise.
    params |= {"learning_rate": 5e-3, "batch_size": 64, "max_iter": 30, "tol": 0}
    return bunch.data, bunch.target, params


def bundled(load, n_atoms, seed):
    X, y = load(return_X_y=True)
    if load is not load_digits:
        X = StandardScaler().fit_transform(X)
    order = np.random.default_rng(seed).permutation(len(X))
    return X[order], y[order], {"n_atoms": n_atoms, "image_shape": None}


def mnist(seed):
    bunch = datasets.load_mnist()
    indices = np.random.default_rng(seed).permutation(len(bunch.data))[:4000]
    params = {"image_shape": (28, 28), "representation": "pixels"}
    return bunch.data[indices], bunch.target[indices], params


DATA = {
    "model": from_the_model,
    "wine": lambda seed: bundled(load_wine, 3, seed),
    "breast_cancer": lambda seed: bundled(load_breast_cancer, 5, seed),
    "digits": lambda seed: bundled(load_digits, 20, seed),
    "mnist_pixels": mnist,
}


def calibration_error(probabilities, y):
    """Return the calibration error of clusters that are matched to the classes."""
    labels = probabilities.argmax(axis=1)
    _, classes = linear_sum_assignment(-confusion_matrix(labels, y))
    is_right = classes[labels] == y
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = np.bincount(bins, confidence - is_right, N_BINS)
    return float(np.abs(gaps).sum() / len(y))


def measure(X, y, params, noise_variance, seed):
    half = len(X) // 2
    mixmate = MixMateClustering(
        len(np.unique(y)), noise_variance=noise_variance, random_state=seed, **params
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_iter is reached
        mixmate.fit(X[:half])
    seconds = time.perf_counter() - start
    probabilities = mixmate.predict_proba(X[half:])
    return {
        "NMI": normalized_mutual_info_score(y[half:], probabilities.argmax(axis=1)),
        "calibration_error": calibration_error(probabilities, y[half:]),
        "log_density": mixmate.score(X[half:]),
        "noise_variance": mixmate.noise_variance_,
        "epochs": mixmate.n_iter_,
        "seconds": seconds,
    }


def compare(load):
    """Return the means over three seeds, with fixed and with learned noise."""
    runs = {name: [] for name in NOISE}
    for seed in range(3):
        X, y, params = load(seed)
        for name, noise_variance in NOISE.items():
            runs[name].append(measure(X, y, params, noise_variance, seed))
    return {
        name: {
            figure: round(float(np.mean([run[figure] for run in seeds])), 4)
            for figure in seeds[0]
        }
        for name, seeds in runs.items()
    }


def main():
    figures = {}
    for name, load in DATA.items():
        try:
            figures[name] = compare(load)
        except FileNotFoundError as error:
            print(error)
    report.write("noise", figures)


if __name__ == "__main__":
    main()
