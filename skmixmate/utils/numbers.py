"""Data in any units and anywhere: powers of two, offsets, and what floats can hold.

A power of two changes no digit of a float. Where squares would overflow or underflow
data are multiplied by one before, and results by its inverse after; data of ordinary
magnitude are left as they are, to the last bit.
"""

import math

import numpy as np

# Data are far from the origin where their mean is so many times their spread: then
# distances, and means in float32, lose two digits and more. Nearer data are left as
# they are.
_FAR = 100.0


def safe_exponent(X):
    """Find the power of two to divide by, so that squares can be computed.

    Parameters
    ----------
    X : ndarray
        float32 or float64; NaN is missing.

    Returns
    -------
    exponent : int
        0 where the largest magnitude is between 2e-10 and 4e9 in float32, 1e-77 and
        1e77 in float64; elsewhere such that it becomes less than 1, but not than 1/2.

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


def largest_magnitude(X):
    """Return the largest magnitude of the entries that are not NaN, 0 without any.

    Parameters
    ----------
    X : ndarray

    Returns
    -------
    largest : float
    """
    high = np.fmax.reduce(X, axis=None, initial=-np.inf)
    low = np.fmin.reduce(X, axis=None, initial=np.inf)
    return max(float(high), -float(low), 0.0)


def with_safe_squares(X):
    """Multiply data of extreme magnitude by a power of two.

    Parameters
    ----------
    X : ndarray

    Returns
    -------
    X : ndarray
        The same array where the magnitude is not extreme.
    """
    exponent = safe_exponent(X)
    return np.ldexp(X, -exponent) if exponent else X


def far_means(X):
    """Find the column means of data that are far from the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        NaN is missing.

    Returns
    -------
    means : float64 ndarray of shape (n_features,) or None
        Exact for constant columns; 0 for columns without entries. None where the root
        mean square of the column means is no more than a hundred times that of the
        deviations from them, so that nothing is to be gained from centering.
    """
    # Columns may differ by more than can be squared: each is scaled by its own power
    # of two.
    columns = np.fmax.reduce(np.abs(X), axis=0, initial=0)
    if not columns.any():
        return None
    exponents = np.frexp(columns)[1]
    scaled = np.ldexp(X.astype(np.float64, copy=False), -exponents)
    missing = np.isnan(scaled)
    counts = np.maximum(len(X) - missing.sum(axis=0), 1)
    scaled[missing] = 0
    means = scaled.sum(axis=0) / counts
    scaled -= means
    # What rounding left. In a constant column all deviations are the same few units in
    # the last place, whose sum is exact.
    scaled[missing] = 0
    left = scaled.sum(axis=0) / counts
    means += left
    scaled -= left
    scaled[missing] = 0
    largest = exponents[columns > 0].max()
    spread = _root_mean_square(np.ldexp(scaled, exponents - largest))
    offset = _root_mean_square(np.ldexp(means, exponents - largest))
    return np.ldexp(means, exponents) if offset > _FAR * spread else None


def _root_mean_square(X):
    return math.sqrt(np.square(X).mean()) if X.size else 0.0


def near_origin(X):
    """Subtract the column means of data that are far from the origin.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The same array where it is not far, see :func:`far_means`; up to a power of two
        where differences would overflow.
    """
    means = far_means(X)
    if means is None:
        return X
    if largest_magnitude(X) > np.finfo(X.dtype).max / 4:
        X, means = np.ldexp(X, -2), means / 4
    return (X - means).astype(X.dtype)
