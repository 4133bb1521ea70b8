"""A simulated device that replaces a GPU in tests.

Its tensors are stored in the memory of the host, which also does the arithmetic, with
bit-identical results. As on a GPU, tensors on the device cannot be mixed with tensors
on the host, the host waits for the device when it reads a value, and a function can be
recorded and replayed, as by a CUDA graph: with the memory addresses, and the Python
numbers, of the recording.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_NAME = "standin"

# Operations whose result the host needs, so that it waits for the device.
_SYNCHRONIZING = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "masked_select",
    "nonzero",
}

# Operations that accept tensors on host and device; the host waits for them.
_COPIES = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"}


class DeviceTensor(torch.Tensor):
    """A tensor on the simulated device.

    Parameters
    ----------
    host_tensor : tensor
        The tensor on the host that stores its values.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host_tensor):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            host_tensor.shape,
            strides=host_tensor.stride(),
            storage_offset=host_tensor.storage_offset(),
            dtype=host_tensor.dtype,
            device=torch.device(_NAME, 0),
        )
        tensor.host_tensor = host_tensor
        return tensor

    def __repr__(self):
        return f"DeviceTensor({self.host_tensor})"

    def tolist(self):
        return self.cpu().tolist()

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("a tensor on the device cannot be converted to numpy")
        return self.detach().cpu().numpy()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} on the device outside of `with StandIn()`")


class StandIn(TorchDispatchMode):
    """Simulate the device while the context is active.

    Attributes
    ----------
    device : torch.device
    waits : list of str
        Operations for which the host waited.
    n_recorded : int
        Number of calls of :meth:`record`.
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
            with self:  # dispatch the operations that it consists of
                return function.decompose(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
        is_on_host = [not isinstance(t, DeviceTensor) for t in tensors]
        requested = kwargs.get("device")
        if all(is_on_host) and (requested is None or requested.type != _NAME):
            return function(*args, **kwargs)
        name = function._schema.name.removeprefix("aten::")
        # Scalar tensors on the host are accepted by any operation.
        mixed = any(
            on_host and tensor.dim()
            for tensor, on_host in zip(tensors, is_on_host, strict=True)
        )
        if mixed and (name not in _COPIES or self._record is not None):
            raise RuntimeError(f"{name} of tensors on the host and on the device")
        if name == "copy_":
            to_host = is_on_host[0]
        else:
            to_host = (
                not all(is_on_host)
                and requested is not None
                and requested.type == "cpu"
            )
        to_device = mixed and not kwargs.get("non_blocking")
        indexes_by_mask = "index" in name and any(
            t.dtype == torch.bool for t in tensors[1:]
        )
        if to_host or to_device or indexes_by_mask or name in _SYNCHRONIZING:
            self.waits.append(name)
        if requested is not None:
            kwargs["device"] = torch.device("cpu")
        return self._call(function, args, kwargs, tensors, to_host)

    def _call(self, function, args, kwargs, tensors, to_host):
        host_args, host_kwargs = tree_map(_host_tensor_of, (args, kwargs))
        if self._record is not None and function._schema.is_mutable:
            for tensor in tensors:
                memory = _host_tensor_of(tensor).untyped_storage()
                self._before.setdefault(memory.data_ptr(), (memory, memory.clone()))
        result = function(*host_args, **host_kwargs)
        if self._record is not None:
            self._record.append((function, host_args, host_kwargs, result))
        if to_host:
            return args[0] if function._schema.is_mutable else result
        # An operation in place returns its argument.
        inputs = {id(_host_tensor_of(tensor)): tensor for tensor in tensors}

        def on_device(value):
            if not torch.is_tensor(value):
                return value
            if value.is_conj():  # a flag that the wrapper would not have
                return DeviceTensor(value.resolve_conj())
            return inputs[id(value)] if id(value) in inputs else DeviceTensor(value)

        return tree_map(on_device, result)

    def record(self, function):
        """Record the operations of a function, and undo its changes.

        Parameters
        ----------
        function : callable

        Returns
        -------
        replay : callable
            Executes the operations again, in the same memory.
        outputs : object
            Return value of the function, which `replay` overwrites.
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
        return lambda: [_replay(*call) for call in record], outputs


def _host_tensor_of(tensor):
    return tensor.host_tensor if isinstance(tensor, DeviceTensor) else tensor


def _replay(function, args, kwargs, result):
    again = function(*args, **kwargs)
    if function._schema.is_mutable:
        return
    for new, old in zip(tree_leaves(again), tree_leaves(result), strict=True):
        if new.data_ptr() != old.data_ptr():  # not a view
            old.copy_(new)


def _copy_from(source, target, non_blocking=False):
    _host_tensor_of(target).copy_(_host_tensor_of(source))
    return target


def _empty_strided(size, stride, *, dtype=None, **_):
    return DeviceTensor(torch.empty_strided(size, stride, dtype=dtype))


def _register():
    """Register the device in torch, once for each process."""
    if _LIBRARIES:
        return
    _setup_privateuseone_for_python_backend(_NAME)
    library = torch.library.Library("aten", "IMPL")
    # `new_tensor` and similar methods, which no mode intercepts, call these.
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    _LIBRARIES.append(library)


_LIBRARIES = []
