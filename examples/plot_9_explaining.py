"""
Explaining clusters
===================

Which samples are typical, what tells a cluster from the others, and which samples are
doubtful? The data are digits, and 178 wines with 13 measurements.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.preprocessing import StandardScaler

from skmixmate import MixMateClustering
from skmixmate.plotting import MapDisplay, ProfileDisplay

# %%
# A map of digits. Numbers mark the clusters, colours the true digits. Clusters that are
# alike lie near each other, and a sample between two of them may belong to either.
X, y = load_digits(return_X_y=True)
digits = MixMateClustering(n_clusters=10, random_state=0).fit(X)
MapDisplay.from_estimator(digits, X, y, cmap="tab10")

# %%
# The most typical samples of each cluster, and on the right its most doubtful ones.
found = digits.representatives(X, n=6)
rows = np.hstack([found.typical, found.doubtful[:, ::-1]])
figure, axes = plt.subplots(10, 12, figsize=(6.5, 5.6), layout="constrained")
for ax, row in zip(axes.ravel(), rows.ravel(), strict=True):
    ax.imshow(X[row].reshape(8, 8), cmap="gray")
    ax.set(xticks=[], yticks=[])
axes[0, 0].set_title("typical", loc="left")
axes[0, -1].set_title("doubtful", loc="right")

# %%
# The measurements that tell the clusters of wines apart, in the order of their part in
# the log-odds. They are higher (orange) or lower (blue) than in other clusters.
wine = load_wine(as_frame=True)
X = StandardScaler().set_output(transform="pandas").fit_transform(wine.data)
wines = MixMateClustering(n_clusters=3, random_state=0).fit(X)
ProfileDisplay.from_estimator(wines, X)
