"""Images on pixels and on scattering coefficients."""

import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score as nmi

from skmixmate import MixMateClustering
from skmixmate.cluster._propagation import GraphClassifier

from ..helpers import (
    METHODS,
    assert_fitted_like,
    assert_same_model,
    data,
    small,
    streamed,
)
from ..sources import File, Pairs, Stream


def fit_digits(**params):
    X, y = load_digits(return_X_y=True)
    mixmate = small(n_clusters=10, image_shape=(8, 8), **params).fit(X)
    return X, y, mixmate


@pytest.mark.slow
def test_images_on_pixels():
    X, y, mixmate = fit_digits(n_atoms=20, representation="pixels")
    assert nmi(y, mixmate.labels_) > 0.8
    assert not mixmate.intercepts_.any()
    assert mixmate.representation_ is None
    assert mixmate.reconstruct(X).shape == X.shape


def blobs_with_noise(n_samples, random_state):
    """Return noisy sums of two of six round blobs, the clean images, and the blobs."""
    places = np.random.default_rng(0).uniform(2, 10, size=(6, 2))
    rows, columns = np.mgrid[:12, :12]
    atoms = [
        np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
        for row, column in places
    ]
    atoms = np.stack(atoms).reshape(6, 144)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    rng = np.random.default_rng(random_state)
    codes = 3 * rng.laplace(size=(n_samples, 6))
    codes[rng.uniform(size=codes.shape).argsort(axis=1) >= 2] = 0
    clean = codes @ atoms
    return clean + 0.5 * rng.standard_normal(clean.shape), clean, atoms


def fit_blobs(X, dictionary_penalty):
    return MixMateClustering(
        1,
        n_atoms=6,
        image_shape=(12, 12),
        representation="pixels",
        dictionary_penalty=dictionary_penalty,
        learning_rate=1e-2,
        batch_size=64,
        tol=0,
        random_state=0,
    ).fit(X)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_dictionary_penalty_gives_smooth_atoms_from_noisy_images(missing):
    X, _, atoms = blobs_with_noise(200, random_state=1)
    noisy, clean, _ = blobs_with_noise(400, random_state=2)
    for images, seed in ((X, 3), (noisy, 4)):
        rng = np.random.default_rng(seed)
        images[rng.uniform(size=images.shape) < missing] = np.nan
    rough, smooth = fit_blobs(X, 0.0), fit_blobs(X, 3.0)

    def roughness(mixmate):
        images = mixmate.dictionaries_.reshape(6, 12, 12)
        return sum((np.diff(images, axis=axis) ** 2).sum() for axis in (1, 2)) / 6

    def error(mixmate):
        return np.mean((mixmate.reconstruct(noisy) - clean) ** 2)

    def recovered(mixmate):
        cosines = abs(mixmate.dictionaries_[0] @ atoms.T)
        return cosines[linear_sum_assignment(-cosines)]

    assert roughness(smooth) < 0.8 * roughness(rough)
    assert error(smooth) < 0.8 * error(rough)
    assert recovered(smooth).min() > 0.9 > recovered(rough).min()
    losses = smooth.energies(X).mean()  # there is only one cluster
    assert smooth.loss_ == pytest.approx(losses + 3 * roughness(smooth))


def test_dictionary_penalty_in_partial_fit_and_clone():
    X, _, _ = blobs_with_noise(200, random_state=1)
    params = {
        "image_shape": (12, 12),
        "representation": "pixels",
        "dictionary_penalty": 5.0,
        "init": "random",
    }
    whole = streamed(X, [200], **params)
    assert_same_model(streamed(X, [70, 130], **params), whole)
    without = streamed(X, [200], **{**params, "dictionary_penalty": 0.0})
    assert abs(whole.dictionaries_ - without.dictionaries_).max() > 1e-4
    assert whole.loss_ > without.loss_
    assert clone(whole).dictionary_penalty == 5.0


def test_dictionary_penalty_raises_with_scattering():
    X = load_digits().data[:100]
    mixmate = small(image_shape=(8, 8), dictionary_penalty=1.0)
    with pytest.raises(ValueError, match=r"dictionary_penalty=1.0.*should be 'pixels'"):
        mixmate.fit(X)
    mixmate = small(image_shape=(8, 8), warm_start=True, init="kmeans").fit(X)
    mixmate.set_params(dictionary_penalty=1.0, representation="pixels")
    with pytest.raises(ValueError, match="should be 'pixels' from the first"):
        mixmate.fit(X)


@pytest.mark.slow
def test_images_without_atoms_have_intercepts():
    _, y, mixmate = fit_digits(n_atoms=0, representation="pixels")
    assert nmi(y, mixmate.labels_) > 0.7
    assert mixmate.intercepts_.any()


