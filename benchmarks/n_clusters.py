"""Compare criteria for the number of clusters on data whose number is known.

Run ``python -m benchmarks.n_clusters``. Draws of each kind have other numbers of
clusters, features and samples; none were used to choose the criterion. "auto" is
:func:`skmixmate.cluster.estimate_n_clusters`, "neighbors_gap" and "mixture_loss" are
parts of its evidence by themselves. "silhouette" is that of k-means, "bic" of
`GaussianMixture`, with the best of spherical, diagonal and (up to 20 features) full
covariances, "eigengap" the largest difference of two eigenvalues of the Laplacian, its
most common form. All look at 1 to 20 clusters, those without a value for one cluster
at 2 to 20. On the data bundled with scikit-learn, standardised except for the
digits, the number of classes is taken as true. With the folder of labelled sets as
argument, the number that "auto" finds on each is compared with the number of labels.
Figures are written to ``benchmarks/results/n_clusters.json``.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.linalg import eigvalsh
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import scale

from skmixmate.cluster import estimate_n_clusters
from skmixmate.cluster._graph import (
    degree_normalize,
    nearest_neighbors,
    self_tuning_affinity,
)
from skmixmate.datasets import make_sparse_mixture

from . import report
from .plain import gaussians

MAX_CLUSTERS = 20
N_DRAWS = {"blobs": 32, "model": 20, "embeddings": 10, "normal": 8, "none": 10}


def blobs(rng):
    """Draw blobs: of one size, of several spreads, of several sizes, or both."""
    n_clusters, n_samples = rng.integers(2, 11), rng.choice([500, 1000, 2000])
    sizes, spreads = [n_samples // n_clusters] * n_clusters, 1.0
    if rng.random() < 0.5:
        sizes = np.maximum(n_samples * rng.dirichlet(np.full(n_clusters, 4.0)), 40)
    if rng.random() < 0.5:
        spreads = np.exp(rng.uniform(np.log(0.5), np.log(2.5), n_clusters))
    X, _ = datasets.make_blobs(
        np.int64(sizes),
        rng.choice([2, 3, 5, 10, 20]),
        cluster_std=spreads,
        random_state=int(rng.integers(2**31)),
    )
    return X, n_clusters


def model(rng):
    """Draw sparse codes of random dictionaries."""
    n_clusters = rng.integers(2, 9)
    bunch = make_sparse_mixture(
        int(rng.choice([800, 1200, 2000])),
        int(rng.choice([20, 32, 64])),
        n_clusters=int(n_clusters),
        n_atoms=int(rng.integers(3, 9)),
        noise=float(rng.choice([0.1, 0.2, 0.3])),
        random_state=int(rng.integers(2**31)),
    )
    return bunch.data, n_clusters


def embeddings(rng):
    """Draw rows of norm 1 about tight directions."""
    n_clusters, n_samples = rng.integers(3, 16), rng.choice([1000, 2000, 5000])
    n_features = rng.choice([128, 384])
    centers = rng.normal(size=(n_clusters, n_features))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    weights = rng.dirichlet(np.full(n_clusters, rng.choice([4.0, 1000.0])))
    weights = np.maximum(weights, 0.02) / np.maximum(weights, 0.02).sum()
    X = centers[rng.choice(n_clusters, n_samples, p=weights)]
    noise = rng.uniform(0.3, 0.8) / np.sqrt(n_features)
    X = X + noise * rng.normal(size=X.shape)
    return X / np.linalg.norm(X, axis=1, keepdims=True), n_clusters


def normal(rng):
    """Draw normal distributions of any shape."""
    n_features, n_clusters = rng.choice([2, 5, 10, 15]), rng.integers(2, 8)
    X, _ = gaussians(n_features, n_clusters, int(rng.integers(2**31)))
    return X, n_clusters


def none(rng):
    """Draw data without clusters."""
    shape = rng.choice([200, 1000, 2000]), rng.choice([2, 5, 20, 100])
    draw = rng.normal if rng.random() < 0.5 else rng.uniform
    return draw(size=shape), 1


def bundled():
    for name in ("iris", "wine", "breast_cancer", "digits"):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield name, X if name == "digits" else scale(X), len(np.unique(y))


def criteria(X):
    """Return the number of clusters that each criterion selects."""
    n_clusters, scores = estimate_n_clusters(X, random_state=0)
    numbers = {
        "auto": n_clusters,
        "neighbors_gap": 2 + int(scores["neighbors_gap"][1:].argmax()),
        "mixture_loss": 1 + int(scores["mixture_loss"].argmin()),
    }
    X = X[np.random.default_rng(0).permutation(len(X))[:1000]]
    candidates = range(2, MAX_CLUSTERS + 1)
    silhouettes = [
        silhouette_score(X, KMeans(k, n_init=3, random_state=0).fit_predict(X))
        for k in candidates
    ]
    numbers["silhouette"] = 2 + int(np.argmax(silhouettes))
    numbers["bic"] = 1 + int(np.argmin([bic(X, k) for k in (1, *candidates)]))
    graph = degree_normalize(self_tuning_affinity(*nearest_neighbors(X, 10))).toarray()
    values = 1 - eigvalsh(graph)[::-1][: MAX_CLUSTERS + 1]
    numbers["eigengap"] = 2 + int(np.diff(values)[1:].argmax())
    return numbers


def bic(X, n_clusters):
    kinds = ["spherical", "diag", "full"][: 3 if X.shape[1] <= 20 else 2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return min(
            GaussianMixture(n_clusters, covariance_type=kind, random_state=0)
            .fit(X)
            .bic(X)
            for kind in kinds
        )


def summarize(errors):
    """Return how often each criterion is right, and within one."""
    return {
        criterion: {
            "right": round(float(np.mean(np.array(values) == 0)), 3),
            "within one": round(float(np.mean(np.abs(values) <= 1)), 3),
        }
        for criterion, values in errors.items()
    }


def labelled(folder):
    """Compare the number of clusters with the number of labels."""
    numbers, log_ratios = {}, []
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path) as file:
            X, y = file["X"].astype(float), file["y"]
        X = np.where(np.isnan(X), np.nanmean(X, axis=0), X)
        start = time.process_time()
        found, _ = estimate_n_clusters(scale(X), random_state=0)
        seconds = round(time.process_time() - start, 1)
        numbers[path.stem] = {
            "labels": len(np.unique(y)),
            "found": found,
            "seconds": seconds,
        }
        log_ratios.append(abs(np.log(found / len(np.unique(y)))))
    return {
        "mean absolute log-ratio": round(float(np.mean(log_ratios)), 3),
        "sets": numbers,
    }


def main():
    figures = {"draws": N_DRAWS, "kinds": {}, "bundled": {}}
    for kind, draw in {
        "blobs": blobs,
        "model": model,
        "embeddings": embeddings,
        "normal": normal,
        "none": none,
    }.items():
        errors = {}
        for seed in range(N_DRAWS[kind]):
            X, true = draw(np.random.default_rng([2026, seed]))
            for criterion, number in criteria(X).items():
                errors.setdefault(criterion, []).append(number - int(true))
        figures["kinds"][kind] = summarize(errors)
        report.write("n_clusters", figures)
    for name, X, true in bundled():
        figures["bundled"][name] = {"classes": true, **criteria(X)}
    for folder in sys.argv[1:]:
        figures["labelled"] = labelled(folder)
    report.write("n_clusters", figures)


if __name__ == "__main__":
    main()
