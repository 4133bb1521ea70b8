"""Data of dask. Where dask is not installed only the first test runs."""

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
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


# --- answers that are lazy -----------------------------------------------------------


def test_batches_are_computed_block_by_block(da, fitted):
    lazy = da.from_array(X, chunks=(250, 4))
    batches = list(fitted.predict_batches(lazy, "energies", batch_size=400))
    assert [len(batch) for batch in batches] == [400, 200]
    np.testing.assert_allclose(np.concatenate(batches), fitted.energies(X))


def test_nothing_is_written_of_answers_that_are_lazy(da, fitted):
    with pytest.raises(ValueError, match=r"out should be None .* dask.array.store"):
        fitted.predict(da.from_array(X), out=np.empty(600))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_to_an_array(da, fitted, method, dtype):
    given = X.astype(dtype)
    answers = getattr(fitted, method)(da.from_array(given, chunks=(250, 16)))
    expected = getattr(fitted, method)(given)
    assert isinstance(answers, da.Array)
    assert answers.shape == expected.shape
    assert answers.dtype == expected.dtype
    assert answers.chunks[0] == (250, 250, 100)
    np.testing.assert_allclose(answers, expected)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_of_columns_are_put_together(da, fitted, method):
    answers = getattr(fitted, method)(da.from_array(X, chunks=(250, 5)))
    assert answers.chunks[0] == (250, 250, 100)
    np.testing.assert_allclose(answers, getattr(fitted, method)(X))


@pytest.mark.parametrize("method", METHODS)
def test_the_number_of_rows_may_be_unknown(da, fitted, method):
    rows = da.from_array(X, chunks=(100, 16))
    chosen = rows[(rows[:, 0] > 1) & (da.arange(600, chunks=100) < 300)]
    answers = getattr(fitted, method)(chosen)
    expected = getattr(fitted, method)(X[(X[:, 0] > 1) & (np.arange(600) < 300)])
    assert np.isnan(answers.shape[0])
    assert answers.shape[1:] == expected.shape[1:]
    np.testing.assert_allclose(answers.compute(), expected)


def test_missing_entries(da, fitted):
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    filled = fitted.reconstruct(da.from_array(holes, chunks=(250, 16)))
    np.testing.assert_allclose(filled, fitted.reconstruct(holes))


def test_codes_and_back(da, fitted):
    lazy = fitted.inverse_transform(fitted.transform(da.from_array(X, chunks=200)))
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy, fitted.inverse_transform(fitted.transform(X)))


def test_images_on_scattering_coefficients(da):
    images = np.abs(make_sparse_mixture(120, 64, random_state=0).data)
    mixmate = small(image_shape=(8, 8)).fit(images)
    rows = da.from_array(images, chunks=(50, 64))
    for method in ("predict", "reconstruct"):
        expected = getattr(mixmate, method)(images)
        np.testing.assert_allclose(getattr(mixmate, method)(rows), expected)


def test_score_is_computed(da, fitted):
    assert fitted.score(da.from_array(X, chunks=250)) == pytest.approx(fitted.score(X))


def test_nothing_is_computed_before_it_is_wanted(da, fitted):
    def refuse(block):
        raise RuntimeError("computed")

    rows = da.from_array(X, chunks=(250, 16)).map_blocks(refuse, meta=X[:0])
    labels = fitted.predict(rows)
    with pytest.raises(RuntimeError, match="computed"):
        labels.compute()


def test_the_model_of_the_time_of_the_question_answers(da):
    mixmate = small().fit(X)
    expected = mixmate.energies(X)
    energies = mixmate.energies(da.from_array(X, chunks=250))
    mixmate.set_params(n_layers=3).fit(X[::-1])
    np.testing.assert_allclose(energies, expected)


def test_labels_do_not_go_to_the_workers(da):
    mixmate = small().fit(X)
    energies = mixmate.energies(da.from_array(X, chunks=250))
    mixmate.labels_ = np.zeros(10**7)
    more = mixmate.energies(da.from_array(X, chunks=250))
    assert energies.name == more.name  # as dask names tasks after what they are made of


def test_a_frame_is_a_frame(da):
    mixmate = small().fit(X).set_output(transform="pandas")
    codes = mixmate.transform(da.from_array(X, chunks=250))
    assert list(codes.columns) == list(mixmate.get_feature_names_out())


