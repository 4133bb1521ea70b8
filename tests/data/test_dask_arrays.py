"""Dask arrays as data. Without dask only the first test runs."""

import subprocess
import sys
from functools import partial

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from skmixmate.datasets import make_sparse_mixture

from .. import helpers
from ..helpers import METHODS

X = helpers.data(600)


small = partial(helpers.small, n_atoms=4, max_iter=2, init_size=200)


@pytest.fixture(scope="module")
def da():
    return pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X)


@pytest.mark.slow
def test_dask_is_not_imported():
    program = (
        "import sys, numpy, skmixmate\n"
        "X = numpy.random.default_rng(0).random((50, 4))\n"
        "skmixmate.MixMateClustering(2, n_atoms=2).fit(X).predict(X)\n"
        "print('dask' in sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"


# --- lazy results --------------------------------------------------------------------


def test_batches_are_computed_block_by_block(da, fitted):
    lazy = da.from_array(X, chunks=(250, 4))
    batches = list(fitted.predict_batches(lazy, "energies", batch_size=400))
    assert [len(batch) for batch in batches] == [400, 200]
    np.testing.assert_allclose(np.concatenate(batches), fitted.energies(X))


def test_lazy_results_cannot_be_written_to_out(da, fitted):
    with pytest.raises(ValueError, match=r"out should be None .* dask.array.store"):
        fitted.predict(da.from_array(X), out=np.empty(600))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("method", METHODS)
def test_results_match_those_of_an_array(da, fitted, method, dtype):
    converted = X.astype(dtype)
    results = getattr(fitted, method)(da.from_array(converted, chunks=(250, 16)))
    expected = getattr(fitted, method)(converted)
    assert isinstance(results, da.Array)
    assert results.shape == expected.shape
    assert results.dtype == expected.dtype
    assert results.chunks[0] == (250, 250, 100)
    np.testing.assert_allclose(results, expected)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_of_columns_are_merged(da, fitted, method):
    results = getattr(fitted, method)(da.from_array(X, chunks=(250, 5)))
    assert results.chunks[0] == (250, 250, 100)
    np.testing.assert_allclose(results, getattr(fitted, method)(X))


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_rows_may_be_unknown(da, fitted, method):
    rows = da.from_array(X, chunks=(100, 16))
    selected = rows[(rows[:, 0] > 1) & (da.arange(600, chunks=100) < 300)]
    results = getattr(fitted, method)(selected)
    expected = getattr(fitted, method)(X[(X[:, 0] > 1) & (np.arange(600) < 300)])
    assert np.isnan(results.shape[0])
    assert results.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(results.compute(), expected)


def test_missing_entries_are_imputed(da, fitted):
    incomplete = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    imputed = fitted.reconstruct(da.from_array(incomplete, chunks=(250, 16)))
    np.testing.assert_allclose(imputed, fitted.reconstruct(incomplete))


def test_inverse_transform_is_lazy(da, fitted):
    lazy = fitted.inverse_transform(fitted.transform(da.from_array(X, chunks=200)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy, fitted.inverse_transform(fitted.transform(X)))


def test_images_are_represented_by_scattering_coefficients(da):
    images = np.abs(make_sparse_mixture(120, 64, random_state=0).data)
    mixmate = small(image_shape=(8, 8)).fit(images)
    rows = da.from_array(images, chunks=(50, 64))
    for method in ("predict", "reconstruct"):
        expected = getattr(mixmate, method)(images)
        np.testing.assert_allclose(getattr(mixmate, method)(rows), expected)


def test_score_is_computed_immediately(da, fitted):
    assert fitted.score(da.from_array(X, chunks=250)) == pytest.approx(fitted.score(X))


def test_methods_are_evaluated_lazily(da, fitted):
    def fail(block):
        raise RuntimeError("computed")

    rows = da.from_array(X, chunks=(250, 16)).map_blocks(fail, meta=X[:0])
    labels = fitted.predict(rows)
    with pytest.raises(RuntimeError, match="computed"):
        labels.compute()


def test_lazy_results_use_the_model_at_the_time_of_the_call(da):
    mixmate = small().fit(X)
    expected = mixmate.energies(X)
    energies = mixmate.energies(da.from_array(X, chunks=250))
    mixmate.set_params(n_layers=3).fit(X[::-1])
    np.testing.assert_allclose(energies, expected)


def test_labels_are_not_sent_to_the_workers(da):
    mixmate = small().fit(X)
    energies = mixmate.energies(da.from_array(X, chunks=250))
    mixmate.labels_ = np.zeros(10**7)
    more = mixmate.energies(da.from_array(X, chunks=250))
    assert energies.name == more.name  # dask names tasks by a hash of their content


def test_set_output_returns_a_data_frame(da):
    mixmate = small().fit(X).set_output(transform="pandas")
    codes = mixmate.transform(da.from_array(X, chunks=250))
    assert list(codes.columns) == list(mixmate.get_feature_names_out())


def test_invalid_data_are_rejected_before_any_work(da, fitted):
    rows = da.from_array(X, chunks=250)
    with pytest.raises(NotFittedError):
        small().predict(rows)
    with pytest.raises(ValueError, match="X has 5 features, but"):
        fitted.predict(rows[:, :5])
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        fitted.predict(rows[:, 0])
    with pytest.raises(ValueError, match="X has an unknown number of features"):
        fitted.predict(rows[:, rows[0] > 1])


# --- fitting -------------------------------------------------------------------------


def test_fit_computes_the_array(da, fitted):
    mixmate = small()
    labels = mixmate.fit_predict(da.from_array(X, chunks=(250, 5)))
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, fitted.labels_)


def test_partial_fit_accepts_blocks(da):
    rows, streamed = da.from_array(X, chunks=(150, 16)), small()
    for block in rows.blocks.ravel():
        streamed.partial_fit(block)
    np.testing.assert_array_equal(
        streamed.dictionaries_, small().partial_fit(X).dictionaries_
    )


# --- a cluster -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(da):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("method", METHODS)
def test_methods_run_on_workers(client, da, fitted, method):
    results = getattr(fitted, method)(da.from_array(X, chunks=(250, 16)))
    np.testing.assert_allclose(results, getattr(fitted, method)(X))


def test_grid_search_on_workers_matches_local_search(client):
    search = GridSearchCV(small(max_iter=0), {"alpha": [0.5, 0.75]}, cv=2, n_jobs=2)
    local = clone(search).set_params(n_jobs=1).fit(X)
    with joblib.parallel_config("dask"):
        search.fit(X)
    assert search.best_params_ == local.best_params_
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"]
    )


