"""Create the figures of the paper on MNIST: a JSON file and a plot each.

Run ``python -m benchmarks.figures`` with mnist.npz in the folder of the environment
variable SKMIXMATE_DATA. Arguments select some of the figures:

codes
    Fig. 2: an image, its reconstructions and codes in all clusters, with the mean
    squared error, the number of non-zeros and the energy of each. The image is the one
    with the largest difference between the reconstruction error of its cluster and the
    smallest error of all clusters.
alpha
    Fig. 3: ACC, ARI and NMI over alpha, each point a fit of all images.
incomplete
    Clustering if 90% of the images lack 25% of their pixels, and imputing the pixels.

All fits use the defaults except for the parameters named here, and all but those of
"incomplete" the pixels. The figures are written to
``benchmarks/results/figure_NAME.json``, the plots to the same folder.
"""

import argparse
import warnings

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

from skmixmate import MixMateClustering, datasets
from skmixmate.plotting import ReconstructionDisplay

from . import report
from .table1 import IMAGE_SHAPES, fit, scores, without_pixels

SHAPE = IMAGE_SHAPES["mnist"]
ALPHAS = [0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0]
# Green, orange and purple, safe for colour blindness, on light and dark backgrounds.
COLORS = {"ACC": "#1b9e77", "ARI": "#d95f02", "NMI": "#7570b3"}


def fitted(X, seed, representation="pixels", **params):
    mixmate = MixMateClustering(
        10,
        image_shape=SHAPE,
        representation=representation,
        random_state=seed,
        **params,
    )
    with warnings.catch_warnings():
        # Fig. 3 includes values of alpha that are too small and too large.
        warnings.filterwarnings("ignore", message=".*(too small|too large|no sample)")
        fit(mixmate, X)
    return mixmate


def save(figure, name, figures):
    """Write a plot and its JSON file."""
    figure.savefig(report.RESULTS / f"figure_{name}.png", dpi=110)
    plt.close(figure)
    report.write(f"figure_{name}", figures)


def show(ax, image):
    ax.imshow(image.reshape(SHAPE), cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])


def select_image(energies, errors):
    """Find the image whose assigned cluster has the largest excess error."""
    labels = energies.argmin(axis=1)
    own = np.take_along_axis(errors, labels[:, None], axis=1)[:, 0]
    return int((own - errors.min(axis=1)).argmax())


def codes(options):
    """Draw Fig. 2."""
    X = datasets.load_mnist().data
    mixmate = fitted(X, options.seeds[0])
    sample = X[:5000]
    all_codes = mixmate.encode(sample)  # (n_samples, n_clusters, n_atoms)
    # (n_samples, n_clusters, n_features)
    images = np.einsum("ikd,kdm->ikm", all_codes, mixmate.dictionaries_)
    errors = ((images - sample[:, None]) ** 2).mean(axis=2)
    energies = mixmate.energies(sample)
    chosen = select_image(energies, errors)
    display = ReconstructionDisplay.from_estimator(
        mixmate, sample[chosen], cmap="gray_r"
    )
    figures = {
        "image": chosen,
        "cluster": display.label,
        "mean_squared_error": errors[chosen].astype(float).round(5).tolist(),
        "n_nonzero": (display.codes != 0).sum(axis=1).tolist(),
        "energy": energies[chosen].astype(float).round(3).tolist(),
    }
    save(display.figure_, "codes", figures)


def alpha(options):
    """Draw Fig. 3."""
    bunch = datasets.load_mnist()
    runs = {
        value: [
            scores(bunch.target, fitted(bunch.data, seed, alpha=value).labels_)
            for seed in options.seeds
        ]
        for value in ALPHAS
    }
    draw_alpha(options.seeds, runs)


def draw_alpha(seeds, runs):
    figure, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    for name, color in COLORS.items():
        values = np.array([[run[name] for run in runs[value]] for value in ALPHAS])
        ax.plot(ALPHAS, values.mean(axis=1), "o-", color=color, label=name)
        ax.fill_between(
            ALPHAS, values.min(axis=1), values.max(axis=1), color=color, alpha=0.2
        )
    ax.set(xscale="log", xlabel="alpha", ylabel="score", ylim=(0, 1))
    ax.set_title(f"MNIST, mean and range over seeds {seeds}", fontsize=10)
    ax.legend()
    save(figure, "alpha", {"seeds": seeds, "runs": runs})


def incomplete(options):
    """Draw images with missing pixels, and their imputation by the model."""
    bunch = datasets.load_mnist()
    X, y, seed = bunch.data, bunch.target, options.seeds[0]
    partial_images = without_pixels(X, seed)
    mixmate = fitted(partial_images, seed, representation="auto")
    missing = np.isnan(partial_images)
    means = np.nanmean(partial_images, axis=0)
    shown = np.flatnonzero(missing.any(axis=1))[:12]
    imputed = np.where(missing, mixmate.reconstruct(partial_images), partial_images)
    figure, axes = plt.subplots(3, 12, figsize=(12, 3.4), layout="constrained")
    titles = ("complete", "incomplete", "imputed")
    for row, title, images in zip(
        axes, titles, (X, partial_images, imputed), strict=True
    ):
        row[0].set_ylabel(title)
        for ax, image in zip(row, images[shown], strict=True):
            show(ax, image)
            ax.set_facecolor("#d95f02")  # where a pixel is missing
    n_missing = missing.sum()
    by_mean = np.where(missing, means, X)
    figures = {
        "seed": seed,
        **scores(y, mixmate.labels_),
        "mean_squared_error_of_missing_pixels": {
            "model": round(float(((imputed - X) ** 2).sum() / n_missing), 5),
            "mean_of_pixel": round(float(((by_mean - X) ** 2).sum() / n_missing), 5),
        },
    }
    save(figure, "incomplete", figures)


FIGURES = {"codes": codes, "alpha": alpha, "incomplete": incomplete}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, "all"], default="all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    for name in FIGURES if "all" in options.figures else options.figures:
        FIGURES[name](options)


if __name__ == "__main__":
    main()
