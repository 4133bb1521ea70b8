"""Compiled libraries: how they are loaded, and how their structs are declared."""

import ctypes
import functools
import logging
import os
import platform
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

logger = logging.getLogger("skmixmate")

# Processors that setup.py compiles for, and their numbers in the header of an ELF file.
_MACHINES = {"x86_64": 62, "aarch64": 183}

# The first 64 bytes of an ELF file of 64 bits: the machine, the offset of the table of
# sections, and the size and number of its entries.
_ELF_HEADER = struct.Struct("<4s14xH20xQ10xHHxx")


class LoadedLibrary(NamedTuple):
    """A compiled library, or the reason why it is not used."""

    library: Any  # ctypes.CDLL or None
    reason: str  # empty if there is a library


def struct_fields(pointers: str, sizes: str) -> list[tuple[str, Any]]:
    """Declare the fields of a struct: pointers first, then 64-bit integers.

    Parameters
    ----------
    pointers, sizes : str
        Names, separated by spaces.

    Returns
    -------
    fields : list of tuple
        As :class:`ctypes.Structure` takes them.
    """
    return [
        *((name, ctypes.c_void_p) for name in pointers.split()),
        *((name, ctypes.c_int64) for name in sizes.split()),
    ]


def load_library(
    path: Path, sizes_function: str, structures: Sequence[type[ctypes.Structure]]
) -> LoadedLibrary:
    """Load a library that was built with the package.

    Parameters
    ----------
    path : Path
    sizes_function : str
        Name of the function of the library that returns the sizes of its structs.
    structures : sequence of type
        The structs here, in the order of that function.

    Returns
    -------
    library : ctypes.CDLL or None
        None if it was not built, is damaged, was built for another machine or from
        other sources, or if the environment variable ``SKMIXMATE_COMPILED`` is 0.
    reason : str
        Why the library is None.
    """
    if os.environ.get("SKMIXMATE_COMPILED") == "0":
        return LoadedLibrary(None, "the environment variable SKMIXMATE_COMPILED is 0")
    reason = _reason_not_to_load(path)
    if reason:
        return LoadedLibrary(None, reason)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return LoadedLibrary(None, f"{path.name} cannot be loaded: {error}")
    if not _has_structs(library, sizes_function, structures):
        return LoadedLibrary(
            None,
            f"{path.name} was built from other sources; install the package again",
        )
    return LoadedLibrary(library, "")


def is_available(library: Any, reason: str) -> bool:
    """Return whether there is a library, and log the reason if there is none.

    Each reason is logged once per process.

    Parameters
    ----------
    library, reason
        From :func:`load_library`.

    Returns
    -------
    is_available : bool
    """
    if library is None and logger.isEnabledFor(logging.INFO):  # as it may become later
        _log_once(reason)
    return library is not None


@functools.cache
def _log_once(reason: str) -> None:
    logger.info("computing without the compiled code, more slowly: %s", reason)


def _reason_not_to_load(path: Path) -> str:
    """Describe what is wrong with the file of a library; "" if nothing is.

    The linker reports a library of another processor as missing, and a process that
    reads beyond the end of a truncated one is killed.
    """
    machine = platform.machine()
    if not path.exists():
        if platform.system() != "Linux" or machine not in _MACHINES:
            return f"there is none for {platform.system()} on {machine}"
        return "it was not built; install the package again where there is a C compiler"
    header = path.read_bytes()[: _ELF_HEADER.size]
    if len(header) < _ELF_HEADER.size or not header.startswith(b"\x7fELF"):
        return f"{path.name} is damaged: it is not a library; install the package again"
    _, number, sections, entry_size, n_entries = _ELF_HEADER.unpack(header)
    if number != _MACHINES.get(machine):
        names = {value: name for name, value in _MACHINES.items()}
        built_for = names.get(number, f"ELF machine {number}")
        return f"{path.name} was built for {built_for}, and this processor is {machine}"
    if path.stat().st_size < sections + entry_size * n_entries:
        return f"{path.name} is damaged: its end is missing; install the package again"
    return ""


def _has_structs(
    library: ctypes.CDLL,
    sizes_function: str,
    structures: Sequence[type[ctypes.Structure]],
) -> bool:
    """Return whether the structs of the library have the sizes of those here."""
    if not hasattr(library, sizes_function):
        return False
    sizes = (ctypes.c_int64 * len(structures))()
    getattr(library, sizes_function)(sizes)
    return list(sizes) == [ctypes.sizeof(structure) for structure in structures]
