"""
The effect of alpha
===================

``alpha`` is the weight of the penalty on the codes. Codes get shorter as it increases;
the clusters hardly change over a wide range of values. This is Fig. 3 of the paper, on
scikit-learn's digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skmixmate import MixMateClustering, clustering_accuracy_score

X, y = load_digits(return_X_y=True)
alphas = np.geomspace(0.06, 8, 7)
scores, code_lengths = [], []
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
    code_lengths.append((mixmate.transform(X) != 0).sum(axis=1).mean())

# %%
figure, (score_ax, length_ax) = plt.subplots(2, sharex=True, layout="constrained")
score_ax.plot(alphas, scores, marker="o", label=["accuracy", "NMI", "ARI"])
score_ax.set(ylabel="score", xscale="log")
score_ax.legend()
length_ax.plot(alphas, code_lengths, marker="o")
length_ax.set(xlabel="alpha", ylabel="atoms per\nsample")
figure.suptitle("Accuracy and length of the codes over alpha")
