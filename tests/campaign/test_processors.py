"""The compiled code gives the same results on other processors, in emulators."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from skmixmate.image.native import binding as scattering

ROOT = Path(__file__).parents[2]
DRIVERS = ROOT / "tests" / "resources"
SOURCES = [ROOT / "skmixmate" / part / "native" for part in ("model", "data", "image")]
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
PROGRAMS = ["gcc", CROSS_COMPILER, "qemu-aarch64", "qemu-x86_64"]

NO_KERNELS = 4  # exit code of the driver

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        platform.machine() != "x86_64"
        or not all(map(shutil.which, PROGRAMS))
        or not all(path.exists() for path in SOURCES),
        reason=f"needs {', '.join(PROGRAMS)} and the sources",
    ),
]


def build(name, folder):
    """Build a driver; return the commands that run it, by processor."""
    for compiler in ("gcc", CROSS_COMPILER):
        include = [f"-I{path}" for path in SOURCES]
        flags = ["-O3", "-fno-math-errno", "-static", "-Wall", "-Werror", "-Wno-psabi"]
        driver = DRIVERS / f"{name}.c"
        command = [compiler, *flags, *include, driver, "-o", folder / compiler, "-lm"]
        subprocess.run(command, check=True)
    return {
        "this one": [folder / "gcc"],
        "ARM": ["qemu-aarch64", folder / CROSS_COMPILER],
        "AVX2": ["qemu-x86_64", "-cpu", "Haswell", folder / "gcc"],
        "SSE": ["qemu-x86_64", "-cpu", "Westmere", folder / "gcc"],
    }


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    return build("drive_kernels", tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def scatterings(tmp_path_factory):
    return build("drive_scattering", tmp_path_factory.mktemp("scattering"))


def run(command, problem):
    """Return the floats that a driver writes."""
    process = subprocess.run(command, input=problem, capture_output=True, check=True)
    return np.frombuffer(process.stdout, np.float32)


def problem(n_clusters, n_atoms, n_rows, n_layers, n_features):
    """Draw the input of the driver."""
    rng = np.random.default_rng(n_atoms)
    dictionaries = rng.normal(size=(n_clusters, n_atoms, n_features))
    dictionaries /= np.linalg.norm(dictionaries, axis=2, keepdims=True)
    rows = rng.normal(size=(n_rows, n_features))
    observed = rng.random((n_features, n_rows)) < 0.8
    gram = dictionaries @ dictionaries.transpose(0, 2, 1)
    arrays = [
        gram,
        1 / np.linalg.eigvalsh(gram)[:, -1],
        np.full((n_clusters, n_atoms), -0.2),
        np.full((n_clusters, n_atoms), 0.2),
        np.linspace(0, 0.5, n_layers - 1),
        dictionaries @ rows.T,
        rng.normal(size=(n_clusters, n_atoms, n_rows)),
        dictionaries,
        rows.T * observed,
        observed,
        observed.mean(axis=0),
        np.arange(n_layers - 1) % 4 == 3,
        dictionaries @ (rows.T * observed),
        rows,
        observed.T,
        rng.normal(size=(n_clusters, n_features)),
    ]
    sizes = np.array([n_clusters, n_atoms, n_rows, n_layers, n_features], np.int64)
    return sizes.tobytes() + b"".join(a.astype(np.float32).tobytes() for a in arrays)


@pytest.mark.parametrize("processor", ["ARM", "AVX2"])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1, 1), (3, 12, 40, 15, 30), (2, 33, 70, 8, 150), (5, 5, 16, 2, 8)],
)
def test_results_are_the_same(processor, sizes, kernels):
    here, there = (run(kernels[p], problem(*sizes)) for p in ("this one", processor))
    assert len(here) == len(there) > 0
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4)


def test_an_old_processor_has_no_kernels(kernels):
    process = subprocess.run(
        kernels["SSE"], input=problem(1, 1, 1, 1, 1), capture_output=True
    )
    assert process.returncode == NO_KERNELS


def images_to_scatter(n_images, shape, J, L, order):
    """Draw the input of the driver."""
    constants = scattering._constants(shape, J, L, order)
    arrays = {array.ctypes.data: array for array in constants.arrays}

    def blob(array):
        return np.int64(array.nbytes).tobytes() + array.tobytes()

    def at(pointer):
        return blob(arrays[pointer]) if pointer else np.int64(0).tobytes()

    def axis(a):
        return (
            np.array([a.size, a.n_radices]).tobytes() + at(a.radices) + at(a.twiddles)
        )

    shape_out = [size // 2**J for size in shape]
    n_paths = 1 + J * L + (L * L * J * (J - 1) // 2 if order == 2 else 0)
    numbers = np.array([n_images, *shape, n_paths, *shape_out, J, L, order])
    images = np.random.default_rng(0).normal(size=(n_images, *shape))
    return b"".join(
        [
            numbers.tobytes(),
            blob(images.astype(np.float32)),
            *map(blob, constants.margins),
            *(
                axis(v.x) + axis(v.y) + at(v.across) + at(v.down)
                for v in constants.levels
            ),
            *(at(w.bands) + at(w.starts) + at(w.values) for w in constants.wavelets),
        ]
    )


@pytest.mark.parametrize("processor", ["ARM", "AVX2", "SSE"])
@pytest.mark.parametrize(
    "sizes", [(3, (28, 28), 3, 8, 2), (17, (9, 22), 2, 3, 2), (1, (4, 30), 1, 2, 1)]
)
def test_scattering_is_the_same(processor, sizes, scatterings):
    images = images_to_scatter(*sizes)
    here, there = (run(scatterings[p], images) for p in ("this one", processor))
    assert len(here) == len(there) > 0
    np.testing.assert_allclose(there, here, atol=1e-5 * np.abs(here).max())
