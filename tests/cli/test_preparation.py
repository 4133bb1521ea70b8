"""Features computed from the columns of a table."""

import numpy as np
import pytest
from scipy import sparse

from skmixmate.cli._columns import Columns, Table
from skmixmate.cli._preparation import Preparation

NUMBERS = np.array([[1.0, 10.0], [3.0, np.nan], [5.0, 30.0]])
TABLE = Table(NUMBERS, ["a", "b"], {"home": ["rent", None, "own"]})


def test_numbers_are_standardised_and_categories_one_hot():
    preparation = Preparation.fit("people.csv", TABLE, standardize=True)
    X = preparation.transform("people.csv", TABLE)
    root = np.sqrt(1.5)
    expected = [
        [-root, -1, 0, 1],
        [0, np.nan, np.nan, np.nan],
        [root, 1, 1, 0],
    ]
    np.testing.assert_allclose(X, expected)
    assert preparation.feature_names == ["a", "b", "home=own", "home=rent"]


def test_other_rows_have_the_scales_and_categories_of_fit():
    preparation = Preparation.fit("people.csv", TABLE, standardize=True)
    other = Table(np.array([[3.0, 20.0]]), ["a", "b"], {"home": ["tent"]})
    X = preparation.transform("more.csv", other)
    np.testing.assert_allclose(X, [[0, 0, np.nan, np.nan]])


def test_a_table_without_options_is_left_as_it_is():
    table = Table(NUMBERS)
    preparation = Preparation.fit("table.npy", table, standardize=False)
    assert preparation.is_trivial
    assert preparation.feature_names is None
    assert preparation.transform("table.npy", table) is NUMBERS


def test_only_categories_need_no_scales():
    table = Table(np.empty((3, 0)), [], {"home": ["rent", "own", "own"]})
    preparation = Preparation.fit("people.csv", table, standardize=True)
    X = preparation.transform("people.csv", table)
    np.testing.assert_array_equal(X, [[0, 1], [1, 0], [1, 0]])


def test_a_model_reads_its_columns_by_name():
    preparation = Preparation.fit("people.csv", TABLE, standardize=False)
    columns = preparation.columns(Columns(index="id"))
    assert columns.include == ["a", "b", "home"]
    assert columns.categorical == ["home"]
    assert columns.index == "id"


def test_a_preparation_is_restored_from_its_values():
    preparation = Preparation.fit("people.csv", TABLE, standardize=True)
    restored = Preparation.from_dict(preparation.to_dict())
    assert restored == preparation


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a"]},
        {"names": [1, 2]},
        {"means": [0.0]},
        {"means": ["x", "y"]},
        {"means": None},
        {"scales": {}},
        {"categories": {"home": [1]}},
        {"categories": []},
        {"n_numbers": "2"},
        {"more": 1},
    ],
)
def test_values_that_no_preparation_has_are_rejected(change):
    values = Preparation.fit("people.csv", TABLE, standardize=True).to_dict()
    with pytest.raises(ValueError, match="invalid columns of a table"):
        Preparation.from_dict(values | change)


def test_invalid_tables_are_rejected():
    many = Table(np.zeros((200, 1)), ["a"], {"id": [str(i) for i in range(200)]})
    message = "200 different values in the column id, but --categorical is for 1 to 100"
    with pytest.raises(ValueError, match=message):
        Preparation.fit("people.csv", many, standardize=False)
    with pytest.raises(ValueError, match="sparse matrix, which --standardize"):
        Preparation.fit("X.mtx", Table(sparse.csr_array(np.eye(3))), standardize=True)
    preparation = Preparation.fit("X.npy", Table(NUMBERS), standardize=True)
    with pytest.raises(ValueError, match=r"3 columns of numbers, but the model .* 2"):
        preparation.transform("more.npy", Table(np.eye(3)))
