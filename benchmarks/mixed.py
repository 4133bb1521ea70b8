"""Compare scalings of one-hot columns in tables of numbers and categories.

Run ``python -m benchmarks.mixed`` with the folder ``suite`` in the folder of the
environment variable SKMIXMATE_DATA. Numbers are standardised. Each category becomes a
column of 0 and 1, and the columns of a variable are multiplied by a factor:

- "0 and 1": by 1;
- "standardised": each column by the inverse of its standard deviation;
- "rare": each column by the inverse of the square root of its mean, as in
  multiple correspondence analysis;
- "variable": all by one factor, so that their variances sum to 1, that of a number;
- "dropped": by 0.

Synthetic tables have normal numbers about the centre of a cluster, categories whose
probabilities depend on the cluster, and categories that do not, with few levels and
with many. Of the sets of the suite those are used that have both numbers and columns
of at most ten integers, which are taken for categories. Labels are used for the
scores only. Scores, means over three seeds, are written to
``benchmarks/results/mixed.json``; ``--sets`` runs some, and keeps those of the others.
"""

import argparse
import json
import os
import warnings
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from sklearn.preprocessing import scale

from skmixmate import MixMateClustering

from . import report
from .table1 import scores

N_SEEDS = 3
SUITE = (
    "credit_risk_classification",
    "heart_attack_analysis_prediction_dataset",
    "heart_disease",
    "mammographic_mass",
    "statlog_german_credit",
    "student_grade",
)
SCALINGS = {
    "0 and 1": lambda p: np.ones_like(p),
    "standardised": lambda p: 1 / np.sqrt(p * (1 - p)),
    "rare": lambda p: 1 / np.sqrt(p),
    "variable": lambda p: np.full_like(p, 1 / np.sqrt((p * (1 - p)).sum())),
    "dropped": lambda p: np.zeros_like(p),
}


def synthetic(levels, noise_levels, seed, separation=1.5):
    """Draw four clusters of numbers and categories.

    Parameters
    ----------
    levels : tuple of int
        Levels of the variables that depend on the cluster.
    noise_levels : tuple of int
        Levels of those that do not.
    seed : int
    separation : float
        Standard deviation of the centres of the numbers.

    Returns
    -------
    numbers : ndarray of shape (1000, 4)
    categories : list of int ndarray of shape (1000,)
    y : ndarray of shape (1000,)
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=1000)
    numbers = rng.normal(size=(4, 4))[y] * separation + rng.normal(size=(1000, 4))
    tables = [rng.dirichlet(np.full(n, 0.4), size=4) for n in levels]
    tables += [np.tile(rng.dirichlet(np.full(n, 2.0)), (4, 1)) for n in noise_levels]
    categories = [
        (table[y].cumsum(axis=1) > rng.random((1000, 1))).argmax(axis=1)
        for table in tables
    ]
    return numbers, categories, y


def real(name, seed):
    """Split a set of the suite into numbers and categories."""
    with np.load(Path(os.environ["SKMIXMATE_DATA"], "suite", f"{name}.npz")) as arrays:
        X, y = arrays["X"].astype(float), arrays["y"]
    X = X[:, np.nanstd(X, axis=0) > 0]
    n_values = np.array([len(np.unique(column)) for column in X.T])
    is_integer = (np.nan_to_num(X) % 1 == 0).all(axis=0)
    is_category = is_integer & (n_values <= 10)
    return X[:, ~is_category], list(X[:, is_category].T), y


SETS = {
    "categories help": partial(synthetic, (4, 5), ()),
    "categories help, 12 levels": partial(synthetic, (12, 12), ()),
    "some help": partial(synthetic, (4, 5), (3, 4)),
    "some help, 20 levels of noise": partial(synthetic, (4, 5), (20, 20)),
    "noise": partial(synthetic, (), (3, 4)),
    "noise, 20 levels": partial(synthetic, (), (20, 20)),
    "numbers overlap": partial(synthetic, (4, 5, 6), (), separation=0.5),
    **{name: partial(real, name) for name in SUITE},
}


def encode(numbers, categories, factors):
    """Return a table of standardised numbers and scaled one-hot columns."""
    columns = [scale(numbers)]
    for values in categories:
        one_hot = (values[:, None] == np.unique(values)).astype(float)
        columns.append(one_hot * factors(one_hot.mean(axis=0)))
    return np.column_stack(columns)


def compare(draw):
    """Return the mean scores of each scaling."""
    runs = {}
    for seed in range(N_SEEDS):
        numbers, categories, y = draw(seed=seed)
        for name, factors in SCALINGS.items():
            X = encode(numbers, categories, factors)
            mixmate = MixMateClustering(
                len(np.unique(y)), image_shape=None, random_state=seed
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runs.setdefault(name, []).append(scores(y, mixmate.fit_predict(X)))
    return {
        name: {
            score: round(float(np.mean([one[score] for one in values])), 4)
            for score in values[0]
        }
        for name, values in runs.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    stored = report.RESULTS / "mixed.json"
    sets = json.loads(stored.read_text())["sets"] if stored.exists() else {}
    for name in parser.parse_args().sets:
        sets[name] = compare(SETS[name])
    kinds = {
        "real": [name for name in sets if name in SUITE],
        "synthetic": [name for name in sets if name not in SUITE],
    }
    means = {
        kind: {
            scaling: {
                score: round(mean(sets[name][scaling][score] for name in names), 4)
                for score in ("NMI", "ARI")
            }
            for scaling in SCALINGS
        }
        for kind, names in kinds.items()
        if names
    }
    figures = {"seeds": N_SEEDS, "means": means, "sets": sets}
    report.write("mixed", figures, shown=means)


if __name__ == "__main__":
    main()
