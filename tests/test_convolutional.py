import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import correlate2d, fftconvolve
from scipy.special import softmax
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline

from skmixmate import ConvolutionalMixMate, clustering_accuracy_score
from skmixmate._training import ExpectationMaximization


def small(n_clusters=2, **params):
    """Return an estimator that fits the stripes below in a moment."""
    defaults = {
        "image_shape": (12, 12),
        "n_filters": 2,
        "filter_size": 5,
        "n_layers": 8,
        "max_iter": 2,
        "tol": 0,
        "batch_size": 16,
        "init": "random",
        "random_state": 0,
    }
    return ConvolutionalMixMate(n_clusters, **{**defaults, **params})


def stripes(n_samples=40, dtype=np.float64, missing=0.0):
    """Waves that go down, then as many that go across; brightness differs."""
    rng = np.random.default_rng(0)
    lines = np.sin(1.3 * np.arange(12) + rng.uniform(0, 7, size=(n_samples, 1)))
    images = np.repeat(lines[:, :, None], 12, axis=2)
    images[n_samples // 2 :] = images[n_samples // 2 :].transpose(0, 2, 1)
    images += 0.1 * rng.normal(size=images.shape) + rng.normal(size=(n_samples, 1, 1))
    images[rng.uniform(size=images.shape) < missing] = np.nan
    return images.reshape(n_samples, -1).astype(dtype)


CLASSES = np.repeat([0, 1], 20)


def draw(n_samples, n_filters, size=5, seed=0):
    """Images from the model: codes at a hundredth of the places; and the filters."""
    rng = np.random.default_rng(seed)
    filters = rng.normal(size=(n_filters, size, size))
    filters -= filters.mean(axis=(1, 2), keepdims=True)
    filters /= np.linalg.norm(filters, axis=(1, 2), keepdims=True)
    # Filters may hang over the border of the images, which have 20 x 20 pixels.
    codes = rng.choice([-1, 1], size=(n_samples, n_filters, 24, 24))
    codes = codes * rng.uniform(1, 2, size=codes.shape)
    codes *= rng.uniform(size=codes.shape) < 0.01
    parts = fftconvolve(codes, filters[None], mode="valid", axes=(2, 3))
    images = parts.sum(axis=1)
    images += 0.05 * rng.normal(size=images.shape)
    return images.reshape(n_samples, -1), filters


@pytest.fixture(scope="module")
def fitted():
    return small().fit(stripes())


# --- what the methods answer ---------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_methods_agree_with_one_another(missing):
    X = stripes(missing=missing)
    mixmate = small(weights=[0.4, 0.6]).fit(X)
    energies, codes = mixmate.energies(X), mixmate.encode(X)
    assert codes.shape == (40, 2, 2, 12, 12)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))
    np.testing.assert_array_equal(mixmate.labels_, energies.argmin(axis=1))
    np.testing.assert_allclose(mixmate.predict_proba(X), softmax(-energies, axis=1))
    evidence = np.logaddexp(*-energies.T)
    np.testing.assert_allclose(mixmate.score_samples(X), evidence)
    assert mixmate.score(X) == pytest.approx(evidence.mean())
    expected_loss = (energies * softmax(-energies, axis=1)).sum(axis=1).mean()
    assert mixmate.loss_ == pytest.approx(expected_loss)
    pooled = abs(codes).mean(axis=(3, 4)).reshape(40, 4)
    np.testing.assert_allclose(mixmate.transform(X), pooled)
    assert list(mixmate.get_feature_names_out()) == [
        "cluster0_filter0",
        "cluster0_filter1",
        "cluster1_filter0",
        "cluster1_filter1",
    ]

    own = codes[np.arange(40), mixmate.labels_]
    squares = np.nansum((X - mixmate.reconstruct(X)) ** 2, axis=1)
    expected = (
        mixmate.scale_**2 * squares
        + mixmate.scale_ * mixmate.alpha * abs(own).sum(axis=(1, 2, 3))
        - np.log(mixmate.weights_)[mixmate.labels_]
    )
    np.testing.assert_allclose(energies.min(axis=1), expected)