@pytest.mark.slow
def test_images_on_scattering_coefficients():
    X, y, mixmate = fit_digits(n_atoms=20)  # the default for complete images
    assert nmi(y, mixmate.labels_) > 0.85
    np.testing.assert_array_equal(mixmate.predict(X), mixmate.labels_)
    n_components = mixmate.representation_.components_.shape[0]
    assert mixmate.dictionaries_.shape == (10, 20, n_components)
    assert mixmate.intercepts_.any()
    reconstructed = mixmate.reconstruct(X)
    error = np.std(reconstructed - X) / np.std(X - X.mean(axis=0))
    assert error < 0.5
    codes = mixmate.transform(X)
    np.testing.assert_allclose(mixmate.inverse_transform(codes), reconstructed)
    copied = pickle.loads(pickle.dumps(mixmate))
    np.testing.assert_array_equal(copied.predict(X), mixmate.labels_)


def test_training_keeps_images_in_the_clusters_of_the_start():
    _, y, mixmate = fit_digits(n_atoms=20, max_iter=10)
    _, _, untrained = fit_digits(n_atoms=20, max_iter=0)
    assert nmi(y, mixmate.labels_) > 0.91
    assert nmi(mixmate.labels_, untrained.labels_) > 0.95


def spread_within(mixmate, X, y):
    """Return the ratio of the largest deviation within classes to the median one."""
    features = mixmate.representation_.transform(X)
    deviations = np.vstack(
        [features[y == k] - features[y == k].mean(0) for k in range(10)]
    )
    stds = np.linalg.svd(deviations, compute_uv=False)
    return stds[0] / np.median(stds)


def test_directions_that_vary_within_clusters_count_less():
    X, y, mixmate = fit_digits(n_atoms=5)
    plain = fit_digits(n_atoms=5, init="kmeans")[2]
    assert spread_within(mixmate, X, y) < 0.8 * spread_within(plain, X, y)
    # The images that features represent are the same.
    codes = [fitted.representation_.transform(X) for fitted in (mixmate, plain)]
    images, expected = (
        fitted.representation_.inverse_transform(features)
        for fitted, features in zip((mixmate, plain), codes, strict=True)
    )
    np.testing.assert_allclose(images, expected, atol=1e-6)


def test_a_cluster_without_an_image_leaves_the_features_as_they_are(monkeypatch):
    def always_the_first(self, X):
        return np.eye(self.n_classes)[np.zeros(len(X), dtype=int)]

    monkeypatch.setattr(GraphClassifier, "predict_proba", always_the_first)
    X, y, mixmate = fit_digits(n_atoms=5)
    plain = fit_digits(n_atoms=5, init="kmeans")[2]
    expected = spread_within(plain, X, y)
    assert spread_within(mixmate, X, y) == pytest.approx(expected, rel=1e-6)


def test_training_moves_images_from_clusters_of_k_means():
    _, y, mixmate = fit_digits(n_atoms=20, max_iter=10, init="kmeans")
    _, _, untrained = fit_digits(n_atoms=20, max_iter=0, init="kmeans")
    assert nmi(mixmate.labels_, untrained.labels_) < 0.95
    assert nmi(y, mixmate.labels_) > nmi(y, untrained.labels_)


def test_images_on_scattering_coefficients_as_tensors():
    X = torch.from_numpy(load_digits().data[:200]).float()
    mixmate = small(image_shape=(8, 8), representation="scattering")
    labels = mixmate.fit_predict(X)
    assert torch.equal(labels, mixmate.predict(X))
    assert mixmate.reconstruct(X).dtype == torch.float32


@pytest.mark.parametrize("representation", ["pixels", "scattering"])
def test_warm_start_and_init_array_on_images(representation):
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "representation": representation}
    mixmate = small(init=X[:18].reshape(3, 6, 64), warm_start=True, **params).fit(X)
    before = mixmate.loss_
    assert mixmate.fit(X).loss_ < before
    with pytest.raises(ValueError, match=r"\(3, 6, 64\).*\(3, 6, 16\)"):
        mixmate.set_params(image_shape=(4, 4)).fit(data())


# --- the shape of images -------------------------------------------------------------

DIGITS = load_digits().data[:300]
IMAGES = DIGITS.reshape(-1, 8, 8)


def test_images_are_recognised(caplog):
    with caplog.at_level("INFO", "skmixmate"):
        mixmate = small().fit(DIGITS)
    assert mixmate.image_shape_ == (8, 8)
    assert "image_shape_ is (8, 8)" in caplog.text
    assert_fitted_like(mixmate, small(image_shape=(8, 8)).fit(DIGITS))
    restored = pickle.loads(pickle.dumps(mixmate))
    np.testing.assert_array_equal(restored.predict(DIGITS[:5]), mixmate.labels_[:5])


def test_rows_that_are_no_images():
    assert small().fit(data()).image_shape_ is None
    mixmate = small(image_shape=None).fit(DIGITS)
    assert mixmate.image_shape_ is mixmate.representation_ is None
    X = np.random.RandomState(0).randn(200, 64)
    with pytest.raises(ValueError, match=r"dictionary_penalty=1.*not recognised as"):
        small(dictionary_penalty=1.0).fit(X)


