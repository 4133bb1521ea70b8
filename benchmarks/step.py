"""Check of the training on all of MNIST, from a start that knows the classes.

Not a clustering claim: the first atoms are 50 true samples of each class. What
is checked is that training keeps such a start above 0.93 accuracy for 10
epochs, the memory it takes, and how a training step compares with step-by-step
autograd in pixel space, the published formulation, in the same process.

Run ``python -m benchmarks.step`` with mnist.npz in the folder named by
SKMIXMATE_DATA; the figures go to ``benchmarks/results/step.json``.
"""

import numpy as np
import torch

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import load_mnist

from . import report
from .report import quartiles
from .speed import in_turn, published_steps_of, steps_of, training

N_CLUSTERS, N_ATOMS = 10, 50


def true_samples(X, y):
    """Fifty samples of each class, each less its own mean."""
    rng = np.random.default_rng(0)
    chosen = [
        rng.choice(np.flatnonzero(y == k), N_ATOMS, replace=False)
        for k in range(N_CLUSTERS)
    ]
    samples = X[np.stack(chosen)]  # (n_clusters, n_atoms, n_features)
    return samples - samples.mean(axis=2, keepdims=True)


def main():
    bunch = load_mnist()
    X, y = bunch.data, bunch.target
    init = true_samples(X, y)
    mixmate = MixMateClustering(
        N_CLUSTERS,
        init=init,
        fit_intercept=False,
        max_iter=10,
        tol=0,
        random_state=0,
    )
    with report.PeakMemory() as memory:
        fit_seconds = report.seconds(lambda: mixmate.fit(X))
    start = torch.nn.functional.normalize(torch.from_numpy(init), dim=2)
    seconds = in_turn(
        {
            "published": published_steps_of(training(X, start)),
            "ours": steps_of(training(X, start)),
        },
        n_times=9,
        n_warm=1,
        n_calls=10,
    )
    ratios = seconds["published"] / seconds["ours"]
    report.write(
        "step",
        {
            "accuracy": round(clustering_accuracy_score(y, mixmate.labels_), 4),
            "fit_seconds": round(fit_seconds, 1),
            "data_mib": round(X.nbytes / 2**20),
            "peak_resident_mib": round(memory.peak / 2**20),
            "fit_adds_mib": round((memory.peak - memory.before) / 2**20),
            "published_step_ms": round(1e3 * float(np.median(seconds["published"])), 2),
            "step_ms": round(1e3 * float(np.median(seconds["ours"])), 2),
            "ratio_quartiles": quartiles(ratios, 1),
        },
    )


if __name__ == "__main__":
    main()
