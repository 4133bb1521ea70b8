"""Cluster textures by averaged scattering coefficients, which ignore positions.

Run ``python -m benchmarks.textures`` with textures.npz in the folder of the environment
variable SKMIXMATE_DATA. 60 patches of 48 x 48 pixels of each texture, each standardised
separately, in six draws. The scattering coefficients are averaged over each patch, and
the averages are clustered by MixMateClustering and KMeans; for comparison,
MixMateClustering with ``image_shape`` keeps the positions. Labels are used for the
scores only. The figures are written to ``benchmarks/results/textures.json``.
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
    """Draw standardised patches of all textures, with the textures as labels."""
    rng = np.random.default_rng(draw)
    with np.load(Path(os.environ["SKMIXMATE_DATA"], "textures.npz")) as textures:
        pictures = [textures[name].astype(np.float32) for name in sorted(textures)]
    cropped = []
    for picture in pictures:
        for _ in range(N_EACH):
            top, left = rng.integers(0, np.subtract(picture.shape, SIZE))
            cropped.append(picture[top : top + SIZE, left : left + SIZE].ravel())
    X = np.array(cropped)
    X = (X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)
    return X, np.repeat(np.arange(len(pictures)), N_EACH)


def averages(X):
    """Average the scattering coefficients over each image."""
    scattering = ScatteringTransform(SHAPE, J=SCALE)
    coefficients = scattering.fit_transform(X)
    coefficients = coefficients.reshape(len(X), *scattering.output_shape_)
    return coefficients.mean(axis=(2, 3))


def estimators(draw):
    """Return the estimators by name, and whether each is fitted to averages."""
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
        for name, (estimator, uses_averages) in estimators(draw).items():

            def fit(estimator=estimator, X=X, uses_averages=uses_averages):
                estimator.fit(averages(X) if uses_averages else X)

            seconds.setdefault(name, []).append(round(report.seconds(fit), 2))
            accuracy = clustering_accuracy_score(y, estimator.labels_)
            accuracies.setdefault(name, []).append(round(accuracy, 3))
    report.write("textures", {"ACC": accuracies, "seconds": seconds})


if __name__ == "__main__":
    main()
