"""Products with sparse rows, compiled and by scipy, are those with dense rows."""

import numpy as np
import pytest
import torch
from scipy import sparse

from skmixmate.data.batch import Batch
from skmixmate.data.loader import RowLoader
from skmixmate.data.native import binding
from skmixmate.data.sparse import SparseRows
from skmixmate.data.sparse_batch import SparseBatch

N_ROWS, N_FEATURES = 40, 150
CPU = torch.device("cpu")


def draw_rows(dtype, missing=0.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES)) * (rng.random((N_ROWS, N_FEATURES)) < 0.1)
    X[7] = 0
    X[(X != 0) & (rng.random(X.shape) < missing)] = np.nan
    return X.astype(dtype)


@pytest.fixture(params=["compiled", "scipy"])
def implementation(request, monkeypatch):
    if request.param == "scipy":
        monkeypatch.setattr(binding, "_library", None)
    elif binding._library is None:
        pytest.skip("the library was not built")


def both(dtype):
    X = draw_rows(dtype)
    rows = SparseRows(sparse.csr_array(X))
    return Batch(torch.from_numpy(X)), SparseBatch.from_rows(rows)


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_products(dtype, n_threads):
    dense, batch = both(dtype)
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": dense.dtype}
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        dictionaries = torch.randn(3, 7, N_FEATURES, **options)
        torch.testing.assert_close(
            batch.project(dictionaries), dense.project(dictionaries)
        )
        responsibilities = torch.rand(3, N_ROWS, **options)
        torch.testing.assert_close(
            batch.weighted_sums(responsibilities), dense.weighted_sums(responsibilities)
        )
        index = torch.stack([torch.randperm(N_ROWS, generator=generator)[:9]] * 4)
        cluster_ids = torch.tensor([0, 0, 2, 2])
        grad = torch.randn(4, 7, 9, **options)
        gradient = torch.ones(3, 7, N_FEATURES, dtype=dense.dtype)
        expected = gradient.clone()
        expected.index_add_(0, cluster_ids, grad @ dense.rows[index])
        batch.add_gradient_products(gradient, grad, cluster_ids, index)
        torch.testing.assert_close(gradient, expected)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(batch.squared_norms(), dense.squared_norms())
    torch.testing.assert_close(
        batch.n_observed(torch.float64), dense.n_observed(torch.float64)
    )


def test_rows_with_missing_entries_are_dense():
    X = draw_rows(np.float64, missing=0.2)
    weights, labels = torch.arange(N_ROWS) / 2, torch.arange(N_ROWS) - 1
    loader = RowLoader(
        SparseRows(sparse.csr_array(X)),
        device=CPU,
        scale=2.0,
        sample_weight=weights,
        labels=labels,
    )
    expected = RowLoader(torch.from_numpy(X), device=CPU, scale=2.0).load(slice(None))
    assert expected.observed is not None
    seen = torch.zeros(N_ROWS)
    for index, group in loader.load(slice(None)).completeness_groups():
        seen[index] += 1
        torch.testing.assert_close(group.weights, weights[index].double())
        torch.testing.assert_close(group.labels, labels[index])
        rows = expected.select(index)
        if group.observed is None:
            assert isinstance(group, SparseBatch)
            assert rows.observed.all()
        else:
            torch.testing.assert_close(group.rows, rows.rows)
            torch.testing.assert_close(group.observed, rows.observed)
    assert (seen == 1).all()


@pytest.mark.parametrize(
    "options", [{"needs_dense": True}, {"location": torch.ones(N_FEATURES)}]
)
def test_the_loader_makes_batches_dense_where_it_has_to(options):
    X = draw_rows(np.float32)
    sparse_rows = RowLoader(SparseRows(sparse.csr_array(X)), device=CPU, **options)
    dense = RowLoader(X, device=CPU, **options)
    for chunk in sparse_rows.chunks(15):
        torch.testing.assert_close(sparse_rows.load(chunk).rows, dense.load(chunk).rows)


def test_mini_batches_are_those_of_dense_rows():
    X = draw_rows(np.float32)
    dense, rows = (
        RowLoader(data, device=CPU).batches(
            slice(None), 16, torch.Generator().manual_seed(0)
        )
        for data in (X, SparseRows(sparse.csr_array(X)))
    )
    for expected, batch in zip(dense, rows, strict=True):
        np.testing.assert_array_equal(batch.sparse_rows.toarray(), expected.rows)
