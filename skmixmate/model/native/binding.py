"""Compiled layers of the encoder, which process one tile of rows at a time.

`kernels.c` implements :mod:`~skmixmate.model.fista` for float32 on a CPU and priors
with thresholds, in about half the time of torch. It is built when the package is
installed, if there is a C compiler; without it torch does the same.
"""

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...utils.native import LoadedLibrary, is_available, load_library, struct_fields

if TYPE_CHECKING:
    from ..prior import Thresholds

# Built by setup.py.
_PATH = Path(__file__).with_name("_kernels.so")

# Instructions, by the number of floats in a vector.
_INSTRUCTIONS = {16: "AVX-512", 8: "AVX2", 4: "NEON"}

# As in kernels.c: rows in a tile, the number that n_atoms is padded to a multiple of,
# and features in a unit of the gradient products.
_NR, _MR_TAIL, _UNIT_FEATURES = 16, 5, 128

# Alignment of the tape in bytes, as in kernels.c; the other arrays are copied.
_ALIGNMENT = 64

# Arrays of integers, and arrays that the library writes to.
_INTEGER_FIELDS = {"index", "cluster_ids"}
_OUTPUT_FIELDS = {
    "output",
    "explained_energy",
    "tape",
    "grad_gram",
    "correlations",
    "squared_residuals",
    "squared_norms",
    "gradient",
}

# Units of work for each thread, so that none waits long for the last one.
_UNITS_PER_THREAD = 8

# With more atoms, a product of torch is large enough to be fast, and each thread would
# need 16 times the memory of a Gram matrix.
_MAX_ATOMS = 256


