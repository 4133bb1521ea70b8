"""Measure whether the loss of a trial selects good initialisations.

Run ``python -m benchmarks.trials`` with the data sets in the folder of the environment
variable SKMIXMATE_DATA. A trial is the short training of each initialisation that
`n_init` requests: five epochs on 10,000 images at three times the learning rate. Eight
initialisations on the same images of each data set, in the representation that performs
better on it; labels are used for the scores only. The figures, with the mean score of
all initialisations and of the one that the loss selects from every four, are written to
``benchmarks/results/trials.json``.
"""

from itertools import combinations, product

import numpy as np
from scipy.stats import spearmanr

from skmixmate import MixMateClustering, datasets
from skmixmate.estimators._initialize import (
    _TRIAL_EPOCHS,
    _TRIAL_LR_FACTOR,
    _TRIAL_ROWS,
)

from . import report
from .table1 import fit, make, scores

REPRESENTATIONS = {
    "mnist": "scattering",
    "fashion_mnist": "pixels",
    "usps": "scattering",
}
N_STARTS, N_PICKED_FROM = 8, 4
INITS = ["auto", "kmeans"]
TRIAL = {
    "max_iter": _TRIAL_EPOCHS,
    "tol": 0,
    "learning_rate": _TRIAL_LR_FACTOR * MixMateClustering().learning_rate,
}


def trials(name, init):
    """Yield the loss and the scores of each initialisation."""
    bunch = getattr(datasets, f"load_{name}")()
    indices = np.random.default_rng(0).permutation(len(bunch.data))[:_TRIAL_ROWS]
    X, y = bunch.data[indices], bunch.target[indices]
    for seed in range(N_STARTS):
        mixmate = make(REPRESENTATIONS[name], seed, init=init, **TRIAL)
        fit(mixmate, X)
        yield {"loss": round(mixmate.loss_, 4), **scores(y, mixmate.labels_)}


def summarize(starts):
    losses = np.array([start["loss"] for start in starts])
    summary = {}
    for score in ("ACC", "NMI"):
        values = np.array([start[score] for start in starts])
        picked = [
            values[min(candidates, key=losses.__getitem__)]
            for candidates in combinations(range(len(starts)), N_PICKED_FROM)
        ]
        summary[score] = {
            "mean_of_all": round(float(values.mean()), 4),
            "worst_of_all": round(float(values.min()), 4),
            "mean_of_picked": round(float(np.mean(picked)), 4),
            "worst_of_picked": round(float(np.min(picked)), 4),
            "rank_correlation_with_loss": round(
                float(spearmanr(losses, values).statistic), 2
            ),
        }
    return summary


def main():
    figures = {}
    for name, init in product(REPRESENTATIONS, INITS):
        starts = list(trials(name, init))
        figures[f"{name} {init}"] = {"summary": summarize(starts), "starts": starts}
        report.write("trials", figures)


if __name__ == "__main__":
    main()
