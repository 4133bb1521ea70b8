"""
Comparison with KMeans and GaussianMixture on subspaces
=======================================================

Three clusters have the same mean and lie in different subspaces. Cluster centres cannot
separate them, and neither can diagonal covariance matrices. Full covariance matrices
can if there are few features; with more features they have more parameters than there
are samples. Dictionaries need many features: with few, all subspaces are close to each
other.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture

n_features = [4, 8, 16, 32, 64]
methods = {
    "MixMateClustering": lambda: MixMateClustering(3, n_atoms=4, random_state=0),
    "GaussianMixture, full": lambda: GaussianMixture(3, n_init=3, random_state=0),
    "GaussianMixture, diagonal": lambda: GaussianMixture(
        3, covariance_type="diag", n_init=3, random_state=0
    ),
    "KMeans": lambda: KMeans(3, random_state=0),
}


def draw_subspaces(n_features, random_state=0):
    """Draw samples of three two-dimensional subspaces through the same point."""
    return make_sparse_mixture(
        300, n_features, n_atoms=2, noise=0.1, random_state=random_state
    )


# %%
# In the first two principal components the clusters overlap. The right plot shows the
# accuracy of the methods for different numbers of features.
bunch = draw_subspaces(16)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 5), layout="constrained")
left.scatter(*PCA(2).fit_transform(bunch.data).T, c=bunch.target, s=8, cmap="tab10")
left.set(xlabel="first component", ylabel="second component", title="16 features")

for name, make in methods.items():
    accuracies = [
        np.mean(
            [
                clustering_accuracy_score(bunch.target, make().fit_predict(bunch.data))
                for bunch in (draw_subspaces(n, seed) for seed in range(3))
            ]
        )
        for n in n_features
    ]
    right.plot(n_features, accuracies, marker="o", label=name)
right.set(xscale="log", xlabel="features", ylabel="accuracy", title="300 samples")
right.set_xticks(n_features, n_features)
right.minorticks_off()
figure.legend(loc="outside lower right", ncols=2)
