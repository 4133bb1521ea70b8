"""Operators of torch that are not part of its public interface."""

from typing import Any

import torch


def find_operator(name: str, overload: str = "default") -> Any:
    """Find an operator that this version of torch may not have.

    Parameters
    ----------
    name, overload : str

    Returns
    -------
    operator : torch.ops.OpOverload or None
        None if there is no such operator.

    Examples
    --------
    >>> import torch
    >>> from skmixmate.utils.operators import find_operator
    >>> find_operator("softshrink", "out")
    <OpOverload(op='aten.softshrink', overload='out')>
    >>> find_operator("softshrunk", "out") is None
    True
    """
    packet = getattr(torch.ops.aten, name, None)
    return getattr(packet, overload, None)
