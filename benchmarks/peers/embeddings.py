"""Gaussian mixtures of UMAPs: of pixels, of features, and of an auto-encoder's codes.

The last is N2D. Its published layers are used, features-500-500-2000-codes and
mirrored, but its auto-encoder is trained for as many epochs as that of K-DAE and DAMIC
(``autoencoders.PRETRAINING_EPOCHS``) instead of 1,000, which would take twenty times as
long. UMAP has N2D's parameters in all, so that the methods differ in what it embeds.

References
----------
L. McInnes, J. Healy and J. Melville, UMAP: Uniform Manifold Approximation and
Projection for Dimension Reduction, arXiv:1802.03426, 2018.

R. McConville, R. Santos-Rodriguez, R. Piechocki and I. Craddock, N2D: (Not Too) Deep
Clustering via Clustering the Local Manifold of an Autoencoded Embedding, ICPR 2020.
"""

from . import autoencoders
from .worker import Worker

N_NEIGHBORS, MIN_DIST = 20, 0.0
N2D_HIDDEN = (500, 500, 2000)


def no_features(X, seed):
    """Return the rows, and 0 parameters."""
    return X, 0


def codes(X, seed):
    """Return codes of an auto-encoder of the rows, and its number of parameters."""
    trainer = autoencoders.Trainer(X, 10, seed, N2D_HIDDEN)
    return trainer.single_codes(), trainer.n_single_parameters


class UmapMixture(Worker):
    """A Gaussian mixture of the UMAP of rows, or of features of them.

    UMAP has as many components as there are clusters.

    Parameters
    ----------
    python : str
        Path of a Python interpreter with umap-learn.
    n_clusters : int
    seed : int
    features : callable, default=no_features
        A function of rows and the seed that returns an array of shape (n_samples,
        n_features) and the number of parameters that were learned for it.
    """

    def __init__(self, python, n_clusters, seed, features=no_features):
        super().__init__(
            python,
            "umap_worker.py",
            n_clusters,
            seed,
            n_neighbors=N_NEIGHBORS,
            min_dist=MIN_DIST,
            n_components=n_clusters,
        )
        self.seed = seed
        self.features = features

    def fit(self, X):
        """Cluster the rows of X, float32 of shape (n_samples, n_features)."""
        features, n_parameters = self.features(X, self.seed)
        super().fit(features)
        self.n_parameters_ += n_parameters
        return self
