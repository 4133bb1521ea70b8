"""Time of a fit beside another process that is busy.

Threads that have nothing to do wait for the next product without sleeping, which is
fast as long as no other program needs the cores. USPS is fitted in processes of
their own, alone and beside a process that computes in one thread, in these ways:

default
    With as many threads as there are cores.
passive
    The same, with OMP_WAIT_POLICY=passive: threads that wait sleep.
one thread
    With OMP_NUM_THREADS=1.

Each round runs all of them; ratios are to one thread in the same round. Run ``python
-m benchmarks.busy`` with the folder of USPS in SKMIXMATE_DATA. Results are written to
``benchmarks/results/busy.json``.
"""

import contextlib
import os
import subprocess
import sys

from . import report

N_ROUNDS = 3
FIT = (
    "import time; from skmixmate import MixMateClustering, datasets;"
    "X = datasets.load_usps().data; start = time.perf_counter();"
    "MixMateClustering(10, random_state=0).fit(X); print(time.perf_counter() - start)"
)
WAYS = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


@contextlib.contextmanager
def busy_process():
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def fit_seconds(environment):
    """Fit in a new process; return the seconds of the fit."""
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return float(output)


def main():
    """Run the benchmark."""
    rounds = []
    for _ in range(N_ROUNDS):
        times = {}
        for place, company in (
            ("alone", contextlib.nullcontext),
            ("beside", busy_process),
        ):
            with company():
                for way, environment in WAYS.items():
                    times[f"{way}, {place}"] = fit_seconds(environment)
        rounds.append(times)
    figures = {
        f"{way}, {place}": {
            "seconds": report.quartiles([t[f"{way}, {place}"] for t in rounds]),
            "relative to one thread": report.quartiles(
                [t[f"{way}, {place}"] / t[f"one thread, {place}"] for t in rounds]
            ),
        }
        for way in WAYS
        for place in ("alone", "beside")
    }
    report.write("busy", figures)


if __name__ == "__main__":
    main()
