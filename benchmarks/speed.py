"""Speed: training steps, prediction, growth and memory, as ratios in one process.

Run ``python -m benchmarks.speed PART ...`` with mnist.npz in the folder named by
SKMIXMATE_DATA. The parts are:

step
    A training step beside the published formulation, step-by-step autograd in
    pixel space (``benchmarks/published.py``), on complete images of MNIST and on
    images that all lack a quarter of their pixels.
rate
    The arithmetic of matrix products in a step, over its time, beside that of one
    large product; as it is, and if no pair of image and cluster was skipped; with 50
    atoms, the default, and with 150.
predict
    Images a second beside KMeans, GaussianMixture, and the matrix products that
    prediction is made of, alone.
growth
    A step over the number of clusters, atoms, features and layers, an epoch over the
    number of rows, sizes in turn, with the quartiles of the fitted exponents; data are
    drawn from the model.
memory
    What a fit adds to a process, over the size of a memory map.
fits
    Whole fits of MNIST, starts included, one after the other, by the clock and in
    processor time: ours with 50 epochs on pixels, first and once more at the end, and
    with the defaults, MiniBatchDictionaryLearning with as many atoms, GaussianMixture,
    and, if ``--clustpy-python`` names an environment that has it (see
    ``benchmarks/table1.py``), ClustPy's DEC, which takes about an hour. Fits that are
    there already, from the same machine and versions, are not run again. ``--quick``
    takes 2,000 images, and a file of its own.
dec
    Fits of few epochs, ours on pixels and DEC's, in turn, and from these what 50 of
    ours and DEC's 100 and 150 take. The machine that a whole fit of DEC has is not the
    one that a fit of ours had an hour before. Needs ``--clustpy-python``; a quarter of
    an hour.
gpu
    On a CUDA device: a training step that is captured beside one that is taken call by
    call, epochs of both in turn, and whole fits of MNIST, starts included, twice each:
    what the first has to set up, the second finds.

Times of things compared are taken in turn; ratios come with their quartiles. The
figures go to ``benchmarks/results/speed_PART.json``.
"""

import argparse
import contextlib
import functools
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.mixture import GaussianMixture

from skmixmate import MixMateClustering
from skmixmate.data.loader import RowLoader
from skmixmate.datasets import load_mnist, make_sparse_mixture
from skmixmate.model.active_rows import ActiveRows
from skmixmate.model.native import binding
from skmixmate.model.priors import Laplace
from skmixmate.model.spherical import SphericalMixture
from skmixmate.training.em import ExpectationMaximization

from . import report
from .published import published_step
from .report import quartiles
from .table1 import ClustPy, fit, load_runs, make

OURS = "50 epochs on pixels"
ALPHA, BATCH_SIZE, CPU = 0.75, 256, torch.device("cpu")
GROWTH = {
    "n_clusters": [10, 20, 50, 100],
    "n_atoms": [10, 20, 50, 100],
    "n_features": [100, 200, 500, 1000],
    "n_layers": [3, 6, 15, 30],
    "n_samples": [2560, 5120, 12_800, 25_600],
}
USUAL = {"n_clusters": 10, "n_atoms": 50, "n_features": 784, "n_layers": 15}
MAP_MIB = [64, 128, 256, 512, 8192]


def in_turn(functions, n_times, n_warm=5, n_calls=1, pause=0.0):
    """Time functions one after the other, again and again.

    Parameters
    ----------
    functions : dict of callable
    n_times, n_warm : int
        Turns of each, and turns before that are not counted.
    n_calls : int, default=1
        Calls in a turn. Training steps follow one another, and each finds the cache
        as the last one left it, not as another program did.
    pause : float, default=0.0
        Seconds before each turn. Where the functions are of several libraries it lets
        the threads of the one before, which go on spinning for a while, get out of
        the way.

    Returns
    -------
    seconds : dict of ndarray of shape (n_times,)
        Of a call, the mean of a turn.
    """

    def turn(function):
        for _ in range(n_calls):
            function()

    seconds = {name: [] for name in functions}
    for _ in range(n_warm + n_times):
        for name, function in functions.items():
            time.sleep(pause)
            seconds[name].append(report.seconds(functools.partial(turn, function)))
    return {
        name: np.array(values[n_warm:]) / n_calls for name, values in seconds.items()
    }


