"""Comparison of two versions: whether their fits are bit-identical, and their times.

Run ``python -m benchmarks.same OLD NEW`` in a clone, with two commits, and usps.npz in
the folder named by SKMIXMATE_DATA. Each version is checked out to a folder and built
there. Each fits small data in all kinds of fits, see `SCENARIOS`; the last four are
1,000 rows of 20 features. Runs of the two versions alternate, each in a new process;
times are of the second of two fits in it.
Fitted attributes and the energies of the first rows are compared. The results, with
quartiles of the ratios of the times, go to ``benchmarks/results/same.json``.
``--turns 1`` runs each version only once, ``--only NAME ...`` a part of the fits.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, make_blobs, make_classification

from . import report

ROOT = Path(__file__).parents[1]
ATTRIBUTES = ("dictionaries_", "intercepts_", "weights_", "loss_curve_", "labels_")
# Files that a build needs; they exist in all versions.
BUILT = (
    "skmixmate",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "README.rst",
    "LICENSE",
)
N_TURNS = 5

DIGITS = load_digits().data


@cache
def images():
    from skmixmate.datasets import load_usps

    return load_usps().data[:2000]


@cache
def incomplete():
    is_missing = np.random.RandomState(0).uniform(size=images().shape) < 0.2
    return np.where(is_missing, np.nan, images())


def estimator(**params):
    from skmixmate import MixMateClustering

    defaults = {"n_clusters": 10, "max_iter": 3, "tol": 0, "random_state": 0}
    defaults["image_shape"] = None
    return MixMateClustering(**{**defaults, **params})


def fit_table(X):
    """Fit 1,000 rows of 20 features with nothing but the number of clusters."""
    from skmixmate import MixMateClustering

    return MixMateClustering(8, random_state=0).fit(X)


def fit_stream(folder):
    stream = estimator(init_size=800)
    for start in range(0, len(DIGITS), 300):
        stream.partial_fit(DIGITS[start : start + 300])
    return stream


def fit_and_resume(folder):
    """Interrupt a fit after an epoch, and resume it from its checkpoint."""
    from sklearn.callback import ScoringMonitor

    class Interrupt(ScoringMonitor):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 1:
                raise KeyboardInterrupt

    path = Path(folder, "checkpoint")
    interrupted = estimator(checkpoint=path).set_callbacks(Interrupt(scoring=None))
    interrupted.fit(DIGITS)
    return estimator(checkpoint=path).fit(DIGITS)


def fit_in_process(rank, store):
    """Fit half of the rows together with the process of the other rank."""
    import torch

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    fitted = estimator().fit(DIGITS[rank::2])
    torch.distributed.destroy_process_group()
    return fitted


def fit_in_two(folder):
    """Fit in two processes; return the estimator of the first."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    store = Path(folder, "store")
    store.unlink(missing_ok=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        first, _ = pool.map(fit_in_process, range(2), [store] * 2)
    return first


# Functions that fit an estimator; called with a folder for temporary files.
SCENARIOS = {
    "plain": lambda _: estimator().fit(DIGITS),
    "float32": lambda _: estimator().fit(DIGITS.astype(np.float32)),
    "scattering": lambda _: estimator(image_shape=(16, 16)).fit(images()),
    "recognised": lambda _: estimator(image_shape="auto").fit(images()),
    "pixels": lambda _: estimator(
        image_shape=(16, 16), representation="pixels", dictionary_penalty=0.1
    ).fit(images()),
    "incomplete images": lambda _: estimator(image_shape=(16, 16)).fit(incomplete()),
    "incomplete": lambda _: estimator().fit(incomplete()),
    "counts": lambda _: estimator(likelihood="poisson").fit(DIGITS[:600]),
    "binary": lambda _: estimator(likelihood="bernoulli").fit(DIGITS[:600] > 7),
    "learned": lambda _: estimator(
        weights="learned", noise_variance="auto", prior="elastic_net"
    ).fit(DIGITS[:600]),
    "groups": lambda _: estimator(prior="group").fit(DIGITS),
    "nonnegative": lambda _: estimator(prior="nonnegative").fit(DIGITS),
    "trials": lambda _: estimator(n_init=3, init="kmeans").fit(DIGITS),
    "stream": fit_stream,
    "resumed": fit_and_resume,
    "two processes": fit_in_two,
    "blobs": lambda _: fit_table(
        make_blobs(1000, 20, centers=8, cluster_std=4, random_state=0)[0]
    ),
    "classification": lambda _: fit_table(
        make_classification(
            1000,
            20,
            n_informative=8,
            n_classes=8,
            n_clusters_per_class=1,
            random_state=0,
        )[0]
    ),
    "heavy tails": lambda _: fit_table(
        np.random.RandomState(0).standard_t(2, (1000, 20))
    ),
    "noise": lambda _: fit_table(np.random.RandomState(0).random_sample((1000, 20))),
}


def run_scenarios(names):
    """Fit scenarios; print a digest of each fitted estimator, and seconds."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            fit = SCENARIOS[name]
            fitted = fit(folder)
            seconds = report.seconds(lambda fit=fit: fit(folder))
            n_features = fitted.n_features_in_
            rows = images() if n_features == 256 else np.eye(n_features)
            rows = DIGITS > 7 if n_features == 64 else rows
            arrays = [getattr(fitted, attribute) for attribute in ATTRIBUTES]
            arrays.append(fitted.energies(rows[:500].astype(float)))
            digest = hashlib.sha256()
            for array in arrays:
                digest.update(np.ascontiguousarray(array).tobytes())
            results[name] = {"digest": digest.hexdigest(), "seconds": seconds}
    print(json.dumps(results))


def run(folder, names):
    """Call `run_scenarios` with the package in a folder."""
    # Child processes must import the package from the folder, too.
    paths = os.pathsep.join([str(folder), str(ROOT)])
    program = (
        f"import sys; sys.path[:0] = {[str(folder), str(ROOT)]!r}\n"
        "import skmixmate; from benchmarks.same import run_scenarios\n"
        f"assert skmixmate.__file__.startswith({str(folder)!r})\n"
        f"if __name__ == '__main__': run_scenarios({list(names)!r})"
    )
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def build(commit, folder):
    """Check out a commit to a folder, and compile its extensions there."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", commit, *BUILT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        stdout=sys.stderr,
        check=True,
    )


def compare(old, new, n_turns, names):
    """Build both versions, and run them in turn."""
    runs = {old: [], new: []}
    with tempfile.TemporaryDirectory() as parent:
        for commit in runs:
            build(commit, Path(parent, commit))
        for _ in range(n_turns):
            for commit, results in runs.items():
                results.append(run(Path(parent, commit), names))
    results = {"old": old, "new": new, "sets": {}}
    for name in names:
        before, after = ([turn[name] for turn in runs[commit]] for commit in runs)
        ratios = [
            b["seconds"] / a["seconds"] for a, b in zip(before, after, strict=True)
        ]
        results["sets"][name] = {
            "same": len({turn["digest"] for turn in before + after}) == 1,
            "new_over_old": report.quartiles(ratios),
        }
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", help="the commit to compare with it")
    parser.add_argument("--turns", type=int, default=N_TURNS)
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS))
    options = parser.parse_args()
    results = compare(options.old, options.new, options.turns, options.only)
    report.write("same", results)


if __name__ == "__main__":
    main()
