import os
import subprocess
import sys

import numpy as np
import torch

import skmixmate
from skmixmate.data.native import binding as products
from skmixmate.image.native import binding as scattering
from skmixmate.model.native import binding as kernels


def rows(text):
    """Return what is printed after each name."""
    lines = (line.strip().partition(": ") for line in text.splitlines())
    return {name: value for name, _, value in lines if value}


def test_versions_threads_and_implementations_are_printed(capsys):
    skmixmate.show_versions()
    printed = rows(capsys.readouterr().out)
    assert printed["skmixmate"] == skmixmate.__version__
    assert printed["numpy"] == np.__version__
    assert printed["torch"].isdecimal()  # of the last section with this name: threads
    assert printed["encoder"] == kernels.implementation()
    assert printed["scattering"] == scattering.implementation()
    assert printed["sparse products"] == products.implementation()


def test_packages_that_are_not_installed(capsys, monkeypatch):
    monkeypatch.setattr(skmixmate._show_versions, "_EXTRAS", ["no-such-package"])
    skmixmate.show_versions()
    assert rows(capsys.readouterr().out)["no-such-package"] == "not installed"


def test_devices_are_printed(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    skmixmate.show_versions()
    assert rows(capsys.readouterr().out)["CUDA devices"] == "GPU 0, GPU 1"


def test_the_variable_that_turns_the_compiled_code_off():
    process = subprocess.run(
        [sys.executable, "-c", "import skmixmate; skmixmate.show_versions()"],
        env={**os.environ, "SKMIXMATE_COMPILED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    reason = "the environment variable SKMIXMATE_COMPILED is 0"
    printed = rows(process.stdout)
    assert printed["encoder"] == f"torch ({reason})"
    assert printed["scattering"] == f"torch ({reason})"
    assert printed["sparse products"] == f"scipy ({reason})"
