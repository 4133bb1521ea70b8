"""Cluster drawn objects that turn, whose views are long clusters.

Run ``python -m benchmarks.turning``. Each of six sets has 20 objects, 72 views of each,
one every 5 degrees, of 32 x 32 pixels, drawn by this module: ellipsoids and boxes with
stripes, lit from one side and fitted into the frame. Some objects differ from another
one in the sizes and shades of their parts only. Compared are KMeans on the pixels, the
initial clustering of images with a walk of four steps and with a number of steps that
depends on the graph ("start", the default), and the bare ``MixMateClustering(20)``;
labels are used for the scores only. The scores are written to
``benchmarks/results/turning.json``.
"""

from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans

from skmixmate import MixMateClustering
from skmixmate.initialization.initializers import INITIALIZERS

from . import report
from .plain import summarize
from .starts import image_features
from .table1 import scores

N_SETS, N_OBJECTS, N_ALIKE, N_VIEWS, SIZE = 6, 20, 4, 72, 32
ELEVATION = 0.35  # of the camera, in radians
LIGHT = np.array([0.4, 0.6, -0.7]) / np.linalg.norm([0.4, 0.6, -0.7])
AMBIENT = 0.25
COARSE, WIDEST = 64, 1.6  # pixels, and half the width, of the view that finds the frame


class Part(NamedTuple):
    """An ellipsoid or a box.

    Attributes
    ----------
    is_box : bool
    center : ndarray of shape (3,)
    axes : ndarray of shape (3, 3)
        Its axes are the columns.
    radii : ndarray of shape (3,)
        Half its lengths along these.
    shade : float
    contrast : float
        Of its stripes.
    wave : ndarray of shape (3,)
        Their angular frequency along each axis.
    """

    is_box: bool
    center: np.ndarray
    axes: np.ndarray
    radii: np.ndarray
    shade: float
    contrast: float
    wave: np.ndarray


def rotation(axis, angle):
    """Return the rotation about an axis of the coordinates."""
    first, second = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[first, second] = -np.sin(angle)
    matrix[second, first] = np.sin(angle)
    return matrix


def draw_object(rng):
    """Draw an object: a large part at the centre, and one to four smaller ones."""
    parts = []
    for i in range(rng.integers(2, 6)):
        is_box, is_tilted = rng.random() < 0.5, rng.random() < 0.3
        radii = rng.uniform(*((0.12, 0.45) if i else (0.35, 0.8)), 3)
        axes = rotation(1, rng.uniform(0, 2 * np.pi))
        if is_tilted:
            axes = rotation(0, rng.uniform(0, np.pi)) @ axes
        parts.append(
            Part(
                is_box,
                center=rng.uniform(-0.55, 0.55, 3) if i else np.zeros(3),
                axes=axes,
                radii=0.75 * radii if is_box else radii,
                shade=rng.uniform(0.3, 1),
                contrast=rng.uniform(0, 0.5),
                wave=rng.uniform(2, 8) * rng.normal(size=3),
            )
        )
    return parts


def alter(parts, rng):
    """Change the sizes and shades of an object a little."""
    return [
        part._replace(
            radii=part.radii * rng.uniform(0.9, 1.1, 3),
            shade=min(part.shade * rng.uniform(0.8, 1.2), 1),
        )
        for part in parts
    ]


def trace(parts, center, half_width, n_pixels):
    """Follow a ray from each pixel, along the third axis.

    Parameters
    ----------
    parts : list of Part
    center : ndarray of shape (2,)
        Where the centre of the frame is.
    half_width : float
    n_pixels : int
        On each side of the frame.

    Returns
    -------
    brightness : ndarray of shape (n_pixels, n_pixels)
        0 where there is no object.
    """
    steps = (np.arange(n_pixels) + 0.5) / n_pixels * 2 - 1
    x, y = np.meshgrid(center[0] + half_width * steps, center[1] - half_width * steps)
    starts = np.stack([x.ravel(), y.ravel(), np.full(x.size, -4.0)], axis=1)
    nearest, brightness = np.full(x.size, np.inf), np.zeros(x.size)
    for part in parts:
        # In the coordinates of the part, in which its radii are 1.
        origins = (starts - part.center) @ part.axes / part.radii
        direction = part.axes[2] / part.radii
        find = _meet_box if part.is_box else _meet_ellipsoid
        distances, points, normals = find(origins, direction)
        normals = normals / part.radii
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        lit = np.clip(normals @ part.axes.T @ LIGHT, 0, 1)
        stripes = 1 - part.contrast * np.cos(points * part.radii @ part.wave) ** 2
        is_nearest = distances < nearest
        nearest[is_nearest] = distances[is_nearest]
        shaded = part.shade * (AMBIENT + (1 - AMBIENT) * lit) * stripes
        brightness[is_nearest] = shaded[is_nearest]
    return brightness.reshape(n_pixels, n_pixels)