def test_attributes(fitted):
    assert fitted.filters_.shape == (2, 2, 5, 5)
    np.testing.assert_allclose(np.linalg.norm(fitted.filters_, axis=(2, 3)), 1)
    np.testing.assert_allclose(fitted.weights_, 0.5)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 2
    assert fitted.converged_ is False
    images = stripes().reshape(40, 144)
    deviations = images - images.mean(axis=1, keepdims=True)
    norm = np.sqrt((deviations**2).mean() * 25)
    assert fitted.scale_ * norm == pytest.approx(9.2)


def test_channels():
    grey = stripes()
    mixmate = small(image_shape=(12, 12, 2))
    mixmate.fit(np.stack([grey, -grey], axis=2).reshape(40, -1))
    assert mixmate.filters_.shape == (2, 2, 5, 5, 2)
    np.testing.assert_allclose(mixmate.filters_[..., 0], -mixmate.filters_[..., 1])
    np.testing.assert_array_equal(mixmate.labels_, small().fit_predict(grey))


def test_codes_as_features():
    pipeline = make_pipeline(small(), LogisticRegression())
    assert pipeline.fit(stripes(), CLASSES).score(stripes(), CLASSES) == 1


def test_missing_pixels_are_filled():
    X, gaps = stripes(), stripes(missing=0.2)
    missing = np.isnan(gaps)
    mixmate = small(max_iter=5).fit(gaps)
    filled = mixmate.reconstruct(gaps)
    blank = np.broadcast_to(np.nanmean(gaps, axis=1, keepdims=True), X.shape)
    error = np.mean((filled - X)[missing] ** 2)
    assert error < 0.3 * np.mean((blank - X)[missing] ** 2)


def test_row_with_nothing_observed_has_the_weights_for_its_posterior():
    X = stripes()
    with_blank = np.vstack([X, np.full(144, np.nan)])
    mixmate = small(weights=[0.7, 0.3], batch_size=40).fit(with_blank)
    np.testing.assert_allclose(mixmate.predict_proba(with_blank)[-1], [0.7, 0.3])
    without = small(weights=[0.7, 0.3], batch_size=40).fit(X)
    np.testing.assert_allclose(mixmate.filters_, without.filters_, atol=1e-6)


# --- what is learned -----------------------------------------------------------------


def test_textures_are_told_apart():
    labels = small(init="auto").fit_predict(stripes())
    assert clustering_accuracy_score(CLASSES, labels) == 1


def test_clusterer_as_a_start():
    kmeans = KMeans(2, n_init=3)
    start = clustering_accuracy_score(CLASSES, kmeans.fit_predict(stripes()))
    labels = small(init=kmeans, max_iter=4).fit_predict(stripes())
    assert clustering_accuracy_score(CLASSES, labels) > start


def test_filters_of_the_model_are_recovered():
    parts = [draw(32, 2, seed=seed) for seed in (0, 1)]
    X = np.concatenate([images for images, _ in parts]).astype(np.float32)
    classes = np.repeat([0, 1], 32)
    # Room for a filter to lie anywhere in its frame, and some to spare.
    mixmate = small(
        image_shape=(20, 20),
        n_filters=4,
        filter_size=9,
        n_layers=15,
        alpha=2.0,
        center=False,
        max_iter=20,
        learning_rate=3e-2,
    ).fit(X)
    assert clustering_accuracy_score(classes, mixmate.labels_) == 1
    for k, (_, filters) in enumerate(parts):
        own = mixmate.filters_[mixmate.labels_[classes == k][0]]
        for one in filters:  # up to shift and sign
            assert max(abs(correlate2d(one, other)).max() for other in own) > 0.95


def test_loss_falls_and_noise_is_left_out():
    rng = np.random.default_rng(1)
    clean = stripes()
    noisy = clean + 0.3 * rng.normal(size=clean.shape)
    mixmate = small(max_iter=6).fit(noisy)
    assert mixmate.loss_curve_[-1] < mixmate.loss_curve_[0]
    error = np.mean((mixmate.reconstruct(noisy) - clean) ** 2)
    assert error < 0.7 * np.mean((noisy - clean) ** 2)


