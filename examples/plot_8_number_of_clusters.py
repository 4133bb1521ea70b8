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
halves = np.split(np.random.default_rng(0).permutation(len(X)), 2)
likelihood, agreement = [], []
for n_clusters in numbers:
    models = [MixMateClustering(n_clusters, **settings).fit(X[h]) for h in halves]
    others = reversed(halves)
    likelihood.append([m.score(X[h]) for m, h in zip(models, others, strict=True)])
    agreement.append(adjusted_rand_score(*(model.predict(X) for model in models)))

# %%
# The data were drawn from five dictionaries.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes[0].plot(numbers, likelihood, marker="o", label=["second half", "first half"])
axes[0].set(ylabel="log-likelihood of new samples")
axes[0].legend()
axes[1].plot(numbers, agreement, marker="o")
axes[1].set(ylabel="adjusted Rand index of two models")
for ax in axes:
    ax.axvline(5, linestyle=":", color="tab:gray")
    ax.set(xlabel="n_clusters", xticks=numbers)
figure.suptitle(
    "New samples are likely, and two halves agree, where the number is right"
)
