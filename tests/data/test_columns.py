"""Columns that are not numeric are named, with what to do about them."""

import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skmixmate import EnsembleClustering
from skmixmate.data.columns import check_columns

from ..helpers import small

N = 30
NUMBERS = np.random.default_rng(0).normal(size=N)
COLORS = np.where(NUMBERS > 0, "red", "blue")
DAYS = [datetime.date(2020, 1, 1 + i) for i in range(N)]

CATEGORIES = {
    "object": COLORS.astype(object),
    "str": pd.array(COLORS, dtype="str"),
    "string": pd.array(COLORS, dtype="string"),
    "category": pd.Categorical(COLORS),
    "interval": pd.cut(NUMBERS, 3),
    "with missing entries": pd.Series([None, pd.NA, np.nan, *COLORS[3:]], dtype=object),
}
DATES = {
    "datetime64": pd.date_range("2020", periods=N),
    "with a time zone": pd.date_range("2020", periods=N, tz="UTC"),
    "timedelta64": pd.to_timedelta(np.arange(N), "D"),
    "period": pd.period_range("2020", periods=N, freq="M"),
    "dates as objects": pd.Series(DAYS, dtype=object),
    "timestamps as objects": pd.Series(map(pd.Timestamp, DAYS), dtype=object),
    "times": pd.Series([datetime.time(i % 24) for i in range(N)], dtype=object),
    "text": list(map(str, DAYS)),
    "missing dates": pd.Series([pd.NaT] * N),
}
NUMERIC = {
    "float": NUMBERS,
    "bool": NUMBERS > 0,
    "Int64": pd.array([None, *(np.arange(N - 1) % 3)], dtype="Int64"),
    "Float64": pd.array([None, *NUMBERS[1:]], dtype="Float64"),
    "boolean": pd.array([None, *(NUMBERS[1:] > 0)], dtype="boolean"),
    "objects": pd.Series([None, *NUMBERS[1:]], dtype=object),
    "bools as objects": pd.Series(list(NUMBERS > 0), dtype=object),
    "text": pd.Series(list(map(str, NUMBERS)), dtype=object),
    "string": pd.array(list(map(str, NUMBERS)), dtype="string"),
    "categories that are numbers": pd.Categorical(np.arange(N) % 3),
}


@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories_are_named(kind):
    X = pd.DataFrame({"size": NUMBERS, "color": CATEGORIES[kind]})
    with pytest.raises(
        ValueError,
        match=r"X has columns that are not numeric: 'color' \(categories or text, such "
        r"as .*OneHotEncoder, in a ColumnTransformer",
    ):
        small().fit(X)


@pytest.mark.parametrize("kind", DATES)
def test_dates_are_named(kind):
    X = pd.DataFrame({"size": NUMBERS, "day": DATES[kind]})
    with pytest.raises(
        ValueError, match=r"'day' \(dates or durations, such as .*days since a first"
    ):
        small().fit(X)


@pytest.mark.parametrize("kind", NUMERIC)
def test_numbers_of_any_dtype_are_accepted(kind):
    X = pd.DataFrame({"size": NUMBERS, "other": NUMERIC[kind]})
    mixmate = small(n_clusters=2).fit(X)
    assert mixmate.feature_names_in_.tolist() == ["size", "other"]


def test_text_that_marks_missing_numbers_is_named():
    X = pd.DataFrame({"size": NUMBERS, "age": ["?", *map(str, range(N - 1))]})
    with pytest.raises(
        ValueError, match=r"'age' \(numbers and text, such as '\?'\).*by NaN"
    ):
        small().fit(X)


def test_all_columns_are_named_with_their_remedies():
    X = pd.DataFrame({"size": NUMBERS, "color": COLORS, "day": DAYS})
    with pytest.raises(ValueError, match=r"'color' .*, 'day' .*\. Encode .*\. Convert"):
        small().fit(X)


def test_of_many_columns_some_are_named():
    X = pd.DataFrame({f"color {i}": COLORS for i in range(9)})
    with pytest.raises(ValueError, match=r"'color 4' \([^)]*\), and 4 more\. Encode"):
        check_columns(X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([["1", "red"], ["2", "blue"]]), r"numeric: 1 \(categories"),
        (np.array([[b"1", b"red"], [b"2", b"blue"]]), r"numeric: 1 \(categories"),
        (np.array([[1.0, "red"], [2.0, "blue"]], dtype=object), r"1 \(categories"),
        (np.array([[1.0, DAYS[0]], [2.0, DAYS[1]]], dtype=object), r"1 \(dates"),
        (np.zeros((2, 2), "M8[D]"), r"0 \(dates or durations, such as 1970-01-01\)"),
        (np.zeros((2, 2), "m8[s]"), r"0 \(dates"),
        ([[1.0, "red"], [2.0, "blue"]], r"1 \(categories"),
        (([1.0, "red"], [2.0, "blue"]), r"1 \(categories"),
        ([[1.0, DAYS[0]], [2.0, DAYS[1]]], r"1 \(dates"),
        ([[np.datetime64("2020")], [np.datetime64("2021")]], r"0 \(dates"),
    ],
)
def test_columns_of_arrays_and_lists_have_numbers(rows, message):
    with pytest.raises(ValueError, match=message):
        small(n_clusters=2).fit(rows)


@pytest.mark.parametrize(
    "rows", [np.array([["1", "2.5"], ["2", "3"]]), [[1.0, "1"], [2.0, "2"]]]
)
def test_text_that_is_a_number_is_converted(rows):
    check_columns(rows)
    small(n_clusters=2, n_atoms=1).fit(rows)


def test_predict_and_other_estimators_say_the_same():
    numeric = pd.DataFrame({"size": NUMBERS, "color": NUMBERS})
    X = numeric.assign(color=COLORS)
    with pytest.raises(ValueError, match=r"'color' \(categories"):
        small(n_clusters=2).fit(numeric).predict(X)
    with pytest.raises(ValueError, match=r"'color' \(categories"):
        EnsembleClustering(2).fit(X)


def test_tables_of_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    check_columns(pyarrow.table({"size": NUMBERS}))
    with pytest.raises(ValueError, match=r"'day' \(dates"):
        check_columns(pyarrow.table({"size": NUMBERS, "day": DAYS}))


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    X = polars.DataFrame({"size": NUMBERS, "color": list(COLORS), "day": DAYS})
    with pytest.raises(ValueError, match=r"'color' \(cat.*'day' \(dates"):
        small().fit(X)
    small(n_clusters=2).fit(X.select("size", other="size"))


def test_the_remedy_works():
    X = pd.DataFrame({"size": NUMBERS, "color": COLORS, "day": DAYS})
    X["day"] = (pd.to_datetime(X["day"]) - pd.Timestamp("2020")).dt.days
    encoder = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["size", "day"]),
            ("categories", OneHotEncoder(sparse_output=False), ["color"]),
        ]
    )
    labels = make_pipeline(encoder, small(n_clusters=2)).fit_predict(X)
    assert labels.shape == (N,)