def test_learned_weights_are_the_sizes_of_the_clusters():
    X = stripes()[:30]
    mixmate = small(weights="learned", init="auto", batch_size=30).fit(X)
    np.testing.assert_allclose(np.sort(mixmate.weights_), [1 / 3, 2 / 3], atol=1e-3)


def test_max_iter_0_leaves_patches():
    X = stripes()
    mixmate = small(max_iter=0, center=False).fit(X)
    windows = np.lib.stride_tricks.sliding_window_view(
        X.reshape(40, 12, 12), (5, 5), (1, 2)
    )
    patches = windows.reshape(-1, 25)
    patches = patches / np.linalg.norm(patches, axis=1, keepdims=True)
    cosines = mixmate.filters_.reshape(4, 25) @ patches.T
    np.testing.assert_allclose(cosines.max(axis=1), 1)


def test_blank_images_have_filters_too():
    with (
        pytest.warns(UserWarning, match="no sample left"),
        pytest.warns(UserWarning, match="Every code is empty"),
    ):
        mixmate = small().fit(0 * stripes())
    np.testing.assert_allclose(np.linalg.norm(mixmate.filters_, axis=(2, 3)), 1)


# --- invariances and containers ------------------------------------------------------


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_do_not_matter(fitted, factor):
    X = stripes()
    mixmate = small().fit(factor * X)
    np.testing.assert_array_equal(mixmate.labels_, fitted.labels_)
    np.testing.assert_allclose(
        mixmate.reconstruct(factor * X), factor * fitted.reconstruct(X)
    )


def test_random_state_decides(fitted):
    again, other = small().fit(stripes()), small(random_state=1).fit(stripes())
    np.testing.assert_array_equal(again.filters_, fitted.filters_)
    assert abs(other.filters_ - fitted.filters_).max() > 0.01


METHODS = [
    "predict",
    "predict_proba",
    "energies",
    "score_samples",
    "encode",
    "transform",
    "reconstruct",
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_and_tensors(dtype, fitted):
    X = stripes(dtype=dtype)
    from_array, tensor = small().fit(X), torch.from_numpy(X)
    from_tensor = small().fit(tensor)
    assert from_array.filters_.dtype == dtype
    np.testing.assert_array_equal(from_array.filters_, from_tensor.filters_)
    np.testing.assert_allclose(from_array.filters_, fitted.filters_, atol=0.05)
    for method in METHODS:
        answer, in_torch = (getattr(from_array, method)(x) for x in (X, tensor))
        assert isinstance(in_torch, torch.Tensor)
        np.testing.assert_array_equal(answer, in_torch.numpy())
        assert answer.dtype == (np.int64 if method == "predict" else dtype)


def test_frames():
    X = pd.DataFrame(stripes(), columns=[f"pixel{i}" for i in range(144)])
    features = small().set_output(transform="pandas").fit_transform(X)
    assert list(features.columns)[-1] == "cluster1_filter1"


def test_copies_are_equal(fitted):
    X = stripes()
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.energies(X), fitted.energies(X))
    np.testing.assert_array_equal(clone(fitted).fit(X).filters_, fitted.filters_)


def test_callbacks_see_the_epochs():
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixmate = small().set_callbacks(monitor).fit(stripes(), CLASSES)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log.task_name == "epoch"].adjusted_rand_score.tolist()
    assert len(epochs) == 2
    assert epochs[-1] == adjusted_rand_score(CLASSES, mixmate.labels_)


