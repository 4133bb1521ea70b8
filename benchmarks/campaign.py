"""Random tests: the number of tries that passed, and the time of the slowest.

Run ``python -m benchmarks.campaign --tries 10000`` in a clone, with the extra ``test``
installed. It runs the tests in ``tests/campaign``: damaged files of models, checkpoints
and tables, kills and interrupts, processes that fit together, and random problems on
all code paths that compute the same. Costly tests run a fraction of the tries. The
results go to ``benchmarks/results/campaign.json``; a failed test stops the run.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from . import report

ROOT = Path(__file__).parents[1]


def run(n_tries, seed):
    """Run the tests; return the recorded properties of each by its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.xml")
        options = ["-m", "campaign", "-n", "2", "--no-cov", "-q", f"--junitxml={path}"]
        tries = ["--tries", str(n_tries), "--seed", str(seed)]
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tries, "tests/campaign"],
            cwd=ROOT,
            check=True,
        )
        cases = ElementTree.parse(path).iter("testcase")
        return {
            f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}": {
                entry.get("name"): float(entry.get("value"))
                for entry in case.iter("property")
            }
            for case in cases
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = run(options.tries, options.seed)
    report.write("campaign", {"campaigns": {k: v for k, v in results.items() if v}})


if __name__ == "__main__":
    main()
