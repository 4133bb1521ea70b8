import pickle
import subprocess
import sys

import pytest

import skmixmate


def run(program):
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return process.stdout.strip()


def test_importing_the_package_imports_no_dependency():
    program = (
        "import sys, skmixmate; print(*{'numpy', 'sklearn', 'torch'} & {*sys.modules})"
    )
    assert run(program) == ""


def test_names_and_modules_are_imported_when_they_are_used():
    program = (
        "import skmixmate\n"
        "print(skmixmate.MixMateClustering.__module__)\n"
        "print(skmixmate.datasets.make_sparse_mixture.__name__)"
    )
    assert run(program).splitlines() == [
        "skmixmate.estimators._mixmate",
        "make_sparse_mixture",
    ]


def test_all_names_can_be_imported_at_once():
    program = "from skmixmate import *; print(load, MixMateClustering, __version__)"
    assert run(program)


def test_dir_lists_names_and_public_modules():
    assert {*skmixmate.__all__, "cluster", "datasets", "plotting"} <= {*dir(skmixmate)}
    for name in dir(skmixmate):
        assert getattr(skmixmate, name) is not None


def test_a_name_is_found_once():
    assert skmixmate.load is skmixmate.load
    assert "load" in vars(skmixmate)


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="module 'skmixmate' has no attribute 'x'"):
        skmixmate.__getattr__("x")
    with pytest.raises(ImportError, match="cannot import name 'x'"):
        exec("from skmixmate import x")


def test_classes_can_be_pickled():
    assert pickle.loads(pickle.dumps(skmixmate.MixMateClustering)) is (
        skmixmate.MixMateClustering
    )