def test_bad_data_are_named_before_any_work(da, fitted):
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


def test_fit_computes_its_data(da, fitted):
    mixmate = small()
    labels = mixmate.fit_predict(da.from_array(X, chunks=(250, 5)))
    assert isinstance(labels, np.ndarray)
    np.testing.assert_array_equal(labels, fitted.labels_)


def test_a_stream_of_blocks(da):
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
def test_workers_answer(client, da, fitted, method):
    answers = getattr(fitted, method)(da.from_array(X, chunks=(250, 16)))
    np.testing.assert_allclose(answers, getattr(fitted, method)(X))


def test_a_search_on_workers(client):
    search = GridSearchCV(small(max_iter=0), {"alpha": [0.5, 0.75]}, cv=2, n_jobs=2)
    here = clone(search).set_params(n_jobs=1).fit(X)
    with joblib.parallel_config("dask"):
        search.fit(X)
    assert search.best_params_ == here.best_params_
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"]
    )


def test_starts_on_workers(client):
    here = small(n_init=3, init="random").fit(X)
    with joblib.parallel_config("dask"):
        there = small(n_init=3, init="random").fit(X)
    np.testing.assert_allclose(there.dictionaries_, here.dictionaries_, atol=1e-6)


# --- what blocks may be --------------------------------------------------------------


def test_masked_entries_are_missing(da, fitted):
    mask = np.random.default_rng(0).uniform(size=X.shape) < 0.1
    lazy = da.ma.masked_array(da.from_array(X, chunks=(250, 16)), mask=mask)
    holes = np.where(mask, np.nan, X)
    np.testing.assert_allclose(fitted.energies(lazy), fitted.energies(holes))
    assert small().fit(lazy).loss_ == small().fit(holes).loss_


@pytest.mark.parametrize("method", ["fit", *METHODS])
def test_blocks_that_are_sparse_are_refused_at_once(da, fitted, method):
    lazy = da.from_array(X, chunks=(250, 16)).map_blocks(sparse.csr_matrix)
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        getattr(fitted if method != "fit" else small(), method)(lazy)


@pytest.mark.parametrize("method", ["fit", "predict", "transform"])
@pytest.mark.parametrize("dtype", [complex, "M8[D]"])
def test_blocks_that_are_no_real_numbers_are_refused_at_once(da, fitted, method, dtype):
    lazy = da.zeros((10, 16), dtype=dtype)
    with pytest.raises(ValueError, match=r"Complex data not supported|numeric"):
        getattr(fitted if method != "fit" else small(), method)(lazy)


def test_without_atoms_there_are_no_codes(da):
    mixmate = small(n_atoms=0).fit(X)
    codes = mixmate.transform(da.from_array(X, chunks=(250, 16)))
    assert codes.shape == (600, 0)
    restored = mixmate.inverse_transform(codes)
    np.testing.assert_allclose(restored, mixmate.inverse_transform(np.empty((600, 0))))


@pytest.mark.parametrize("is_known", [False, True])
def test_criteria(da, fitted, is_known):
    lazy = da.from_array(X, chunks=(250, 16))
    lazy = lazy if is_known else lazy[da.ones(600, chunks=250) > 0]
    assert fitted.bic(lazy) == pytest.approx(fitted.bic(X))
    assert fitted.aic(lazy) == pytest.approx(fitted.aic(X))


# --- dask-ml -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wrappers():
    return pytest.importorskip("dask_ml.wrappers")


def test_incremental(wrappers, da):
    rows = da.from_array(X, chunks=(150, 16))
    incremental = wrappers.Incremental(small(), shuffle_blocks=False).fit(rows)
    streamed = small().partial_fit(X)
    np.testing.assert_array_equal(
        incremental.estimator_.dictionaries_, streamed.dictionaries_
    )
    np.testing.assert_array_equal(incremental.predict(rows), streamed.predict(X))


@pytest.mark.slow
def test_parallel_post_fit(wrappers, da, fitted):
    wrapped = wrappers.ParallelPostFit(small()).fit(X)
    rows = da.from_array(X, chunks=(150, 16))
    np.testing.assert_array_equal(wrapped.predict(rows), fitted.predict(X))
    np.testing.assert_allclose(wrapped.transform(rows).compute(), fitted.transform(X))
