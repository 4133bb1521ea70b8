"""Sparse rows: the same results as of dense rows, and nothing large is made dense."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score as nmi

from skmixmate import MixMateClustering
from skmixmate.data.sparse import SparseRows
from skmixmate.initialization import sparse as sparse_start

from ..helpers import METHODS, assert_fitted_like, assert_same_model, small

FORMATS = ["csr", "csc", "coo", "lil"]
PARAMS = [
    {},
    {"fit_intercept": False},
    {"weights": "learned", "noise_variance": "auto"},
    {"prior": "nonnegative"},
    {"prior": "group"},
    {"prior": "elastic_net"},
    {"likelihood": "student_t"},
    {"likelihood": "student_t", "noise_variance": "auto"},
    {"likelihood": "poisson"},
    {"likelihood": "negative_binomial"},
    {"likelihood": "bernoulli"},
    {"n_clusters": "auto"},
    {"n_init": 2, "init": "kmeans"},
    {"scale": 2.0},
]

pytestmark = pytest.mark.exhaustive


def words(n_samples=150, n_features=16, missing=0.0, dtype=np.float64):
    """Draw counts of words of three topics, most of them 0; a part is missing."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=n_samples)
    rates = 0.2 + 2 * (rng.random((3, n_features)) < 0.3)
    X = np.minimum(rng.poisson(rates[y]), 1).astype(dtype)
    X *= rng.random(X.shape) + 0.5
    X[rng.random(X.shape) < missing] = np.nan
    return X.clip(max=1), y


def fit_both(params, missing=0.0, dtype=np.float64):
    X, _ = words(missing=missing, dtype=dtype)
    return X, small(**params).fit(X), small(**params).fit(sparse.csr_array(X))


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("params", PARAMS)
def test_fit_gives_the_model_of_dense_rows(params, missing):
    X, expected, mixmate = fit_both(params, missing)
    for name in ("dictionaries_", "intercepts_", "weights_", "scale_", "loss_"):
        np.testing.assert_allclose(
            getattr(mixmate, name), getattr(expected, name), atol=1e-7, err_msg=name
        )
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(sparse.csr_array(X)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", "poisson"])
@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_methods_give_the_results_of_dense_rows(missing, likelihood, dtype):
    X, mixmate, _ = fit_both({"likelihood": likelihood}, missing, dtype)
    methods = [*METHODS, *(["outlier_scores"] if likelihood == "student_t" else [])]
    for name in methods:
        method = getattr(mixmate, name)
        result = method(sparse.csr_matrix(X))
        assert result.dtype == method(X).dtype
        tolerance = 1e-9 if dtype == np.float64 else 2e-4
        np.testing.assert_allclose(
            result, method(X), rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("format", FORMATS)
def test_all_formats_are_accepted(format, kind):
    X, expected, _ = fit_both({})
    converted = getattr(sparse, f"{format}_{kind}")(X)
    np.testing.assert_array_equal(small().fit(converted).labels_, expected.labels_)


def test_integers_are_converted_to_float64():
    X = sparse.csr_array(np.rint(3 * words()[0]).astype(int))
    assert small().fit(X).dictionaries_.dtype == np.float64


def test_duplicates_are_added_and_explicit_zeros_are_zeros():
    X, _ = words()
    doubled = sparse.csr_array(X / 2)
    data, indices = np.repeat(doubled.data, 2), np.repeat(doubled.indices, 2)
    repeated = sparse.csr_array((data, indices, 2 * doubled.indptr), shape=X.shape)
    with_zeros = sparse.csr_array(X + 1)
    with_zeros.data -= 1
    expected = small().fit(X)
    for other in (repeated, with_zeros):
        n_stored = other.nnz
        np.testing.assert_allclose(
            small().fit(other).dictionaries_, expected.dictionaries_, atol=1e-7
        )
        assert other.nnz == n_stored  # not changed


def test_x_is_not_changed():
    X = sparse.csr_array(words(missing=0.1)[0])
    before = X.copy()
    small().fit(X).transform(X)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, name), getattr(before, name))


def test_rows_far_from_the_origin_are_as_precise_as_dense_ones():
    X, _ = words(dtype=np.float32)
    X[:, 3] += 1e4
    expected, mixmate = small().fit(X), small().fit(sparse.csr_array(X))
    np.testing.assert_allclose(
        mixmate.energies(sparse.csr_array(X)), mixmate.energies(X)
    )
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)


