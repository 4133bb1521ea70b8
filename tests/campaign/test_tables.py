"""Damaged tables: the command line prints one line for each."""

import contextlib
import io
import resource
import struct
import time
import zipfile

import numpy as np
import pandas as pd
import pytest

from skmixmate import MixMateClustering
from skmixmate.cli._main import main

X = np.random.default_rng(0).normal(size=(60, 4)).round(3)
X[3, 2] = np.nan

# The last two are always rejected.
METHODS = 4 * [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
METHODS += [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]

# Valid and invalid pieces of headers and fields.
NPY_TOKENS = [
    *["{", "}", "[", "'", ",", ":", "#", "-", "L", "\0", "\n", 90 * "(", 99 * "9"],
    *["4", "60", "240", "4294967296", "1e9", "True", "False", "None", "descr", "shape"],
    *["'<f8'", "'>f8'", "'<f2'", "'|O'", "'<c16'", "'<M8[s]'", "'|V8'", "'|S0'"],
    *["(60, 4)", "(4, 60)", "(60, -4)", "(240,)", "()", "(0, 4)", "(60, 9999999999)"],
    "[('a','<f8')]",
]
CSV_TOKENS = [
    *["1_0", "\u0663", "inf", "-Infinity", "nan", "NA", "1e999", "0x1", "1,5", "1;5"],
    *["a", "é", ",", '"', '""', '"\n', "\0", "\r", "\n", "\r\n", "\x1b[2J", "\ufeff"],
    *["\u2028", "\x85", " ", "\t", ",,,\n", "a,b,c,d\n", "0,1,2,3\n"],
    *[300 * ",", 5000 * "7"],
]


def npy(array, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def npz(members, method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def parquet(**options):
    file = io.BytesIO()
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["d"] = frame["d"].astype("float32")
    frame.to_parquet(file, **options)
    return file.getvalue()


def csv(**options):
    return pd.DataFrame(X).to_csv(index=False, **options).encode()


NPY = [npy(X), npy(X, (2, 0)), npy(np.asfortranarray(X)), npy((9 * X[:, :4]) > 0)]
NPZ = [npz({"X.npy": npy(X), "y.npy": npy(X[0])}, method) for method in METHODS]
NPZ += [npz({"X.npy": npy(X)}, method) for method in METHODS]
CSV = [csv(), csv(header=False), csv(header=list("abcd"))]
PARQUET = [
    parquet(),
    parquet(compression=None),
    parquet(compression="zstd", data_page_version="2.0"),
    parquet(compression="gzip", use_dictionary=False, row_group_size=20),
]


# --- damages -------------------------------------------------------------------------


def one_of(rng, choices):
    return choices[rng.integers(len(choices))]


def draw_offset(rng, data):
    """Draw an offset, more often near the start and the end."""
    n = len(data)
    last = min(n, int(rng.choice([n, 64, 256])))
    i = int(rng.integers(last + 1))
    return i if rng.random() < 0.5 else n - i


def span(rng, data):
    start = draw_offset(rng, data)
    return slice(start, start + int(rng.choice([1, 2, 4, 8, 100])))


def flip(rng, data):
    for _ in range(rng.integers(1, 4)):
        if data:
            data[min(draw_offset(rng, data), len(data) - 1)] ^= 1 << int(
                rng.integers(8)
            )


def truncate(rng, data):
    del data[draw_offset(rng, data) :]


def cut_out(rng, data):
    del data[span(rng, data)]


def double(rng, data):
    where = span(rng, data)
    data[where] = 2 * data[where]


def overwrite(rng, data):
    where = span(rng, data)
    n = len(data[where])
    data[where] = one_of(rng, [bytes(n), n * b"\xff", rng.bytes(n)])


def set_number(rng, data):
    """Overwrite bytes with a number, in the format of sizes and offsets in headers."""
    kind = rng.choice(["<H", "<I", "<Q"])
    number = int(rng.choice([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1]))
    content = struct.pack(kind, number % 256 ** struct.calcsize(kind))
    start = draw_offset(rng, data)
    data[start : start + len(content)] = content


def splice(rng, data):
    other = one_of(rng, NPY + NPZ + CSV + PARQUET)
    data[draw_offset(rng, data) :] = other[draw_offset(rng, other) :]


DAMAGES = [flip, flip, truncate, cut_out, double, overwrite, set_number, splice]


def damaged(rng, data):
    data = bytearray(data)
    for _ in range(one_of(rng, [1, 1, 2, 3])):
        one_of(rng, DAMAGES)(rng, data)
    return bytes(data)


def with_tokens(rng, data, tokens, end):
    """Replace some bytes before `end` by tokens."""
    data = bytearray(data)
    for _ in range(one_of(rng, [1, 1, 2, 3])):
        start = int(rng.integers(end))
        token = one_of(rng, tokens).encode()
        data[start : start + int(rng.choice([0, len(token), 3]))] = token
    return bytes(data)


def with_header(rng, data):
    """Edit the header of an array, and correct its length."""
    start = 10 if data[6] == 1 else 12
    end = data.index(b"\n") + 1
    header = with_tokens(rng, data[start:end], NPY_TOKENS, 60)
    length = struct.pack("<H" if data[6] == 1 else "<I", len(header))
    return data[:8] + length + header + data[end:]


def damaged_npy(rng):
    data = one_of(rng, NPY)
    return damaged(rng, data) if rng.random() < 0.5 else with_header(rng, data)


def damaged_npz(rng):
    if rng.random() < 0.5:
        return damaged(rng, one_of(rng, NPZ))
    # The checksum is right for the damaged array, so that it is parsed.
    return npz({"X.npy": damaged_npy(rng)}, one_of(rng, METHODS))


def damaged_csv(rng):
    data = one_of(rng, CSV)
    if rng.random() < 0.5:
        data = with_tokens(rng, data, CSV_TOKENS, len(data))
    else:
        data = damaged(rng, data)
    if rng.random() < 0.1:
        encoding = one_of(rng, ["utf-16", "utf-8-sig", "latin-1"])
        data = data.decode(errors="replace").encode(encoding, errors="replace")
    return data


def damaged_parquet(rng):
    data = one_of(rng, PARQUET)
    if rng.random() < 0.3:
        return damaged(rng, data)
    # Keep the end of the file valid, without which nothing else is read.
    data, (length,) = data[:-8], struct.unpack("<I", data[-8:-4])
    body, footer = data[:-length], data[-length:]
    if rng.random() < 0.5:
        body = damaged(rng, body)
    else:
        footer = damaged(rng, footer)
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"


KINDS = {
    ".npy": damaged_npy,
    ".npz": damaged_npz,
    ".csv": damaged_csv,
    ".parquet": damaged_parquet,
}


# --- the campaign --------------------------------------------------------------------


def run(command):
    """Run the command line; return its exit code and the lines on standard error."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(command)
        except SystemExit as exit_:
            code = exit_.code
    return code, err.getvalue().splitlines()


def peak_memory():
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.filterwarnings("default")
def test_damaged_tables_give_one_line_each(attempt, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    MixMateClustering(2, n_atoms=2, max_iter=0, random_state=0).fit(X).save("model")
    for suffix, data in zip(KINDS, (NPY[0], NPZ[-4], CSV[0], PARQUET[0]), strict=True):
        (tmp_path / f"valid{suffix}").write_bytes(data)
        code, lines = run(["predict", "model", f"valid{suffix}", "-o", "out.npy"])
        assert code == 0, lines
    before = peak_memory()

    def try_table(rng):
        suffix = one_of(rng, [*KINDS])
        path = tmp_path / f"table{suffix}"
        path.write_bytes(KINDS[suffix](rng))
        command = ["predict", "model", path.name, "-o", one_of(rng, ["o.csv", "o.npy"])]
        if suffix == ".npz" and rng.random() < 0.9:
            command += ["--key", "X"]
        if suffix == ".csv":
            command += ["--header", one_of(rng, ["auto", "yes", "no"])]
        start = time.perf_counter()
        code, lines = run(command)
        assert time.perf_counter() - start < 10
        assert all(line.isprintable() for line in lines)
        errors = [line for line in lines if line.startswith("skmixmate: error: ")]
        assert (code, len(errors)) in [(0, 0), (1, 1)]
        assert not errors or path.name in errors[0]

    attempt(try_table)
    assert peak_memory() - before < 300
