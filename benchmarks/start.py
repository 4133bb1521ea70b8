"""Time from the start of Python until the package is imported, or the program answers.

Each round starts one process for each statement; differences and ratios are between
processes of one round, and their quartiles are reported. The files are in the cache.

Run ``python -m benchmarks.start``. Results are written to
``benchmarks/results/start.json``.
"""

import subprocess
import sys

from . import report

N_ROUNDS = 9
DEPENDENCIES = "import torch, sklearn.base, sklearn.cluster"
COMMANDS = {
    "python": ["-c", "pass"],
    "dependencies": ["-c", DEPENDENCIES],
    "package": ["-c", f"{DEPENDENCIES}, skmixmate"],
    "estimator": ["-c", f"{DEPENDENCIES}; from skmixmate import MixMateClustering"],
    "version": ["-m", "skmixmate", "--version"],
    "help": ["-m", "skmixmate", "--help"],
}


def run(arguments):
    """Run Python, without its output."""
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main():
    """Run the benchmark."""
    rounds = []
    for i in range(1 + N_ROUNDS):
        times = {
            name: report.seconds(lambda arguments=arguments: run(arguments))
            for name, arguments in COMMANDS.items()
        }
        if i > 0:  # the first one reads the files
            rounds.append(times)
    figures = {
        f"{name}, relative to the dependencies": report.quartiles(
            [times[name] / times["dependencies"] for times in rounds], digits=3
        )
        for name in ("package", "estimator")
    }
    for name in ("version", "help"):
        seconds = [times[name] - times["python"] for times in rounds]
        figures[f"{name}, seconds more than Python"] = report.quartiles(seconds)
    report.write("start", figures)


if __name__ == "__main__":
    main()
