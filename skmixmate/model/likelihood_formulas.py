"""Checks and formulas that the likelihoods have in common."""

import math
from numbers import Real

import torch
from scipy.special import digamma


def check_range(
    rows: torch.Tensor, minimum: float, maximum: float, name: str, description: str
) -> None:
    """Check that entries lie in an interval.

    Parameters
    ----------
    rows : tensor
    minimum, maximum : float
    name : str
        Name of the likelihood, for the message.
    description : str
        Description of the valid entries, for the message.

    Raises
    ------
    ValueError
        If an entry lies outside.
    """
    if not rows.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(rows))
    if low < minimum or high > maximum:
        prefix = "Negative values in data: " if low < 0 else ""
        raise ValueError(
            f"{prefix}X has an entry of {low if low < minimum else high:.6g}, but "
            f"likelihood={name!r} is for {description}."
        )


def check_number(name: str, value: float | str, minimum: float, maximum: float) -> None:
    """Check that a field of a likelihood is "auto" or a positive number in its range.

    Parameters
    ----------
    name : str
        Name of the field.
    value : float or str
    minimum, maximum : float

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(value, str) and value == "auto":
        return
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if not (0 < number < math.inf and minimum <= number <= maximum):
        limits = "greater than 0"
        if minimum > 0:
            limits = f"from {minimum:g} to {maximum:g}"
        raise ValueError(f"{name}={value!r} should be 'auto' or a number {limits}.")


def as_number(name: str, value: float | str) -> float:
    """Return the number that a field of a likelihood is in a model.

    Parameters
    ----------
    name : str
        Name of the field.
    value : float or str

    Returns
    -------
    number : float

    Raises
    ------
    ValueError
        If it is "auto".
    """
    if isinstance(value, str):
        raise ValueError(
            f"{name}={value!r} should be a number in a model; the method initial of a "
            "likelihood replaces 'auto'."
        )
    return float(value)


def expected_log(df: float) -> float:
    """Compute the expected logarithm of a gamma distributed number of mean 1.

    Parameters
    ----------
    df : float
        Degrees of freedom: the shape and the rate of the distribution are df / 2.

    Returns
    -------
    expected_log : float
        Negative; it increases to 0 with df.
    """
    return float(digamma(df / 2)) - math.log(df / 2)
