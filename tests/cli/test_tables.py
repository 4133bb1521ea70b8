import io
import os
import resource
import struct
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from skmixmate.cli import _tables
from skmixmate.cli._csv import has_numeric_header


def read_table(path, key=None, header="auto"):
    """Return the numbers of a table."""
    return _tables.read_table(path, key=key, header=header).numbers


TABLE = np.array([[1.0, 2.5, -3e-7], [np.nan, 0.0, 4.0]])


def write_text(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_text(text, encoding=encoding)
    return str(path)


def write_bytes(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    return str(path)


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version)
    return file.getvalue()


def npz(method=zipfile.ZIP_STORED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return file.getvalue()


def deflated_zeros(n_rows, n_more=0):
    """Return an archive of zeros: a table of 32 bytes per row, then `n_more` bytes."""
    file = io.BytesIO()
    header = npy(np.zeros((1, 4)))[:-32].replace(b"(1, 4)", b"(%d, 4)" % n_rows)
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("X.npy", "w", force_zip64=True) as member,
    ):
        member.write(header)
        for _ in range(32 * n_rows + n_more >> 22):
            member.write(bytes(2**22))
    return file.getvalue()


class MemoryGrowth:
    """Growth of the peak memory of this process in MiB."""

    def __enter__(self):
        self.start = self._peak()
        return self

    def __exit__(self, *_):
        self.mebibytes = self._peak() - self.start

    def _peak(self):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
        read_table(write_text(tmp_path, text, encoding=encoding)), TABLE
    )


def test_csv_that_pandas_wrote(tmp_path):
    path = str(tmp_path / "table.csv")
    pd.DataFrame(TABLE, columns=["a", "b", "c"]).to_csv(path, index=False)
    np.testing.assert_array_equal(read_table(path), TABLE)


def test_csv_with_an_empty_first_row(tmp_path):
    X = read_table(write_text(tmp_path, ",\n1,2\n"))
    np.testing.assert_array_equal(X, [[np.nan, np.nan], [1, 2]])


@pytest.mark.parametrize(
    ("text", "header", "first"),
    [
        ("0,1\n2,3\n", "auto", [0, 1]),
        ("0,1\n2,3\n", "no", [0, 1]),
        ("0,1\n2,3\n", "yes", [2, 3]),
        ("a,1\n2,3\n", "yes", [2, 3]),
        ("2019_01,2019_02\n2,3\n", "auto", [2, 3]),
        ("\u0661,\u0662\n2,3\n", "auto", [2, 3]),
        ("\n\na,b\n\n2,3\n", "auto", [2, 3]),
        ("a,b\r2,3\r", "auto", [2, 3]),
        ("\x1b[31ma,b\0\n2,3\n", "auto", [2, 3]),
    ],
)
def test_the_header_of_csv(text, header, first, tmp_path):
    path = write_bytes(tmp_path, text.encode(), "table.csv")
    np.testing.assert_array_equal(read_table(path, header=header)[0], first)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0,1,2,3", True),
        ("1,2,3", True),
        ("2019,2020,2021", True),
        ("1990,2000,2010", True),
        ("0", True),
        ('"0","1"', True),
        ("5", False),
        ("5,7,9", False),
        ("2,1,0", False),
        ("0,1.0,2", False),
        ("0,,2", False),
        ("a,b", False),
        ("0," + 5000 * "1", False),
    ],
)
def test_a_header_of_numbers_is_recognised(line, expected, tmp_path):
    path = write_text(tmp_path, f"{line}\n5,3,1,7\n")
    assert has_numeric_header(path) is expected


def test_the_header_of_pandas_without_names_is_recognised(tmp_path):
    path = str(tmp_path / "table.csv")
    pd.DataFrame(TABLE).to_csv(path, index=False)
    assert has_numeric_header(path)
    np.testing.assert_array_equal(read_table(path, header="yes"), TABLE)


@pytest.mark.parametrize("field", ["1_0", "\u0663", '"1_\n0"', '"1\n\u0663"'])
@pytest.mark.parametrize("header", ["a_1,b\n", "", "\u00e9,b\n"])
def test_numbers_that_only_python_reads_are_rejected_anywhere(field, header, tmp_path):
    rows = 80_000 * "1.25,3.5\n"
    for offset in (0, 40_000 * 9, 2**18 - 9, 2**18 - 4, len(rows) - 9):
        start = offset // 9 * 9
        text = f"{header}{rows[:start]}{field},2\n{rows[start:]}"
        with pytest.raises(ValueError, match=r"table\.csv .* not numeric"):
            read_table(write_text(tmp_path, text))


