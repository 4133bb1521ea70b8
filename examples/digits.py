"""Cluster scikit-learn's 8x8 digits, beside KMeans, and draw the dictionaries.

Run ``python examples/digits.py``; the picture is ``digits_dictionaries.png``.
"""

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skmixmate import MixMateClustering, clustering_accuracy_score

PICTURE = "digits_dictionaries.png"
N_ATOMS_DRAWN = 12


def print_scores(name, y, labels):
    scores = (
        normalized_mutual_info_score(y, labels),
        adjusted_rand_score(y, labels),
        clustering_accuracy_score(y, labels),
    )
    print(f"{name:20}" + "".join(f"{score:10.3f}" for score in scores))


def draw_dictionaries(mixmate, path):
    """Draw the intercept of each cluster and the atoms that it uses most."""
    usage = np.abs(mixmate.transform(load_digits().data)).sum(axis=0)
    usage = usage.reshape(mixmate.n_clusters, mixmate.n_atoms)
    figure, axes = plt.subplots(
        mixmate.n_clusters,
        1 + N_ATOMS_DRAWN,
        figsize=(1 + N_ATOMS_DRAWN, mixmate.n_clusters),
        subplot_kw={"xticks": [], "yticks": []},
        layout="constrained",
    )
    for k, row in enumerate(axes):
        row[0].imshow(mixmate.intercepts_[k].reshape(8, 8), cmap="gray_r")
        row[0].set_ylabel(f"cluster {k}")
        atoms = mixmate.dictionaries_[k][np.argsort(-usage[k])[:N_ATOMS_DRAWN]]
        for ax, atom in zip(row[1:], atoms, strict=True):
            limit = np.abs(atom).max()
            ax.imshow(atom.reshape(8, 8), cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.suptitle("Intercept of each cluster, and the atoms that it uses most")
    figure.savefig(path)
    plt.close(figure)


def main():
    X, y = load_digits(return_X_y=True)
    mixmate = MixMateClustering(n_clusters=10, max_iter=30, tol=0, random_state=0).fit(
        X
    )
    kmeans = KMeans(n_clusters=10, n_init=10, random_state=0).fit(X)
    print(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}")
    print_scores("MixMateClustering", y, mixmate.labels_)
    print_scores("KMeans", y, kmeans.labels_)
    draw_dictionaries(mixmate, PICTURE)
    print(f"dictionaries drawn in {PICTURE}")


if __name__ == "__main__":
    main()
