"""Compare the accuracy of partial_fit and fit.

Run ``python -m benchmarks.stream`` with the data sets in the folder of the environment
variable SKMIXMATE_DATA. The pixels of MNIST, shuffled, are learned once by `fit` and
once in 20 chunks of 3,500 images by `partial_fit`, which processes all chunks twice.
`partial_fit` is initialised from the first 5,000 images, `fit` from 5,000 drawn from
all: the initialisations differ, and therefore the results, so several orders of the
images are used. One pass has a quarter of the steps of a fit, so a larger learning
rate is measured as well. Labels are used for the scores only, on all images, after each
pass. The figures are written to ``benchmarks/results/stream.json``, after every order.
"""

import numpy as np

from skmixmate import MixMateClustering, datasets

from . import report
from .table1 import fit, scores

SEEDS, LEARNING_RATES = range(5), [1e-3, 3e-3]
N_CHUNKS, N_PASSES = 20, 2


def compare(X, y, seed, learning_rate):
    """Return the scores of a fit, and of partial_fit after each pass."""
    params = {
        "image_shape": (28, 28),
        "representation": "pixels",
        "learning_rate": learning_rate,
        "random_state": seed,
    }
    fitted = MixMateClustering(10, **params)
    fit(fitted, X)
    streamed, passes = MixMateClustering(10, **params), []
    for _ in range(N_PASSES):
        for chunk in np.split(X, N_CHUNKS):
            streamed.partial_fit(chunk)
        passes.append(scores(y, streamed.predict(X)))
    whole = scores(y, fitted.labels_)
    return {
        "fit": {"epochs": fitted.n_iter_, **whole},
        "passes": passes,
        "ACC of fit minus ACC of pass": [
            round(whole["ACC"] - one["ACC"], 4) for one in passes
        ],
    }


def summarize(runs):
    """Return the mean difference over the orders, with its standard error."""
    differences = np.array([run["ACC of fit minus ACC of pass"] for run in runs])
    errors = (
        differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
        if len(differences) > 1
        else None
    )
    return {
        "orders": len(differences),
        "mean": differences.mean(axis=0).round(4).tolist(),
        "standard error": None if errors is None else errors.round(4).tolist(),
    }


def main():
    bunch, runs = datasets.load_mnist(), {rate: [] for rate in LEARNING_RATES}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(bunch.data))
        X, y = bunch.data[order], bunch.target[order]
        for learning_rate, results in runs.items():
            results.append({"seed": seed, **compare(X, y, seed, learning_rate)})
            figures = {
                f"learning_rate {rate:g}": {
                    "ACC of fit minus ACC of pass": summarize(orders),
                    "runs": orders,
                }
                for rate, orders in runs.items()
                if orders
            }
            report.write("stream", figures)


if __name__ == "__main__":
    main()
