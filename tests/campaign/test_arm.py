"""The compiled code on ARM, in an emulator, gives the results of this machine."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "tests" / "resources" / "drive_kernels.c"
SOURCES = [ROOT / "skmixmate" / part / "native" for part in ("model", "data")]
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        platform.machine() != "x86_64"
        or not all(map(shutil.which, ["gcc", CROSS_COMPILER, EMULATOR]))
        or not all(path.exists() for path in SOURCES),
        reason=f"needs gcc, {CROSS_COMPILER}, {EMULATOR} and the sources",
    ),
]


@pytest.fixture(scope="module")
def drivers(tmp_path_factory):
    """Commands that run the driver, on this machine and on ARM."""
    folder = tmp_path_factory.mktemp("drivers")
    for compiler in ("gcc", CROSS_COMPILER):
        include = [f"-I{path}" for path in SOURCES]
        command = [compiler, "-O3", "-static", "-Wall", "-Werror", *include]
        subprocess.run([*command, DRIVER, "-o", folder / compiler], check=True)
    return [folder / "gcc"], [EMULATOR, folder / CROSS_COMPILER]


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


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1, 1), (3, 12, 40, 15, 30), (2, 33, 70, 8, 150), (5, 5, 16, 2, 8)],
)
def test_results_are_the_same(sizes, drivers):
    here, on_arm = (
        np.frombuffer(
            subprocess.run(
                command, input=problem(*sizes), capture_output=True, check=True
            ).stdout,
            np.float32,
        )
        for command in drivers
    )
    assert len(here) == len(on_arm) > 0
    np.testing.assert_allclose(on_arm, here, rtol=1e-3, atol=1e-4)
