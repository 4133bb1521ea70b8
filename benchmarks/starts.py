"""Which graph starts best: neighbours, self-representation, or both.

Run ``python -m benchmarks.starts``. On the data sets that scikit-learn bundles
(standardised, but for the digits) the graphs are made of the features as they are;
on 5,000 images of each of the paper's sets, where these are to be had, of scattering
features. Mean scores of three seeds go to ``benchmarks/results/starts.json``.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from skmixmate import SpectralGraphClustering, clustering_accuracy_score, datasets
from skmixmate.image._features import graph_features

from . import report
from .table1 import IMAGE_SHAPES

BUNDLED = [load_wine, load_breast_cancer, load_iris, load_digits]
GRAPHS = {
    "neighbors": {},
    "self_representation": {"n_neighbors": None, "n_nonzero_coefs": 5},
    "both": {"n_nonzero_coefs": 5},
    # The default for images.
    "both_cosine_walk": {"n_nonzero_coefs": 5, "metric": "cosine", "n_steps": 4},
}


def compare(X, y, n_clusters, seed):
    """Scores of each start, by its name."""
    starts = {
        name: SpectralGraphClustering(n_clusters, random_state=seed, **params)
        for name, params in GRAPHS.items()
    }
    starts["kmeans"] = KMeans(n_clusters, n_init=10, random_state=seed)
    labels = {name: start.fit_predict(X) for name, start in starts.items()}
    return {
        name: {
            "NMI": normalized_mutual_info_score(y, found),
            "ACC": clustering_accuracy_score(y, found),
        }
        for name, found in labels.items()
    }


def mean(comparisons):
    return {
        start: {
            score: round(float(np.mean([one[start][score] for one in comparisons])), 3)
            for score in ("NMI", "ACC")
        }
        for start in comparisons[0]
    }


def bundled(load, seed):
    X, y = load(return_X_y=True)
    if load is not load_digits:
        X = StandardScaler().fit_transform(X)
    return X, y


def images(name, seed):
    bunch = getattr(datasets, f"load_{name}")()
    drawn = np.random.default_rng(seed).permutation(len(bunch.data))[:5000]
    return graph_features(bunch.data[drawn], IMAGE_SHAPES[name]), bunch.target[drawn]


def main():
    sources = {load.__name__.removeprefix("load_"): (bundled, load) for load in BUNDLED}
    sources |= {name: (images, name) for name in IMAGE_SHAPES}
    figures = {}
    for name, (source, argument) in sources.items():
        comparisons = []
        for seed in range(3):
            X, y = source(argument, seed)
            comparisons.append(compare(X, y, len(np.unique(y)), seed))
        figures[name] = mean(comparisons)
        report.write("starts", figures)


if __name__ == "__main__":
    main()
