"""
Choosing the number of clusters
===============================

More clusters always write the data better, so that the loss does not tell how many
there are. Stability does: fit twice, on two halves of the data, and compare how the
two models label the same samples. With the right number they agree.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

X = make_sparse_mixture(1200, 32, n_clusters=5, n_atoms=4, random_state=0).data
numbers = range(2, 10)
rng = np.random.default_rng(0)
agreement = np.empty((3, len(numbers)))
for once in agreement:
    halves = np.split(rng.permutation(len(X)), 2)
    for i, n_clusters in enumerate(numbers):
        labels = [
            MixMateClustering(n_clusters, n_atoms=4, random_state=0)
            .fit(X[half])
            .predict(X)
            for half in halves
        ]
        once[i] = adjusted_rand_score(*labels)

# %%
# The data were drawn from five dictionaries.
figure, ax = plt.subplots(layout="constrained")
ax.plot(numbers, agreement.T, color="tab:blue", alpha=0.3)
ax.plot(numbers, agreement.mean(axis=0), color="tab:blue", marker="o")
ax.axvline(5, linestyle=":", color="tab:gray")
ax.set(xlabel="n_clusters", ylabel="adjusted Rand index of two halves")
figure.suptitle("Two halves agree where the number is right")
