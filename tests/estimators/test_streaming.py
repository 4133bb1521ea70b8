"""partial_fit."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import normalized_mutual_info_score as nmi

from ..helpers import (
    METHODS,
    assert_fitted_like,
    assert_same_model,
    data,
    small,
    streamed,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=9).filter(
        lambda sizes: sum(sizes) >= 60
    ),
    init_size=st.integers(20, 60),
    missing=st.sampled_from([0.0, 0.1]),
    weights=st.sampled_from(["uniform", "learned"]),
    noise_variance=st.sampled_from([0.5, "auto"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_partial_fit_does_not_depend_on_the_sizes_of_the_chunks(
    sizes, init_size, missing, weights, noise_variance, dtype
):
    X = data(sum(sizes), missing=missing).astype(dtype)
    params = {"init": "random", "init_size": init_size, "weights": weights}
    params["noise_variance"] = noise_variance
    whole = streamed(X, [len(X)], **params)
    in_chunks = streamed(X, sizes, **params)
    assert_same_model(in_chunks, whole)
    assert in_chunks.n_samples_seen_ == len(X)
    assert in_chunks.n_steps_ == len(X) // 32
    assert in_chunks.dictionaries_.dtype == dtype


def test_partial_fit_on_images_does_not_depend_on_the_sizes_of_the_chunks():
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "init": "kmeans"}
    whole = streamed(X, [200], **params)
    assert_same_model(streamed(X, [50, 70, 1, 79], **params), whole)
    assert whole.representation_ is not None
    assert whole.reconstruct(X).shape == X.shape


def test_partial_fit_is_as_accurate_as_fit():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    params = {"n_clusters": 10, "init_size": 900, "image_shape": None}
    fitted = small(**params).fit(X)
    mixmate = small(**params).partial_fit(X[:900])
    scores = []
    for _ in range(3):
        for chunk in np.array_split(X, 9):
            labels = mixmate.partial_fit(chunk).labels_
            np.testing.assert_array_equal(labels, mixmate.predict(chunk))
        scores.append(mixmate.score(X))
    assert scores[0] < scores[1] < scores[2]
    assert nmi(y, mixmate.predict(X)) > nmi(y, fitted.labels_) - 0.05
    assert len(mixmate.loss_curve_) == mixmate.n_iter_ == 1 + 27


def test_partial_fit_buffers_rows_until_it_has_init_size():
    X = data()
    mixmate = small(init_size=100).partial_fit(X[:40]).partial_fit(X[40:70])
    message = r"received 70 rows.*init_size=100.*smaller init_size"
    for method in [*METHODS, "inverse_transform"]:
        with pytest.raises(NotFittedError, match=message):
            getattr(mixmate, method)(X)
    assert mixmate.n_samples_seen_ == 70
    assert mixmate.n_steps_ == 0
    mixmate.set_params(init_size=64).partial_fit(X[70:71])
    assert mixmate.n_steps_ == 2  # of 32 rows each
    assert mixmate.labels_.shape == (1,)
    mixmate.partial_fit(X[71:72])
    assert mixmate.n_steps_ == 2
    assert mixmate.n_samples_seen_ == 72


def test_fit_restarts_after_partial_fit_and_partial_fit_continues_after_fit():
    X = data()
    mixmate = streamed(X, [70, 50]).fit(X)
    assert_fitted_like(mixmate, small(init_size=60).fit(X))
    assert not hasattr(mixmate, "n_samples_seen_")
    before = mixmate.score(X)
    mixmate.partial_fit(X)
    assert mixmate.score(X) > before
    assert mixmate.n_steps_ == 3
    assert mixmate.n_iter_ == 3 + 1
    buffering = small(init_size=200).partial_fit(X).fit(X)
    assert_fitted_like(buffering, small(init_size=200).fit(X))


def test_warm_start_continues_after_partial_fit():
    X = data()
    mixmate = streamed(X, [120], warm_start=True, fit_intercept=False, batch_size=120)
    before = mixmate.loss_curve_[-1]
    assert mixmate.fit(X).loss_curve_[0] < before


@pytest.mark.parametrize("n_rows", [40, 70])  # before and after training starts
def test_partial_fit_continues_after_pickling(n_rows):
    X = data()
    mixmate = streamed(X[:n_rows], [n_rows])
    copied = pickle.loads(pickle.dumps(mixmate))
    for _ in range(2):
        assert_same_model(copied.partial_fit(X), mixmate.partial_fit(X))
    with pytest.raises(NotFittedError):
        clone(mixmate).predict(X)


def test_partial_fit_accepts_tensors_and_other_dtypes():
    X = data()
    expected = streamed(X, [70, 50])
    mixmate = small(init_size=60).partial_fit(torch.from_numpy(X[:70]))
    assert_same_model(mixmate.partial_fit(X[70:]), expected)
    single = X.astype(np.float32)
    mixmate = small(init_size=60).partial_fit(single[:70]).partial_fit(X[70:])
    assert mixmate.dictionaries_.dtype == np.float32
    assert_same_model(mixmate, streamed(single, [70, 50]))


def test_rows_may_be_overwritten_after_partial_fit():
    X = data()
    mixmate, chunk = small(init_size=60), np.empty((40, 16))
    for start in (0, 40, 80):
        chunk[:] = X[start : start + 40]
        mixmate.partial_fit(chunk)
    assert_same_model(mixmate, streamed(X, [120]))


def test_partial_fit_ignores_rows_without_observed_values():
    X = data()
    with_empty = np.insert(X, [0, 5, 50], np.nan, axis=0)
    mixmate = streamed(with_empty, [40, 83])
    assert_same_model(mixmate, streamed(X, [120]))
    assert mixmate.n_samples_seen_ == 123
    assert np.isnan(mixmate.partial_fit(with_empty[:1]).loss_)


def test_partial_fit_raises_if_the_shape_or_the_parameters_changed():
    X = data()
    mixmate = streamed(X, [120])
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        mixmate.partial_fit(X[:, :15])
    with pytest.raises(ValueError, match=r"partial_fit.*\(3, 6, 16\).*\(3, 9, 16\)"):
        mixmate.set_params(n_atoms=9).partial_fit(X)
    with pytest.raises(ValueError, match=r"fit_intercept=False should be True"):
        mixmate.set_params(n_atoms=6, fit_intercept=False).partial_fit(X)
    with pytest.raises(ValueError, match=r"init_size=2 should be >= n_clusters=3"):
        small(init_size=2).partial_fit(X)
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        small(init_size=200).partial_fit(X).partial_fit(X[:, :15])


def test_a_stream_of_images_may_begin_to_miss_pixels():
    X = load_digits().data[:100]
    mixmate = streamed(X, [100], image_shape=(8, 8))
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    X[7] = np.nan
    mixmate.partial_fit(X)
    assert mixmate.n_samples_seen_ == 200
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))
    assert np.isfinite(mixmate.loss_)


def test_partial_fit_checks_feature_names():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small(init_size=200).partial_fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        mixmate.partial_fit(frame.rename(columns={"pixel0": "other"}))
