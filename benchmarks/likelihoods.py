"""Compare likelihoods for binary images and photon counts with Gaussian models.

Run ``python -m benchmarks.likelihoods`` with mnist.npz in the folder of the environment
variable SKMIXMATE_DATA. Two data sets are made from 5,000 images of MNIST, drawn for
each of three seeds: binary images, in which a pixel is 1 if it is above one half, and
photon counts, drawn from Poisson distributions with a mean of 1 for the brightest pixel
and of a hundredth for a black one. `MixMateClustering` gets ``image_shape``; "with the
likelihood" is ``likelihood="bernoulli"`` and ``"poisson"`` with otherwise the defaults,
"normal" the default likelihood on pixels, and on scattering coefficients; "without
atoms" are mixtures of independent pixels. Labels are used for the scores only. Scores
are written to ``benchmarks/results/likelihoods.json``.
"""

import functools

import numpy as np

from skmixmate import MixMateClustering
from skmixmate.datasets import load_mnist

from . import report
from .table1 import fit, make, scores

N_SEEDS, N_IMAGES, IMAGE_SHAPE = 3, 5_000, (28, 28)
BRIGHTEST, DARKEST = 1.0, 0.01


def binary(images, rng):
    return (images > 0.5).astype(np.float32)


def photons(images, rng):
    return rng.poisson(BRIGHTEST * images + DARKEST).astype(np.float32)


SETS = {"binary": (binary, "bernoulli"), "photons": (photons, "poisson")}


def models(likelihood, seed):
    """Return the estimators to compare, by name."""
    images = {"image_shape": IMAGE_SHAPE, "random_state": seed}
    mixmate = functools.partial(MixMateClustering, 10, **images)
    return {
        "with the likelihood": mixmate(likelihood=likelihood),
        "with it, untrained": mixmate(likelihood=likelihood, max_iter=0),
        "with it, without atoms": mixmate(likelihood=likelihood, n_atoms=0),
        "normal, pixels": mixmate(representation="pixels"),
        "normal, scattering": mixmate(),
        "KMeans": make("kmeans", seed),
        "GaussianMixture, diagonal": make("gaussian_mixture", seed),
    }


def compare(draw, likelihood):
    """Return the scores and seconds of each model, one for each seed."""
    bunch, runs = load_mnist(), {}
    for seed in range(N_SEEDS):
        rng = np.random.RandomState(seed)
        chosen = rng.permutation(len(bunch.data))[:N_IMAGES]
        X = draw(bunch.data[chosen], rng)
        for name, model in models(likelihood, seed).items():
            seconds = report.seconds(functools.partial(fit, model, X))
            labels = model.predict(X)
            run = {**scores(bunch.target[chosen], labels), "seconds": seconds}
            for key, value in run.items():
                runs.setdefault(name, {}).setdefault(key, []).append(round(value, 3))
    return runs


def main():
    figures = {"images": N_IMAGES, "seeds": N_SEEDS, "sets": {}}
    for name, (draw, likelihood) in SETS.items():
        figures["sets"][name] = compare(draw, likelihood)
        report.write("likelihoods", figures)


if __name__ == "__main__":
    main()
