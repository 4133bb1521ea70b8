"""Textures by scattering coefficients: where something is plays no part.

Run ``python -m benchmarks.textures`` with textures.npz in the folder named by
SKMIXMATE_DATA. 60 patches of 48 x 48 pixels of each texture, standardised one by one,
in six draws. The scattering coefficients are averaged over each patch, and their
averages clustered by MixMateClustering and KMeans; beside these MixMateClustering
with ``image_shape``, which keeps places apart. Labels are used for the scores alone.
The figures go to ``benchmarks/results/textures.json``.
"""

import os
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from skmixmate import MixMateClustering, ScatteringTransform, clustering_accuracy_score

from . import report

SIZE, N_EACH, N_DRAWS, SCALE = 48, 60, 6, 3
SHAPE = (SIZE, SIZE)


def patches(draw):
    """Draw standardised patches of all textures, and say which texture each is of."""
    rng = np.random.default_rng(draw)
    with np.load(Path(os.environ["SKMIXMATE_DATA"], "textures.npz")) as textures:
        pictures = [textures[name].astype(np.float32) for name in sorted(textures)]
    drawn = []
    for picture in pictures:
        for _ in range(N_EACH):
            top, left = rng.integers(0, np.subtract(picture.shape, SIZE))
            drawn.append(picture[top : top + SIZE, left : left + SIZE].ravel())
    X = np.array(drawn)
    X = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    return X, np.repeat(np.arange(len(pictures)), N_EACH)


def averages(X):
    """Scattering coefficients, averaged over each image."""
    scattering = ScatteringTransform(SHAPE, J=SCALE)
    coefficients = scattering.fit_transform(X)
    coefficients = coefficients.reshape(len(X), *scattering.output_shape_)
    return coefficients.mean(axis=(2, 3))


def estimators(draw):
    """Estimators by name, each with whether it sees averages."""
    return {
        "averages, MixMate": (MixMateClustering(3, random_state=draw), True),
        "averages, k-means": (KMeans(3, n_init=10, random_state=draw), True),
        "image_shape": (
            MixMateClustering(3, image_shape=SHAPE, random_state=draw),
            False,
        ),
    }


def main():
    accuracies, seconds = {}, {}
    for draw in range(N_DRAWS):
        X, y = patches(draw)
        for name, (estimator, sees_averages) in estimators(draw).items():

            def fit(estimator=estimator, X=X, sees_averages=sees_averages):
                estimator.fit(averages(X) if sees_averages else X)

            seconds.setdefault(name, []).append(round(report.seconds(fit), 2))
            accuracy = clustering_accuracy_score(y, estimator.labels_)
            accuracies.setdefault(name, []).append(round(accuracy, 3))
    report.write("textures", {"ACC": accuracies, "seconds": seconds})


if __name__ == "__main__":
    main()
