"""Write reports with the machine and the versions, and measure time and memory."""

import json
import os
import platform
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ["numpy", "scipy", "scikit-learn", "torch"]


def machine():
    """Return the properties of the machine that may affect ratios."""
    cpu = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if "model name" in x), cpu)
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return {
        "cpu": cpu,
        **gpu,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def write(name, figures, shown=None):
    """Write figures to ``results/NAME.json`` atomically, and print some or all."""
    module = sys.modules["__main__"].__spec__.name
    # Paths of this machine are private.
    arguments = ["PATH" if Path(x).is_absolute() else x for x in sys.argv[1:]]
    command = " ".join(["python -m", module, *arguments])
    report = {"command": command, "machine": machine(), **figures}
    path = RESULTS / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2) + "\n")
    partial.replace(path)
    print(json.dumps(figures if shown is None else shown, indent=2), flush=True)


class PeakMemory:
    """Largest resident memory of this process inside a ``with`` block, in bytes.

    Parameters
    ----------
    of_files : bool
        Whether to count pages of files, such as memory maps, which the system can
        reclaim.
    """

    def __init__(self, of_files=True):
        self.of_files = of_files

    def __enter__(self):
        self.before = self.peak = self._resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.005):
            self.peak = max(self.peak, self._resident())

    def _resident(self):
        _, pages, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
        if not self.of_files:
            pages -= of_files
        return pages * os.sysconf("SC_PAGE_SIZE")


def quartiles(values, digits=2):
    """Return the rounded quartiles of values."""
    return np.percentile(values, [25, 50, 75]).round(digits).tolist()


def seconds(function):
    """Return the duration of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
