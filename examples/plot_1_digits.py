"""
Digits and their dictionaries
=============================

Cluster the 1,797 digits that are bundled with scikit-learn without labels, and plot the
dictionary of each cluster. A cluster consists of an intercept and a set of atoms. The
intercept is the average shape of the digit, the atoms are the strokes that vary between
writers.
"""

from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.plotting import ConfusionDisplay, DictionaryDisplay

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(n_clusters=10, random_state=0).fit(X)

# %%
# The first column shows the intercept, the next columns the atoms that the cluster uses
# most; red adds ink, blue removes it.
DictionaryDisplay.from_estimator(mixmate, X, n_atoms=8)

# %%
# Labels are used only here, to compare the clusters with the digits. The clusters are
# in the order that matches the classes best.
ConfusionDisplay.from_estimator(mixmate, X, y)
