import os
import sys

import numpy as np
import pandas as pd
import pytest

from skmixmate._tables import check_table_destination, read_table, write_table

TABLE = np.array([[1.0, 2.5, -3e-7], [np.nan, 0.0, 4.0]])


def written(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_text(text, encoding=encoding)
    return str(path)


# --- reading -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5,-3e-7\n,0,4\n",
        "a,b,c\n1,2.5,-3e-7\n,0,4",
        '"a, of 1",b,\n1,2.5,-3e-7\nnan,0,4\n',
        '1, 2.5 ,-3e-7\r\n"",0,"4"\r\n\r\n',
        "1,2.5,-3e-7\n  ,0,4\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_with_or_without_header(text, encoding, tmp_path):
    np.testing.assert_array_equal(
        read_table(written(tmp_path, text, encoding=encoding)), TABLE
    )


def test_csv_that_pandas_wrote(tmp_path):
    path = str(tmp_path / "table.csv")
    pd.DataFrame(TABLE, columns=["a", "b", "c"]).to_csv(path, index=False)
    np.testing.assert_array_equal(read_table(path), TABLE)


def test_csv_with_an_empty_first_row(tmp_path):
    X = read_table(written(tmp_path, ",\n1,2\n"))
    np.testing.assert_array_equal(X, [[np.nan, np.nan], [1, 2]])


def test_npy_is_mapped(tmp_path):
    path = str(tmp_path / "table.npy")
    np.save(path, TABLE.astype(np.float32))
    X = read_table(path)
    assert isinstance(X, np.memmap)
    np.testing.assert_array_equal(X, TABLE.astype(np.float32))


def test_npz(tmp_path):
    path = str(tmp_path / "table.npz")
    np.savez(path, X=TABLE)
    np.testing.assert_array_equal(read_table(path), TABLE)
    np.savez(path, X=TABLE, y=[1, 2])
    np.testing.assert_array_equal(read_table(path, key="X"), TABLE)
    with pytest.raises(ValueError, match=r"table\.npz holds the arrays \['X', 'y'\]"):
        read_table(path)
    with pytest.raises(ValueError, match=r"key='Z' should be one"):
        read_table(path, key="Z")


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    path = str(tmp_path / "table.parquet")
    frame = pd.DataFrame(TABLE, columns=["a", "b", "c"])
    frame.to_parquet(path)
    np.testing.assert_array_equal(read_table(path), TABLE)
    frame.astype(np.float32).to_parquet(path)
    assert read_table(path).dtype == np.float32
    frame.assign(a=pd.array([1, None], dtype="Int64")).to_parquet(path)
    np.testing.assert_array_equal(read_table(path), TABLE)
    frame.assign(kind=["x", "y"]).to_parquet(path)
    with pytest.raises(ValueError, match=r"not numeric: kind, of dtype str"):
        read_table(path)


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_parquet_needs_packages(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install skmixmate\[parquet\]"):
        read_table(written(tmp_path, "", "table.parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,much\n", r"not numeric: b, with 'much' in line 3"),
        ("1,2\n3,much\n", r"not numeric: 2, with 'much' in line 2"),
        ("5.1,setosa\n4.9,setosa\n", r"not numeric: 2, with 'setosa' in line 1"),
        ("1,2\n3\n", r"has 1 fields in line 2, and 2 in the first"),
        ("1,2\n3,4,5\n", r"has 3 fields in line 2"),
        ('1,2\n3,"4\n', r"is no \.csv file: unexpected end of data"),
        ("1," + 200_000 * "2", r"is no \.csv file: field larger than"),
    ],
)
def test_csv_that_is_no_table(text, message, tmp_path):
    with pytest.raises(ValueError, match=r"table\.csv .*" + message):
        read_table(written(tmp_path, text))


def test_files_that_are_no_table(tmp_path):
    for name in ("table.npy", "table.npz"):
        with pytest.raises(ValueError, match=rf"{name} is no ar.* of "):
            read_table(written(tmp_path, "1,2", name))
    with pytest.raises(ValueError, match=r"table\.csv is no \.csv file: 'utf-8'"):
        read_table(written(tmp_path, "é", encoding="latin-1"))
    path = str(tmp_path / "table.npy")
    np.save(path, TABLE.astype(str))
    with pytest.raises(ValueError, match=r"not numeric, but of dtype <U"):
        read_table(path)
    np.save(path, TABLE[None])
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\); should be \(n_samples"):
        read_table(path)
    with pytest.raises(ValueError, match=r"key='X' is for \.npz files"):
        read_table(path, key="X")
    with pytest.raises(ValueError, match=r"table\.txt should end in one of \.npy"):
        read_table("table.txt")
    with pytest.raises(FileNotFoundError):
        read_table("nothing.csv")


# --- writing -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_what_is_written_is_read_again(suffix, tmp_path):
    path = str(tmp_path / f"table{suffix}")
    write_table(path, TABLE, ["a", "b", "c"])
    np.testing.assert_allclose(read_table(path), TABLE)
    assert os.listdir(tmp_path) == [f"table{suffix}"]


def test_labels_as_csv(tmp_path):
    path = tmp_path / "labels.csv"
    write_table(str(path), np.array([2, 0]), ["cluster"])
    assert path.read_text() == "cluster\n2\n0\n"


def test_destinations(tmp_path):
    check_table_destination(str(tmp_path / "labels.csv"))
    with pytest.raises(ValueError, match=r"labels\.txt should end in \.npy or \.csv"):
        check_table_destination("labels.txt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_table_destination(str(tmp_path / "nowhere" / "labels.npy"))