def test_entries_whose_squares_overflow():
    X, _ = words(dtype=np.float32)
    mixmate = small().fit(X)
    X[3, 2] = 1e18
    X[5, 1] = np.nan
    far = sparse.csr_array(X)
    np.testing.assert_allclose(mixmate.energies(far), mixmate.energies(X), rtol=1e-4)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_entries_are_rejected(value):
    X = sparse.csr_array(words()[0])
    X.data[7] = value
    with pytest.raises(ValueError, match="infinity"):
        small().fit(X)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "bernoulli"])
def test_entries_that_a_likelihood_does_not_allow_are_rejected(likelihood):
    X = sparse.csr_array(words()[0])
    X.data[7] = -1
    with pytest.raises(ValueError, match=likelihood):
        small(likelihood=likelihood).fit(X)


def test_another_number_of_features_is_rejected():
    X, mixmate, _ = fit_both({})
    with pytest.raises(ValueError, match="8 features"):
        mixmate.predict(sparse.csr_array(X[:, :8]))


# --- large data ----------------------------------------------------------------------


class Stored:
    """A sparse matrix in a file, as anndata has it."""

    def __init__(self, X, format="csr"):
        self.X, self.format = sparse.csr_array(X), format
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, index):
        assert isinstance(index, slice)
        return self.X[index].asformat(self.format)


def mapped(X, folder):
    """Return a CSR array whose arrays are memory maps."""
    csr = sparse.csr_array(X)
    for name in ("data", "indices", "indptr"):
        np.save(folder / f"{name}.npy", getattr(csr, name))
    arrays = [
        np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in ("data", "indices", "indptr")
    ]
    return sparse.csr_array(tuple(arrays), shape=csr.shape)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["csr", "csc", "mapped"])
@pytest.mark.usefixtures("small_readings")
def test_a_matrix_in_a_file_gives_the_model_of_one_in_memory(kind, missing, tmp_path):
    X, _ = words(missing=missing)
    in_file = mapped(X, tmp_path) if kind == "mapped" else Stored(X, kind)
    in_memory = sparse.csr_array(X)
    expected = small(init_size=70).fit(in_memory)
    mixmate = small(init_size=70).fit(in_file)
    assert_fitted_like(mixmate, expected)
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(mixmate, method)(in_file), getattr(expected, method)(in_memory)
        )


def test_a_memory_map_is_not_copied(tmp_path):
    X = mapped(words()[0], tmp_path)
    rows = SparseRows(X)
    assert rows.is_lazy
    assert np.shares_memory(rows.entries, X.data)


@pytest.fixture
def dense_sizes(monkeypatch):
    """Record the entries of every matrix that is made dense."""
    sizes = [0]
    for kind in (sparse.csr_array, sparse.csr_matrix):
        toarray = kind.toarray

        def recording(self, *args, _toarray=toarray, **kwargs):
            sizes.append(int(np.prod(self.shape)))
            return _toarray(self, *args, **kwargs)

        monkeypatch.setattr(kind, "toarray", recording)
    monkeypatch.setattr(sparse_start, "_DENSE_ENTRIES", 2**12)
    return sizes


def topics(n_samples=400, n_features=5000, missing=0.0):
    """Draw rows of five topics, each with words of its own."""
    rng = np.random.default_rng(0)
    y = rng.integers(5, size=n_samples)
    own = rng.integers(n_features, size=(5, 60))
    indices = own[y[:, None], rng.integers(60, size=(n_samples, 20))]
    rows = np.repeat(np.arange(n_samples), 20)
    X = sparse.csr_array(
        (np.ones(indices.size), (rows, indices.reshape(-1))),
        shape=(n_samples, n_features),
    )
    X.data[rng.random(X.nnz) < missing] = np.nan
    return X, y


def wide(**params):
    """Return an estimator for the topics above, which are not judged as images."""
    return small(**{"n_clusters": 5, "max_iter": 1, "image_shape": None, **params})


@pytest.mark.parametrize("missing", [0.0, 0.01])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"init": "kmeans"},
        {"init": KMeans(5)},
        pytest.param({"likelihood": "poisson"}, marks=pytest.mark.slow),
    ],
)
def test_only_few_rows_are_dense_at_a_time(params, missing, dense_sizes):
    X, y = topics(missing=missing)
    mixmate = wide(**params).fit(X)
    assert nmi(y, mixmate.labels_) > 0.9
    mixmate.transform(X)
    mixmate.reconstruct(X, out=np.empty(X.shape))
    assert max(dense_sizes) < X.shape[0] * X.shape[1] / 3


