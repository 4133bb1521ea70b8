"""
A few known labels
==================

Clusters need not be the classes that you have in mind. A few labels tell the fit which
classes these are: here five for each of the ten digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.plotting import ConfusionDisplay

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
known = np.full(len(y), -1)
for digit in range(10):
    known[rng.choice(np.flatnonzero(y == digit), size=5, replace=False)] = digit

# %%
# Without labels, two writings of the same digit may be two clusters, and similar digits
# one. The accuracy is that of the best matching of clusters and digits.
without = MixMateClustering(n_clusters=10, random_state=0).fit(X)
print(f"without labels: {clustering_accuracy_score(y, without.labels_):.3f}")

# %%
# With labels no matching is needed: cluster 3 is the digit 3. Only the rows whose label
# was not given count.
mixmate = MixMateClustering(n_clusters=10, supervision="auto", random_state=0)
labels = mixmate.fit(X, known).labels_
is_open = known < 0
print(f"with 50 labels: {np.mean(labels[is_open] == y[is_open]):.3f}")

# %%
# The same, digit by digit, with and without labels.
figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
for ax, title, found in zip(
    axes,
    ["without labels", "with five labels of each digit"],
    [without.labels_, labels],
    strict=True,
):
    ConfusionDisplay.from_predictions(y[is_open], found[is_open], ax=ax)
    ax.set_title(title)
