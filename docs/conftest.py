"""Run the examples of the pages as tests, in a temporary folder."""

import shutil
from pathlib import Path

import pytest

PEOPLE = Path(__file__).parents[1] / "examples" / "people.csv"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(PEOPLE, tmp_path)
