"""
Clustering and filling in images with missing pixels
====================================================

A quarter, then half of the pixels are taken away from the digits. They are clustered
as they are, NaN and all, and filled with what their cluster says.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering, clustering_accuracy_score

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
rows = {"original": X[:10]}
for share in (0.25, 0.5):
    missing = rng.random(X.shape) < share
    incomplete = np.where(missing, np.nan, X)
    mixmate = MixMateClustering(n_clusters=10, random_state=0).fit(incomplete)
    accuracy = clustering_accuracy_score(y, mixmate.labels_)
    print(f"{share:.0%} missing: accuracy {accuracy:.3f}")
    rows[f"{share:.0%} missing"] = incomplete[:10]
    rows[f"{share:.0%} filled"] = np.where(missing, mixmate.reconstruct(incomplete), X)[
        :10
    ]

# %%
# Missing pixels are left blank in red.
figure, axes = plt.subplots(
    len(rows),
    10,
    figsize=(9, 5),
    subplot_kw={"xticks": [], "yticks": []},
    layout="constrained",
)
colors = plt.colormaps["gray_r"].with_extremes(bad="tab:red")
for line, (name, images) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name, rotation=0, horizontalalignment="right")
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap=colors, vmin=0, vmax=16)
figure.suptitle("Taken away, and filled in")