def no_skipping():
    """Let every cluster have a gradient from every row."""

    def all_rows(responsibilities):
        n_clusters, n_rows = responsibilities.shape
        index = torch.arange(n_rows).repeat(n_clusters, 1)
        return ActiveRows(torch.arange(n_clusters), index)

    return mock.patch.object(ActiveRows, "from_responsibilities", all_rows)


@functools.cache
def mnist_start(n_atoms="auto"):
    """Images in the scale of the model, and dictionaries after one epoch."""
    X = load_mnist().data
    mixmate = MixMateClustering(
        10,
        n_atoms=n_atoms,
        image_shape=(28, 28),
        representation="pixels",
        max_iter=1,
        random_state=0,
    )
    fit(mixmate, X)
    return X * np.float32(mixmate.scale_), torch.from_numpy(mixmate.dictionaries_)


def training(X, dictionaries, n_layers=15, device=CPU):
    n_clusters = len(dictionaries)
    return ExpectationMaximization(
        SphericalMixture(
            dictionaries=dictionaries.to(device, copy=True),
            intercepts=None,
            weights=torch.full((n_clusters,), 1 / n_clusters, device=device),
            prior=Laplace(ALPHA),
            n_layers=n_layers,
        ),
        RowLoader(X, device=device),
        torch.arange(len(X)),
        batch_size=BATCH_SIZE,
        learning_rate=1e-3,
        learn_weights=False,
        generator=torch.Generator().manual_seed(0),
    )


def steps_of(em):
    """Give a function that takes one step after the other."""
    batches = em.rows.batches(em.indices, em.batch_size, em.generator)
    return lambda: em.step(next(batches))


def uncompiled(function):
    """Call a function without the compiled encoder."""

    def call():
        with mock.patch.object(binding, "_library", None):
            function()

    return call


def published_steps_of(em):
    """Give the same for the published formulation, on the same mini-batches."""
    mixture = em.mixture
    dictionaries = mixture.dictionaries.clone().requires_grad_()
    optimizer = torch.optim.Adam([dictionaries], lr=1e-3)
    settings = {"alpha": mixture.prior.alpha, "n_layers": mixture.n_layers}
    batches = em.rows.batches(em.indices, em.batch_size, em.generator)

    def take_step():
        rows, observed = next(batches)
        if observed is not None:
            observed = observed.to(rows.dtype)
        published_step(dictionaries, rows, optimizer, observed=observed, **settings)

    return take_step


def step(X, dictionaries):
    holes = X.copy()
    holes[np.random.default_rng(0).random(X.shape) < 0.25] = np.nan
    functions = {}
    for name, data in {"complete": X, "incomplete": holes}.items():
        functions[name] = steps_of(training(data, dictionaries))
        functions[f"{name}, in torch"] = uncompiled(
            steps_of(training(data, dictionaries))
        )
        functions[f"{name}, as published"] = published_steps_of(
            training(data, dictionaries)
        )
    seconds = in_turn(functions, n_times=25, n_warm=1, n_calls=10)
    return {
        "milliseconds": {
            name: quartiles(1e3 * values) for name, values in seconds.items()
        },
        **{
            f"{key}_over_ours": {
                name: quartiles(seconds[f"{name}, {other}"] / seconds[name])
                for name in ("complete", "incomplete")
            }
            for key, other in [("published", "as published"), ("torch", "in torch")]
        },
        "incomplete_over_complete": quartiles(
            seconds["incomplete"] / seconds["complete"]
        ),
    }


