"""Random tests by the thousand: how many tries held, and how long the slowest took.

Run ``python -m benchmarks.campaign --tries 10000`` in a clone, with what the tests need
installed. It runs the tests in ``tests/campaign``: damaged files of models, checkpoints
and tables, kills and interrupts, processes that fit together, and random problems on
all paths that compute the same. Costly ones run a fraction of the tries. What they
took goes to ``benchmarks/results/campaign.json``; a test that fails ends it.
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
    """Run the campaigns; return the properties that each recorded, by its name."""
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
    found = run(options.tries, options.seed)
    report.write("campaign", {"campaigns": {k: v for k, v in found.items() if v}})


if __name__ == "__main__":
    main()
