"""Cluster scikit-learn's 8x8 digits, compare with KMeans, and plot the dictionaries.

Run ``python examples/digits.py``; the plot is saved as ``digits_dictionaries.png``.
"""

import matplotlib

matplotlib.use("agg")

from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.plotting import DictionaryDisplay

PLOT_FILE = "digits_dictionaries.png"


def print_scores(name, y, labels):
    scores = (
        normalized_mutual_info_score(y, labels),
        adjusted_rand_score(y, labels),
        clustering_accuracy_score(y, labels),
    )
    print(f"{name:20}" + "".join(f"{score:10.3f}" for score in scores))


def main():
    X, y = load_digits(return_X_y=True)
    mixmate = MixMateClustering(n_clusters=10, max_iter=30, tol=0, random_state=0).fit(
        X
    )
    kmeans = KMeans(n_clusters=10, n_init=10, random_state=0).fit(X)
    print(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}")
    print_scores("MixMateClustering", y, mixmate.labels_)
    print_scores("KMeans", y, kmeans.labels_)
    display = DictionaryDisplay.from_estimator(mixmate, X)
    display.figure_.savefig(PLOT_FILE)
    print(f"The dictionaries are plotted in {PLOT_FILE}.")


if __name__ == "__main__":
    main()