class _Shape(ctypes.Structure):
    """``struct shape`` of kernels.c, which documents the fields."""

    _fields_ = struct_fields(
        "", "n_clusters n_atoms n_rows n_tiles tiles_per_unit units_per_cluster vlen"
    )

    @classmethod
    def from_codes(cls, codes: torch.Tensor) -> "_Shape":
        """Divide the tiles among the threads."""
        n_clusters, n_atoms, n_rows = codes.shape
        n_tiles = -(-n_rows // _NR)
        n_wanted = _UNITS_PER_THREAD * torch.get_num_threads()
        tiles_per_unit = min(n_tiles, max(1, n_clusters * n_tiles // n_wanted))
        return cls(
            n_clusters,
            n_atoms,
            n_rows,
            n_tiles,
            tiles_per_unit,
            -(-n_tiles // tiles_per_unit),
            _loaded().kernels_vlen(),
        )


class _Layers(ctypes.Structure):
    """``struct layers``."""

    _fields_ = [
        ("shape", _Shape),
        *struct_fields(
            "gram step lower upper momenta input output codes explained_energy tape "
            "grad_gram",
            "n_layers",
        ),
    ]


class _IncompleteLayers(ctypes.Structure):
    """``struct incomplete_layers``."""

    _anonymous_ = ("layers",)
    _fields_ = [
        ("layers", _Layers),
        *struct_fields(
            "dictionaries targets observed fractions exact correlations "
            "squared_residuals squared_norms",
            "n_features targets_stride",
        ),
    ]


class _GradientProducts(ctypes.Structure):
    """``struct gradient_products``."""

    _fields_ = struct_fields(
        "rows grad_correlations index cluster_ids observed codes dictionaries "
        "intercepts gradient",
        "n_total_rows n_features n_blocks n_clusters n_atoms n_rows n_groups vlen",
    )


# In the order of `kernels_struct_sizes`.
_STRUCTURES = (_Shape, _Layers, _IncompleteLayers, _GradientProducts)


def load() -> LoadedLibrary:
    """Load the library.

    Returns
    -------
    library : ctypes.CDLL or None
        None if :func:`~skmixmate.utils.native.load_library` cannot load it, or if the
        processor does not support its instructions.
    reason : str
        Why the library is None.
    """
    loaded = load_library(_PATH, "kernels_struct_sizes", _STRUCTURES)
    if loaded.library is not None and not loaded.library.kernels_vlen():
        return LoadedLibrary(None, "the processor has no AVX2")
    return loaded


_library, _reason = load()


def _loaded() -> Any:
    """Return the library, which must be available."""
    assert _library is not None
    return _library


def implementation() -> str:
    """Describe the implementation of the encoder that runs for float32 on a CPU.

    Returns
    -------
    implementation : str
        "compiled", with its instructions; or "torch", with the reason.
    """
    if _library is None:
        return f"torch ({_reason})"
    instructions = _INSTRUCTIONS[_library.kernels_vlen()]
    if not _library.kernels_has_threads():
        return f"compiled ({instructions}; one thread, since torch has no GNU OpenMP)"
    return f"compiled ({instructions})"


def can_run(codes: torch.Tensor) -> bool:
    """Return whether the library supports codes like these, and is available.

    Parameters
    ----------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)

    Returns
    -------
    can_run : bool
    """
    is_supported = (
        codes.dtype == torch.float32
        and codes.device.type == "cpu"
        and codes.shape[1] <= _MAX_ATOMS
        and codes.numel() > 0
    )
    return is_supported and is_available(_library, _reason)


def unroll(
    correlations: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    thresholds: "Thresholds",
    momenta: list[float],
    keep_tape: bool = False,
    explained_energy: torch.Tensor | None = None,
) -> "tuple[torch.Tensor, CompiledTape | None]":
    """Run the layers of Eq. 4.

    Parameters
    ----------
    correlations, gram, step, keep_tape
        As in :func:`~skmixmate.model.fista.unroll`.
    thresholds : tuple of float or of tensors of shape (n_clusters, n_atoms, 1)
        Lower and upper threshold; see :attr:`Prior.thresholds`.
    momenta : list of float, of length n_layers - 1
    explained_energy : tensor of shape (n_clusters, n_rows), default=None
        Receives the energy that the codes explain; see
        :func:`~skmixmate.model.fista.encode_with_energy_drop`.

    Returns
    -------
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
    tape : CompiledTape or None
        None unless `keep_tape`. It refers to the codes, which must not be changed.

    Raises
    ------
    MemoryError
        If the working memory of a thread cannot be allocated.
    """
    _, n_atoms, n_rows = correlations.shape
    codes, tape = correlations.new_empty(correlations.shape), None
    if keep_tape:
        n_padded = -(-n_atoms // _MR_TAIL) * _MR_TAIL
        n_tiles = -(-n_rows // _NR)
        shape = (len(codes), n_tiles, len(momenta), n_padded, _NR)
        tape = _aligned_empty(correlations, shape)
    inputs = _parameters(correlations, gram, step, thresholds, momenta)
    inputs["tape"] = tape
    _run(
        "kernels_run_layers",
        _Layers,
        shape=_Shape.from_codes(codes),
        **inputs,
        input=correlations,
        output=codes,
        explained_energy=explained_energy,
    )
    return codes, CompiledTape(inputs, codes) if keep_tape else None


def _parameters(
    correlations: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    thresholds: "Thresholds",
    momenta: list[float],
) -> dict[str, Any]:
    """Collect the fields of ``struct layers`` that describe the layers."""
    lower, upper = (
        torch.as_tensor(bound, dtype=torch.float32, device="cpu")
        .expand(*correlations.shape[:2], 1)
        .contiguous()
        for bound in thresholds
    )
    return {
        "gram": gram,
        "step": step,
        "lower": lower,
        "upper": upper,
        "momenta": correlations.new_tensor(momenta),
        "n_layers": len(momenta) + 1,
    }


@dataclass
class CompiledTape:
    """Record of the compiled layers, and their backward pass.

    Parameters
    ----------
    inputs : dict
        Fields of ``struct layers`` that both passes use.
    codes : tensor of shape (n_clusters, n_atoms, n_rows)
        Output of the forward pass.
    """

    inputs: dict[str, Any]
    codes: torch.Tensor

    def backward(self, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients; see :meth:`skmixmate.model.fista.Tape.backward`."""
        n_clusters, n_atoms, _ = grad.shape
        shape = _Shape.from_codes(grad)
        grad_correlations = torch.empty_like(self.codes)
        grad_gram = grad.new_empty(
            n_clusters, shape.units_per_cluster, n_atoms, n_atoms
        )
        _run(
            "kernels_run_layers",
            _Layers,
            shape=shape,
            **self.inputs,
            input=grad,
            output=grad_correlations,
            codes=self.codes,
            grad_gram=grad_gram,
        )
        return grad_correlations, grad_gram.sum(dim=1)


def encode_incomplete(
    correlations: torch.Tensor,
    targets: torch.Tensor,
    observed: torch.Tensor,
    fractions: torch.Tensor,
    dictionaries: torch.Tensor,
    gram: torch.Tensor,
    step: torch.Tensor,
    thresholds: "Thresholds",
    momenta: list[float],
    exact: list[bool],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode rows with missing entries.

    Parameters
    ----------
    correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        Inner products of the atoms with `targets`.
    targets, observed, dictionaries, gram, step
        As in :func:`skmixmate.model.incomplete.encode_incomplete`.
    fractions : tensor of shape (n_rows,)
        Fraction of the entries of each row that are observed.
    thresholds, momenta
        As in :func:`unroll`.
    exact : list of bool, of length n_layers - 1
        Which layers have the exact gradient.

    Returns
    -------
    codes, correlations, squared_residuals, squared_norms : tensors
        The fields of :class:`skmixmate.model.incomplete.IncompleteCodes`.

    Raises
    ------
    MemoryError
        If the working memory of a thread cannot be allocated.
    """
    codes, imputed_correlations = (
        correlations.new_empty(correlations.shape) for _ in range(2)
    )
    squared_residuals, squared_norms = (
        correlations.new_empty(correlations[:, 0].shape) for _ in range(2)
    )
    _run(
        "kernels_encode_incomplete",
        _IncompleteLayers,
        shape=_Shape.from_codes(codes),
        **_parameters(correlations, gram, step, thresholds, momenta),
        input=correlations,
        output=codes,
        dictionaries=dictionaries,
        targets=targets,
        observed=observed,
        fractions=fractions,
        exact=correlations.new_tensor(exact),
        correlations=imputed_correlations,
        squared_residuals=squared_residuals,
        squared_norms=squared_norms,
        n_features=len(observed),
        targets_stride=observed.numel() if targets.dim() == 3 else 0,
    )
    return codes, imputed_correlations, squared_residuals, squared_norms


def add_gradient_products(
    gradient: torch.Tensor,
    grad_correlations: torch.Tensor,
    rows: torch.Tensor,
    cluster_ids: torch.Tensor,
    index: torch.Tensor,
    **imputation: torch.Tensor | None,
) -> None:
    """Add the products of gradients with rows to the gradient of the dictionaries.

    Parameters
    ----------
    gradient, grad_correlations : tensors
        As in :meth:`skmixmate.model.active_rows.ActiveRows.add_gradient_products`.
    rows : tensor of shape (n_rows, n_features)
    cluster_ids, index : int tensors
        Of the blocks, see :class:`skmixmate.model.active_rows.ActiveRows`.
    **imputation : tensors
        If entries are missing, what ``struct gradient_products`` needs to impute them:
        `observed`, `codes`, `dictionaries`, and `intercepts` or None.

    Raises
    ------
    MemoryError
        If the working memory of a thread cannot be allocated.
    """
    products = gradient
    if not gradient.is_contiguous():
        products = torch.zeros(gradient.shape, dtype=gradient.dtype)
    n_clusters, n_atoms, n_features = gradient.shape
    n_feature_units = -(-n_features // _UNIT_FEATURES)
    n_wanted = -(-_UNITS_PER_THREAD * torch.get_num_threads() // n_feature_units)
    _run(
        "kernels_add_gradients",
        _GradientProducts,
        rows=rows,
        grad_correlations=grad_correlations,
        index=index,
        cluster_ids=cluster_ids,
        **imputation,
        gradient=products,
        n_total_rows=len(rows),
        n_features=n_features,
        n_blocks=len(grad_correlations),
        n_clusters=n_clusters,
        n_atoms=n_atoms,
        n_rows=grad_correlations.shape[2],
        n_groups=min(n_clusters, n_wanted),
        vlen=_loaded().kernels_vlen(),
    )
    if products is not gradient:
        gradient.add_(products)


def _aligned_empty(like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Allocate a tensor at an address that is a multiple of the alignment.

    torch aligns its tensors itself, unless another allocator replaces its own.
    """
    n_extra = _ALIGNMENT // like.element_size()
    memory = like.new_empty(math.prod(shape) + n_extra)
    first = -memory.data_ptr() % _ALIGNMENT // like.element_size()
    return memory[first : first + math.prod(shape)].view(shape)


def _run(name: str, structure: type[ctypes.Structure], **fields: Any) -> None:
    """Call a function of the library, and keep the tensors alive until it returns."""
    tensors = {
        field: _checked(name, field, value)
        for field, value in fields.items()
        if isinstance(value, torch.Tensor)
    }
    pointers = {field: tensor.data_ptr() for field, tensor in tensors.items()}
    arguments = structure(**{**fields, **pointers})
    function = getattr(_loaded(), name)
    if function(ctypes.byref(arguments), torch.get_num_threads()):
        raise MemoryError("The compiled encoder could not allocate its working memory.")


def _checked(name: str, field: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor that the library can read, or raise ValueError."""
    dtype = torch.int64 if field in _INTEGER_FIELDS else torch.float32
    is_valid = tensor.dtype == dtype and tensor.device.type == "cpu"
    if field in _OUTPUT_FIELDS:
        is_valid = is_valid and tensor.is_contiguous()
    if field == "tape":
        is_valid = is_valid and tensor.data_ptr() % _ALIGNMENT == 0
    if not is_valid:
        raise ValueError(
            f"{field} of {name} should be a {dtype} tensor on the CPU, contiguous if "
            f"the library writes to it, and aligned to {_ALIGNMENT} bytes if it is the "
            f"tape; it is {tensor.dtype} on {tensor.device} with strides "
            f"{tensor.stride()}."
        )
    return tensor.contiguous()
