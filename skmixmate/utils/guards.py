"""Guards around public methods: no half-done fit, no mode of the caller's."""

import contextlib
import functools

import numpy as np
import torch

# Kinds of devices on which torch casts automatically, where it is told to.
_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextlib.contextmanager
def default_modes():
    """Compute as if the caller had set no global mode; also a decorator.

    Under ``torch.inference_mode`` there are no gradients, under ``torch.autocast``
    products have three digits, with a default device new tensors are elsewhere than
    expected, and under ``numpy.seterr`` an underflow may be an error. The modes of the
    caller are restored on the way out. Where none is set this takes ten microseconds.

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
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def all_or_nothing(method):
    """Decorate a method that fits: where it raises, the estimator stays as it was.

    What a fit sets, attribute by attribute, is undone if it is refused, fails or is
    interrupted: a half of one model with a half of another would predict without a
    word. Outermost of all decorators, so that callbacks are ended before.

    Parameters
    ----------
    method : function
        Must replace attributes, and not change what they hold.

    Returns
    -------
    method : function
    """

    @functools.wraps(method)
    def undone_on_error(estimator, *args, **kwargs):
        before = vars(estimator).copy()
        try:
            return method(estimator, *args, **kwargs)
        except BaseException:
            estimator.__dict__ = before  # at once: another interrupt may follow
            raise

    return undone_on_error