def test_a_stream_is_recognised_when_its_buffer_is_full():
    mixmate = streamed(DIGITS, [50, 100, 150], init_size=120)
    assert mixmate.image_shape_ == (8, 8)
    assert_same_model(mixmate, streamed(DIGITS, [300], init_size=120))
    chunks = np.split(IMAGES, [50, 150])
    mixmate = small(init_size=120)
    for chunk in (chunks[0], chunks[1].reshape(-1, 64), chunks[2]):
        mixmate.partial_fit(chunk)
        assert mixmate.image_shape_ == (8, 8)


def test_a_warm_start_keeps_the_shape():
    mixmate = small(warm_start=True).fit(DIGITS)
    assert mixmate.fit(DIGITS[:10]).image_shape_ == (8, 8)
    with pytest.raises(ValueError, match=r"\(4, 16\), but image_shape=\(8, 8\)"):
        mixmate.fit(DIGITS.reshape(-1, 4, 16))


@pytest.mark.parametrize(
    "convert", [np.asarray, torch.tensor, np.ndarray.tolist, lambda X: File(X, 10**6)]
)
def test_arrays_of_images_are_taken_as_they_are(convert):
    expected = small().fit(DIGITS)
    X = convert(IMAGES)
    mixmate = small().fit(X)
    assert mixmate.image_shape_ == (8, 8)
    assert_fitted_like(mixmate, expected)
    for method in METHODS:
        shape = IMAGES.shape if method == "reconstruct" else None
        result = np.asarray(getattr(mixmate, method)(X))
        values = getattr(expected, method)(DIGITS)
        assert result.shape == (shape or values.shape)
        np.testing.assert_array_equal(result.reshape(values.shape), values)
    assert mixmate.score(X) == expected.score(DIGITS)


def test_reconstructions_of_images_in_batches_and_in_out():
    mixmate = small().fit(IMAGES)
    expected = mixmate.reconstruct(IMAGES)
    assert expected.shape == IMAGES.shape
    out = np.empty_like(IMAGES)
    assert mixmate.reconstruct(IMAGES, out=out) is out
    batches = list(mixmate.predict_batches(IMAGES, "reconstruct", batch_size=200))
    for result in (out, np.concatenate(batches)):
        np.testing.assert_array_equal(result, expected)
    with pytest.raises(ValueError, match=r"should have \(300, 8, 8\)"):
        mixmate.reconstruct(IMAGES, out=np.empty_like(DIGITS))


def test_images_in_dask_arrays():
    da = pytest.importorskip("dask.array")
    X = da.from_array(IMAGES, chunks=(200, 4, 8))
    mixmate = small().fit(X)
    assert mixmate.image_shape_ == (8, 8)
    for method in METHODS:
        lazy = getattr(mixmate, method)(X)
        values = getattr(mixmate, method)(IMAGES)
        assert lazy.shape == values.shape
        np.testing.assert_allclose(lazy.compute(), values, atol=1e-9)


def test_images_with_image_shape_none_are_plain_features():
    mixmate = small(image_shape=None).fit(IMAGES)
    assert_fitted_like(mixmate, small(image_shape=None).fit(DIGITS))
    assert mixmate.image_shape_ is None
    assert mixmate.reconstruct(IMAGES).shape == IMAGES.shape


def test_items_of_a_dataset_may_be_images():
    items = torch.from_numpy(IMAGES)[:, None]
    mixmate = small().fit(Pairs(items))
    assert mixmate.image_shape_ == (8, 8)
    assert_fitted_like(mixmate, small().fit(DIGITS))
    mixmate = small(init_size=200).partial_fit(Stream(items))
    assert mixmate.image_shape_ == (8, 8)
    assert_same_model(mixmate, small(init_size=200).partial_fit(DIGITS))
    assert mixmate.reconstruct(Stream(items)).shape == DIGITS.shape


@pytest.mark.parametrize(
    ("image_shape", "shape", "message"),
    [
        ((4, 16), (8, 8), r"shape \(8, 8\), but image_shape=\(4, 16\)"),
        ("auto", (1, 8, 8), r"transpose\(0, 2, 3, 1\)"),
        ((1, 8, 8), (64,), r"image_shape=\(1, 8, 8\) has the channels first.*8, 8, 1"),
        ((4, 1, 16), (64,), r"image_shape=\(4, 1, 16\) should be"),
        ("images", (64,), "'image_shape'.*'auto'.*Got 'images'"),
    ],
)
def test_wrong_shapes_of_images_raise(image_shape, shape, message):
    with pytest.raises(ValueError, match=message):
        small(image_shape=image_shape).fit(DIGITS.reshape(-1, *shape))


def test_predict_rejects_images_of_another_shape():
    mixmate = small().fit(DIGITS)
    with pytest.raises(ValueError, match=r"\(4, 16\), but image_shape=\(8, 8\)"):
        mixmate.predict(DIGITS.reshape(-1, 4, 16))
