"""Compare the default with other clusterings, each with its own, on many data sets.

Run ``python -m benchmarks.suite`` with the folder ``suite`` in the folder of the
environment variable SKMIXMATE_DATA: one ``.npz`` file a data set, with arrays `X` and
`y`. Columns are standardised, the number of clusters is the true one (except for
HDBSCAN, which finds its own), and labels are used for the scores only. Methods that
draw at random are run with seeds 0, 1 and 2. A fit that raises an error, or is not done
after a minute, is scored as a single cluster, and the error is kept.

``--methods`` and ``--sets`` run a part, and keep what
``benchmarks/results/suite.json`` has of the others; it is written after every set,
with the command of the last part.
"""

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skmixmate import MixMateClustering, clustering_accuracy_score

from . import report

SEEDS = [0, 1, 2]
LIMIT = 60  # seconds of a fit
SCORES = {
    "ACC": clustering_accuracy_score,
    "NMI": normalized_mutual_info_score,
    "ARI": adjusted_rand_score,
}
OURS = "MixMate"
BASELINE = "KMeans"
# Each makes an estimator from the number of clusters and the seed.
METHODS = {
    OURS: lambda k, seed: MixMateClustering(k, random_state=seed),
    "MixMate, image_shape=None": lambda k, seed: MixMateClustering(
        k, image_shape=None, random_state=seed
    ),
    "MixMate, max_iter=0": lambda k, seed: MixMateClustering(
        k, max_iter=0, random_state=seed
    ),
    BASELINE: lambda k, seed: KMeans(k, n_init=10, random_state=seed),
    "GaussianMixture, full": lambda k, seed: GaussianMixture(k, random_state=seed),
    "GaussianMixture, diagonal": lambda k, seed: GaussianMixture(
        k, covariance_type="diag", random_state=seed
    ),
    "SpectralClustering, neighbours": lambda k, seed: SpectralClustering(
        k, affinity="nearest_neighbors", random_state=seed
    ),
    "SpectralClustering, RBF": lambda k, seed: SpectralClustering(k, random_state=seed),
    "AgglomerativeClustering": lambda k, _: AgglomerativeClustering(k),
    "HDBSCAN": lambda *_: HDBSCAN(copy=True),
}
DETERMINISTIC = ["AgglomerativeClustering", "HDBSCAN"]
# Not told the number of clusters, and therefore not ranked with the others.
APART = ["HDBSCAN"]
DEFICITS = [0.05, 0.1]  # of NMI
PEERS = [name for name in METHODS if not name.startswith(OURS)]


def load(path):
    """Read a data set.

    Parameters
    ----------
    path : Path

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Standardised columns; NaN where an entry is missing.
    y : ndarray of shape (n_samples,)
    """
    with np.load(path) as arrays:
        X, y = arrays["X"].astype(np.float64), arrays["y"]
    return StandardScaler().fit_transform(X), y


def stop(*_):
    raise TimeoutError(f"not done after {LIMIT} seconds")


def run(method, X, y):
    """Fit a method with each seed, and return lists of scores, seconds and errors."""
    if method in PEERS:
        X = np.nan_to_num(X)  # the mean of a standardised column
    n_clusters = len(np.unique(y))
    result = {name: [] for name in [*SCORES, "seconds"]}
    for seed in SEEDS[:1] if method in DETERMINISTIC else SEEDS:
        estimator, labels = METHODS[method](n_clusters, seed), np.zeros(len(y), int)

        def fit(estimator=estimator, labels=labels):
            labels[:] = estimator.fit_predict(X)

        signal.alarm(LIMIT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seconds = report.seconds(fit)
        except Exception as error:  # of whatever kind, it is a result
            result.setdefault("errors", {})[seed] = f"{type(error).__name__}: {error}"
            labels[:] = 0
        else:
            result["seconds"].append(round(seconds, 3))
        finally:
            signal.alarm(0)
        for name, score in SCORES.items():
            result[name].append(round(float(score(y, labels)), 4))
        if not result["seconds"]:  # other seeds change nothing
            break
    return result


def over_seeds(result):
    """Return the mean, the standard deviation and the seconds of a method on a set."""
    return {
        name: {
            "mean": round(float(np.mean(result[name])), 4),
            "std": round(float(np.std(result[name])), 4),
        }
        for name in [*SCORES, "seconds"]
        if result[name]
    } | {key: result[key] for key in ("errors",) if key in result}


def summarize(sets):
    """Compare the methods that have results on every set.

    Parameters
    ----------
    sets : dict
        Of each set, "methods": scores over the seeds by method.

    Returns
    -------
    summary : dict
        Of each method, means over the sets, mean ranks among our default and the
        peers, and sets on which it has less NMI than KMeans; and the best peer by
        each score.
    """
    done = [m for m in METHODS if all(m in of["methods"] for of in sets.values())]
    ranked = [m for m in done if m in [OURS, *PEERS] and m not in APART]
    table = {
        score: np.array(
            [[of["methods"][m][score]["mean"] for m in done] for of in sets.values()]
        )
        for score in SCORES
    }
    ranks = {
        score: rankdata(-values[:, [done.index(m) for m in ranked]], axis=1).mean(0)
        for score, values in table.items()
    }
    methods = {}
    for column, method in enumerate(done):
        methods[method] = of_method = {
            score: round(float(values[:, column].mean()), 4)
            for score, values in table.items()
        }
        if method in ranked:
            of_method["rank"] = {
                score: round(float(of[ranked.index(method)]), 2)
                for score, of in ranks.items()
            }
        if BASELINE in done:
            deficits = table["NMI"][:, done.index(BASELINE)] - table["NMI"][:, column]
            for limit in DEFICITS:
                of_method[f"NMI more than {limit} below {BASELINE}"] = {
                    name: round(float(deficit), 4)
                    for name, deficit in zip(sets, deficits, strict=True)
                    if deficit > limit
                }
        of_method["sets with failed fits"] = sum(
            "errors" in of["methods"][method] for of in sets.values()
        )
    peers = [m for m in ranked if m != OURS]
    best = {
        score: max(peers, key=lambda m, score=score: methods[m][score])
        for score in (SCORES if peers else ())
    }
    return {"sets": len(sets), "best_peer": best, "methods": methods}


def main():
    folder = Path(os.environ["SKMIXMATE_DATA"], "suite")
    paths = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--sets", nargs="+", default=list(paths), choices=paths)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, stop)
    stored = report.RESULTS / "suite.json"
    sets = json.loads(stored.read_text())["sets"] if stored.exists() else {}
    for name in options.sets:
        X, y = load(paths[name])
        of = sets.setdefault(name, {"methods": {}})
        of |= {"rows": X.shape[0], "columns": X.shape[1], "clusters": len(np.unique(y))}
        for method in options.methods:
            of["methods"][method] = over_seeds(run(method, X, y))
            print(name, method, of["methods"][method], file=sys.stderr, flush=True)
        summary = summarize(sets)
        report.write("suite", {"summary": summary, "sets": sets}, shown=summary)


if __name__ == "__main__":
    main()
