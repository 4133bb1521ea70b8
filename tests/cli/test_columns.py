"""Options about columns."""

import pytest

from skmixmate.cli._columns import parse_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age", ["age"]),
        ("age,income, home", ["age", "income", "home"]),
        ('"last, first",age', ["last, first", "age"]),
        ("", []),
    ],
)
def test_names_are_separated_by_commas(text, expected):
    assert parse_names(text) == expected
