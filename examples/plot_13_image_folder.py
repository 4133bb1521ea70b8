"""
Images from a folder
====================

Photographs and scans are files. Here they are scikit-learn's digits, written to a
folder; use the path of your own images instead. On the command line,
``skmixmate fit FOLDER --image-size 32x32 --report images.html`` does the same.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering

folder = Path(tempfile.mkdtemp())
for number, pixels in enumerate(load_digits().images[:1000]):
    image = Image.fromarray((15 * pixels).astype(np.uint8))
    image.resize((32, 32)).save(folder / f"{number:04d}.png")

# %%
# Images of one size are an array, (n_images, height, width), and with colours
# (n_images, height, width, 3). Large ones are best reduced to some 32 or 64 pixels.

paths = sorted(folder.glob("*.png"))
images = np.stack([np.asarray(Image.open(path)) for path in paths])
print(images.shape, images.dtype)

# %%

mixmate = MixMateClustering(n_clusters=10, random_state=0)
labels = mixmate.fit_predict(images)
for path, label in zip(paths[:3], labels[:3], strict=True):
    print(path.name, "is in cluster", label)

# %%
# The most typical images of each cluster, a row for each:

typical = mixmate.representatives(images, n=12).typical
figure, axes = plt.subplots(10, 12, figsize=(6, 5), layout="constrained")
for line, rows in zip(axes, typical, strict=True):
    for ax, row in zip(line, rows, strict=True):
        ax.imshow(images[row], cmap="gray_r")
        ax.axis("off")
