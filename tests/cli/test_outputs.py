import os

import numpy as np
import pytest

from skmixmate.cli._outputs import check_distinct, check_table_destination, write_table
from skmixmate.cli._tables import read_table

TABLE = np.array([[1.0, 2.5, -3e-7], [np.nan, 0.0, 4.0]])


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_written_tables_can_be_read(suffix, tmp_path):
    path = str(tmp_path / f"table{suffix}")
    write_table(path, TABLE, ["a", "b", "c"])
    np.testing.assert_allclose(read_table(path).numbers, TABLE)
    assert os.listdir(tmp_path) == [f"table{suffix}"]


def test_labels_are_written_as_integers(tmp_path):
    path = tmp_path / "labels.csv"
    write_table(str(path), np.array([2, 0]), ["cluster"])
    assert path.read_text() == "cluster\n2\n0\n"


def test_destinations_that_cannot_be_written_raise(tmp_path):
    check_table_destination(str(tmp_path / "labels.csv"))
    with pytest.raises(ValueError, match=r"labels\.txt should end in \.npy or \.csv"):
        check_table_destination("labels.txt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_table_destination(str(tmp_path / "nowhere" / "labels.npy"))


def test_destinations_must_be_distinct_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.npy").touch()
    os.symlink("data.npy", "link.npy")
    os.link("data.npy", "other.npy")
    check_distinct({"-o": "model", "--labels": "labels.npy"}, {"the data": "data.npy"})
    for path in ("data.npy", str(tmp_path / "data.npy"), "link.npy", "other.npy"):
        message = rf"{path} is used for -o and for the data; choose"
        with pytest.raises(ValueError, match=message):
            check_distinct({"-o": path}, {"the data": "data.npy"})
    with pytest.raises(ValueError, match=r"new is used for --labels and for -o"):
        check_distinct({"-o": "./new", "--labels": "new"}, {"the data": "data.npy"})