def _meet_ellipsoid(origins, direction):
    """Find where rays meet the unit sphere: distances (or inf), points and normals."""
    a, b = direction @ direction, origins @ direction
    discriminants = b**2 - a * ((origins**2).sum(axis=1) - 1)
    distances = (-b - np.sqrt(discriminants.clip(0))) / a
    points = origins + distances[:, None] * direction
    return np.where(discriminants > 0, distances, np.inf), points, points


def _meet_box(origins, direction):
    """Find where rays meet the box of -1 to 1, as :func:`_meet_ellipsoid` does."""
    direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    ends = np.stack([(-1 - origins) / direction, (1 - origins) / direction])
    enters, leaves = ends.min(axis=0), ends.max(axis=0).min(axis=1)
    distances, sides = enters.max(axis=1), enters.argmax(axis=1)
    normals = -np.eye(3)[sides] * np.sign(direction)
    points = origins + distances[:, None] * direction
    return np.where(distances < leaves, distances, np.inf), points, normals


def view(parts, angle):
    """Draw an object after a turn, as large as the frame.

    Returns
    -------
    image : float32 ndarray of shape (SIZE, SIZE)
    """
    turn = rotation(0, ELEVATION) @ rotation(1, angle)
    parts = [p._replace(center=turn @ p.center, axes=turn @ p.axes) for p in parts]
    rows, columns = np.nonzero(trace(parts, np.zeros(2), WIDEST, COARSE))
    low = np.array([columns.min(), -rows.max() - 1])
    high = np.array([columns.max() + 1, -rows.min()])
    center = ((low + high) / COARSE + [-1, 1]) * WIDEST
    half_width = (high - low).max() / COARSE * WIDEST
    fine = trace(parts, center, half_width, 2 * SIZE)
    return fine.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3)).astype(np.float32)


def draw_set(seed):
    """Draw the views of all objects of a set, and the object of each view."""
    rng = np.random.default_rng(seed)
    objects = [draw_object(rng) for _ in range(N_OBJECTS - N_ALIKE)]
    objects += [alter(parts, rng) for parts in objects[:N_ALIKE]]
    angles = np.arange(N_VIEWS) / N_VIEWS * 2 * np.pi
    images = np.stack([view(parts, angle) for parts in objects for angle in angles])
    return images, np.repeat(np.arange(N_OBJECTS), N_VIEWS)


def cluster(images, seed):
    """Return the labels found by each method."""
    rows = images.reshape(len(images), -1)
    features = image_features(rows, (SIZE, SIZE), seed)
    start = INITIALIZERS["auto"](N_OBJECTS, True).set_params(random_state=seed)
    kmeans = KMeans(N_OBJECTS, n_init=10, random_state=seed)
    mixmate = MixMateClustering(N_OBJECTS, random_state=seed)
    return {
        "KMeans": kmeans.fit_predict(rows),
        "start, 4 steps": clone(start).set_params(n_steps=4).fit_predict(features),
        "start": start.fit_predict(features),
        "MixMate": mixmate.fit_predict(images),
    }


def main():
    runs = {}
    for seed in range(N_SETS):
        images, y = draw_set(seed)
        for method, labels in cluster(images, seed).items():
            runs.setdefault(method, []).append(scores(y, labels))
    report.write("turning", {"sets": N_SETS, "methods": summarize(runs)})


if __name__ == "__main__":
    main()
