"""Compare graphs for the initial clustering: neighbours, self-representation, or both.

Run ``python -m benchmarks.starts``. On the datasets bundled with scikit-learn (all
standardised except the digits) the graphs are built from the features themselves; on
5,000 images of each dataset of the paper, from scattering features. Mean scores over
three seeds are written to ``benchmarks/results/starts.json``.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler

from skmixmate import SpectralGraphClustering, clustering_accuracy_score, datasets
from skmixmate.image._features import ScatteringFeatures
from skmixmate.initialization.initializers import INITIALIZERS

from . import report
from .table1 import IMAGE_SHAPES

BUNDLED = [load_wine, load_breast_cancer, load_iris, load_digits]
GRAPHS = {
    "neighbors": {},
    "self_representation": {"n_neighbors": None, "n_nonzero_coefs": 5},
    "both": {"n_nonzero_coefs": 5},
    "both_cosine_walk": {"n_nonzero_coefs": 5, "metric": "cosine", "n_steps": 4},
}


def compare(X, y, n_clusters, seed):
    """Return the scores of each clustering method by its name."""
    methods = {
        name: SpectralGraphClustering(n_clusters, random_state=seed, **params)
        for name, params in GRAPHS.items()
    }
    for_images = INITIALIZERS["auto"](n_clusters, True)  # the default
    methods["both_whitened_walk"] = for_images.set_params(random_state=seed)
    methods["kmeans"] = KMeans(n_clusters, n_init=10, random_state=seed)
    labels = {name: method.fit_predict(X) for name, method in methods.items()}
    return {
        name: {
            "NMI": normalized_mutual_info_score(y, predicted),
            "ACC": clustering_accuracy_score(y, predicted),
        }
        for name, predicted in labels.items()
    }


def mean_scores(comparisons):
    return {
        method: {
            score: round(float(np.mean([one[method][score] for one in comparisons])), 3)
            for score in ("NMI", "ACC")
        }
        for method in comparisons[0]
    }


def load_bundled(load, seed):
    X, y = load(return_X_y=True)
    if load is not load_digits:
        X = StandardScaler().fit_transform(X)
    return X, y


def load_images(name, seed):
    bunch = getattr(datasets, f"load_{name}")()
    indices = np.random.default_rng(seed).permutation(len(bunch.data))[:5000]
    rows = bunch.data[indices]
    return image_features(rows, IMAGE_SHAPES[name], seed), bunch.target[indices]


def image_features(rows, image_shape, seed):
    """Compute the features of images from which the default builds its graphs."""
    features = ScatteringFeatures(
        image_shape, 200, len(rows), "cpu", np.random.RandomState(seed)
    )
    return features.fit_transform(rows)


def main():
    sources = {
        load.__name__.removeprefix("load_"): (load_bundled, load) for load in BUNDLED
    }
    sources |= {name: (load_images, name) for name in IMAGE_SHAPES}
    figures = {}
    for name, (load, argument) in sources.items():
        comparisons = []
        for seed in range(3):
            X, y = load(argument, seed)
            comparisons.append(compare(X, y, len(np.unique(y)), seed))
        figures[name] = mean_scores(comparisons)
        report.write("starts", figures)


if __name__ == "__main__":
    main()
