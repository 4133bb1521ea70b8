"""
Shapes in any colour
====================

300 drawings of discs, crosses, triangles and squares, each in a colour, a size and a
place of its own. Two discs of different colours have hardly a pixel value in common,
while a disc and a square of the same colour share most of them: this is what misleads
k-means. In a mixture of dictionaries a cluster is not one image, but everything that a
few atoms can be combined to, whatever their colour.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.plotting import DictionaryDisplay

SIZE = 24
SHAPES = {
    "disc": lambda dx, dy, r: dx**2 + dy**2 < r**2,
    "cross": lambda dx, dy, r: (
        (np.minimum(dx, abs(dy)) < 0.3 * r) & (np.maximum(dx, abs(dy)) < r)
    ),
    "triangle": lambda dx, dy, r: (-r < dy) & (dy < 0.8 * r) & (2 * dx < dy + r),
    "square": lambda dx, dy, r: np.maximum(dx, abs(dy)) < 0.9 * r,
}


def draw(shape, rng):
    """Draw a shape on a black square, in a random colour, place and size."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = rng.uniform(10.5, 13.5, size=2)
    inside = shape(abs(columns - x), rows - y, rng.uniform(6.5, 9))
    image = inside[:, :, None] * rng.uniform(0.2, 1, size=3)
    return image + rng.normal(scale=0.03, size=image.shape)


rng = np.random.default_rng(0)
names = list(SHAPES)
y = np.arange(300) % 4
X = np.stack([draw(SHAPES[names[label]], rng) for label in y])  # (300, 24, 24, 3)

# %%
# Neither the colours nor the places matter to the clusters: each has one shape.
mixmate = MixMateClustering(n_clusters=4, random_state=0).fit(X)
kmeans = KMeans(4, n_init=10, random_state=0).fit(X.reshape(300, -1))
figure, axes = plt.subplots(4, 12, figsize=(9, 3.4), layout="constrained")
for k, row in enumerate(axes):
    members = np.flatnonzero(mixmate.labels_ == k)
    for ax, index in zip(row, members, strict=False):
        ax.imshow(X[index].clip(0, 1))
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"cluster {k}")
accuracies = [
    clustering_accuracy_score(y, model.labels_) for model in (mixmate, kmeans)
]
figure.suptitle("MixMate {:.2f}, KMeans {:.2f} of the shapes".format(*accuracies))

# %%
# The atoms that each cluster uses most. Grey is zero.
DictionaryDisplay.from_estimator(mixmate, X, n_atoms=10)
