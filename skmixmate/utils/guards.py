"""Decorators of public methods: default modes of torch and numpy, and rollback."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
R = TypeVar("R")

# Types of devices that support autocast: torch 2.4 raises an error for "mps".
_AUTOCAST_DEVICES = [
    device
    for device in ("cpu", "cuda", "mps", "xpu")
    if torch.amp.is_autocast_available(device)
]


@contextlib.contextmanager
def default_modes() -> Iterator[None]:
    """Reset the global modes of torch and numpy; context manager and decorator.

    Under ``torch.inference_mode`` there are no gradients, under ``torch.autocast``
    products have three digits, with a default device new tensors are on an unexpected
    device, and under ``numpy.seterr`` an underflow may raise an error. The modes of the
    caller are restored on exit. If none is set this takes ten microseconds.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.utils.guards import default_modes
    >>> with torch.inference_mode(), default_modes():
    ...     torch.ones(2).is_inference()
    False
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(all="warn", under="ignore"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # torch.get_default_device() ignores context managers before torch 2.5.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def all_or_nothing(method: Callable[P, R]) -> Callable[P, R]:
    """Restore the attributes of an estimator if the decorated method raises.

    A fit sets one attribute after the other. If it fails or is interrupted, the
    attributes of two different models would be mixed, and would predict without an
    error. This should be the outermost decorator, so that callbacks have ended before
    attributes are restored.

    Parameters
    ----------
    method : function
        Must replace attributes, and must not modify their values in place.

    Returns
    -------
    method : function
    """

    @functools.wraps(method)
    def restoring_method(*args: P.args, **kwargs: P.kwargs) -> R:
        estimator: Any = args[0]
        attributes = vars(estimator).copy()
        try:
            return method(*args, **kwargs)
        except BaseException:
            estimator.__dict__ = attributes  # atomic: another interrupt may follow
            raise

    return restoring_method
