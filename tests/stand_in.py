"""A device that stands in for a GPU where there is none.

Its tensors lie in the memory of the host, and their arithmetic is the host's, to the
last bit. But as on a GPU they are not to be mixed with tensors of the host, the host
has to wait for what it asks of them, and what a function does can be recorded and
played back, as by a CUDA graph: with the memory, and the numbers, that it found.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_NAME = "standin"

# Operations of which the host has to know what came out.
_ANSWERS = {"_local_scalar_dense", "_unique2", "equal", "masked_select", "nonzero"}

# These may have tensors of both, for which the host waits.
_COPIES = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"}


class Elsewhere(torch.Tensor):
    """A tensor on the device.

    Parameters
    ----------
    near : tensor
        What it is on the host.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(_NAME, 0),
        )
        tensor.near = near
        return tensor

    def __repr__(self):
        return f"Elsewhere({self.near})"

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("numpy asked for a tensor on the device")
        return self.detach().cpu().numpy()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} on the device outside of `with StandIn()`")


class StandIn(TorchDispatchMode):
    """Within it there is the device.

    Attributes
    ----------
    device : torch.device
    waits : list of str
        Operations for which the host had to wait.
    n_recorded : int
        Calls of :meth:`record`.
    """

    def __init__(self):
        super().__init__()
        _register()
        self.device = torch.device(_NAME, 0)
        self.waits = []
        self.n_recorded = 0
        self._record = None
        self._before = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function.has_kernel_for_dispatch_key("CompositeImplicitAutograd"):
            with self:  # of which operations it is made
                return function.decompose(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
        is_here = [not isinstance(t, Elsewhere) for t in tensors]
        asked = kwargs.get("device")
        if all(is_here) and (asked is None or asked.type != _NAME):
            return function(*args, **kwargs)
        name = function._schema.name.removeprefix("aten::")
        # A number of the host's is taken anywhere.
        mixed = any(
            here and tensor.dim() for tensor, here in zip(tensors, is_here, strict=True)
        )
        if mixed and (name not in _COPIES or self._record is not None):
            raise RuntimeError(f"{name} of tensors on the host and on the device")
        if name == "copy_":
            goes_back = is_here[0]
        else:
            goes_back = not all(is_here) and asked is not None and asked.type == "cpu"
        comes = mixed and not kwargs.get("non_blocking")
        asks_for_mask = "index" in name and any(
            t.dtype == torch.bool for t in tensors[1:]
        )
        if goes_back or comes or asks_for_mask or name in _ANSWERS:
            self.waits.append(name)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        return self._call(function, args, kwargs, tensors, goes_back)

    def _call(self, function, args, kwargs, tensors, goes_back):
        near_args, near_kwargs = tree_map(_near, (args, kwargs))
        if self._record is not None and function._schema.is_mutable:
            for tensor in tensors:
                memory = _near(tensor).untyped_storage()
                self._before.setdefault(memory.data_ptr(), (memory, memory.clone()))
        result = function(*near_args, **near_kwargs)
        if self._record is not None:
            self._record.append((function, near_args, near_kwargs, result))
        if goes_back:
            return args[0] if function._schema.is_mutable else result
        # What was changed in place is the tensor that it was.
        given = {id(_near(tensor)): tensor for tensor in tensors}

        def there(value):
            if not torch.is_tensor(value):
                return value
            if value.is_conj():  # a bit of it, which torch looks for in ours
                return Elsewhere(value.resolve_conj())
            return given[id(value)] if id(value) in given else Elsewhere(value)

        return tree_map(there, result)

    def record(self, function):
        """Record what a function does; all is then as it was.

        Parameters
        ----------
        function : callable

        Returns
        -------
        play : callable
            Does it, in the same memory.
        outputs : object
            Where `play` leaves what the function gave.
        """
        self.n_recorded += 1
        n_waits = len(self.waits)
        self._record = record = []
        outputs = function()
        self._record = None
        while self._before:
            _, (memory, before) = self._before.popitem()
            memory.copy_(before)
        if len(self.waits) > n_waits:
            raise RuntimeError(f"{self.waits[n_waits:]} while recording")
        return lambda: [_play(*call) for call in record], outputs


def _near(tensor):
    return tensor.near if isinstance(tensor, Elsewhere) else tensor


def _play(function, args, kwargs, result):
    again = function(*args, **kwargs)
    if function._schema.is_mutable:
        return
    for new, old in zip(tree_leaves(again), tree_leaves(result), strict=True):
        if new.data_ptr() != old.data_ptr():  # not a view
            old.copy_(new)


def _copy_from(source, target, non_blocking=False):
    _near(target).copy_(_near(source))
    return target


def _empty_strided(size, stride, *, dtype=None, **_):
    return Elsewhere(torch.empty_strided(size, stride, dtype=dtype))


def _register():
    """Let torch know the device; once, as it lasts as long as the process."""
    if _LIBRARIES:
        return
    _setup_privateuseone_for_python_backend(_NAME)
    library = torch.library.Library("aten", "IMPL")
    # By these `new_tensor` and the like, which no mode sees, come to the device.
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    _LIBRARIES.append(library)


_LIBRARIES = []
