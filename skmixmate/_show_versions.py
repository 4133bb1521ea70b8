"""Versions, threads, devices and compiled code, for reports of bugs."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
from threadpoolctl import threadpool_info

from ._version import __version__
from .data.native import binding as sparse_products
from .image.native import binding as scattering
from .model.native import binding as encoder

# Required packages, and packages of the extras.
_DEPENDENCIES = ["numpy", "scipy", "scikit-learn", "torch", "joblib", "threadpoolctl"]
_EXTRAS = ["matplotlib", "rich", "pandas", "pyarrow", "dask", "distributed"]


def show_versions() -> None:
    """Print versions, threads, devices, and which compiled code runs.

    If the compiled code is not used, the reason is printed: it was not built, is
    damaged, was built for another processor or from other sources, the processor has
    no AVX2, or the environment variable ``SKMIXMATE_COMPILED`` is 0.

    Examples
    --------
    >>> import skmixmate
    >>> skmixmate.show_versions()  # doctest: +ELLIPSIS
    System:
          python: ...
    Packages:
          skmixmate: ...
    Threads:
    ...
    Computation:
         CUDA devices: ...
              encoder: ...
           scattering: ...
      sparse products: ...
    """
    sections = {
        "System": {
            "python": " ".join(sys.version.split()),
            "executable": sys.executable,
            "machine": platform.platform(),
        },
        "Packages": {
            "skmixmate": __version__,
            **{name: _version(name) for name in _DEPENDENCIES + _EXTRAS},
        },
        "Threads": _threads(),
        "Computation": {
            "CUDA devices": _cuda_devices(),
            "encoder": encoder.implementation(),
            "scattering": scattering.implementation(),
            "sparse products": sparse_products.implementation(),
        },
    }
    print("\n\n".join(_format(title, rows) for title, rows in sections.items()))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _threads() -> dict[str, str]:
    """Return the number of cores, and of the threads of each library."""
    threads = {"cores": str(os.cpu_count()), "torch": str(torch.get_num_threads())}
    for pool in threadpool_info():
        threads[os.path.basename(pool["filepath"])] = str(pool["num_threads"])
    return threads


def _cuda_devices() -> str:
    names = [
        torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())
    ]
    return ", ".join(names) or "none"


def _format(title: str, rows: Mapping[str, str]) -> str:
    """Align the names of a section at their ends."""
    width = max(map(len, rows)) + 2
    return "\n".join(
        [f"{title}:", *(f"{name:>{width}}: {value}" for name, value in rows.items())]
    )
