"""
Grid search with some labels
============================

If the labels of some samples are known, a grid search can choose the parameters for all
samples: 600 labelled digits are used in the grid search, then all 1,797 are fitted.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixmate import MixMateClustering, clustering_accuracy_score

X, y = load_digits(return_X_y=True)
pipeline = make_pipeline(
    FunctionTransformer(),  # your own preprocessing steps go here
    MixMateClustering(n_clusters=10, random_state=0),
)
grid = {
    "mixmateclustering__alpha": [0.2, 0.75, 3.0],
    "mixmateclustering__n_atoms": [5, 15, 50],
}
search = GridSearchCV(pipeline, grid, scoring="adjusted_rand_score", cv=2)
search.fit(X[:600], y[:600])
print(search.best_params_)

# %%
best = search.best_estimator_.fit(X)
print(f"accuracy on all digits: {clustering_accuracy_score(y, best[-1].labels_):.3f}")

# %%
# The scores of the grid are noisy, because each half has only 300 digits.
figure, ax = plt.subplots(layout="constrained")
scores = search.cv_results_["mean_test_score"].reshape(3, 3)
image = ax.imshow(scores, cmap="viridis")
ax.set(xlabel="n_atoms", ylabel="alpha", title="Adjusted Rand index")
ax.set_xticks(range(3), grid["mixmateclustering__n_atoms"])
ax.set_yticks(range(3), grid["mixmateclustering__alpha"])
for i, line in enumerate(scores):
    for j, score in enumerate(line):
        is_dark = image.norm(score) < 0.5
        ax.text(
            j, i, f"{score:.2f}", ha="center", color="white" if is_dark else "black"
        )
figure.colorbar(image)
