import ctypes

import pytest

from skmixmate.data.native import binding as products
from skmixmate.model.native import binding as kernels
from skmixmate.utils import native

BINDINGS = pytest.mark.parametrize("binding", [kernels, products])


@BINDINGS
def test_a_library_that_was_not_built_is_not_loaded(binding, monkeypatch):
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    assert binding.load() is None


@BINDINGS
def test_a_library_without_the_sizes_of_its_structs_is_not_loaded(binding, monkeypatch):
    spec = type("Spec", (), {"origin": "library"})
    monkeypatch.setattr(native, "find_spec", lambda name: spec)
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: object())
    assert binding.load() is None


def test_fields_are_pointers_and_then_integers():
    class Rows(ctypes.Structure):
        _fields_ = native.struct_fields("entries starts", "n_rows")

    assert ctypes.sizeof(Rows) == 3 * 8
    assert Rows(1, 2, 3).n_rows == 3
