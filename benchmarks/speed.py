"""Speed and memory: training steps, prediction, scaling, and whole fits.

Run ``python -m benchmarks.speed PART ...`` with mnist.npz in the folder named by
SKMIXMATE_DATA. The parts are:

step
    A training step compared with the published formulation, step-by-step autograd in
    pixel space (``tests/reference.py``), on complete images of MNIST and on images
    that all lack a quarter of their pixels.
rate
    The arithmetic of the matrix products in a step over its time, relative to that of
    one large product; with the default, and with a gradient from every pair of image
    and cluster; with 50 atoms, the default, and with 150.
predict
    Images per second compared with KMeans, GaussianMixture, and the matrix products of
    the prediction alone.
growth
    The time of a step over the number of clusters, atoms, features and layers, and of
    an epoch over the number of rows, with the quartiles of the fitted exponents. The
    data are sampled from the model.
memory
    Memory that a fit adds to a process, over the size of a memory map.
fits
    Whole fits of MNIST, including the initialisation, in seconds and processor time:
    MixMateClustering with 50 epochs on pixels, first and once more at the end, and
    with the defaults; MiniBatchDictionaryLearning with as many atoms; GaussianMixture;
    and ClustPy's DEC if ``--clustpy-python`` names an environment with ClustPy (see
    ``benchmarks/table1.py``), which takes about an hour. Fits in the results of the
    same machine and versions are not repeated. ``--quick`` fits 2,000 images and
    writes a separate file.
dec
    Fits with few epochs of MixMateClustering on pixels and of DEC, in turn, from which
    the times of 50 epochs and of DEC's 100 and 150 epochs are extrapolated. Compared
    with ``fits``, changes in the speed of the machine affect both alike. Needs
    ``--clustpy-python``; takes a quarter of an hour.
gpu
    On a CUDA device: a training step replayed from a CUDA graph compared with one that
    is launched kernel by kernel, and whole fits of MNIST, including the
    initialisation, twice each: the first one includes the setup of CUDA.

Times that are compared are measured in turn; ratios are reported with quartiles. The
figures are written to ``benchmarks/results/speed_PART.json``.
"""

import argparse
import contextlib
import functools
import json
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
from tests import reference

from . import report
from .peers.worker import ClustPy
from .report import quartiles
from .table1 import fit, make

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
PUBLISHED_STEP_SIZE = 0.04