def test_csv_with_long_rows(tmp_path):
    path = write_text(tmp_path, ",".join(300_000 * ["0.1234"]) + "\n")
    assert read_table(path).shape == (1, 300_000)


def test_npy_is_memory_mapped(tmp_path):
    path = str(tmp_path / "table.npy")
    np.save(path, TABLE.astype(np.float32))
    X = read_table(path)
    assert isinstance(X, np.memmap)
    np.testing.assert_array_equal(X, TABLE.astype(np.float32))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "X",
    [
        TABLE,
        TABLE.astype(">f4"),
        np.asfortranarray(TABLE),
        TABLE.astype(np.float16),
        TABLE.astype(np.longdouble),
        TABLE > 0,
        np.array([[1, 2], [3, 4]], dtype=np.uint8),
    ],
)
def test_all_numeric_arrays_of_numpy_are_read(X, version, tmp_path):
    content = npy(X, version)
    archive = npz(zipfile.ZIP_DEFLATED, X_npy=content)
    for path in (
        write_bytes(tmp_path, content, "table.npy"),
        write_bytes(tmp_path, archive, "table.npz"),
    ):
        table = read_table(path)
        assert table.dtype == X.dtype
        np.testing.assert_array_equal(table, X)


def test_npz_with_one_or_several_arrays(tmp_path):
    path = str(tmp_path / "table.npz")
    np.savez(path, X=TABLE)
    np.testing.assert_array_equal(read_table(path), TABLE)
    np.savez(path, X=TABLE, y=[1, 2])
    np.testing.assert_array_equal(read_table(path, key="X"), TABLE)
    with pytest.raises(
        ValueError,
        match=r"table\.npz holds several arrays; choose one with --key: X, y\.",
    ):
        read_table(path)
    with pytest.raises(
        ValueError, match=r"holds no array 'Z'; choose one with --key: X, y\."
    ):
        read_table(path, key="Z")


def test_parquet_with_numeric_columns(tmp_path):
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
    with pytest.raises(ValueError, match=r"kind, of dtype str\. Use --categorical"):
        read_table(path)


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_parquet_needs_packages(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install skmixmate\[parquet\]"):
        read_table(write_text(tmp_path, "", "table.parquet"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,much\n", r"b, with 'much', in line 3\. Use --missing 'much' if"),
        ("1,2\n3,much\n", r"not numeric: 2, with 'much', in line 2"),
        (
            "5.1,setosa\n4.9,setosa\n",
            r"with 'setosa', in line 1\. Use --categorical",
        ),
        (
            "1,2020-01-31\n",
            r"with '2020-01-31', in line 1\. Use numbers in",
        ),
        ("1,2\n3\n", r"has 1 fields in line 2, but 2 in the first"),
        ("1,2\n3,4,5\n", r"has 3 fields in line 2"),
        ('1,2\n3,"4\n', r"is not a \.csv file: unexpected end of data"),
        ("1," + 200_000 * "2", r"is not a \.csv file: field larger than"),
    ],
)
def test_csv_without_a_table_is_rejected(text, message, tmp_path):
    with pytest.raises(ValueError, match=r"table\.csv .*" + message):
        read_table(write_text(tmp_path, text))


def test_files_without_a_table_are_rejected(tmp_path):
    for name in ("table.npy", "table.npz"):
        with pytest.raises(
            ValueError, match=rf"{name} is not an? (numeric array|archive of arrays): "
        ):
            read_table(write_text(tmp_path, "1,2", name))
    with pytest.raises(ValueError, match=r"table\.csv is not a \.csv file: 'utf-8'"):
        read_table(write_text(tmp_path, "é", encoding="latin-1"))
    path = str(tmp_path / "table.npy")
    np.save(path, TABLE.astype(str))
    with pytest.raises(ValueError, match=r"array: it has dtype <U32\. Encode categ"):
        read_table(path)
    np.save(path, TABLE[None])
    with pytest.raises(
        ValueError, match=r"shape \(1, 2, 3\), which should be \(n_samples"
    ):
        read_table(path)
    with pytest.raises(ValueError, match=r"--key X is for \.npz files only"):
        read_table(path, key="X")
    with pytest.raises(
        ValueError,
        match=r"table\.txt should end in one of \.csv",
    ):
        read_table("table.txt")
    with pytest.raises(FileNotFoundError):
        read_table("nothing.csv")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("()", r"holds an array of shape \(\), which should be \(n_samples"),
        ("(6,)", r"holds an array of shape \(6,\), which should be"),
        (
            "(0, 3)",
            r"shape \(0, 3\), which should have at least one row and one column",
        ),
        ("(0, 9223372036854775807)", "should have at least one row"),
        ("(2, -3)", r"is not a numeric array: its shape is \(2, -3\)"),
        (
            "(3, 3)",
            r"has 176 bytes, but should have 200 for an array of shape \(3, 3\)",
        ),
        ("(9223372036854775807, 3)", "may be truncated"),
        ("(2, 3", "is not a numeric array: "),
        ("[2, 3]", "is not a numeric array: shape is not valid"),
        (90 * "(", "is not a numeric array: "),
        (5000 * "-" + "1", "is not a numeric array: "),
        ("'\0\x1b'", "is not a numeric array: "),
    ],
)
def test_invalid_shapes_of_npy_are_rejected(shape, message, tmp_path):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    text += (-len(text) - 11) % 64 * " " + "\n"
    header = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    path = write_bytes(tmp_path, header + TABLE.tobytes(), "table.npy")
    with pytest.raises(ValueError, match=rf"table\.npy.* {message}"):
        read_table(path)
    archive = npz(X_npy=header + TABLE.tobytes())
    with pytest.raises(ValueError, match=r"table\.npz.* "):
        read_table(write_bytes(tmp_path, archive, "table.npz"))


