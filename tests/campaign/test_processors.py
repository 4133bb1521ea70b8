"""The compiled code gives the same results on other processors, in emulators."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "tests" / "resources" / "drive_kernels.c"
SOURCES = [ROOT / "skmixmate" / part / "native" for part in ("model", "data")]
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


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Commands that run the driver, by processor."""
    folder = tmp_path_factory.mktemp("drivers")
    for compiler in ("gcc", CROSS_COMPILER):
        include = [f"-I{path}" for path in SOURCES]
        command = [compiler, "-O3", "-static", "-Wall", "-Werror", *include]
        subprocess.run([*command, DRIVER, "-o", folder / compiler], check=True)
    return {
        "this one": [folder / "gcc"],
        "ARM": ["qemu-aarch64", folder / CROSS_COMPILER],
        "AVX2": ["qemu-x86_64", "-cpu", "Haswell", folder / "gcc"],
        "SSE": ["qemu-x86_64", "-cpu", "Westmere", folder / "gcc"],
    }


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
        rows,
    ]
    sizes = np.array([n_clusters, n_atoms, n_rows, n_layers, n_features], np.int64)
    return sizes.tobytes() + b"".join(a.astype(np.float32).tobytes() for a in arrays)


@pytest.mark.parametrize("processor", ["ARM", "AVX2"])
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1, 1), (3, 12, 40, 15, 30), (2, 33, 70, 8, 150), (5, 5, 16, 2, 8)],
)
def test_results_are_the_same(processor, sizes, commands):
    here, there = (
        np.frombuffer(
            subprocess.run(
                commands[name], input=problem(*sizes), capture_output=True, check=True
            ).stdout,
            np.float32,
        )
        for name in ("this one", processor)
    )
    assert len(here) == len(there) > 0
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-4)


def test_an_old_processor_has_no_kernels(commands):
    process = subprocess.run(
        commands["SSE"], input=problem(1, 1, 1, 1, 1), capture_output=True
    )
    assert process.returncode == NO_KERNELS
