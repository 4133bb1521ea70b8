"""
Choosing the number of clusters
===============================

More clusters always write the data better, so that the loss does not tell how many
there are. Two things do, without labels. New samples are most likely under the model
they were drawn from: fit to one half, and score the other, with noise that is learned.
And the right clusters are stable: two models, each of one half, agree in how they label
all samples.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

X = make_sparse_mixture(
    1200, 32, n_clusters=5, n_atoms=4, noise=0.2, random_state=0
).data
settings = {"n_atoms": 4, "noise_variance": "auto", "init": "ssc", "random_state": 0}
settings |= {"max_iter": 8, "tol": 0, "batch_size": 64, "learning_rate": 5e-3}
numbers = range(3, 8)
rng = np.random.default_rng(0)
likelihood, agreement = np.empty((2, 2, len(numbers)))
for once in range(2):
    first, second = np.split(rng.permutation(len(X)), 2)
    for i, n_clusters in enumerate(numbers):
        model = MixMateClustering(n_clusters, **settings)
        labels = model.fit(X[first]).predict(X)
        likelihood[once, i] = model.score(X[second])
        agreement[once, i] = adjusted_rand_score(
            labels, model.fit(X[second]).predict(X)
        )

# %%
# The data were drawn from five dictionaries.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
names = ["log-likelihood of new samples", "adjusted Rand index of two halves"]
for ax, name, values in zip(axes, names, [likelihood, agreement], strict=True):
    ax.plot(numbers, values.T, color="tab:blue", alpha=0.3)
    ax.plot(numbers, values.mean(axis=0), color="tab:blue", marker="o")
    ax.axvline(5, linestyle=":", color="tab:gray")
    ax.set(xlabel="n_clusters", ylabel=name)
figure.suptitle(
    "New samples are likely, and two halves agree, where the number is right"
)
