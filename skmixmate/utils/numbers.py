"""Scaling and centring of data whose magnitude or offset would lose precision.

Multiplication by a power of two is exact in floating point. If squares would overflow
or underflow, data are multiplied by a power of two, and the results by its inverse.
Data of ordinary magnitude are not changed at all.
"""

import math

import numpy as np

# Data whose mean is this multiple of their spread are far from the origin: distances,
# and means in float32, lose two digits or more. Other data are not changed.
_FAR = 100.0


def safe_exponent(X: np.ndarray) -> int:
    """Find the power of two to divide by, so that squares do not overflow.

    Parameters
    ----------
    X : ndarray
        float32 or float64; NaN is missing.

    Returns
    -------
    exponent : int
        0 if the largest magnitude is between 2e-10 and 4e9 in float32, 1e-77 and 1e77
        in float64; otherwise the exponent for which it is in [1/2, 1) after division.

    Examples
    --------
    >>> import numpy as np
    >>> from skmixmate.utils.numbers import safe_exponent
    >>> safe_exponent(np.float32([3.0])), safe_exponent(np.float32([3 * 2.0**100]))
    (0, 102)
    """
    largest = largest_magnitude(X)
    if largest == 0:
        return 0
    exponent = math.frexp(largest)[1]
    is_safe = abs(exponent) <= np.finfo(X.dtype).maxexp // 4
    return 0 if is_safe else exponent


def largest_magnitude(X: np.ndarray) -> float:
    """Return the largest magnitude of the entries that are not NaN.

    Parameters
    ----------
    X : ndarray

    Returns
    -------
    largest : float
        0 if there are none.
    """
    high = np.fmax.reduce(X, axis=None, initial=-np.inf)
    low = np.fmin.reduce(X, axis=None, initial=np.inf)
    return max(float(high), -float(low), 0.0)


def with_safe_squares(X: np.ndarray) -> np.ndarray:
    """Multiply data of extreme magnitude by a power of two.

    Parameters
    ----------
    X : ndarray

    Returns
    -------
    X : ndarray
        The same array if the magnitude is not extreme.
    """
    exponent = safe_exponent(X)
    return np.ldexp(X, -exponent) if exponent else X


def far_means(X: np.ndarray) -> np.ndarray | None:
    """Compute the column means of data that are far from the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        NaN is missing.

    Returns
    -------
    means : float64 ndarray of shape (n_features,) or None
        Exact for constant columns; 0 for columns without entries. None if the root
        mean square of the column means is at most a hundred times the root mean square
        of the deviations, so that centring does not improve the precision.
    """
    # Each column is scaled by its own power of two, as their magnitudes may differ by
    # more than the range of squares.
    largest = np.fmax.reduce(np.abs(X), axis=0, initial=0)
    if not largest.any():
        return None
    exponents = np.frexp(largest)[1]
    scaled = np.ldexp(X.astype(np.float64, copy=False), -exponents)
    missing = np.isnan(scaled)
    counts = np.maximum(len(X) - missing.sum(axis=0), 1)
    scaled[missing] = 0
    means = scaled.sum(axis=0) / counts
    scaled -= means
    # Correct the means by their rounding error. In a constant column all deviations are
    # the same few units in the last place, whose sum is exact.
    scaled[missing] = 0
    corrections = scaled.sum(axis=0) / counts
    means += corrections
    scaled -= corrections
    scaled[missing] = 0
    max_exponent = exponents[largest > 0].max()
    spread = _root_mean_square(np.ldexp(scaled, exponents - max_exponent))
    offset = _root_mean_square(np.ldexp(means, exponents - max_exponent))
    return np.ldexp(means, exponents) if offset > _FAR * spread else None


def _root_mean_square(X: np.ndarray) -> float:
    return math.sqrt(np.square(X).mean()) if X.size else 0.0


def near_origin(X: np.ndarray) -> np.ndarray:
    """Subtract the column means of data that are far from the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The same array if it is not far from the origin, see :func:`far_means`. Divided
        by 4 if differences would overflow.
    """
    means = far_means(X)
    if means is None:
        return X
    if largest_magnitude(X) > np.finfo(X.dtype).max / 4:
        X, means = np.ldexp(X, -2), means / 4
    return (X - means).astype(X.dtype)


def to_unit_variance(X: np.ndarray) -> np.ndarray:
    """Centre the features, and scale all of them by one factor to a variance of 1.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        float64, with entries whose squares do not overflow.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Zeros if all rows are equal.
    """
    X = X - X.mean(axis=0)
    return X / (_root_mean_square(X) or 1.0)
