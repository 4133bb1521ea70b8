"""Libraries that cannot be used are not loaded, and the reason is named."""

import ctypes
import logging
import platform
import struct

import pytest

from skmixmate.data.native import binding as products
from skmixmate.image.native import binding as scattering
from skmixmate.model.native import binding as kernels
from skmixmate.utils import native

BINDINGS = pytest.mark.parametrize("binding", [kernels, products, scattering])
needs_libraries = pytest.mark.skipif(
    any(binding._library is None for binding in (kernels, products, scattering)),
    reason="the libraries were not built",
)


@pytest.fixture
def file(binding, monkeypatch, tmp_path):
    """Path that the library is loaded from, without a file yet."""
    file = tmp_path / binding._PATH.name
    monkeypatch.setattr(binding, "_PATH", file)
    monkeypatch.delenv("SKMIXMATE_COMPILED", raising=False)
    return file


def reason_of(binding):
    library, reason = binding.load()
    assert library is None
    return reason


def elf_header(machine, sections=0):
    return struct.pack("<4s14xH20xQ10xHHxx", b"\x7fELF", machine, sections, 64, 20)


@needs_libraries
@BINDINGS
def test_a_library_is_loaded_without_a_reason(binding):
    library, reason = binding.load()
    assert library is not None
    assert not reason
    assert binding.implementation().startswith("compiled")


@BINDINGS
def test_a_library_that_was_not_built(binding, file):
    supported = platform.system() == "Linux" and platform.machine() in native._MACHINES
    assert ("not built" in reason_of(binding)) == supported


@BINDINGS
@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("system", "machine"), [("Darwin", "arm64"), ("Linux", "riscv64")]
)
def test_a_platform_without_libraries(binding, system, machine, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert reason_of(binding) == f"there is none for {system} on {machine}"


@BINDINGS
@pytest.mark.parametrize("content", ["", "not a library", "not a library" * 99])
def test_a_file_that_is_not_a_library(binding, file, content):
    file.write_text(content)
    assert f"{file.name} is damaged: it is not a library" in reason_of(binding)


@needs_libraries
@BINDINGS
def test_a_truncated_library(binding, monkeypatch, tmp_path):
    file = tmp_path / "library.so"
    content = binding._PATH.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(binding, "_PATH", file)
    assert "library.so is damaged: its end is missing" in reason_of(binding)


@BINDINGS
@pytest.mark.parametrize(
    ("number", "name"), [(183, "aarch64"), (243, "ELF machine 243")]
)
def test_a_library_of_another_machine(binding, file, number, name, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    file.write_bytes(elf_header(number))
    assert reason_of(binding) == (
        f"{file.name} was built for {name}, and this processor is x86_64"
    )


@BINDINGS
def test_a_library_that_the_system_cannot_load(binding, file, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    file.write_bytes(elf_header(62) + bytes(1280))
    assert f"{file.name} cannot be loaded: " in reason_of(binding)


@needs_libraries
@BINDINGS
@pytest.mark.parametrize("kind", ["other sizes", "no sizes"])
def test_a_library_of_other_sources(binding, kind, monkeypatch):
    class OtherSizes:
        def kernels_struct_sizes(self, sizes):
            sizes[0] += 8

        sparse_struct_sizes = scattering_struct_sizes = kernels_struct_sizes

    library = OtherSizes() if kind == "other sizes" else object()
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: library)
    reason = reason_of(binding)
    assert "was built from other sources; install the package again" in reason


@BINDINGS
def test_a_variable_turns_the_libraries_off(binding, monkeypatch):
    monkeypatch.setenv("SKMIXMATE_COMPILED", "0")
    assert reason_of(binding) == "the environment variable SKMIXMATE_COMPILED is 0"
    monkeypatch.setenv("SKMIXMATE_COMPILED", "1")
    library, reason = binding.load()
    assert (library is None) == bool(reason)


def test_each_reason_is_logged_once(caplog):
    native._log_once.cache_clear()
    caplog.set_level(logging.WARNING, "skmixmate")
    native.is_available(None, "it was not built")
    assert not caplog.records
    caplog.set_level(logging.INFO, "skmixmate")
    for _ in range(3):
        assert not native.is_available(None, "it was not built")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "without the compiled code" in record.message
    assert record.message.endswith(": it was not built")


def test_fields_are_pointers_and_then_integers():
    class Rows(ctypes.Structure):
        _fields_ = native.struct_fields("entries starts", "n_rows")

    assert ctypes.sizeof(Rows) == 3 * 8
    assert Rows(1, 2, 3).n_rows == 3
