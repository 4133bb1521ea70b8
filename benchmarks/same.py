"""Whether two versions learn the same, to the last bit, and how long each takes.

Run ``python -m benchmarks.same OLD NEW`` in a clone, with two commits, and usps.npz in
the folder named by SKMIXMATE_DATA. Each version, checked out to a folder of its own,
fits with the defaults the digits and 2,000 images of USPS: on scattering coefficients,
on pixels, and with a fifth of the pixels missing, three epochs each. They take turns,
each in a process of its own; times are of the second of two fits there. What was
learned is compared, and the ratio of the times goes, with its quartiles, to
``benchmarks/results/same.json``.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from . import report

ROOT = Path(__file__).parents[1]
LEARNED = ("dictionaries_", "intercepts_", "weights_", "loss_curve_", "labels_")
N_TURNS = 5


def fits():
    """Fit this version; print a digest of what it learned, and seconds."""
    from skmixmate import MixMateClustering
    from skmixmate.datasets import load_usps

    images = load_usps().data[:2000]
    holes = np.random.RandomState(0).uniform(size=images.shape) < 0.2
    sets = {
        "digits": (load_digits().data, {}),
        "images": (images, {"image_shape": (16, 16)}),
        "pixels": (images, {"image_shape": (16, 16), "representation": "pixels"}),
        "incomplete": (np.where(holes, np.nan, images), {"image_shape": (16, 16)}),
    }
    found = {}
    for name, (X, params) in sets.items():
        mixmate = MixMateClustering(10, max_iter=3, tol=0, random_state=0, **params)
        mixmate.fit(X)
        seconds = report.seconds(lambda mixmate=mixmate, X=X: mixmate.fit(X))
        digest = hashlib.sha256()
        for attribute in LEARNED:
            digest.update(np.ascontiguousarray(getattr(mixmate, attribute)).tobytes())
        found[name] = {"digest": digest.hexdigest(), "seconds": seconds}
    print(json.dumps(found))


def run(folder):
    """Call `fits` on the package in a folder."""
    program = (
        f"import sys; sys.path[:0] = [{str(folder)!r}]\n"
        f"import skmixmate; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from benchmarks.same import fits; fits()"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    answer = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
    return json.loads(answer.stdout.splitlines()[-1])


def compare(old, new):
    """Check both versions out, and let them take turns."""
    runs = {old: [], new: []}
    with tempfile.TemporaryDirectory() as parent:
        for commit in runs:
            archive = subprocess.run(
                ["git", "archive", commit, "skmixmate"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                check=True,
            )
            folder = Path(parent, commit)
            folder.mkdir()
            subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
        for _ in range(N_TURNS):
            for commit, done in runs.items():
                done.append(run(Path(parent, commit)))
    figures = {"old": old, "new": new, "sets": {}}
    for name in runs[old][0]:
        before, after = ([turn[name] for turn in runs[commit]] for commit in runs)
        ratios = [
            b["seconds"] / a["seconds"] for a, b in zip(before, after, strict=True)
        ]
        figures["sets"][name] = {
            "same": len({turn["digest"] for turn in before + after}) == 1,
            "new_over_old": report.quartiles(ratios),
        }
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", help="another")
    options = parser.parse_args()
    report.write("same", compare(options.old, options.new))


if __name__ == "__main__":
    main()
