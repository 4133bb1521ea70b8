"""
Textures, and filters that make them
====================================

Noisy images of 48 x 48 pixels: waves in two directions, dots, and scratches, which are
anywhere in the image. Centres cannot tell them apart, as the mean of waves that begin
anywhere is grey. A dictionary of whole images would need an atom for each place; small
filters are learned once, and lie wherever they are needed.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.cluster import KMeans

from skmixmate import ConvolutionalMixMate, clustering_accuracy_score

rng = np.random.default_rng(0)
n_each, size = 12, 48
rows, columns = np.mgrid[:size, :size]


def waves(angle):
    phases = rng.uniform(0, 2 * np.pi, size=(n_each, 1, 1))
    return np.sin(1.2 * (rows * np.cos(angle) + columns * np.sin(angle)) + phases)


def sprinkled(blur):
    places = 1.0 * (rng.uniform(size=(n_each, size, size)) < 0.02)
    return np.stack([blur(image) for image in places])


kinds = [
    waves(0.4),
    waves(-0.4),
    sprinkled(lambda image: gaussian_filter(image, 1.0)),
    sprinkled(lambda image: gaussian_filter1d(image, 2.0, axis=0)),
]
images = np.concatenate([kind / kind.std() for kind in kinds])
images += 0.5 * rng.normal(size=images.shape)
X = images.reshape(len(images), -1).astype(np.float32)
y = np.repeat(np.arange(4), n_each)

# %%
# Accuracy of centres, and of filters:
mixmate = ConvolutionalMixMate(
    n_clusters=4,
    image_shape=(size, size),
    n_filters=3,
    alpha=2.0,
    n_layers=10,
    batch_size=8,
    max_iter=5,
    tol=0,
    random_state=0,
)
labels = mixmate.fit_predict(X)
print("KMeans", clustering_accuracy_score(y, KMeans(4, random_state=0).fit_predict(X)))
print("ConvolutionalMixMate", clustering_accuracy_score(y, labels))

# %%
# An image of each cluster, as the filters of its cluster explain it, and the filters.
# What they explain has less noise than the image.
reconstructed = mixmate.reconstruct(X).reshape(images.shape)
figure, axes = plt.subplots(4, 5, figsize=(8, 6.5), layout="constrained")
for k, line in enumerate(axes):
    member = np.flatnonzero(labels == k)[0]
    shown = [images[member], reconstructed[member], *mixmate.filters_[k]]
    for ax, picture in zip(line, shown, strict=True):
        ax.imshow(picture, cmap="gray")
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(f"cluster {k}")
names = ["image", "explained", "filters", "", ""]
for ax, name in zip(axes[0], names, strict=True):
    ax.set_title(name)