@pytest.mark.parametrize(
    "descr",
    [
        "()",
        "'|O'",
        "'<c16'",
        "'<M8[s]'",
        "'|V8'",
        "'<U2'",
        "('<f8', (2,))",
        "[('a', 1)]",
    ],
)
def test_other_dtypes_of_npy_are_rejected(descr, tmp_path):
    content = npy(TABLE).replace(b"'<f8'", descr.encode())
    content = content[:8] + struct.pack("<H", content.index(b"\n") - 9) + content[10:]
    with pytest.raises(ValueError, match=r"table\.npy is not"):
        read_table(write_bytes(tmp_path, content, "table.npy"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("offset", [60, 500, -6])
def test_damaged_npz_is_rejected(method, offset, tmp_path):
    rng = np.random.default_rng(0)
    content = bytearray(npz(method, X_npy=npy(rng.normal(size=(60, 4)))))
    content[offset] ^= 255
    with pytest.raises(ValueError, match=r"table\.npz is not an archive of arrays: "):
        read_table(write_bytes(tmp_path, bytes(content), "table.npz"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_methods_are_rejected(method, tmp_path):
    path = write_bytes(tmp_path, npz(method, X_npy=npy(TABLE)), "table.npz")
    message = rf"'X\.npy' with compression method {method}, which should be 0 \(stored"
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_encrypted_npz_is_rejected(tmp_path):
    content = npz(X_npy=npy(TABLE))
    entry = content.rindex(b"PK\1\2")
    for offset, message in ((8, "encrypted"), (10, "compression method 1,")):
        damaged = bytearray(content)
        damaged[entry + offset] |= 1
        with pytest.raises(ValueError, match=rf"table\.npz.*{message}"):
            read_table(write_bytes(tmp_path, bytes(damaged), "table.npz"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.npy", npz(X_npy=npy(TABLE))),
        ("table.npy", b""),
        ("table.npy", b"PK\3\4aaaa"),
        ("table.npz", npy(TABLE)),
        ("table.npz", b""),
        ("table.npz", npz(readme_txt=b"hello")),
        ("table.npz", npz()),
        ("table.npz", b"1,2\n"),
        ("table.csv", npy(TABLE)),
        ("table.csv", "1,2\n".encode("utf-16")),
        ("table.csv", b""),
        ("table.csv", b"a,b\n"),
        ("table.csv", b"\n\n"),
        ("table.csv", 1000 * b"\0"),
        ("table.csv", b"1,2\n\0,3\n"),
        ("table.csv", b"1,2\n1_000,3\n"),
        ("table.csv", "1,2\n\u0663,3\n".encode()),
        ("table.csv", "1,2\n\u00a05,3\n".encode()),
        ("table.parquet", b""),
        ("table.parquet", npy(TABLE)),
        ("table.parquet", b"PAR1" + 100 * b"\xff" + b"\x60\0\0\0PAR1"),
    ],
)
def test_files_of_other_formats_are_rejected(name, content, tmp_path):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=name):
        read_table(write_bytes(tmp_path, content, name))


def test_damaged_parquet_is_rejected(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    values = np.random.default_rng(0).normal(size=200)
    pd.DataFrame({"a": values}).to_parquet(path)
    content = path.read_bytes()
    for offset in (5, len(content) - 30):
        damaged = content[:offset] + 20 * b"\xff" + content[offset + 20 :]
        with pytest.raises(
            ValueError, match=r"table\.parquet is not a Parquet table: "
        ):
            read_table(write_bytes(tmp_path, damaged, "table.parquet"))


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["x", "y"]),
        pd.date_range("2000", periods=2),
        [[1.0], [2.0]],
        [{"a": 1.0}, {"a": 2.0}],
        [None, None],
    ],
)
def test_columns_of_parquet_that_are_not_numeric_are_rejected(column, tmp_path):
    pytest.importorskip("pyarrow")
    path = str(tmp_path / "table.parquet")
    pd.DataFrame({"a": [1.0, 2.0], "b": column}).to_parquet(path)
    with pytest.raises(ValueError, match=r"table\.parquet .* not numeric: b, of dtype"):
        read_table(path)


# --- files that would exhaust memory or time -----------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        30_000_000 * ",",
        10_000_000 * "12,",
        30_000_000 * "a",
        5_000_000 * '"\n",',
    ],
)
def test_csv_with_an_endless_line_is_rejected(text, tmp_path):
    path = write_text(tmp_path, text)
    message = r"table\.csv is not .* has more than 4194304 characters"
    with MemoryGrowth() as growth, pytest.raises(ValueError, match=message):
        read_table(path)
    assert growth.mebibytes < 100