# --- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": None}, r"image_shape=None should be \(height, width\)"),
        ({"image_shape": (12, 13)}, r"image_shape=\(12, 13\) should.*n_features=144"),
        ({"filter_size": 4}, r"filter_size=4 should be odd"),
        ({"filter_size": 13}, r"filter_size=13 should be odd, and no more than"),
        ({"n_filters": 0}, r"'n_filters'.*Got 0"),
        ({"alpha": -1.0}, r"'alpha'.*Got -1.0"),
        ({"init": "best"}, r"'init'.*Got 'best'"),
        ({"init_size": 1}, r"init_size=1 should be >= n_clusters=2"),
        ({"weights": [0.5, 0.6]}, r"weights=.*sum to 1; they sum to 1.1"),
        ({"scale": 0}, r"'scale'.*Got 0"),
        ({"device": "nowhere"}, r"device='nowhere' is not to be had"),
    ],
)
def test_bad_parameters_are_named_before_any_work(params, message, monkeypatch):
    monkeypatch.setattr("skmixmate._convolutional.missing_counts", None)
    with pytest.raises(ValueError, match=message):
        small(**params).fit(stripes())


def test_bad_data(fitted):
    with pytest.raises(ValueError, match=r"n_samples=1 with anything observed"):
        small().fit(stripes()[:1])
    with pytest.raises(ValueError, match=r"X has 100 features.*expecting 144"):
        fitted.predict(stripes()[:, :100])
    with pytest.raises(NotFittedError):
        small().predict(stripes())


def test_warnings():
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        small(max_iter=1, tol=1e-6).fit(stripes())
    with pytest.warns(UserWarning, match=r"Every code is empty: alpha=1000.0 is too"):
        small(1, alpha=1000.0).fit(stripes())


def test_interrupted_fit_leaves_the_last_whole_epoch(monkeypatch):
    step, n_steps = ExpectationMaximization.step, 0

    def step_until_interrupted(em, *batch):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 4:  # two mini-batches an epoch
            raise KeyboardInterrupt
        return step(em, *batch)

    expected = small(max_iter=1).fit(stripes())
    monkeypatch.setattr(ExpectationMaximization, "step", step_until_interrupted)
    with pytest.warns(UserWarning, match="interrupted after 1 whole epochs"):
        mixmate = small(max_iter=5).fit(stripes())
    np.testing.assert_array_equal(mixmate.filters_, expected.filters_)


def test_an_interrupted_first_fit_leaves_an_estimator_that_is_not_fitted(monkeypatch):
    def cut_short(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ConvolutionalMixMate, "_train", cut_short)
    mixmate = small()
    with pytest.raises(KeyboardInterrupt):
        mixmate.fit(stripes())
    with pytest.raises(NotFittedError):
        mixmate.predict(stripes())


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 3.0, "n_layers": 1},
        {"center": False},
        {"filter_size": 5, "n_filters": 7},
        {"image_shape": (9, 16)},
    ],
)
def test_set_params_is_for_the_next_fit(params):
    mixmate = small().fit(stripes())
    expected = mixmate.energies(stripes())
    mixmate.set_params(**params)
    np.testing.assert_array_equal(mixmate.energies(stripes()), expected)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.float32, 1e-35), (np.float32, 1e20), (np.float32, 1e36), (np.float64, 1e300)],
)
def test_units_do_not_matter_where_squares_overflow(dtype, factor):
    images = np.random.default_rng(0).random((20, 81)).astype(dtype)
    images[3, 4] = np.nan

    def fit(images):
        return ConvolutionalMixMate(
            2,
            image_shape=(9, 9),
            n_filters=2,
            filter_size=3,
            max_iter=1,
            tol=0,
            init="kmeans",
            random_state=0,
        ).fit(images)

    plain, scaled = fit(images), fit(images * dtype(factor))
    np.testing.assert_array_equal(plain.labels_, scaled.labels_)
    assert scaled.scale_ * factor == pytest.approx(plain.scale_, rel=1e-4)
    back = scaled.reconstruct(images * dtype(factor)) / dtype(factor)
    np.testing.assert_allclose(back, plain.reconstruct(images), atol=1e-3)


def test_denormal_numbers_are_refused():
    images = np.random.default_rng(0).random((20, 81)).astype(np.float32) * 1e-43
    mixmate = ConvolutionalMixMate(2, image_shape=(9, 9), init="kmeans", random_state=0)
    with pytest.raises(ValueError, match="X has rows of a root-mean-square norm"):
        mixmate.fit(images.astype(np.float32))