def in_turn(functions, n_times, n_warm=5, n_calls=1, pause=0.0):
    """Time functions in turn.

    Parameters
    ----------
    functions : dict of callable
    n_times, n_warm : int
        Number of turns, and of warm-up turns before them.
    n_calls : int, default=1
        Number of calls in a turn. With several, a training step finds the cache in
        the state in which the previous step left it, as in training.
    pause : float, default=0.0
        Seconds before each turn. If the functions use different libraries, the threads
        of the previous library have stopped spinning after it.

    Returns
    -------
    seconds : dict of ndarray of shape (n_times,)
        Mean time of a call in each turn.
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


def all_rows_active():
    """Compute the gradient of every cluster from all rows."""

    def all_rows(responsibilities):
        n_clusters, n_rows = responsibilities.shape
        index = torch.arange(n_rows).repeat(n_clusters, 1)
        return ActiveRows(torch.arange(n_clusters), index)

    return mock.patch.object(ActiveRows, "from_responsibilities", all_rows)


@functools.cache
def mnist_start(n_atoms="auto"):
    """Load scaled images, and dictionaries after one epoch."""
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
    """Return a function that takes the next training step."""
    batches = em.rows.batches(em.indices, em.batch_size, em.generator)
    return lambda: em.step(next(batches))


def without_library(function):
    """Wrap a function so that it does not use the compiled encoder."""

    def call():
        with mock.patch.object(binding, "_library", None):
            function()

    return call


def published_steps_of(em):
    """Return such a function for the published formulation and the same batches."""
    mixture = em.mixture
    dictionaries = mixture.dictionaries.clone().requires_grad_()
    optimizer = torch.optim.Adam([dictionaries], lr=1e-3)
    batches = em.rows.batches(em.indices, em.batch_size, em.generator)

    def take_step():
        rows, observed, *_ = next(batches)
        energies = reference.energies(
            rows,
            dictionaries,
            PUBLISHED_STEP_SIZE,
            mixture.prior.alpha,
            mixture.n_layers,
            mixture.weights,
            observed,
        )
        optimizer.zero_grad()
        reference.loss(energies).backward()
        optimizer.step()
        with torch.no_grad():
            dictionaries.div_(dictionaries.norm(dim=2, keepdim=True))

    return take_step


def step(X, dictionaries):
    incomplete = X.copy()
    incomplete[np.random.default_rng(0).random(X.shape) < 0.25] = np.nan
    functions = {}
    for name, data in {"complete": X, "incomplete": incomplete}.items():
        functions[name] = steps_of(training(data, dictionaries))
        functions[f"{name}, in torch"] = without_library(
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


def flop_of_a_step(dictionaries, n_rows, n_active, n_layers=15):
    """Count the floating-point operations of the matrix products in a step.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_atoms, n_features)
    n_rows : int
        Number of images in the mini-batch.
    n_active : float
        Mean number of images that a cluster has a gradient from.
    n_layers : int
    """
    n_clusters, n_atoms, n_features = dictionaries.shape
    # Correlations, Gram matrices, and the gradients of both.
    with_features = n_rows + n_active + 2 * n_atoms
    with_atoms = n_layers * n_rows + (3 * n_layers - 1) * n_active  # layers and energy
    step_size = 5 * n_atoms
    return (
        2
        * n_clusters
        * n_atoms
        * (with_features * n_features + (with_atoms + step_size) * n_atoms)
    )


def rate(X, dictionaries):
    matrix = torch.randn(2048, 2048)
    figures = {}
    for name, context in {
        "with_skipping": contextlib.nullcontext(),
        "without_skipping": all_rows_active(),
    }.items():
        n_active = []
        with context:
            original = ActiveRows.from_responsibilities

            def counting(responsibilities, original=original, n_active=n_active):
                blocks = original(responsibilities)
                n_active.append(blocks.index.numel() / len(responsibilities))
                return blocks

            with mock.patch.object(ActiveRows, "from_responsibilities", counting):
                take_step = steps_of(training(X, dictionaries))
                seconds = in_turn(
                    {"product": lambda: matrix @ matrix, "step": take_step},
                    n_times=9,
                    n_warm=1,
                    n_calls=10,
                )
        n_active = np.reshape(n_active[-90:], (9, 10)).mean(axis=1)
        flop = flop_of_a_step(dictionaries, BATCH_SIZE, n_active)
        product_rate = 2 * len(matrix) ** 3 / seconds["product"]
        figures[name] = {
            "gigaflop_of_a_step": quartiles(flop / 1e9, 3),
            "milliseconds": quartiles(1e3 * seconds["step"]),
            "share_of_matrix_product_rate": quartiles(
                flop / seconds["step"] / product_rate
            ),
        }
    return figures


def products_alone(X, dictionaries, n_layers=15, size=668):
    """Compute only the matrix products of the prediction."""
    codes = torch.randn(*dictionaries.shape[:2], size)
    gram = dictionaries @ dictionaries.mT
    for block in torch.from_numpy(X).split(size):
        dictionaries @ block.mT
        for _ in range(n_layers):
            gram @ codes


def predict(X, dictionaries):
    X = X[:20_000]
    mixmate = MixMateClustering(
        10,
        image_shape=None,
        init="random",
        fit_intercept=False,
        max_iter=0,
        scale=1.0,
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


def synthetic_training(n_samples, **sizes):
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
    steps = [steps_of(synthetic_training(12_800, **{name: size})) for size in sizes]
    return growth_over(sizes, steps, n_times=9, n_warm=1, n_calls=5)


def growth():
    figures = {}
    for name, sizes in GROWTH.items():
        if name == "n_samples":
            epochs = [synthetic_training(size).run_epoch for size in sizes]
            figures[name] = growth_over(sizes, epochs, n_times=5, n_warm=1)
            continue
        figures[name] = growth_of_a_step(name, sizes)
        if name == "n_clusters":
            with all_rows_active():
                figures[f"{name}_without_skipping"] = growth_of_a_step(name, sizes)
    return figures


def memory():
    figures = {"data_mib": MAP_MIB, "fit_adds_mib": []}
    rng = np.random.default_rng(0)
    mixmate = MixMateClustering(10, max_iter=1, tol=0, random_state=0)
    fit(mixmate, rng.random((6000, 784), dtype=np.float32))  # memory of the libraries
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
        "GaussianMixture": make("gaussian_mixture", 0),
        "DEC": ClustPy(clustpy_python, "DEC", 0),
        "MiniBatchDictionaryLearning": MiniBatchDictionaryLearning(500, random_state=0),
    }
    # Repeated, as the speed of the machine may change within the hour.
    estimators[f"{OURS}, again"] = clone(estimators[OURS])
    if clustpy_python is None:
        del estimators["DEC"]
    for key, estimator in estimators.items():
        runs = load_runs(name)
        if key not in runs:
            seconds = fit_seconds(estimator, X)
            # For ClustPy, without the start of its process.
            description = getattr(estimator, "description_", seconds)
            times = {clock: round(description[clock], 1) for clock in seconds}
            runs[key] = {"images": len(X), **times}
            report.write(name, fit_figures(runs))
    return fit_figures(load_runs(name))


def load_runs(name):
    """Load earlier fits of this machine: times of several are not comparable."""
    path = report.RESULTS / f"{name}.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    return earlier["runs"] if earlier.get("machine") == report.machine() else {}


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
        "seconds_of_all_epochs": {
            key: quartiles(seconds, 0) for key, seconds in totals.items()
        },
        "dec_over_ours": quartiles(dec_seconds / ours_seconds),
    }


def pixels(**params):
    """Create the estimator of the fits on pixels."""
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
        figures["seconds_of_fits"][key] = [round(seconds, 2) for seconds in times]
    return figures


def fit_seconds(estimator, X):
    """Time a fit, in seconds and in processor time of all threads."""
    processor_start = time.process_time()
    seconds = report.seconds(functools.partial(fit, estimator, X))
    return {
        "seconds": seconds,
        "processor_seconds": time.process_time() - processor_start,
    }


def fit_figures(runs):
    """Divide the times of the available fits by those of MixMateClustering."""
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
