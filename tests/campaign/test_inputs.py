"""The same numbers in random containers give the same model and the same answers."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch.utils.data import DataLoader, TensorDataset

from skmixmate import MixMateClustering

from ..helpers import METHODS
from ..sources import File, Listed, Pairs, Stream


def small(rng):
    return MixMateClustering(
        2,
        n_atoms=int(rng.integers(0, 3)),
        init="kmeans",
        max_iter=1,
        tol=0,
        batch_size=16,
        n_layers=2,
        random_state=0,
    )


def random_data(rng):
    """Two clusters of few rows, some with missing entries."""
    shape = rng.integers(4, 40), rng.integers(1, 7)
    X = rng.normal(size=shape) + 5 * rng.integers(2, size=(shape[0], 1))
    X = np.round(X, 2).astype(rng.choice([np.float32, np.float64]))
    X[rng.uniform(size=shape) < rng.choice([0, 0.05, 0.3])] = np.nan
    X[:2] = [[0], [5]]  # never all missing
    return X


# --- views of arrays -----------------------------------------------------------------


def strided(X, rng):
    """Return a view of a larger array, in any order of its axes."""
    step, order = rng.choice([-2, -1, 1, 2], size=2), rng.choice(["C", "F"])
    larger = np.zeros(np.abs(step) * X.shape, X.dtype, order)
    view = larger[:: step[0], :: step[1]]
    view[:] = X
    return view


def unaligned(X, rng):
    buffer = bytearray(X.nbytes + 1)
    result = np.frombuffer(buffer, X.dtype, X.size, offset=1).reshape(X.shape)
    result[:] = X
    return result


def in_records(X, rng):
    records = np.zeros(len(X), [("row", X.dtype, X.shape[1:]), ("flag", "u1")])
    records["row"] = X
    return records["row"]


def read_only(X, rng):
    X = X.copy()
    X.flags.writeable = False
    return X


VIEWS = [lambda X, rng: X, strided, unaligned, in_records, read_only]


# --- containers ----------------------------------------------------------------------


def masked(X, rng):
    hidden = rng.choice([0.0, 1e6, np.inf, np.nan])
    return np.ma.array(np.where(np.isnan(X), X.dtype.type(hidden), X), mask=np.isnan(X))


def random_tensor(X, rng):
    tensor = torch.from_numpy(np.array(X))
    if rng.integers(2):
        tensor = tensor.T.contiguous().T
    if rng.integers(2):
        tensor = tensor.clone().requires_grad_()
    if rng.integers(2):
        tensor = torch.complex(tensor, -tensor).conj().imag  # its sign is lazy
    return tensor


def random_loader(dataset, rng):
    return DataLoader(
        dataset,
        int(rng.integers(1, 12)),
        shuffle=bool(rng.integers(2)),
    )


# Of the dtype of X. That of a stream is not fitted.
CONTAINERS = {
    "array": lambda X, rng: X,
    "masked": masked,
    "tensor": random_tensor,
    "frame": lambda X, rng: pd.DataFrame(X),
    "sparse frame": lambda X, rng: pd.DataFrame(X).astype(
        pd.SparseDtype(X.dtype, rng.choice([0.0, np.nan]))
    ),
    "file": lambda X, rng: File(X, len(X)),
    "masked file": lambda X, rng: File(masked(X, rng), len(X)),
    "dataset": lambda X, rng: Listed([(row, None) for row in X]),
    "masked items": lambda X, rng: Listed(list(masked(X, rng))),
    "loader": lambda X, rng: random_loader(Pairs(X), rng),
    "loader of masked items": lambda X, rng: random_loader(
        Listed(list(masked(X, rng))), rng
    ),
    "loader of tensors": lambda X, rng: random_loader(
        TensorDataset(random_tensor(X, rng).detach()), rng
    ),
    "stream": lambda X, rng: Stream(list(X)),
    "stream of masked items": lambda X, rng: DataLoader(
        Stream(list(masked(X, rng))), int(rng.integers(1, 12))
    ),
}

# float64, whatever they hold.
WIDE = {
    "other byte order": lambda X, rng: X.astype(X.dtype.newbyteorder()),
    "list": lambda X, rng: X.tolist(),
    "list of rows": lambda X, rng: list(X),
    "list of masked rows": lambda X, rng: list(masked(X, rng)),
    "list of tensors": lambda X, rng: list(random_tensor(X, rng)),
    "objects": lambda X, rng: X.astype(object),
    "long": lambda X, rng: X.astype(np.longdouble),
    "nullable": lambda X, rng: pd.DataFrame(X).astype("Float64"),
}


# Of fits to few and random rows.
@pytest.mark.filterwarnings("ignore:Clusters|Every code|The loss was")
def test_containers_make_no_difference(attempt):
    def same(rng):
        X = random_data(rng)
        kinds = CONTAINERS | WIDE
        kind = rng.choice(list(kinds))
        view = VIEWS[rng.integers(len(VIEWS))]
        given = kinds[kind](view(X, rng), rng)
        if kind in WIDE:
            X = X.astype(np.float64)
        expected = small(rng)
        mixmate = MixMateClustering(**expected.get_params())
        expected.fit(X)
        if "stream" in kind:
            mixmate = expected
        else:
            np.testing.assert_array_equal(mixmate.fit_predict(given), expected.labels_)
            for name in ("dictionaries_", "intercepts_", "scale_", "loss_"):
                np.testing.assert_array_equal(
                    getattr(mixmate, name), getattr(expected, name), err_msg=kind
                )
        for method in rng.choice(METHODS, size=3, replace=False):
            answer = getattr(mixmate, method)(given)
            assert isinstance(answer, torch.Tensor) == (kind == "tensor")
            np.testing.assert_array_equal(
                answer, getattr(expected, method)(X), err_msg=f"{method} of {kind}"
            )
        assert mixmate.bic(given) == pytest.approx(expected.bic(X), rel=1e-5)

    attempt(same, cost=2)


# --- mistakes ------------------------------------------------------------------------


def with_infinity(X, rng):
    X = X.copy()
    X[rng.integers(len(X)), rng.integers(X.shape[1])] = rng.choice([np.inf, -np.inf])
    return X


MISTAKES = {
    "complex": (lambda X, rng: X * 1j, ValueError, "Complex data not supported"),
    "dates": (
        lambda X, rng: np.full(X.shape, rng.choice(["2020", "NaT"]), "M8[D]"),
        ValueError,
        "numeric",
    ),
    "text": (
        lambda X, rng: np.full(X.shape, "text"),
        ValueError,
        "has columns that are not numeric",
    ),
    "infinity": (with_infinity, ValueError, "X contains infinity"),
}

# Containers that hold anything.
HOLD_ALL = {
    "array": lambda X: X,
    "list": list,
    "masked": np.ma.array,
    "frame": pd.DataFrame,
    "file": lambda X: File(X, len(X)),
    "dataset": Pairs,
    "loader": lambda X: DataLoader(Listed(list(X)), 5),
    "stream": lambda X: Stream(list(X)),
    "loader of a stream": lambda X: DataLoader(Stream(list(X)), 5),
}


def test_mistakes_are_named_in_any_container(attempt):
    mixmates = {}

    def refused(rng):
        X = np.nan_to_num(random_data(rng))
        make, error, message = MISTAKES[rng.choice(list(MISTAKES))]
        kind = rng.choice(list(HOLD_ALL))
        given = HOLD_ALL[kind](make(X, rng))
        n_features = X.shape[1]
        if n_features not in mixmates:
            rows = rng.normal(size=(20, n_features))
            mixmates[n_features] = small(rng).fit(rows)
        method = rng.choice(METHODS)
        with pytest.raises(error, match=message):
            getattr(mixmates[n_features], method)(given)
        if "stream" not in kind:
            with pytest.raises(error, match=message):
                small(rng).fit(given)

    attempt(refused)


def test_sparse_tensors_and_items_are_named_in_any_container(attempt):
    def refused(rng):
        X = np.nan_to_num(random_data(rng))
        rows = [sparse.csr_array(row[None]) for row in X]
        tensors = [torch.from_numpy(row).to_sparse() for row in X]
        given = [
            torch.from_numpy(X).to_sparse(),
            rows,
            tensors,
            Listed(rows),
            Listed(tensors),
            DataLoader(Listed(rows), 3),
            DataLoader(Listed(tensors), 3),
            DataLoader(Listed(rows), 3, collate_fn=sparse_batch),
        ][rng.integers(8)]
        with pytest.raises(TypeError, match="Sparse data was passed for X"):
            small(rng).fit(given)

    attempt(refused)


def sparse_batch(items):
    return sparse.vstack(items).tocsr()