def flop_of_a_step(dictionaries, n_rows, n_own, n_layers=15):
    """Count the floating-point operations of the matrix products in a step.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    n_rows : int
        Images in the mini-batch.
    n_own : float
        Images that a cluster has a gradient from, in the mean.
    n_layers : int
    """
    n_clusters, n_atoms, n_features = dictionaries.shape
    # Correlations, Gram matrix, and the gradients of both.
    with_features = n_rows + n_own + 2 * n_atoms
    with_atoms = n_layers * n_rows + (3 * n_layers - 1) * n_own  # layers and energy
    step_size = 5 * n_atoms
    return (
        2
        * n_clusters
        * n_atoms
        * (with_features * n_features + (with_atoms + step_size) * n_atoms)
    )


def rate(X, dictionaries):
    one = torch.randn(2048, 2048)
    figures = {}
    for name, context in {
        "with_skipping": contextlib.nullcontext(),
        "without_skipping": no_skipping(),
    }.items():
        n_own = []
        with context:
            find = ActiveRows.from_responsibilities

            def counted(responsibilities, find=find, n_own=n_own):
                blocks = find(responsibilities)
                n_own.append(blocks.index.numel() / len(responsibilities))
                return blocks

            with mock.patch.object(ActiveRows, "from_responsibilities", counted):
                take_step = steps_of(training(X, dictionaries))
                seconds = in_turn(
                    {"product": lambda: one @ one, "step": take_step},
                    n_times=9,
                    n_warm=1,
                    n_calls=10,
                )
        n_own = np.reshape(n_own[-90:], (9, 10)).mean(axis=1)
        flop = flop_of_a_step(dictionaries, BATCH_SIZE, n_own)
        product_rate = 2 * len(one) ** 3 / seconds["product"]
        figures[name] = {
            "gigaflop_of_a_step": quartiles(flop / 1e9, 3),
            "milliseconds": quartiles(1e3 * seconds["step"]),
            "share_of_matrix_product_rate": quartiles(
                flop / seconds["step"] / product_rate
            ),
        }
    return figures


def products_alone(X, dictionaries, n_layers=15, size=668):
    """Make the matrix products of prediction, and nothing else."""
    codes = torch.randn(*dictionaries.shape[:2], size)
    gram = dictionaries @ dictionaries.mT
    for block in torch.from_numpy(X).split(size):
        dictionaries @ block.mT
        for _ in range(n_layers):
            gram @ codes


def predict(X, dictionaries):
    X = X[:20_000]
    mixmate = MixMateClustering(
        10, init="random", fit_intercept=False, max_iter=0, scale=1.0
    )
    mixmate.fit(X[:1000])
    mixmate.dictionaries_ = dictionaries.numpy()
    kmeans = KMeans(10, n_init=1, max_iter=5).fit(X[:5000])
    mixture = GaussianMixture(10, covariance_type="diag", reg_covar=1e-2, max_iter=2)
    fit(mixture, X[:5000])
    seconds = in_turn(
        {
            "predict": lambda: mixmate.predict(X),
            "its matrix products": lambda: products_alone(X, dictionaries),
            "KMeans.predict": lambda: kmeans.predict(X),
            "GaussianMixture.predict_proba": lambda: mixture.predict_proba(X),
        },
        n_times=8,
        n_warm=1,
        pause=0.1,
    )
    return {
        "images_per_second": {
            name: round(len(X) / float(np.median(values)))
            for name, values in seconds.items()
        },
        "time_over_that_of_predict": {
            name: quartiles(values / seconds["predict"])
            for name, values in seconds.items()
        },
    }


def drawn_training(n_samples, **sizes):
    sizes = USUAL | sizes
    n_layers = sizes.pop("n_layers")
    bunch = make_sparse_mixture(n_samples, random_state=0, **sizes)
    X = bunch.data.astype(np.float32)
    X *= np.float32(9.2 / np.sqrt((X**2).sum(axis=1).mean()))
    dictionaries = torch.from_numpy(bunch.dictionaries.astype(np.float32))
    return training(X, dictionaries, n_layers)


