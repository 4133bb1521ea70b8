"""What each change of a parameter gives, one at a time, in ten epochs.

Run ``python -m benchmarks.search --data mnist``. The figures go to
``benchmarks/results/search.json`` after every fit; what came of them is told in
``benchmarks/NOTES.rst``. Parameters are chosen on MNIST and Fashion-MNIST alone.
"""

import argparse
import json
from functools import partial

from skmixmate import datasets

from . import report
from .table1 import fit, make, scores

CHANGES = {
    "scattering": [
        {},
        {"alpha": 0.05},
        {"alpha": 0.1},
        {"alpha": 0.3},
        {"alpha": 0.75},
        {"n_atoms": 30},
        {"fit_intercept": False},
        {"learning_rate": 3e-3},
        {"n_layers": 30},
    ],
    "pixels": [
        {},
        {"alpha": 0.5},
        {"alpha": 1.0},
        {"n_atoms": 30},
        {"fit_intercept": True},
        {"learning_rate": 3e-3},
        {"init": "spectral"},
    ],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--methods", nargs="+", default=list(CHANGES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    path = report.RESULTS / "search.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    for name in options.data:
        bunch = getattr(datasets, f"load_{name}")()
        for method in options.methods:
            for change in CHANGES[method]:
                for seed in options.seeds:
                    key = f"{name} {method} {json.dumps(change)} seed {seed}"
                    if key in figures:
                        continue
                    params = {"max_iter": 10, "tol": 0, **change}
                    estimator = make(method, name, seed, **params)
                    seconds = report.seconds(partial(fit, estimator, bunch.data))
                    figures[key] = {
                        **scores(bunch.target, estimator.labels_),
                        "loss": round(estimator.loss_, 4),
                        "seconds": round(seconds, 1),
                    }
                    report.write("search", {"figures": figures})


if __name__ == "__main__":
    main()
