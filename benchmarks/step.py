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
from skmixmate._rows import Rows
from skmixmate._training import ExpectationMaximization
from skmixmate.datasets import load_mnist
from skmixmate.model.mixture import Mixture
from skmixmate.model.priors import Laplace

from . import report
from .published import published_step

N_CLUSTERS, N_ATOMS, ALPHA, N_LAYERS, BATCH_SIZE = 10, 50, 0.75, 15, 256
N_TIMED = 40


def true_samples(X, y):
    """Fifty samples of each class, each less its own mean."""
    rng = np.random.default_rng(0)
    chosen = [
        rng.choice(np.flatnonzero(y == k), N_ATOMS, replace=False)
        for k in range(N_CLUSTERS)
    ]
    samples = X[np.stack(chosen)]  # (n_clusters, n_atoms, n_features)
    return samples - samples.mean(axis=2, keepdims=True)


def step_times(X, start):
    """Time steps of both kinds in turn, on the same mini-batches."""
    X, start = torch.from_numpy(X), torch.from_numpy(start)
    start = start / start.norm(dim=2, keepdim=True)
    mixture = Mixture(
        dictionaries=start.clone(),
        intercepts=None,
        weights=torch.full((N_CLUSTERS,), 1 / N_CLUSTERS),
        prior=Laplace(ALPHA),
        n_layers=N_LAYERS,
    )
    generator = torch.Generator().manual_seed(0)
    em = ExpectationMaximization(
        mixture,
        Rows(X, device=torch.device("cpu")),
        torch.arange(len(X)),
        batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        learn_weights=False,
        generator=generator,
    )
    dictionaries = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([dictionaries], lr=1e-3)
    times = []
    for _ in range(N_TIMED):
        batch = torch.randperm(len(X), generator=generator)[:BATCH_SIZE]
        times.append(
            (
                report.seconds(
                    lambda rows=X[batch]: published_step(
                        dictionaries, rows, optimizer, alpha=ALPHA, n_layers=N_LAYERS
                    )
                ),
                report.seconds(lambda batch=batch: em.step(*em.rows.take(batch))),
            )
        )
    return np.array(times[5:])  # the first ones warm up


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
    times = step_times(X, init)
    ratios = times[:, 0] / times[:, 1]
    report.write(
        "step",
        {
            "accuracy": round(clustering_accuracy_score(y, mixmate.labels_), 4),
            "fit_seconds": round(fit_seconds, 1),
            "data_mib": round(X.nbytes / 2**20),
            "peak_resident_mib": round(memory.peak / 2**20),
            "fit_adds_mib": round((memory.peak - memory.before) / 2**20),
            "published_step_ms": round(1e3 * float(np.median(times[:, 0])), 2),
            "step_ms": round(1e3 * float(np.median(times[:, 1])), 2),
            "ratio_quartiles": np.percentile(ratios, [25, 50, 75]).round(1).tolist(),
        },
    )


if __name__ == "__main__":
    main()
