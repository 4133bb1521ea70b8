"""Whether a stream learns what a fit learns.

Run ``python -m benchmarks.stream`` with the data sets in the folder named by
SKMIXMATE_DATA. The pixels of MNIST, shuffled, once by `fit` and once in 20 parts of
3,500 images by `partial_fit`, which goes through all parts twice. The stream starts
from the first 5,000 images, the fit from 5,000 drawn from all: starts differ, and what
comes of them, so that there are several orders of the images. One pass is a quarter of
the steps of a fit, so that a larger learning rate is measured as well. Labels are used
for the scores alone; they are of all images, after each pass. The figures go to
``benchmarks/results/stream.json``, after every order.
"""

import numpy as np

from skmixmate import MixMateClustering, datasets

from . import report
from .table1 import fit, scores

SEEDS, LEARNING_RATES = range(5), [1e-3, 3e-3]
N_PARTS, N_PASSES = 20, 2


def compare(X, y, seed, learning_rate):
    """Scores of a fit, and of a stream after each pass."""
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
        for part in np.split(X, N_PARTS):
            streamed.partial_fit(part)
        passes.append(scores(y, streamed.predict(X)))
    whole = scores(y, fitted.labels_)
    return {
        "fit": {"epochs": fitted.n_iter_, **whole},
        "passes": passes,
        "ACC of fit, less that of each pass": [
            round(whole["ACC"] - one["ACC"], 4) for one in passes
        ],
    }


def summarize(runs):
    """Mean over the orders of what a fit is better by, with its standard error."""
    lost = np.array([run["ACC of fit, less that of each pass"] for run in runs])
    errors = lost.std(axis=0, ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else None
    return {
        "orders": len(lost),
        "mean": lost.mean(axis=0).round(4).tolist(),
        "standard error": None if errors is None else errors.round(4).tolist(),
    }


def main():
    bunch, runs = datasets.load_mnist(), {rate: [] for rate in LEARNING_RATES}
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(bunch.data))
        X, y = bunch.data[order], bunch.target[order]
        for learning_rate, own in runs.items():
            own.append({"seed": seed, **compare(X, y, seed, learning_rate)})
            figures = {
                f"learning_rate {rate:g}": {
                    "ACC of fit, less that of each pass": summarize(several),
                    "runs": several,
                }
                for rate, several in runs.items()
                if several
            }
            report.write("stream", figures)


if __name__ == "__main__":
    main()
