"""Images are recognised, and nothing else is taken for images."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.datasets import load_breast_cancer, load_digits

from skmixmate.image import find_image_shape

N = 300  # rows of each data set


def smooth_images(shape, sigma=1.5, seed=0):
    """Draw images of random patches of brightness."""
    noise = np.random.RandomState(seed).randn(N, *shape)
    return gaussian_filter(noise, (0, sigma, sigma, *[0] * (len(shape) - 2)))


def objects(side):
    """Draw discs of different places and sizes on an empty background."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    centre, radius = rng.uniform(-0.3, 0.3, (N, 2, 1, 1)), rng.uniform(0.2, 0.6, N)
    distance = np.hypot(y - centre[:, 0], x - centre[:, 1])
    return np.clip(5 * (radius[:, None, None] - distance), 0, 1)


def colours():
    """Draw images whose channels share their brightness, with a colour cast."""
    rng = np.random.RandomState(1)
    grey = smooth_images((32, 32))[..., None]
    return grey * rng.uniform(0.5, 1, (N, 1, 1, 3)) + 0.05 * smooth_images((32, 32, 3))


IMAGES = {
    "digits": lambda: load_digits().images,
    "square": lambda: smooth_images((24, 24)),
    "broad": lambda: smooth_images((16, 40)),
    "tall": lambda: smooth_images((28, 20), sigma=0.8),
    "very smooth": lambda: smooth_images((32, 32), sigma=4),
    "objects": lambda: objects(20),
    "colour": colours,
    "colour, independent channels": lambda: smooth_images((12, 20, 3)),
}

CHANGES = {
    "none": lambda X, rng: X,
    "few rows": lambda X, rng: X[rng.permutation(len(X))[:200]],
    "missing pixels": lambda X, rng: np.where(rng.rand(*X.shape) < 0.1, np.nan, X),
    "bytes": lambda X, rng: np.uint8(255 * (X - X.min()) / np.ptp(X)),
    "inverted": lambda X, rng: np.float32(1000 - 5 * X),
    "standardised": lambda X, rng: (X - X.mean(0)) / np.maximum(X.std(0), 1e-9),
    "noisy": lambda X, rng: X + 0.3 * X.std() * rng.randn(*X.shape),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", IMAGES)
def test_images_are_recognised(name, change):
    images = IMAGES[name]()
    X = CHANGES[change](images.reshape(len(images), -1), np.random.RandomState(0))
    assert find_image_shape(X) == images.shape[1:]


TIME = np.arange(256)


def periodic(rng):
    """Draw series of period 16, of any phase."""
    return np.sin(2 * np.pi * TIME / 16 + rng.uniform(0, 7, (N, 1)))


def modulated(rng):
    """Draw series of period 16 whose amplitude changes slowly."""
    return gaussian_filter1d(rng.randn(N, 256), 16) * np.sin(2 * np.pi * TIME / 16)


def pulses(rng):
    """Draw trains of pulses of different heights, 16 apart."""
    since = TIME + rng.randint(16, size=(N, 1))
    heights = np.take_along_axis(rng.uniform(0.5, 1.5, (N, 18)), since // 16, axis=1)
    return heights * np.exp(-(((since % 16 - 8) / 1.5) ** 2)) + 0.05 * noise(rng)


def autoregression(rng, season=0.9):
    """Draw series with a seasonal dependence on the value 16 steps before."""
    series = rng.randn(N, 300)
    for t in range(17, 300):
        series[:, t] += 0.8 * series[:, t - 1]
        series[:, t] += season * (series[:, t - 16] - 0.8 * series[:, t - 17])
    return series[:, 44:]


def spectra(rng):
    """Draw mixtures of ten peaks."""
    peaks, widths = rng.uniform(0, 256, (10, 1)), rng.uniform(3, 15, (10, 1))
    return rng.gamma(1, size=(N, 10)) @ np.exp(-(((TIME - peaks) / widths) ** 2))


def noise(rng):
    return rng.randn(N, 256)


def series_of_channels(rng, loadings):
    """Draw 16 series of 16 time points that share a course in time."""
    shared, own = gaussian_filter1d(rng.randn(2, N, 16, 16), 1.5)
    return loadings[:, None] * shared[:, :1] + 0.7 * own


NOT_IMAGES = {
    "sines": periodic,
    "sines of changing amplitude": modulated,
    "pulses": pulses,
    "seasonal autoregression": autoregression,
    "autoregression": lambda rng: autoregression(rng, season=0),
    "random walks": lambda rng: noise(rng).cumsum(axis=1),
    "windows of a series": lambda rng: np.lib.stride_tricks.sliding_window_view(
        rng.randn(1000).cumsum(), 256
    )[:N],
    "spectra": spectra,
    "channels": lambda rng: series_of_channels(rng, np.ones(16)),
    "channels of any sign": lambda rng: series_of_channels(rng, rng.randn(16)),
    "channels in groups": lambda rng: (
        np.repeat(gaussian_filter1d(rng.randn(N, 4, 16), 1.5), 4, axis=1)
        + 0.2 * rng.randn(N, 16, 16)
    ),
    "embeddings": noise,
    "unit vectors": lambda rng: (
        noise(rng) / np.linalg.norm(noise(rng), axis=1)[:, None]
    ),
    "one factor": lambda rng: rng.randn(N, 1) * rng.randn(256) + 0.1 * noise(rng),
    "few factors": lambda rng: rng.randn(N, 4) @ rng.randn(4, 256),
    "clusters": lambda rng: rng.randn(8, 256)[rng.randint(8, size=N)] + noise(rng),
    "one-hot columns": lambda rng: np.eye(8)[rng.randint(8, size=(N, 32))],
    "repeated columns": lambda rng: np.repeat(rng.randn(N, 16), 16, axis=1),
    "tiled columns": lambda rng: np.tile(rng.randn(N, 16), 16) + 0.1 * noise(rng),
    "tiled series": lambda rng: (
        np.tile(rng.randn(N, 16).cumsum(axis=1), 16) + 0.1 * noise(rng)
    ),
    "products": lambda rng: np.einsum("ni,nj->nij", *[1 + rng.randn(N, 16)] * 2),
    "counts": lambda rng: rng.poisson(rng.dirichlet(np.full(256, 0.05), N) * 50),
    "constant": lambda rng: np.ones((N, 256)),
    "missing": lambda rng: np.full((N, 256), np.nan),
    "permuted pixels": lambda rng: load_digits().data[:, rng.permutation(64)],
    "a table": lambda rng: load_breast_cancer().data,
    "a table with squares": lambda rng: np.hstack(
        [load_breast_cancer().data[:, :20] ** power for power in (1, 2, 3, 0.5)]
    ),
    "too few rows": lambda rng: load_digits().data[:50],
    "too few features": lambda rng: smooth_images((6, 8)),
    "channels first": lambda rng: np.moveaxis(colours(), 3, 1),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NOT_IMAGES)
def test_other_data_are_not_taken_for_images(name, seed):
    X = NOT_IMAGES[name](np.random.RandomState(seed))
    assert find_image_shape(X.reshape(len(X), -1)) is None


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_do_not_matter(scale):
    X = scale * (load_digits().data - 1e3)
    assert find_image_shape(X) == (8, 8)
