"""Wheels serve all versions of Python, and one platform if they have compiled code."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = [
    "skmixmate/data/native/_products.so",
    "skmixmate/image/native/_scattering.so",
    "skmixmate/model/native/_kernels.so",
]

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        not (ROOT / "setup.py").exists(), reason="not in a clone of the repository"
    ),
]


def build_wheel(sources, **environment):
    """Build a wheel; return its tag, its libraries and whether it is pure."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", "dist", "."],
        cwd=sources,
        env={**os.environ, **environment},
        check=True,
    )
    (wheel,) = (sources / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = sorted(name for name in archive.namelist() if ".so" in name)
        (description,) = (x for x in archive.namelist() if x.endswith("/WHEEL"))
        is_pure = b"Root-Is-Purelib: true" in archive.read(description)
    wheel.unlink()
    return wheel.stem.split("-", 2)[2], libraries, is_pure


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name in ["setup.py", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE"]:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(
        ROOT / "skmixmate",
        folder / "skmixmate",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return folder


@pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() not in ("x86_64", "aarch64")
    or shutil.which("cc") is None,
    reason="needs a C compiler, and Linux on x86-64 or 64-bit ARM",
)
def test_a_wheel_with_libraries_is_for_one_platform(sources):
    tag, libraries, is_pure = build_wheel(sources)
    assert tag == f"py3-none-linux_{platform.machine()}"
    assert libraries == LIBRARIES
    assert not is_pure


def test_a_wheel_without_a_compiler_is_for_any_platform(sources):
    # In the same folder: libraries of an earlier build are left out.
    tag, libraries, is_pure = build_wheel(sources, CC="/bin/false")
    assert tag == "py3-none-any"
    assert not libraries
    assert is_pure
