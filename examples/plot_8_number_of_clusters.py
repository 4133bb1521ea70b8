"""
Choosing the number of clusters
===============================

More clusters always reconstruct the data better, so the loss cannot select their
number. ``n_clusters="auto"`` can, without labels: it looks for the number of groups in
graphs of the samples, and of components in normal mixtures, before the fit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.plotting import NClustersDisplay

X = make_sparse_mixture(
    1200, 32, n_clusters=5, n_atoms=4, noise=0.2, random_state=0
).data
settings = {"n_atoms": 4, "noise_variance": "auto", "init": "ssc", "random_state": 0}
settings |= {"max_iter": 8, "tol": 0, "batch_size": 64, "learning_rate": 5e-3}
NClustersDisplay.from_estimator(MixMateClustering("auto", **settings).fit(X))

# %%
# Two other criteria need fits with each number. The first is the likelihood of new
# samples, which is highest under the model that they were drawn from: fit the model to
# one half, with learned noise, and score the other half. The second is stability: with
# the right number of clusters, two models, each fitted to one half, assign the samples
# in the same way.
numbers = range(3, 8)
halves = np.split(np.random.default_rng(0).permutation(len(X)), 2)
likelihood, agreement = [], []
for n_clusters in numbers:
    models = [MixMateClustering(n_clusters, **settings).fit(X[h]) for h in halves]
    others = reversed(halves)
    likelihood.append([m.score(X[h]) for m, h in zip(models, others, strict=True)])
    agreement.append(adjusted_rand_score(*(model.predict(X) for model in models)))

# %%
# The data were drawn from five dictionaries. At five clusters the likelihood of new
# samples and the agreement of the two models are high.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
axes[0].plot(numbers, likelihood, marker="o", label=["second half", "first half"])
axes[0].set(ylabel="log-likelihood of new samples")
axes[0].legend()
axes[1].plot(numbers, agreement, marker="o")
axes[1].set(ylabel="adjusted Rand index of two models")
for ax in axes:
    ax.axvline(5, linestyle=":", color="tab:gray")
    ax.set(xlabel="n_clusters", xticks=numbers)
figure.suptitle("Likelihood of new samples, and stability of the clusters")
