"""
Clusters of texts, from their embeddings
========================================

The texts are the documentation of more than a thousand functions of scipy, and the
embeddings the simplest there are: which words occur, reduced to 60 dimensions.
Embeddings of a language model are clustered in the same way.
"""

import importlib
import inspect

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skmixmate import MixMateClustering
from skmixmate.plotting import MapDisplay

MODULES = ["fft", "interpolate", "linalg", "ndimage", "optimize", "signal", "special"]
MODULES += ["stats"]

texts, names, modules = [], [], []
for module in MODULES:
    package = importlib.import_module(f"scipy.{module}")
    for name in package.__all__:
        text = inspect.getdoc(getattr(package, name)) or ""
        if len(text) > 300:
            texts.append(text.split("\nExamples\n")[0])
            names.append(name)
            modules.append(module)
print(f"{len(texts)} texts, the first of which begins: {texts[0][:40]!r}")

# %%
# All entries of an embedding have the same unit, so they are not standardised. Its
# direction matters, and not its length: ``Normalizer`` scales rows to length 1.

embed = make_pipeline(
    TfidfVectorizer(min_df=3, max_df=0.3, stop_words="english", sublinear_tf=True),
    TruncatedSVD(60, random_state=0),
    Normalizer(),
)
X = embed.fit_transform(texts)
mixmate = MixMateClustering(n_clusters=8, random_state=1).fit(X)

# %%
# Single entries of an embedding mean nothing, but the most typical texts of a cluster
# show what it is about:

typical = mixmate.representatives(X, n=6).typical
for cluster, rows in enumerate(typical):
    print(cluster, ", ".join(names[row] for row in rows))

# %%
# The map, coloured by the module of scipy that a function belongs to, which was not
# used in the fit. Clusters need not be modules: the many functions of
# ``scipy.special`` are of several kinds.

display = MapDisplay.from_estimator(mixmate, X, modules, cmap="Set2")
display.ax_.set_title("Functions of scipy, by their documentation")

# %%
# :meth:`~skmixmate.MixMateClustering.report` writes the map and the typical and
# doubtful texts to a file for the browser:
# ``mixmate.report(X, "texts.html", records={"name": names, "text": texts})``.
