"""
Samples with wrong entries
==========================

Errors of measurement are seldom normal: now and then an entry is far off. The
likelihood "student_t" expects that, so such entries have little influence on the
dictionaries, and ``outlier_scores`` finds the samples that have them.
"""

import matplotlib.pyplot as plt
import numpy as np

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture

data = make_sparse_mixture(n_samples=600, n_features=40, random_state=0)
X, y = data.data.copy(), data.target

# %%
# One sample in ten gets four wrong entries of forty.

rng = np.random.default_rng(0)
is_wrong = rng.random(len(X)) < 0.1
for row in np.flatnonzero(is_wrong):
    X[row, rng.choice(40, size=4, replace=False)] += 10 * rng.normal(size=4)

# %%
# The clusters are found, and nearly all samples of the highest scores are those with
# wrong entries:

mixmate = MixMateClustering(n_clusters=3, likelihood="student_t", random_state=0).fit(X)
scores = mixmate.outlier_scores(X)
highest = np.argsort(scores)[::-1][: is_wrong.sum()]
print(f"accuracy {clustering_accuracy_score(y, mixmate.labels_):.3f}")
print(f"{is_wrong[highest].sum()} of {is_wrong.sum()} samples with wrong entries found")

# %%

figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
bins = np.linspace(scores.min(), scores.max(), 60)
ax.hist(scores[~is_wrong], bins, alpha=0.7, label="all entries right")
ax.hist(scores[is_wrong], bins, alpha=0.7, label="four of forty are wrong")
ax.set(xlabel="outlier score", ylabel="samples")
ax.legend()
