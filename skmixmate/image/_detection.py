"""Recognition of rows that are flattened images."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Fewest pixels and rows that are judged: correlations of fewer are chance.
_MIN_PIXELS, _MIN_ROWS = 49, 100

# Smallest side of an image, and largest ratio of its sides.
_MIN_SIDE, _MAX_RATIO = 4, 4

# Most rows that are read, and their entries: of many features fewer rows suffice.
_MAX_ROWS, _MAX_ENTRIES = 2000, 2**20

# How far the correlation of vertical and of horizontal neighbours has to exceed that
# of pixels two or three columns, and half a row, away. Images have 0.15 to 0.65; of
# tabular data, texts and embeddings few come to 0.05.
_MIN_PEAK = 0.1

# What neighbouring rows, and columns, of an image have: a mean correlation that is
# higher than at half the distance across by so much, in no place less than so much nor
# than this fraction of the mean, and, for most rows, higher than with any other row. It
# distinguishes images from series side by side that share a course in time.
_MIN_DECAY, _MIN_ADJACENT, _MIN_FRACTION, _MIN_NEAREST = 0.12, 0.04, 0.2, 0.8

# Squared correlation of the last pixel of a row and the first of the next, as a
# fraction of that of neighbours within a row: at most so much in an image, near 1 in a
# series of the same period.
_MAX_ACROSS = 0.72

# Rows and columns at the border whose similarity with all others is below this, or
# below this fraction of what others have, are left out: they are all background.
_MIN_SIMILARITY, _BORDER_FRACTION = 0.05, 0.4


def can_be_images(n_samples: int, n_features: int) -> bool:
    """Return whether data have enough rows and features, and a possible shape.

    Parameters
    ----------
    n_samples, n_features : int

    Returns
    -------
    can_be : bool
    """
    if n_samples < _MIN_ROWS:
        return False
    return any(_shapes(n_features, 1)) or any(_shapes(n_features, 3))


def rows_to_judge(n_samples: int, n_features: int) -> npt.NDArray[np.intp]:
    """Choose the rows that images are recognised by, at equal distances.

    Parameters
    ----------
    n_samples, n_features : int

    Returns
    -------
    indices : ndarray of shape (at most 2000,)
    """
    n_rows = min(n_samples, _MAX_ROWS, max(200, _MAX_ENTRIES // n_features))
    return np.linspace(0, n_samples - 1, n_rows).astype(np.intp)


def find_image_shape(sample: npt.ArrayLike) -> tuple[int, ...] | None:
    """Find the shape of flattened images from the correlations of their pixels.

    Parameters
    ----------
    sample : array-like of shape (n_samples, n_features)
        Rows of the data; NaN is missing.

    Returns
    -------
    image_shape : tuple of int or None
        (height, width) or (height, width, 3), channels last; None if the rows are not
        images, or it cannot be said.

    Notes
    -----
    In an image of width w, features at a lag of w are neighbours, and are more
    correlated than those at somewhat smaller or larger lags; and those at a lag of 1
    are more correlated than those at a lag of w / 2. Of all shapes the one that fits
    this best is examined: neighbouring rows and columns have to be the most similar
    ones, and the end of a row has to differ from the beginning of the next.

    Examples
    --------
    >>> from sklearn.datasets import load_digits, load_breast_cancer
    >>> from skmixmate.image import find_image_shape
    >>> find_image_shape(load_digits().data)
    (8, 8)
    >>> find_image_shape(load_breast_cancer().data) is None
    True
    """
    rows = np.asarray(sample, dtype=np.float64)
    if not can_be_images(*rows.shape):
        return None
    rows, observed = _standardize(rows)
    varies: Mask = np.any(rows, axis=0)
    if len(rows) < _MIN_ROWS or varies.sum() < _MIN_PIXELS * 2 // 3:
        return None
    correlations = _autocorrelation(rows, varies) / observed
    n_channels = 3 if _has_channels(rows, varies, correlations, observed) else 1
    peak, shape = max(
        (
            (_peak(correlations, shape), shape)
            for shape in _shapes(len(varies), n_channels)
        ),
        default=(0.0, (0, 0, 0)),
    )
    if peak < _MIN_PEAK or _is_planar(correlations, shape):
        return None
    is_image = (
        _is_smooth(rows, varies, shape, axis=1)
        and _is_smooth(rows, varies, shape, axis=2)
        and _has_edges(rows, varies, shape)
    )
    if not is_image:
        return None
    return shape if n_channels == 3 else shape[:2]


def _shapes(n_features: int, n_channels: int) -> Iterator[tuple[int, int, int]]:
    """Yield the shapes that images of so many features may have."""
    n_pixels, rest = divmod(n_features, n_channels)
    if n_pixels < _MIN_PIXELS:
        return
    for height in range(_MIN_SIDE, n_pixels // _MIN_SIDE + 1):
        width = n_pixels // height
        ratio = max(height, width) / min(height, width)
        if not rest and width * height == n_pixels and ratio <= _MAX_RATIO:
            yield height, width, n_channels


def _standardize(rows: Array) -> tuple[Array, float]:
    """Standardise features; missing entries become 0, the mean.

    Returns
    -------
    rows : ndarray of shape (n_samples, n_features)
        Without rows of which nothing is observed; constant features are 0.
    observed : float
        Fraction of entries that are not missing.
    """
    observed = ~np.isnan(rows)
    is_seen = observed.any(axis=1)
    rows, observed = rows[is_seen], observed[is_seen]
    if not rows.size:
        return rows, 1.0
    rows = np.where(observed, rows, 0.0)
    largest = np.abs(rows).max(axis=0)
    rows /= np.where(largest > 0, largest, 1.0)
    n_observed = np.maximum(observed.sum(axis=0), 1)
    rows = np.where(observed, rows - rows.sum(axis=0) / n_observed, 0.0)
    std = np.sqrt(np.square(rows).mean(axis=0))
    # Rounding of a constant feature is no variation.
    varies = std > 1e-7
    return np.where(varies, rows / np.where(varies, std, 1.0), 0.0), observed.mean()


def _autocorrelation(rows: Array, varies: Mask) -> Array:
    """Compute the mean correlation of features at each lag, of those that vary."""
    n_features = len(varies)
    size = 2 * n_features

    def sums(signals: Array) -> Array:
        power = np.zeros(n_features + 1)
        for chunk in np.array_split(signals, 1 + signals.size // 2**18):
            power += np.square(np.abs(np.fft.rfft(chunk, size))).sum(axis=0)
        return np.fft.irfft(power, size)[:n_features]

    n_pairs = np.maximum(np.round(sums(varies[None].astype(np.float64))), 1.0)
    return sums(rows) / (len(rows) * n_pairs)


def _lagged_correlations(rows: Array, lag: int) -> Array:
    """Compute the correlation of each feature with the one at a lag after it."""
    correlations: Array = np.einsum("ij,ij->j", rows[:, :-lag], rows[:, lag:])
    return correlations / len(rows)


def _has_channels(
    rows: Array, varies: Mask, correlations: Array, observed: float
) -> bool:
    """Return whether features come in threes: the colours of a pixel.

    A colour is more correlated with itself in the next pixel than with others that are
    nearer; or, in images that are nearly grey, the colours of one pixel are equal.
    """
    if len(varies) % 3:
        return False
    if correlations[3] > (correlations[2] + correlations[4]) / 2 + 0.02:
        return True
    lagged = _lagged_correlations(rows, 1) / observed
    is_pair = varies[1:] & varies[:-1]
    first, second, third = (
        1 - _median(lagged[start::3][is_pair[start::3]]) for start in range(3)
    )
    within = max(first, second)
    return bool(within < 0.05 and third > 2 * within + 0.01)


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _peak(correlations: Array, shape: Sequence[int]) -> float:
    """Measure how neighbours stand out, vertical and horizontal ones."""
    _, width, step = shape
    row = width * step
    lags = [row + step * shift for shift in (-3, -2, 2, 3)]
    vertical = correlations[row] - correlations[lags].mean()
    horizontal = correlations[step] - correlations[step * (width // 2)]
    return float(min(vertical, horizontal))


def _is_planar(correlations: Array, shape: Sequence[int]) -> bool:
    """Return whether one channel follows the other, which looks like a tall image."""
    height, width, n_channels = shape
    if n_channels == 3 or height % 3 or height < 3 * _MIN_SIDE:
        return False
    plane = height // 3 * width
    lags = [plane + width * shift for shift in (-3, -2, 2, 3)]
    return bool(correlations[plane] - correlations[lags].mean() > _MIN_PEAK)


def _is_smooth(rows: Array, varies: Mask, shape: Sequence[int], axis: int) -> bool:
    """Return whether the rows of an image, or its columns, are like their neighbours.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
    varies : bool ndarray of shape (n_features,)
    shape : tuple of int
    axis : {1, 2}
        Rows or columns.
    """
    images = np.moveaxis(rows.reshape(-1, *shape), axis, 0)
    lines = images.reshape(len(images), -1)
    mask = np.moveaxis(varies.reshape(shape), axis - 1, 0)
    mask = mask.reshape(len(mask), -1).astype(np.float64)
    # Mean correlations of the pixels of two lines: (n_lines, n_lines).
    n_pairs = np.maximum(mask @ mask.T, 1.0)
    similarity = lines @ lines.T / (len(rows) * n_pairs)
    np.fill_diagonal(similarity, -np.inf)
    n_varying = mask.sum(axis=1)
    is_used = n_varying >= n_varying.max() / 4
    highest = similarity.max(axis=1)
    is_used &= highest >= max(_MIN_SIMILARITY, _BORDER_FRACTION * highest.max())
    used = np.flatnonzero(is_used)
    if len(used) < _MIN_SIDE:
        return False
    between = slice(used[0], used[-1] + 1)
    similarity = similarity[between, between]
    n_lines = len(similarity)
    index = np.arange(n_lines)
    distance = np.abs(index[:, None] - index)
    adjacent = np.diagonal(similarity, 1)
    far = similarity[distance >= n_lines // 2].mean()
    is_nearest = np.abs(similarity.argmax(axis=1) - index) == 1
    return bool(
        adjacent.mean() - far >= _MIN_DECAY
        and adjacent.min() >= max(_MIN_ADJACENT, _MIN_FRACTION * adjacent.mean())
        and is_nearest.mean() >= _MIN_NEAREST
    )


def _has_edges(rows: Array, varies: Mask, shape: Sequence[int]) -> bool:
    """Return whether a row does not continue in the next one, as a series does."""
    _, width, step = shape
    lagged, is_pair = np.zeros(len(varies)), np.zeros(len(varies), dtype=bool)
    lagged[:-step] = _lagged_correlations(rows, step)
    is_pair[:-step] = varies[step:] & varies[:-step]
    # The steps from each column to the next, (width, height * n_channels); the last one
    # leads to the next row.
    columns = np.moveaxis(lagged.reshape(shape), 1, 0).reshape(width, -1)
    n_pairs = np.moveaxis(is_pair.reshape(shape), 1, 0).reshape(width, -1).sum(axis=1)
    if n_pairs[-1] < n_pairs.max() / 4:
        return True  # the border is constant, in the same columns of all rows
    means = columns.sum(axis=1) / np.maximum(n_pairs, 1)
    within = means[:-1][means[:-1] >= _MIN_ADJACENT]
    squares = np.square(columns)
    return bool(
        squares[-1].sum() / n_pairs[-1]
        <= _MAX_ACROSS * squares[:-1].sum() / n_pairs[:-1].sum()
        and means[-1] < within.min(initial=1.0)
    )