@pytest.mark.slow
def test_a_small_archive_of_a_huge_table_is_rejected(tmp_path):
    path = write_bytes(tmp_path, deflated_zeros(n_rows=2**23), "table.npz")
    message = r"table\.npz has \d+ bytes, but the table in it 268435584"
    with MemoryGrowth() as growth, pytest.raises(ValueError, match=message):
        read_table(path)
    assert growth.mebibytes < 50


def test_bytes_after_the_table_are_not_read(tmp_path):
    content = bytearray(deflated_zeros(n_rows=2**17, n_more=2**28))
    with MemoryGrowth() as growth:
        X = read_table(write_bytes(tmp_path, bytes(content), "table.npz"))
    assert X.shape == (2**17, 4)
    assert growth.mebibytes < 50
    # The same, but the directory has the size of the table.
    entry = content.rindex(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", X.nbytes + 128)
    with MemoryGrowth() as growth, pytest.raises(ValueError, match="Bad CRC-32"):
        read_table(write_bytes(tmp_path, bytes(content), "table.npz"))
    assert growth.mebibytes < 50


def test_an_archive_of_a_million_members_is_rejected(tmp_path):
    content = bytearray(npz(X_npy=npy(TABLE)))
    entry = content.index(b"PK\1\2")
    end = content.index(b"PK\5\6")
    entries = 50_000 * content[entry:end]
    content[end + 12 : end + 16] = struct.pack("<I", len(entries))
    content[entry:end] = entries
    with pytest.raises(ValueError, match=r"table\.npz .* its directory has"):
        read_table(write_bytes(tmp_path, bytes(content), "table.npz"))


def test_a_header_of_excessive_length_is_not_read(tmp_path):
    header = b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1)
    path = write_bytes(tmp_path, header + bytes(2**26), "table.npy")
    with (
        MemoryGrowth() as growth,
        pytest.raises(ValueError, match="reading array header"),
    ):
        read_table(path)
    assert growth.mebibytes < 50


def test_a_small_parquet_of_a_huge_table_is_rejected(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = str(tmp_path / "table.parquet")
    zeros = pyarrow.table({name: np.zeros(2**23) for name in "abcd"})
    parquet.write_table(zeros, path)
    del zeros
    with pytest.raises(
        ValueError, match=r"has \d+ bytes, but the table in it 268435456"
    ):
        read_table(path)


def test_sources_must_be_regular_files(tmp_path):
    pipe, folder, device = (str(tmp_path / f"{name}.csv") for name in "pfd")
    os.mkfifo(pipe)
    os.mkdir(folder)
    os.symlink("/dev/zero", device)
    for path in (pipe, folder, device):
        with pytest.raises(ValueError, match=rf"{path} is not a regular file"):
            read_table(path)
