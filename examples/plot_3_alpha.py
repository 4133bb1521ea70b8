"""
The role of alpha
=================

``alpha`` is the price of a code. Codes get shorter as it grows; the clusters stay the
same over a wide range of it. This is Fig. 3 of the paper, on scikit-learn's digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skmixmate import MixMateClustering, clustering_accuracy_score

X, y = load_digits(return_X_y=True)
alphas = np.geomspace(0.06, 8, 7)
scores, sizes = [], []
for alpha in alphas:
    mixmate = MixMateClustering(n_clusters=10, alpha=alpha, random_state=0).fit(X)
    scores.append(
        [
            score(y, mixmate.labels_)
            for score in (
                clustering_accuracy_score,
                normalized_mutual_info_score,
                adjusted_rand_score,
            )
        ]
    )
    sizes.append((mixmate.transform(X) != 0).sum(axis=1).mean())

# %%
figure, (above, below) = plt.subplots(2, sharex=True, layout="constrained")
above.plot(alphas, scores, marker="o", label=["accuracy", "NMI", "ARI"])
above.set(ylabel="score", xscale="log")
above.legend()
below.plot(alphas, sizes, marker="o")
below.set(xlabel="alpha", ylabel="atoms used\nby a sample")
figure.suptitle("Codes get shorter, clusters stay")
