"""The layers of the encoder, compiled: one tile of rows through all of them at a time.

What :mod:`~skmixmate.model.fista` does in torch, `kernels.c` does for float32 on a CPU
and priors that shrink by thresholds, in about half the time. It is built where there is
a C compiler when the package is installed; without it nothing else changes.
"""

import ctypes
import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

# As in kernels.c: rows in a tile, what atoms are topped up to a multiple of, and tiles
# of features at a time.
_ROWS, _TAIL, _TILES = 16, 5, 8

# Bytes that a tape lies on a multiple of, as in kernels.c: the others are copied.
_ALIGNMENT = 64

# Arrays of integers, and those that the library writes to.
_INDICES = {"index", "cluster_ids"}
_WRITTEN = {"output", "explained_energy", "tape", "gram_slopes", "gradient"}

# Units of work for each thread, so that none waits long for the last.
_UNITS_PER_THREAD = 8

# With more, a product of torch has enough to do; and each thread wants 16 times the
# memory of a Gram matrix.
_MOST_ATOMS = 256


def _fields(pointers, sizes):
    return [
        *((name, ctypes.c_void_p) for name in pointers.split()),
        *((name, ctypes.c_int64) for name in sizes.split()),
    ]


class _Shape(ctypes.Structure):
    """``struct shape`` of kernels.c, which says what is what; so below."""

    _fields_ = _fields(
        "",
        "n_clusters n_atoms n_rows n_tiles tiles_in_unit units_in_cluster n_lanes",
    )

    @classmethod
    def of(cls, codes):
        """Share tiles out among threads."""
        n_clusters, _, n_rows = codes.shape
        n_tiles = -(-n_rows // _ROWS)
        n_wanted = _UNITS_PER_THREAD * torch.get_num_threads()
        tiles_in_unit = min(n_tiles, max(1, n_clusters * n_tiles // n_wanted))
        units_in_cluster = -(-n_tiles // tiles_in_unit)
        sharing = n_tiles, tiles_in_unit, units_in_cluster
        return cls(*codes.shape, *sharing, _library.layers_lanes())


class _Layers(ctypes.Structure):
    """``struct layers``."""

    _fields_ = [
        ("shape", _Shape),
        *_fields(
            "gram step lower upper momenta input output codes explained_energy tape "
            "gram_slopes",
            "n_layers",
        ),
    ]


class _ResidualCorrelations(ctypes.Structure):
    """``struct residual_correlations``."""

    _fields_ = [
        ("shape", _Shape),
        *_fields(
            "dictionaries targets observed codes output", "n_features targets_apart"
        ),
    ]


class _Products(ctypes.Structure):
    """``struct products``."""

    _fields_ = _fields(
        "rows slopes index cluster_ids gradient",
        "n_all n_features n_blocks n_clusters n_atoms n_rows n_groups n_lanes",
    )


def load():
    """Load what was built, if it was, and if the processor can run it.

    Returns
    -------
    library : ctypes.CDLL or None
    """
    spec = find_spec("skmixmate.model.native._kernels")
    if spec is None:
        return None
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None
    return library if library.layers_lanes() else None


_library = load()


def can_run(codes):
    """Tell whether there is compiled code for these.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)

    Returns
    -------
    can_run : bool
    """
    return (
        _library is not None
        and codes.dtype == torch.float32
        and codes.device.type == "cpu"
        and codes.shape[1] <= _MOST_ATOMS
        and codes.numel() > 0
    )


def unroll(
    correlations,
    gram,
    step,
    thresholds,
    momenta,
    keep_tape=False,
    explained_energy=None,
):
    """Run the layers of Eq. 4.

    Parameters
    ----------
    correlations, gram, step, keep_tape
        As in :func:`~skmixmate.model.fista.unroll`.
    gains : tensor of shape (n_clusters, n_rows), default=None
        Where what codes take off the squared norms of rows goes.
    thresholds : tuple of float or of tensors of shape (n_clusters, n_atoms, 1)
        Lower and upper; see :attr:`Prior.thresholds`.
    momenta : list of float, of length n_layers - 1

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    tape : CompiledTape or None
        None unless it is to be kept. It needs the codes as they are.

    Raises
    ------
    MemoryError
        If there is not enough for what a thread works with.
    """
    n_clusters, n_atoms, n_rows = correlations.shape
    lower, upper = (
        torch.as_tensor(bound, dtype=torch.float32, device="cpu")
        .expand(n_clusters, n_atoms, 1)
        .contiguous()
        for bound in thresholds
    )
    codes, tape = correlations.new_empty(correlations.shape), None
    if keep_tape:
        n_padded = -(-n_atoms // _TAIL) * _TAIL
        n_tiles = -(-n_rows // _ROWS)
        shape = (n_clusters, n_tiles, len(momenta), n_padded, _ROWS)
        tape = _aligned_empty(correlations, shape)
    shared = {
        "gram": gram,
        "step": step,
        "lower": lower,
        "upper": upper,
        "momenta": correlations.new_tensor(momenta),
        "tape": tape,
        "n_layers": len(momenta) + 1,
    }
    ends = {
        "input": correlations,
        "output": codes,
        "explained_energy": explained_energy,
    }
    _run("layers_run", _Layers, shape=_Shape.of(codes), **shared, **ends)
    return codes, CompiledTape(shared, codes) if keep_tape else None


@dataclass
class CompiledTape:
    """What the layers did, and the way back through them.

    Parameters
    ----------
    shared : dict
        What both ways need.
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
        What came out.
    """

    shared: dict[str, Any]
    codes: torch.Tensor

    def backward(self, grad):
        """Go back; see :meth:`skmixmate.model.fista.Tape.backward`."""
        n_clusters, n_atoms, _ = grad.shape
        shape = _Shape.of(grad)
        grad_correlations = torch.empty_like(self.codes)
        grad_gram = grad.new_empty(n_clusters, shape.units_in_cluster, n_atoms, n_atoms)
        _run(
            "layers_run",
            _Layers,
            shape=shape,
            **self.shared,
            input=grad,
            output=grad_correlations,
            codes=self.codes,
            gram_slopes=grad_gram,
        )
        return grad_correlations, grad_gram.sum(dim=1)


def residual_correlations(targets, observed, dictionaries, codes):
    """Give the inner products of the atoms with what codes leave of observed entries.

    Parameters
    ----------
    targets, observed, dictionaries, codes
        As in :func:`skmixmate.model.fista.residual_correlations`.

    Returns
    -------
    pulls : tensor of shape (n_clusters, n_atoms, n_rows)

    Raises
    ------
    MemoryError
        If there is not enough for what a thread works with.
    """
    output = codes.new_empty(codes.shape)
    _run(
        "layers_pull",
        _ResidualCorrelations,
        shape=_Shape.of(codes),
        dictionaries=dictionaries,
        targets=targets,
        observed=observed,
        codes=codes,
        output=output,
        n_features=len(observed),
        targets_apart=observed.numel() if targets.dim() == 3 else 0,
    )
    return output


def add_gradient_products(gradient, slopes, rows, blocks):
    """Add products of slopes with rows to the gradient of clusters.

    Parameters
    ----------
    gradient, slopes, rows
        As in :meth:`skmixmate.model.active_rows.ActiveRows.add_gradient_products`.
    blocks : ActiveRows

    Raises
    ------
    MemoryError
        If there is not enough for what a thread works with.
    """
    if not gradient.is_contiguous():  # a copy would be written to
        products = gradient.new_zeros(gradient.shape)
        add_gradient_products(products, slopes, rows, blocks)
        gradient.add_(products)
        return
    n_clusters, n_atoms, n_features = gradient.shape
    n_parts = -(-n_features // (_ROWS * _TILES))
    n_wanted = -(-_UNITS_PER_THREAD * torch.get_num_threads() // n_parts)
    _run(
        "layers_add_products",
        _Products,
        rows=rows,
        slopes=slopes,
        index=blocks.index,
        cluster_ids=blocks.cluster_ids,
        gradient=gradient,
        n_all=len(rows),
        n_features=n_features,
        n_blocks=len(slopes),
        n_clusters=n_clusters,
        n_atoms=n_atoms,
        n_rows=slopes.shape[2],
        n_groups=min(n_clusters, n_wanted),
        n_lanes=_library.layers_lanes(),
    )


def _aligned_empty(like, shape):
    """Make a tensor on a boundary of memory that vectors can be read from.

    torch does so by itself, if nobody has given it another allocator.
    """
    n_apart = _ALIGNMENT // like.element_size()
    memory = like.new_empty(math.prod(shape) + n_apart)
    first = -memory.data_ptr() % _ALIGNMENT // like.element_size()
    return memory[first : first + math.prod(shape)].view(shape)


def _run(name, structure, **fields):
    """Call a function of the library; tensors stay alive until it returns."""
    tensors = {
        name: value for name, value in fields.items() if isinstance(value, torch.Tensor)
    }
    for field, tensor in tensors.items():
        dtype = torch.int64 if field in _INDICES else torch.float32
        is_right = tensor.dtype == dtype and tensor.device.type == "cpu"
        if field in _WRITTEN:
            is_right = is_right and tensor.is_contiguous()
        if field == "tape":
            is_right = is_right and tensor.data_ptr() % _ALIGNMENT == 0
        if not is_right:
            raise ValueError(
                f"{field} of {name} should be a {dtype} tensor on the CPU, contiguous "
                "where it is written to, and the tape on a boundary of "
                f"{_ALIGNMENT} bytes; it is {tensor.dtype} on {tensor.device} with "
                f"strides {tensor.stride()}."
            )
        tensors[field] = tensor.contiguous()
    pointers = {field: tensor.data_ptr() for field, tensor in tensors.items()}
    arguments = structure(**{**fields, **pointers})
    if getattr(_library, name)(ctypes.byref(arguments), torch.get_num_threads()):
        raise MemoryError("The encoder found no memory to work with.")
