"""
Clustering and imputation of images with missing pixels
=======================================================

A quarter, then half of the pixels of the digits are replaced by NaN. The incomplete
images are clustered as they are, and the missing pixels are imputed by the dictionary
of the assigned cluster.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering, clustering_accuracy_score

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
rows = {"original": X[:10]}
for fraction in (0.25, 0.5):
    missing = rng.random(X.shape) < fraction
    incomplete = np.where(missing, np.nan, X)
    mixmate = MixMateClustering(n_clusters=10, random_state=0).fit(incomplete)
    accuracy = clustering_accuracy_score(y, mixmate.labels_)
    print(f"{fraction:.0%} missing: accuracy {accuracy:.3f}")
    rows[f"{fraction:.0%} missing"] = incomplete[:10]
    rows[f"{fraction:.0%} imputed"] = np.where(
        missing, mixmate.reconstruct(incomplete), X
    )[:10]

# %%
# Missing pixels are red.
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
figure.suptitle("Missing pixels, and the reconstruction")
