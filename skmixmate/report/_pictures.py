"""Pictures of a report, inside its HTML: samples as PNG, and the map as SVG."""

import base64
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

# Points of the map, its width and height, its margin, and the radius of a number.
_MAX_POINTS, _WIDTH, _HEIGHT, _MARGIN, _RADIUS = 3000, 640, 420, 24, 11


def image_tags(samples: np.ndarray, image_shape: Sequence[int]) -> list[str]:
    """Return an HTML image of each sample.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_pixels)
        NaN pixels are transparent. All samples have the same scale of grey.
    image_shape : sequence of int
        (height, width) or (height, width, n_channels). Three channels are red, green
        and blue; any other number of channels is drawn side by side.

    Returns
    -------
    tags : list of str
    """
    is_missing = np.isnan(samples)
    low, high = 0.0, 1.0
    if not is_missing.all():
        low, high = np.nanmin(samples), np.nanmax(samples)
    scaled = (np.nan_to_num(samples) - low) / ((high - low) or 1.0)
    grey = np.round(255 * scaled.clip(0, 1)).astype(np.uint8)
    return [
        _image_tag(values, mask, tuple(image_shape))
        for values, mask in zip(grey, is_missing, strict=True)
    ]


def _image_tag(grey: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> str:
    opacity = np.where(mask, 0, 255).astype(np.uint8).reshape(shape)
    colors = grey.reshape(shape)
    if shape[2:] == (3,):
        opacity = opacity.min(axis=2)
    else:
        # (height, width, n_channels) -> (height, n_channels * width)
        colors, opacity = (
            np.moveaxis(np.atleast_3d(array), 2, 1).reshape(shape[0], -1)
            for array in (colors, opacity)
        )
        colors = np.repeat(colors[:, :, None], 3, axis=2)
    data = base64.b64encode(_encode_png(np.dstack([colors, opacity]))).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'


def _encode_png(pixels: np.ndarray) -> bytes:
    """Encode an image.

    Parameters
    ----------
    pixels : uint8 ndarray of shape (height, width, 4)
        Red, green, blue and opacity.

    Returns
    -------
    png : bytes
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    height, width, _ = pixels.shape
    # Eight bits for each of four channels; every row begins with the filter 0.
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 9))
        + chunk(b"IEND", b"")
    )


def color_of(cluster: int, n_clusters: int) -> str:
    """Return the colour of a cluster, for CSS, visible on light and dark backgrounds.

    Parameters
    ----------
    cluster, n_clusters : int

    Returns
    -------
    color : str
    """
    # Neighbours differ in lightness, too.
    lightness, hue = 60 + 12 * (cluster % 2), 25 + 360 * cluster / n_clusters
    return f"oklch({lightness}% 0.16 {hue:.0f})"


def map_svg(points: np.ndarray, labels: np.ndarray, n_clusters: int) -> str:
    """Draw samples as dots, and numbers where most samples of a cluster are.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
    labels : ndarray of shape (n_samples,)
    n_clusters : int

    Returns
    -------
    svg : str
    """
    low = points.min(axis=0)
    extent = points.max(axis=0) - low
    size = np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN
    factor = min(
        (s / e for s, e in zip(size, extent, strict=True) if e > 0), default=1.0
    )
    places = (points - low - extent / 2) * [factor, -factor]
    places += np.array([_WIDTH, _HEIGHT]) / 2
    step = math.ceil(len(points) / _MAX_POINTS)
    lines = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Map">']
    for (x, y), label in zip(places[::step], labels[::step], strict=True):
        color = color_of(label, n_clusters)
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{color}"/>')
    for label in np.unique(labels):
        x, y = np.median(places[labels == label], axis=0)
        lines.append(
            f'<a href="#cluster{label}"><circle class="number" cx="{x:.1f}" '
            f'cy="{y:.1f}" r="{_RADIUS}"/><text x="{x:.1f}" y="{y:.1f}">{label}</text>'
            "</a>"
        )
    return "\n".join([*lines, "</svg>"])