def test_the_number_of_clusters_of_wide_rows_is_estimated(dense_sizes):
    X, y = topics()
    mixmate = wide(n_clusters="auto").fit(X)
    assert mixmate.n_clusters_ == 5
    assert nmi(y, mixmate.labels_) > 0.9
    assert max(dense_sizes) < X.shape[0] * X.shape[1] / 3


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["student_t", "negative_binomial", "bernoulli"])
def test_a_start_on_components_with_any_likelihood(likelihood, dense_sizes):
    X, y = topics()
    X.data.clip(max=1, out=X.data)
    mixmate = wide(likelihood=likelihood).fit(X)
    assert nmi(y, mixmate.labels_) > 0.9
    assert max(dense_sizes) <= 2**20 < 0.6 * X.shape[0] * X.shape[1]


# --- streams, checkpoints and images --------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("sizes", [[150], [20, 60, 70], [75, 1, 74]])
def test_partial_fit_does_not_depend_on_how_rows_are_cut(sizes, missing):
    X, _ = words(missing=missing)
    expected = small(init_size=60).partial_fit(sparse.csr_array(X))
    mixmate = small(init_size=60)
    for chunk in np.split(X, np.cumsum(sizes)[:-1]):
        mixmate.partial_fit(sparse.csr_array(chunk))
        buffer = mixmate._row_buffer
        assert isinstance(buffer, SparseRows)
    assert_same_model(mixmate, expected)


def test_a_stream_of_sparse_and_dense_chunks():
    X, _ = words(300)
    dense, sparse_first, dense_first = (small(init_size=60) for _ in range(3))
    for i, chunk in enumerate(np.split(X, [40, 100, 170])):
        rows = sparse.csr_array(chunk)
        dense.partial_fit(chunk)
        sparse_first.partial_fit(chunk if i % 2 else rows)
        dense_first.partial_fit(rows if i % 2 else chunk)
    for mixed in (sparse_first, dense_first):
        np.testing.assert_allclose(mixed.dictionaries_, dense.dictionaries_, atol=1e-4)


class Interrupt(ScoringMonitor):
    """Interrupts a fit after two epochs."""

    def __init__(self):
        super().__init__(scoring=None)

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch" and context.task_id == 2:
            raise KeyboardInterrupt


def test_an_interrupted_fit_is_resumed(tmp_path):
    X = sparse.csr_array(words()[0])
    expected = small(max_iter=4).fit(X)
    path = tmp_path / "checkpoint"
    with pytest.warns(UserWarning, match="interrupted"):
        small(max_iter=4, checkpoint=path).set_callbacks(Interrupt()).fit(X)
    resumed = small(max_iter=4, checkpoint=path).fit(X.tocsc())
    assert_fitted_like(resumed, expected)


def test_images_are_recognised_and_modelled_as_dense_ones(dense_sizes):
    X = load_digits().data[:600]
    params = {"n_clusters": 5, "max_iter": 1, "tol": 0, "random_state": 0}
    expected = MixMateClustering(**params).fit(X)
    rows = sparse.csr_array(X)
    mixmate = MixMateClustering(**params).fit(rows)
    assert mixmate.image_shape_ == (8, 8)
    assert_fitted_like(mixmate, expected)
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(mixmate, method)(rows), getattr(expected, method)(X)
        )


def test_results_in_batches_and_with_out():
    X, mixmate, _ = fit_both({})
    rows, expected = sparse.csr_array(X), mixmate.transform(sparse.csr_array(X))
    batches = list(mixmate.predict_batches(rows, "transform", batch_size=40))
    assert [len(batch) for batch in batches] == [40, 40, 40, 30]
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    out = torch.zeros(expected.shape, dtype=torch.float64)
    assert mixmate.transform(rows, out=out) is out
    np.testing.assert_array_equal(out.numpy(), expected)


def test_clone_and_score():
    X, mixmate, _ = fit_both({})
    rows = sparse.csr_array(X)
    assert mixmate.score(rows) == pytest.approx(mixmate.score(X))
    assert mixmate.bic(rows) == pytest.approx(mixmate.bic(X))
    np.testing.assert_array_equal(clone(mixmate).fit_predict(X), mixmate.labels_)