def growth_over(sizes, functions, **settings):
    """Time functions of several sizes in turn, and fit an exponent to each turn."""
    seconds = in_turn(dict(zip(sizes, functions, strict=True)), **settings)
    times = np.stack([seconds[size] for size in sizes])  # (n_sizes, n_times)
    return {
        "sizes": sizes,
        "milliseconds": np.median(1e3 * times, axis=1).round(2).tolist(),
        "exponent": quartiles(np.polyfit(np.log(sizes), np.log(times), 1)[0]),
    }


def growth_of_a_step(name, sizes):
    steps = [steps_of(drawn_training(12_800, **{name: size})) for size in sizes]
    return growth_over(sizes, steps, n_times=9, n_warm=1, n_calls=5)


def growth():
    figures = {}
    for name, sizes in GROWTH.items():
        if name == "n_samples":
            epochs = [drawn_training(size).run_epoch for size in sizes]
            figures[name] = growth_over(sizes, epochs, n_times=5, n_warm=1)
            continue
        figures[name] = growth_of_a_step(name, sizes)
        if name == "n_clusters":
            with no_skipping():
                figures[f"{name}_without_skipping"] = growth_of_a_step(name, sizes)
    return figures


def memory():
    figures = {"data_mib": MAP_MIB, "fit_adds_mib": []}
    rng = np.random.default_rng(0)
    mixmate = MixMateClustering(10, max_iter=1, tol=0, random_state=0)
    fit(mixmate, rng.random((6000, 784), dtype=np.float32))  # what is there anyway
    with tempfile.TemporaryDirectory() as folder:
        for size in MAP_MIB:
            shape = (size * 2**20 // (4 * 784), 784)
            path = Path(folder, "X.npy")
            X = np.lib.format.open_memmap(path, "w+", np.float32, shape)
            for start in range(0, len(X), 10_000):
                X[start : start + 10_000] = rng.random(
                    X[start : start + 10_000].shape, dtype=np.float32
                )
            X = np.load(path, mmap_mode="r")
            with report.PeakMemory(of_files=False) as peak:
                fit(mixmate, X)
            figures["fit_adds_mib"].append(round((peak.peak - peak.before) / 2**20))
    return figures


def fits(clustpy_python=None, quick=False):
    name = "speed_fits_quick" if quick else "speed_fits"
    X = load_mnist().data[: 2000 if quick else None]
    estimators = {
        OURS: pixels(max_iter=50),
        "defaults": MixMateClustering(10, image_shape=(28, 28), random_state=0),
        "GaussianMixture": make("gaussian_mixture", "mnist", 0),
        "DEC": ClustPy(clustpy_python, "DEC", 0),
        "MiniBatchDictionaryLearning": MiniBatchDictionaryLearning(500, random_state=0),
    }
    # Once more: in the hour between, a machine may have become slower or faster.
    estimators[f"{OURS}, again"] = clone(estimators[OURS])
    if clustpy_python is None:
        del estimators["DEC"]
    for key, estimator in estimators.items():
        runs = load_runs(name)
        if key not in runs:
            taken = fit_seconds(estimator, X)
            # That of ClustPy without the start of another process.
            description = getattr(estimator, "description_", taken)
            times = {clock: round(description[clock], 1) for clock in taken}
            runs[key] = {"images": len(X), **times}
            report.write(name, fit_figures(runs))
    return fit_figures(load_runs(name))


def dec(clustpy_python):
    X, totals = load_mnist().data, {"ours": [], "DEC": []}

    def ours(max_iter):
        estimator = pixels(max_iter=max_iter)
        return fit_seconds(estimator, X)["seconds"]

    def theirs(pretrain_epochs, clustering_epochs):
        estimator = ClustPy(
            clustpy_python,
            "DEC",
            0,
            pretrain_epochs=pretrain_epochs,
            clustering_epochs=clustering_epochs,
        )
        return estimator.fit(X).description_["seconds"]

    for _ in range(3):
        few, more = ours(2), ours(7)
        totals["ours"].append(more + 43 * (more - few) / 5)
        few, pretrained, clustered = theirs(1, 1), theirs(3, 1), theirs(1, 4)
        pretraining, clustering = (pretrained - few) / 2, (clustered - few) / 3
        totals["DEC"].append(few + 99 * pretraining + 149 * clustering)
    ours_seconds, dec_seconds = (np.array(totals[key]) for key in ("ours", "DEC"))
    return {
        "seconds_of_all_epochs": {key: quartiles(of, 0) for key, of in totals.items()},
        "dec_over_ours": quartiles(dec_seconds / ours_seconds),
    }


def pixels(**params):
    """Return our estimator of the whole fits."""
    return MixMateClustering(
        10,
        representation="pixels",
        tol=0,
        image_shape=(28, 28),
        random_state=0,
        **params,
    )


def gpu():
    device = torch.device("cuda")
    X, dictionaries = mnist_start()
    ems = {
        name: training(X, dictionaries, device=device)
        for name in ("captured", "call by call")
    }
    ems["call by call"]._captured = None
    seconds = in_turn({name: em.run_epoch for name, em in ems.items()}, 9, n_warm=2)
    n_steps = len(X) // BATCH_SIZE
    figures = {
        "milliseconds_of_a_step": {
            name: quartiles(1e3 * values / n_steps, 3)
            for name, values in seconds.items()
        },
        "call_by_call_over_captured": quartiles(
            seconds["call by call"] / seconds["captured"]
        ),
        "seconds_of_fits": {},
    }
    images = load_mnist().data
    for key, estimator in {
        OURS: pixels(max_iter=50, device="cuda"),
        "defaults": MixMateClustering(
            10, image_shape=(28, 28), device="cuda", random_state=0
        ),
    }.items():
        times = [fit_seconds(clone(estimator), images)["seconds"] for _ in range(2)]
        figures["seconds_of_fits"][key] = [round(taken, 2) for taken in times]
    return figures


def fit_seconds(estimator, X):
    """Time a fit, by the clock and in processor time of all its threads."""
    processor_start = time.process_time()
    seconds = report.seconds(functools.partial(fit, estimator, X))
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor_start,
    }


