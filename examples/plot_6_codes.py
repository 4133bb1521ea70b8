"""
Sparse codes as features
========================

Clusters and codes are learned from all samples, labelled or not. If few labels are
known, the posterior of the clusters is the best input of a linear classifier, which
only has to learn the class of each cluster. With more labels, codes add the differences
within a cluster, and posterior and codes together are better than pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skmixmate import MixMateClustering

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(n_clusters=10, n_atoms=20, random_state=0).fit(X)
posterior = mixmate.predict_proba(X)
representations = {
    "pixels": X,
    "posterior": posterior,
    "posterior and codes": np.hstack([posterior, mixmate.transform(X)]),
}

# %%
# The plot shows the accuracy on the unlabelled samples, over twenty random choices of
# the labelled ones.
rng = np.random.default_rng(0)
n_labelled = [20, 50, 100, 200, 500]
figure, ax = plt.subplots(layout="constrained")
for name, features in representations.items():
    accuracies = np.empty((20, len(n_labelled)))
    for accuracy in accuracies:
        order = rng.permutation(len(X))
        for i, n in enumerate(n_labelled):
            known, unknown = order[:n], order[n:]
            classifier = make_pipeline(
                MaxAbsScaler(), LogisticRegression(C=10, max_iter=300)
            )
            classifier.fit(features[known], y[known])
            accuracy[i] = classifier.score(features[unknown], y[unknown])
    mean, deviation = accuracies.mean(axis=0), accuracies.std(axis=0)
    ax.errorbar(n_labelled, mean, deviation, marker="o", capsize=3, label=name)
ax.set(xlabel="labelled samples", ylabel="accuracy on the others", xscale="log")
ax.set_xticks(n_labelled, n_labelled)
ax.minorticks_off()
ax.legend()
figure.suptitle("Logistic regression on three representations of the digits")
