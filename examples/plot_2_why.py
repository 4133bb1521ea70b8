"""
Why a digit was put where it was
================================

The model can be asked why. Each cluster writes the sample with its own dictionary;
the one that gets closest with the least code has the lowest energy, and takes it.
This is Fig. 2 of the paper, on digits that come with scikit-learn.
"""

import numpy as np
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.plotting import EnergyDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(
    n_clusters=10, image_shape=(8, 8), representation="pixels", random_state=0
).fit(X)

# %%
# A clear case
# ------------
# The cluster that takes this digit draws it well with a short code. The others miss
# strokes although they use more atoms.
energies = np.sort(mixmate.energies(X), axis=1)
margins = energies[:, 1] - energies[:, 0]
ReconstructionDisplay.from_estimator(mixmate, X[np.argsort(margins)[1500]])

# %%
# A close call
# ------------
# Here the two lowest energies hardly differ, and neither does the writing.
ReconstructionDisplay.from_estimator(mixmate, X[np.argmin(margins)])

# %%
# Which clusters are sure?
# ------------------------
# The margin between the two lowest energies, over all samples. Where it is large the
# posterior is one for one cluster and nothing for the others.
EnergyDisplay.from_estimator(mixmate, X)