def fit_figures(runs):
    """Give the times of fits over that of our own, as far as they are there."""
    figures = {"runs": runs}
    for clock in ("seconds", "processor_seconds"):
        ours = np.mean([run[clock] for key, run in runs.items() if OURS in key])
        figures[f"{clock}_over_those_of_50_epochs_on_pixels"] = {
            key: round(run[clock] / ours, 2) for key, run in runs.items()
        }
    return figures


PARTS = {
    "step": lambda _: step(*mnist_start()),
    "rate": lambda _: {
        f"{n_atoms}_atoms": rate(*mnist_start(n_atoms)) for n_atoms in (50, 150)
    },
    "predict": lambda _: predict(*mnist_start()),
    "growth": lambda _: growth(),
    "memory": lambda _: memory(),
    "fits": lambda options: fits(options.clustpy_python, options.quick),
    "dec": lambda options: dec(options.clustpy_python),
    "gpu": lambda _: gpu(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--clustpy-python", help="python that has ClustPy, for fits")
    parser.add_argument("--quick", action="store_true", help="fits of 2,000 images")
    options = parser.parse_args()
    if "dec" in options.parts and options.clustpy_python is None:
        parser.error("dec needs --clustpy-python")
    if "gpu" in options.parts and not torch.cuda.is_available():
        parser.error("gpu needs a CUDA device")
    for name in options.parts:
        suffix = "_quick" if name == "fits" and options.quick else ""
        report.write(f"speed_{name}{suffix}", PARTS[name](options))


if __name__ == "__main__":
    main()
