"""Tables of text with columns of names and categories, and other conventions."""

import numpy as np
import pytest

from skmixmate.cli._columns import Columns
from skmixmate.cli._csv import read_csv

PEOPLE = """\
id,income,home,age
p1,20000,rent,31
p2,,own,44
p3,35000,,27
"""


def read(tmp_path, text, columns=None, header="auto", name="people.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_csv(str(path), columns or Columns(), header)


def test_columns_of_names_and_categories(tmp_path):
    columns = Columns(index="id", categorical=["home"])
    table = read(tmp_path, PEOPLE, columns)
    assert table.names == ["income", "age"]
    expected = [[20000, 31], [np.nan, 44], [35000, 27]]
    np.testing.assert_array_equal(table.numbers, expected)
    assert table.categories == {"home": ["rent", "own", None]}
    assert table.index == ("id", ["p1", "p2", "p3"])


def test_only_columns_of_categories(tmp_path):
    columns = Columns(include=["home"], categorical=["home"])
    table = read(tmp_path, PEOPLE, columns)
    assert table.numbers.shape == (3, 0)
    assert table.n_columns == 1


def test_chosen_columns_are_in_the_order_of_the_option(tmp_path):
    table = read(tmp_path, PEOPLE, Columns(include=["age", "income"]))
    assert table.names == ["age", "income"]
    np.testing.assert_array_equal(table.numbers[0], [31, 20000])


def test_columns_without_a_header_have_numbers(tmp_path):
    table = read(tmp_path, "a,1,2\nb,3,4\n", Columns(index="1", drop=["3"]))
    np.testing.assert_array_equal(table.numbers, [[1], [3]])
    assert table.names is None
    assert table.index == ("1", ["a", "b"])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a;b\n1,5;-2\n,25;3e1\n", "t.csv"),
        ("a\tb\n1.5\t-2\n.25\t3e1\n", "t.csv"),
        ("a\tb\n1.5\t-2\n.25\t3e1\n", "t.tsv"),
        ('"a;x";b\n1.5;-2\n.25;30\n', "t.csv"),
    ],
)
def test_semicolons_tabs_and_decimal_commas(text, name, tmp_path):
    table = read(tmp_path, text, name=name)
    np.testing.assert_array_equal(table.numbers, [[1.5, -2], [0.25, 30]])


@pytest.mark.parametrize("text", ["NA", "n/a", "null", "nan", "", "#N/A"])
def test_texts_that_mark_missing_entries(text, tmp_path):
    table = read(tmp_path, f"a,b\n1,2\n{text},3\n4,5\n")
    np.testing.assert_array_equal(table.numbers, [[1, 2], [np.nan, 3], [4, 5]])


def test_other_texts_that_mark_missing_entries(tmp_path):
    text = "a,b\n1,x\n?,y\n-999,?\n"
    columns = Columns(categorical=["b"], missing=frozenset(["?", "-999"]))
    table = read(tmp_path, text, columns)
    np.testing.assert_array_equal(table.numbers, [[1], [np.nan], [np.nan]])
    assert table.categories["b"] == ["x", "y", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PEOPLE,
            r"columns that are not numeric: id, with 'p1'; home, with 'rent', in line "
            r"2\. Use --categorical NAME for categories, --index NAME .* --drop NAME",
        ),
        ("a,b\n1,2\n?,3\n", r"a, with '\?', in line 3\. Use --missing '\?' if this"),
        ("a,b\n2024-01-31,2\n", "numbers in place of dates"),
        ("a,b,2019\n1,2,3\n", "Use .* --header yes if this line has names"),
    ],
)
def test_text_in_columns_of_numbers_names_the_remedy(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_decimal_comma_needs_another_delimiter(tmp_path):
    with pytest.raises(ValueError, match=r"not numeric: a, with '1,5'"):
        read(tmp_path, 'a,b\n"1,5",2\n')


def test_unknown_columns_are_named(tmp_path):
    message = r"no column 'ages'\. Its columns are id, income, home, age"
    with pytest.raises(ValueError, match=message):
        read(tmp_path, PEOPLE, Columns(drop=["ages"]))
    with pytest.raises(ValueError, match=r"no header, and no column '3': .* 1 to 2"):
        read(tmp_path, "1,2\n", Columns(drop=["3"]))
    with pytest.raises(ValueError, match="no columns left"):
        read(tmp_path, "1,2\n", Columns(drop=["1", "2"]))
