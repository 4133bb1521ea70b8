"""Data that are not in memory: memory maps, files, datasets and loaders."""

import gc
import os
import subprocess
import sys
import tracemalloc

import joblib
import numpy as np
import pytest
import torch
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from skmixmate.estimators import _streaming

from ..helpers import assert_fitted_like, assert_same_model, data, small, streamed
from ..sources import File, Pairs, Stream

WATCHED_FIT = """
import sys, threading
import numpy as np
from skmixmate import MixMateClustering
from skmixmate.data import loader as _rows

_rows._SHUFFLE_WINDOW_BYTES, watched = 2**24, threading.Event()

def own_memory():  # resident memory without pages of files, in MiB
    with open("/proc/self/statm") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return (resident - shared) * 4 / 1024

def watch():
    global peak
    while not watched.wait(0.002):
        peak = max(peak, own_memory())

X = np.load(sys.argv[1], mmap_mode="r")
mixmate = MixMateClustering(
    2, n_atoms=4, init="random", init_size=1000, max_iter=1, tol=0
)
mixmate.fit(X[:1000])
before = peak = own_memory()
thread = threading.Thread(target=watch)
thread.start()
mixmate.fit(X)
watched.set()
thread.join()
print(X.nbytes / 2**20, peak - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_memory_map_is_not_read_into_memory(tmp_path):
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float32, (60_000, 1024))
    rng = np.random.default_rng(0)
    for block in range(0, len(X), 10_000):
        X[block : block + 10_000] = rng.random((10_000, 1024), dtype=np.float32)
    command = [sys.executable, "-c", WATCHED_FIT, str(path)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True)
    data, own = map(float, completed.stdout.split())
    assert data > 230
    assert own < 100, completed.stdout


def as_loader(X):
    return DataLoader(TensorDataset(torch.from_numpy(X)), 30, shuffle=True)


@pytest.mark.parametrize("kind", [lambda X: File(X, 50), Pairs, as_loader])
@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({"init": "kmeans"}, 0.0),
        ({"init": "kmeans", "init_size": 40, "weights": "learned"}, 0.2),
        ({"init": "random", "n_init": 3}, 0.1),
        ({"init": "kmeans", "image_shape": (4, 4)}, 0.0),
        ({"init": "kmeans", "image_shape": (4, 4), "n_init": 2}, 0.1),
    ],
)
@pytest.mark.usefixtures("small_readings")
def test_fit_gives_the_same_result_for_data_outside_memory(kind, params, missing):
    X = data(200, missing=missing)
    X[3] = np.where(missing, np.nan, X[3])
    expected = small(**params).fit(X)
    mixmate = small(**params).fit(kind(X))
    assert_fitted_like(mixmate, expected)
    assert mixmate.loss_ == expected.loss_
    np.testing.assert_array_equal(mixmate.intercepts_, expected.intercepts_)
    np.testing.assert_array_equal(mixmate.predict(kind(X)), expected.labels_)


@pytest.mark.slow
@pytest.mark.usefixtures("small_readings")
def test_fit_keeps_at_most_two_chunks_in_memory():
    X = data(2000)
    file = File(X, 50)
    small(init="random", init_size=60, n_init=2).fit(file)
    # The copy in the shuffle window is not counted.
    assert file.most_alive <= 2 * 50
    gc.collect()
    assert file.n_alive == 0


@pytest.mark.usefixtures("small_readings")
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("kind", [lambda X: File(X, 50), Pairs, as_loader])
def test_partial_fit_gives_the_same_result_for_data_outside_memory(
    kind, missing, monkeypatch
):
    monkeypatch.setattr(_streaming, "_STREAM_ENTRIES", 45 * 16)
    X = data(300, missing=missing)
    expected = streamed(X, [40, 160, 100])
    mixmate = small(init_size=60)
    for part in np.split(X, [40, 200]):
        mixmate.partial_fit(kind(part))
        if len(part) > 40:
            np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(part))
    assert_same_model(mixmate, expected)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    np.testing.assert_allclose(mixmate.loss_curve_, expected.loss_curve_)
    assert mixmate.loss_ == expected.loss_


@pytest.mark.usefixtures("small_readings")
def test_partial_fit_accepts_an_iterable_dataset():
    X = data(300)
    expected = streamed(X, [300])
    mixmate = small(init_size=60).partial_fit(Stream(list(X)))
    assert_same_model(mixmate, expected)
    assert mixmate.n_samples_seen_ == 300
    assert len(mixmate.labels_) < 300  # labels of the last chunk


def test_fit_raises_for_an_iterable_dataset():
    with pytest.raises(TypeError, match=r"Stream without length.*partial_fit"):
        small().fit(Stream(list(data())))


def test_images_in_a_data_set():
    images = torch.from_numpy(load_digits().data[:300]).reshape(-1, 1, 8, 8)
    labels = torch.zeros(300)
    params = {"image_shape": (8, 8), "init": "kmeans", "n_clusters": 5}
    expected = small(**params).fit(images.flatten(1))
    assert expected.representation_ is not None
    assert_fitted_like(small(**params).fit(TensorDataset(images, labels)), expected)


def test_callbacks_and_checkpoints_with_a_dataset(tmp_path):
    X = data()
    monitor = ScoringMonitor(scoring=lambda mixmate, X, y: mixmate.score(X))
    path = tmp_path / "checkpoint"
    mixmate = small(checkpoint=path).set_callbacks(monitor)
    mixmate.fit(Pairs(X))
    assert_fitted_like(mixmate, small().fit(X))
    assert len(monitor.get_logs().data_as_pandas) == 3 + 1


def test_initializations_run_in_parallel_on_a_dataset():
    X = data()
    params = {"n_init": 2, "init": "random"}
    with joblib.parallel_config("threading"):
        mixmate = small(n_jobs=2, **params).fit(Pairs(X))
    assert_fitted_like(mixmate, small(**params).fit(X))


def zarr_array(X, folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        store=folder / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=(70, 9)
    )
    array[:] = X
    return array


def h5py_dataset(X, folder):
    h5py = pytest.importorskip("h5py")
    folder.mkdir(exist_ok=True)
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", data=X, chunks=(70, 9), compression="gzip")


@pytest.mark.parametrize("kind", [zarr_array, h5py_dataset])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.usefixtures("small_readings")
def test_arrays_in_files(kind, dtype, tmp_path):
    X = (100 * data(200)).astype(dtype)
    stored = kind(X, tmp_path)
    expected = small(n_init=2, init="random").fit(X)
    mixmate = small(n_init=2, init="random").fit(stored)
    assert_fitted_like(mixmate, expected)
    out = kind(np.zeros_like(expected.transform(X)), tmp_path / "out")
    assert mixmate.transform(stored, out=out) is out
    np.testing.assert_array_equal(out[:], expected.transform(X))


def test_memory_per_row_is_small():
    X = np.random.default_rng(0).random((60_000, 64), dtype=np.float32)
    mixmate = small(init="random", n_atoms=2, n_layers=2, max_iter=1, batch_size=4096)
    peaks = []
    for n_rows in (20_000, 60_000):
        tracemalloc.start()
        mixmate.fit(X[:n_rows])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    label, loss, code_density, n_missing = 8, 4, 4, 1
    assert (peaks[1] - peaks[0]) / 40_000 < 1.2 * (
        label + loss + code_density + n_missing
    )
