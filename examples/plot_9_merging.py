"""
Merging clusters
================

A fit with too many clusters splits some of the true ones, and a fit with too few cannot
be repaired. So it is safe to ask for more clusters than there may be, and to merge them
afterwards, along a tree. No new fit and no labels are needed.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.plotting import ConfusionDisplay, DendrogramDisplay

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(n_clusters=20, random_state=0).fit(X)

# %%
# The tree tells which clusters are close to each other: how much worse their samples
# fit if they are assigned to the other cluster. Below it are the means of the clusters.
# Two clusters of the same digit are joined by short branches. The dotted line cuts the
# tree into ten clusters.
DendrogramDisplay.from_estimator(mixmate, X, n_clusters=10)

# %%
# ``cut`` returns a new estimator, with ten clusters. The dictionaries are the same, but
# a cluster may consist of several; ``component_labels_`` has the cluster of each.
merged = mixmate.cut(10)
print(merged.component_labels_)

# %%
# The known digits are used only for the comparison: 20 clusters, and ten after the
# merge.
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for ax, model in zip(axes, [mixmate, merged], strict=True):
    ConfusionDisplay.from_estimator(model, X, y, ax=ax)

# %%
# Where the tree is wrong, or where you know better, merge single clusters by their
# numbers.
by_hand = mixmate.merge(0, 1)
print(by_hand.n_clusters_)