def test_initializations_on_workers_match_local_ones(client):
    local = small(n_init=3, init="random").fit(X)
    with joblib.parallel_config("dask"):
        remote = small(n_init=3, init="random").fit(X)
    np.testing.assert_allclose(remote.dictionaries_, local.dictionaries_, atol=1e-6)


# --- content of blocks ---------------------------------------------------------------


def test_masked_entries_are_missing(da, fitted):
    mask = np.random.default_rng(0).uniform(size=X.shape) < 0.1
    lazy = da.ma.masked_array(da.from_array(X, chunks=(250, 16)), mask=mask)
    incomplete = np.where(mask, np.nan, X)
    np.testing.assert_allclose(fitted.energies(lazy), fitted.energies(incomplete))
    assert small().fit(lazy).loss_ == small().fit(incomplete).loss_


@pytest.mark.parametrize("method", ["fit", *METHODS])
def test_sparse_blocks_are_rejected_immediately(da, fitted, method):
    lazy = da.from_array(X, chunks=(250, 16)).map_blocks(sparse.csr_matrix)
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        getattr(fitted if method != "fit" else small(), method)(lazy)


@pytest.mark.parametrize("method", ["fit", "predict", "transform"])
@pytest.mark.parametrize("dtype", [complex, "M8[D]"])
def test_blocks_that_are_not_real_are_rejected_immediately(da, fitted, method, dtype):
    lazy = da.zeros((10, 16), dtype=dtype)
    with pytest.raises(ValueError, match=r"Complex data not supported|numeric"):
        getattr(fitted if method != "fit" else small(), method)(lazy)


def test_codes_are_empty_without_atoms(da):
    mixmate = small(n_atoms=0).fit(X)
    codes = mixmate.transform(da.from_array(X, chunks=(250, 16)))
    assert codes.shape == (600, 0)
    restored = mixmate.inverse_transform(codes)
    np.testing.assert_allclose(restored, mixmate.inverse_transform(np.empty((600, 0))))


@pytest.mark.parametrize("is_known", [False, True])
def test_information_criteria_match_those_of_an_array(da, fitted, is_known):
    lazy = da.from_array(X, chunks=(250, 16))
    lazy = lazy if is_known else lazy[da.ones(600, chunks=250) > 0]
    assert fitted.bic(lazy) == pytest.approx(fitted.bic(X))
    assert fitted.aic(lazy) == pytest.approx(fitted.aic(X))


# --- dask-ml -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrappers():
    return pytest.importorskip("dask_ml.wrappers")


def test_incremental_matches_partial_fit(wrappers, da):
    rows = da.from_array(X, chunks=(150, 16))
    incremental = wrappers.Incremental(small(), shuffle_blocks=False).fit(rows)
    streamed = small().partial_fit(X)
    np.testing.assert_array_equal(
        incremental.estimator_.dictionaries_, streamed.dictionaries_
    )
    np.testing.assert_array_equal(incremental.predict(rows), streamed.predict(X))


def test_parallel_post_fit_matches_local_methods(wrappers, da, fitted):
    wrapped = wrappers.ParallelPostFit(small()).fit(X)
    rows = da.from_array(X, chunks=(150, 16))
    np.testing.assert_array_equal(wrapped.predict(rows), fitted.predict(X))
    np.testing.assert_allclose(wrapped.transform(rows).compute(), fitted.transform(X))
