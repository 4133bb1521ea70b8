"""Compare the defaults for tabular data with GaussianMixture and KMeans.

Run ``python -m benchmarks.plain``. The data sets are those bundled with scikit-learn
(standardised except for the digits), and synthetic ones, drawn again for each of five
seeds; labels are used for the scores only. The digits are plain features here, not
images. `GaussianMixture` with each covariance type and `KMeans` have their defaults,
except for ten runs of the latter. To measure the effect of each part of the default, it
is left out in turn: "one graph" starts from the clusters of a single graph instead of
those of several methods, "without rates" has the paper's single rate for all atoms, and
50 atoms. Scores are written to ``benchmarks/results/plain.json``.
"""

import warnings
from functools import partial

import numpy as np
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import scale

from skmixmate import MixMateClustering

from . import report
from .table1 import scores

N_SEEDS = 5
COVARIANCES = ("full", "tied", "diag", "spherical")


def bundled(name, seed):
    bunch = getattr(datasets, f"load_{name}")()
    return scale(bunch.data), bunch.target


def digits(seed):
    return datasets.load_digits(return_X_y=True)


def blobs(n_features, n_clusters, seed, spreads=1.0):
    return datasets.make_blobs(
        1000, n_features, centers=n_clusters, cluster_std=spreads, random_state=seed
    )


def sheared(n_features, n_clusters, seed):
    """Draw blobs that are stretched and rotated alike."""
    X, y = blobs(n_features, n_clusters, seed)
    shear = np.random.default_rng(seed).normal(size=(n_features, n_features))
    return X @ shear, y


def gaussians(n_features, n_clusters, seed):
    """Draw normal distributions of any shape, size and weight with little overlap."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n_clusters, 5.0))
    groups = []
    for count in np.maximum(1500 * weights, 50).astype(int):
        turn = np.linalg.qr(rng.normal(size=(n_features, n_features)))[0]
        lengths = np.exp(rng.uniform(np.log(0.3), np.log(1.7), n_features))
        center = rng.normal(size=n_features) * 3 / n_features**0.25
        groups.append(center + rng.normal(size=(count, n_features)) * lengths @ turn)
    return np.concatenate(groups), np.repeat(
        np.arange(n_clusters), list(map(len, groups))
    )


def classes(n_features, n_clusters, seed):
    X, y = datasets.make_classification(
        1500,
        n_features,
        n_informative=max(4, n_features // 2),
        n_redundant=0,
        n_classes=n_clusters,
        n_clusters_per_class=1,
        class_sep=2.0,
        random_state=seed,
    )
    return scale(X), y


def moons(seed):
    return datasets.make_moons(600, noise=0.06, random_state=seed)


SETS = {
    "iris": partial(bundled, "iris"),
    "wine": partial(bundled, "wine"),
    "breast cancer": partial(bundled, "breast_cancer"),
    "digits": digits,
    "blobs, 2 features": partial(blobs, 2, 4),
    "blobs, 3 features": partial(blobs, 3, 4),
    "blobs, 10 features": partial(blobs, 10, 5),
    "blobs of unequal size, 2 features": partial(blobs, 2, 3, spreads=[1, 2.5, 0.5]),
    "blobs of unequal size, 10 features": partial(
        blobs, 10, 4, spreads=[1, 2.5, 0.5, 4]
    ),
    "sheared blobs, 2 features": partial(sheared, 2, 3),
    "sheared blobs, 10 features": partial(sheared, 10, 5),
    "normal, any shape, 2 features": partial(gaussians, 2, 3),
    "normal, any shape, 5 features": partial(gaussians, 5, 5),
    "normal, any shape, 15 features": partial(gaussians, 15, 6),
    "make_classification, 4 features": partial(classes, 4, 3),
    "make_classification, 25 features": partial(classes, 25, 5),
    "two moons": moons,
}


def models(n_clusters, seed):
    mixmate = partial(
        MixMateClustering, n_clusters, image_shape=None, random_state=seed
    )
    one_rate = {"alpha": 0.75, "n_atoms": 50}
    return {
        "MixMate": mixmate(),
        "MixMate, one graph": mixmate(init="spectral"),
        "MixMate, without rates": mixmate(**one_rate),
        "MixMate, one graph, without rates": mixmate(init="spectral", **one_rate),
        **{
            f"GaussianMixture, {covariance}": GaussianMixture(
                n_clusters, covariance_type=covariance, random_state=seed
            )
            for covariance in COVARIANCES
        },
        "KMeans": KMeans(n_clusters, n_init=10, random_state=seed),
    }


def compare(draw):
    """Return the mean and worst scores of each model."""
    runs = {}
    for seed in range(N_SEEDS):
        X, y = draw(seed=seed)
        for name, model in models(len(np.unique(y)), seed).items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                labels = model.fit_predict(X)
            runs.setdefault(name, []).append(scores(y, labels))
    return summarize(runs)


def summarize(runs):
    """Return the mean and worst scores of each model over its runs."""
    return {
        name: {
            score: summary([one[score] for one in model_scores])
            for score in model_scores[0]
        }
        for name, model_scores in runs.items()
    }


def summary(values):
    return {"mean": round(float(np.mean(values)), 4), "worst": round(min(values), 4)}


def main():
    figures = {"seeds": N_SEEDS, "sets": {}}
    for name, draw in SETS.items():
        figures["sets"][name] = compare(draw)
        report.write("plain", figures)


if __name__ == "__main__":
    main()
