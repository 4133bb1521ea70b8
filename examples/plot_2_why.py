"""
Explain an assignment
=====================

The reconstructions of all clusters explain an assignment. Each cluster reconstructs the
sample with its dictionary; the sample is assigned to the cluster of lowest energy,
whose reconstruction is the best for the shortest code. This is Fig. 2 of the paper, on
the digits that are bundled with scikit-learn.
"""

import numpy as np
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.plotting import EnergyDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(n_clusters=10, representation="pixels", random_state=0).fit(
    X
)

# %%
# A large margin
# --------------
# The assigned cluster reconstructs this digit well with a short code. The others miss
# strokes although they use more atoms.
energies = np.sort(mixmate.energies(X), axis=1)
margins = energies[:, 1] - energies[:, 0]
ReconstructionDisplay.from_estimator(mixmate, X[np.argsort(margins)[1500]])

# %%
# A small margin
# --------------
# Here the two lowest energies hardly differ, and neither do the reconstructions.
ReconstructionDisplay.from_estimator(mixmate, X[np.argmin(margins)])

# %%
# Margins of all samples
# ----------------------
# The plot shows the difference between the two lowest energies of each sample. If it is
# large, the posterior is one for one cluster and zero for the others.
EnergyDisplay.from_estimator(mixmate, X)
