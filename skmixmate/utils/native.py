"""Compiled libraries: how they are loaded, and how their structs are declared."""

import ctypes
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any


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
    module: str, sizes_function: str, structures: Sequence[type[ctypes.Structure]]
) -> Any:
    """Load a library that was built with the package.

    Parameters
    ----------
    module : str
        Name of the module that the library was built as.
    sizes_function : str
        Name of the function of the library that returns the sizes of its structs.
    structures : sequence of type
        The structs here, in the order of that function.

    Returns
    -------
    library : ctypes.CDLL or None
        None if it was not built, or was built for another machine or from other
        sources.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None
    if not hasattr(library, sizes_function):
        return None
    sizes = (ctypes.c_int64 * len(structures))()
    getattr(library, sizes_function)(sizes)
    expected = [ctypes.sizeof(structure) for structure in structures]
    return library if list(sizes) == expected else None
