"""
Digits and their dictionaries
=============================

The 1,797 digits that come with scikit-learn, clustered without labels, and what each
cluster has learned to draw. A cluster is an offset and a set of atoms. The offset is
the digit as it is mostly written, the atoms are the strokes that writers vary.
"""

from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.plotting import ConfusionDisplay, DictionaryDisplay

X, y = load_digits(return_X_y=True)
mixmate = MixMateClustering(n_clusters=10, random_state=0).fit(X)

# %%
# The first column is the offset, then come the atoms that the cluster uses most; red
# adds ink, blue takes it away.
DictionaryDisplay.from_estimator(mixmate, X, image_shape=(8, 8), n_atoms=8)

# %%
# Labels are used only now, to see which digits went where. Clusters stand in the order
# that fits the classes best.
ConfusionDisplay.from_estimator(mixmate, X, y)
