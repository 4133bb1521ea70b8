import os
import re
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import io, sparse
from sklearn.datasets import load_digits

import skmixmate
from skmixmate.cli._main import main
from skmixmate.training.em import ExpectationMaximization

from .. import helpers

X = helpers.data()
QUICK = ["--n-clusters", "3", "--n-atoms", "6", "--random-state", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with a data set."""
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", X)
    return tmp_path


def fit(*options):
    return main(["fit", "data.npy", "-o", "model", *QUICK, *options])


# --- commands ------------------------------------------------------------------------


def test_fit_gives_the_model_of_the_estimator(folder, capsys):
    assert fit("--labels", "labels.npy") == 0
    params = {"n_clusters": 3, "n_atoms": 6, "random_state": 0}
    expected = skmixmate.MixMateClustering(**params).fit(X)
    loaded = skmixmate.load("model")
    assert loaded.get_params() == expected.get_params()
    np.testing.assert_array_equal(loaded.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(np.load("labels.npy"), expected.labels_)
    out, err = capsys.readouterr()
    assert not err
    assert out.splitlines() == [
        "samples        120",
        f"epochs         {expected.n_iter_}",
        f"loss           {expected.loss_:.6g}",
        f"cluster sizes  {' '.join(map(str, np.bincount(expected.labels_)))}",
    ]


def test_options_set_parameters(folder):
    options = ["--alpha", "0.5", "--init", "kmeans", "--init-size", "90"]
    options += ["--n-init", "2", "--image-shape", "4x2x2", "--weights", "learned"]
    options += ["--representation", "pixels", "--max-iter", "3", "--tol", "0"]
    assert fit(*options, "--device", "cpu") == 0
    params = skmixmate.load("model").get_params()
    expected = {
        "n_atoms": 6,
        "alpha": 0.5,
        "init": "kmeans",
        "init_size": 90,
        "n_init": 2,
        "image_shape": (4, 2, 2),
        "weights": "learned",
        "representation": "pixels",
        "max_iter": 3,
        "tol": 0.0,
        "device": "cpu",
    }
    assert {name: params[name] for name in expected} == expected


def test_images_are_recognised_unless_there_are_none(folder, capsys):
    np.save("data.npy", load_digits().data[:200])
    assert fit("--max-iter", "0") == 0
    assert "image shape    8x8\n" in capsys.readouterr().out
    assert skmixmate.load("model").image_shape_ == (8, 8)
    for value, expected in (("auto", "auto"), ("none", None)):
        assert fit("--max-iter", "0", "--image-shape", value) == 0
        assert skmixmate.load("model").image_shape == expected


def test_the_number_of_clusters_is_estimated(folder, capsys):
    assert fit("--n-clusters", "auto", "--max-iter", "0") == 0
    model = skmixmate.load("model")
    assert model.n_clusters == "auto"
    sizes = capsys.readouterr().out.splitlines()[-1].split()[2:]
    assert len(sizes) == model.n_clusters_ == len(model.weights_)


def test_auto_in_place_of_numbers(folder):
    assert fit("--n-atoms", "auto", "--alpha", "auto", "--max-iter", "0") == 0
    assert skmixmate.load("model").n_atoms == "auto"


def test_predict_writes_labels_and_probabilities(folder):
    fit()
    mixmate = skmixmate.load("model")
    np.savetxt("more.csv", X[:10], delimiter=",")
    assert main(["predict", "model", "more.csv", "-o", "labels.csv"]) == 0
    labels = np.loadtxt("labels.csv", skiprows=1)
    np.testing.assert_array_equal(labels, mixmate.labels_[:10])
    command = ["predict", "model", "data.npy", "--proba", "--device", "cpu", "-o"]
    assert main([*command, "proba.npy"]) == 0
    np.testing.assert_array_equal(np.load("proba.npy"), mixmate.predict_proba(X))
    assert main([*command, "proba.csv"]) == 0
    with open("proba.csv") as file:
        assert file.readline() == "cluster0,cluster1,cluster2\n"


def test_key_selects_an_array_of_an_archive(folder):
    np.savez("data.npz", X=X, y=np.zeros(120))
    assert main(["fit", "data.npz", "--key", "X", "-o", "model", *QUICK]) == 0
    command = ["predict", "model", "data.npz", "--key", "X", "-o", "labels.npy"]
    assert main(command) == 0
    assert len(np.load("labels.npy")) == 120


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "mtx"])
def test_sparse_matrices_are_read(format, folder):
    rows = sparse.csr_array(X.clip(min=0))
    if format == "mtx":
        name = "sparse.mtx"
        io.mmwrite(name, rows)
    else:
        name = "sparse.npz"
        sparse.save_npz(name, rows.asformat(format))
    assert main(["fit", name, "-o", "model", *QUICK]) == 0
    assert main(["predict", "model", name, "-o", "labels.npy"]) == 0
    expected = skmixmate.load("model").predict(rows)
    np.testing.assert_array_equal(np.load("labels.npy"), expected)


def test_a_sparse_matrix_that_is_damaged_is_rejected(folder, capsys):
    rows = sparse.csr_array(X)
    rows.indices[2] = 99
    sparse.save_npz("bad.npz", rows)
    assert main(["fit", "bad.npz", "-o", "model", *QUICK]) != 0
    assert "bad.npz is not a sparse matrix" in capsys.readouterr().err


def test_demo_compares_with_kmeans(capsys, monkeypatch):
    images, classes = load_digits(return_X_y=True)
    few = images[:500], classes[:500]
    monkeypatch.setattr("skmixmate.cli._commands.load_digits", lambda **_: few)
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = {line.split()[0]: float(line.split()[1]) for line in lines[3:]}
    assert scores["MixMateClustering"] > 0.85 > scores["KMeans"]


# --- warnings and progress -----------------------------------------------------------


@pytest.mark.filterwarnings("default")
def test_each_warning_is_one_line(folder, capsys):
    assert fit("--max-iter", "1", "--tol", "1e-9") == 0
    assert capsys.readouterr().err == (
        "skmixmate: warning: The loss was still falling after --max-iter 1 epochs. "
        "Raise max_iter or tol.\n"
    )


def test_progress_bars_are_shown_in_a_terminal(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit()
    out, err = capsys.readouterr()
    assert "MixMateClustering - fit" in err
    assert out.startswith("samples")
    monkeypatch.setitem(sys.modules, "rich", None)
    fit()
    assert capsys.readouterr().err == "skmixmate: reading data.npy\n"


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit nothing.npy -o model", "nothing.npy: No such file or directory"),
        ("fit data.txt -o model", "data.txt should end in one of .csv"),
        ("fit data.npy -o no/model", "no/model cannot be written: there is no"),
        ("fit data.npy -o model --labels l.txt", "l.txt should end in .npy or .csv"),
        ("fit data.npy -o model --n-atoms few", "--n-atoms must be .* Got 'few'"),
        ("fit data.npy -o model --alpha much", "--alpha must be .* Got 'much'"),
        ("fit data.npy -o model --init best", "--init must be .* Got 'best'"),
        ("fit data.npy -o model --image-shape 3x5", r"--image-shape \(3, 5\) should"),
        (
            "fit data.npy -o model --device nowhere",
            "--device 'nowhere' is not available",
        ),
        ("predict nothing data.npy -o l.npy", "nothing: No such file or directory"),
        (
            "predict data.npy data.npy -o l.npy",
            "'data.npy' is not a skmixmate model file",
        ),
        ("predict data.npy data.npy -o l.txt", "l.txt should end in .npy or .csv"),
        (
            "fit data.npy -o model --device meta",
            "--device 'meta' is not available",
        ),
        (
            "fit data.npy -o model --device hpu",
            "--device 'hpu' is not available",
        ),
        ("predict m data.npy -o l.npy --device meta", "m: No such file or directory"),
        ("fit data.npy -o model --image-shape 0x0", r"--image-shape \(0, 0\) should"),
        ("fit data.npy -o model --image-shape 5", r"--image-shape \(5,\) should"),
        ("fit data.npy -o model --tol -1", "--tol must be .* Got -1.0"),
        ("fit data.npy -o model --alpha nan", "--alpha must be .* Got 'nan'"),
        (
            "fit data.npy -o model --n-clusters 99999999",
            "n_samples=120 should be >= --n-clusters 99999999",
        ),
        ("fit data.npy -o model --key X", "--key X is for .npz files only"),
        ("fit data.npy -o model --header no", "--header no is for .csv files only"),
    ],
)
def test_each_error_is_one_line(command, message, folder, capsys):
    assert main(command.split()) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"skmixmate: error: .*{message}.*\n", err)
    assert not out
    assert os.listdir() == ["data.npy"]


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fit data.npy",
        "fit data.npy -o model --n-layers many",
        "fit data.npy -o model --image-shape 4by4",
        "fit data.npy -o model --n-clust 3",
        "predict model data.npy",
        "fit data.npy -o model --n-clusters 1_0",
        "fit data.npy -o model --n-clusters \u0663",
        "fit data.npy -o model --n-clusters 1" + 5000 * "0",
        "fit data.npy -o model --n-atoms 1_0",
        "fit data.npy -o model --max-iter 9223372036854775807",
        "fit data.npy -o model --image-shape \u0664x\u0664",
        "fit data.npy -o model --alpha 1_0",
        "fit data.npy -o model --noise-variance 1e999",
        "fit data.npy -o model --tol inf",
        "fit data.npy -o model --header maybe",
    ],
)
def test_invalid_commands_show_the_usage(command, folder, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    assert exit_.value.code == 2
    assert "usage: skmixmate" in capsys.readouterr().err
    assert os.listdir() == ["data.npy"]


@pytest.mark.parametrize("option", ["--output=", "--labels=", "--output=a\0b"])
def test_invalid_names_of_files_are_rejected(option, folder, capsys):
    with pytest.raises(SystemExit) as exit_:
        fit(option)
    assert exit_.value.code == 2
    assert "should be the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--n-atoms=10000000",
            r"--n-atoms 10000000 is too large: .* at most \d+, with",
        ),
        ("--n-init=100000000", r"--n-init 100000000 should be at most \d+"),
    ],
)
def test_numbers_that_would_exhaust_the_memory_are_rejected(
    option, message, folder, capsys
):
    start, before = time.perf_counter(), peak_memory()
    assert fit(option) == 1
    assert re.fullmatch(rf"skmixmate: error: {message}.*\n", capsys.readouterr().err)
    assert time.perf_counter() - start < 5
    assert peak_memory() - before < 100


def peak_memory():
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b"\x93NUMPY"),
        ("a.npz", b"PK\3\4aaaa"),
        ("a.csv", b"1,2\n3\n"),
        ("a.csv", b"1,2\n3,4\n"),
        ("a.csv", 16 * b"inf," + b"\n"),
        ("a.parquet", b"PAR1aaaaPAR1"),
    ],
)
def test_errors_in_data_name_the_file(name, content, folder, capsys):
    fit()
    (folder / name).write_bytes(content)
    capsys.readouterr()
    assert main(["predict", "model", name, "-o", "labels.npy"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith(f"skmixmate: error: {name}")
    assert sum("error" in line for line in err) == 1
    assert not os.path.exists("labels.npy")


def test_a_pipe_raises_at_once(folder, capsys):
    fit()
    for name in ("pipe.csv", "pipe"):
        os.mkfifo(name)
    capsys.readouterr()
    assert main(["predict", "model", "pipe.csv", "-o", "labels.npy"]) == 1
    assert "error: pipe.csv is not a regular file" in capsys.readouterr().err
    assert main(["predict", "pipe", "data.npy", "-o", "labels.npy"]) == 1
    assert "error: pipe is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "fit data.npy -o same.npy --labels same.npy",
        "fit data.npy -o data.npy",
        "fit data.npy -o ./data.npy",
        "fit data.npy -o model --labels data.npy",
        "fit data.npy -o model --labels soft.npy",
        "fit data.npy -o model --labels hard.npy",
        "fit data.npy -o new.npy --labels dangling.npy",
        "predict model.npy data.npy -o data.npy",
        "predict model.npy data.npy -o model.npy",
        "predict model.npy data.npy -o hard.npy",
    ],
)
def test_no_file_overwrites_another(command, folder, capsys):
    fit("-o", "model.npy")
    os.link("data.npy", "hard.npy")
    os.symlink("data.npy", "soft.npy")
    os.symlink("new.npy", "dangling.npy")
    before = {name: contents(name) for name in os.listdir()}
    capsys.readouterr()
    assert main([*command.split()]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"skmixmate: error: .* is used for .* and for .*\n", err)
    assert not out
    assert {name: contents(name) for name in os.listdir()} == before


def contents(name):
    if not os.path.exists(name):  # a dangling link
        return None
    with open(name, "rb") as file:
        return file.read()


def test_a_note_if_the_first_line_may_be_a_header(folder, capsys):
    header = ",".join(map(str, range(16)))
    np.savetxt("data.csv", X, delimiter=",", header=header, comments="")
    command = ["fit", "data.csv", "-o", "model", *QUICK]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "samples        121\n" in out
    assert err == (
        "skmixmate: note: the first line of data.csv was read as data; if it holds the "
        "names of the columns, pass --header yes.\n"
    )
    for header, n_samples in (("yes", 120), ("no", 121)):
        assert main([*command, "--header", header]) == 0
        out, err = capsys.readouterr()
        assert f"samples        {n_samples}\n" in out
        assert not err


def test_control_characters_in_messages_are_escaped(folder, capsys):
    name = "\x1b]0;title\x07\u202e\udcff.csv"
    assert main(["fit", name, "-o", "model"]) == 1
    (folder / "data.csv").write_text("\x1b[2Jname\n\x1b[31mred\n")
    assert main(["fit", "data.csv", "-o", "model"]) == 1
    with pytest.raises(SystemExit):
        main(["fit", "data.npy", "-o", "model", "\x1b[31m\nred"])
    err = capsys.readouterr().err
    assert err.replace("\n", "").isprintable()
    assert r"error: \x1b]0;title\x07\u202e\udcff.csv: No such file" in err
    assert r"not numeric: \x1b[2Jname, with '\x1b[31mred', in line 2" in err


def test_long_messages_are_truncated(folder, capsys):
    (folder / "data.csv").write_text("a,b\n1," + 100_000 * "x")
    assert main(["fit", "data.csv", "-o", "model"]) == 1
    err = capsys.readouterr().err
    assert len(err) < 1100
    assert err.endswith("x ...\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError("Unable to allocate 3 TiB"), "not enough memory. Unable to"),
        (RuntimeError("CUDA error:\nno kernel"), "error: CUDA error: no kernel"),
    ],
)
def test_errors_of_the_machine_are_one_line(
    error, message, folder, capsys, monkeypatch
):
    def fail(*_):
        raise error

    monkeypatch.setattr("skmixmate.MixMateClustering.fit", fail)
    assert fit() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.filterwarnings("default")
def test_an_interrupted_fit_is_saved(folder, capsys, monkeypatch):
    run_epoch, epochs = ExpectationMaximization.run_epoch, []

    def run_two_epochs(em):
        if len(epochs) == 2:
            raise KeyboardInterrupt
        epochs.append(run_epoch(em))
        return epochs[-1]

    monkeypatch.setattr(ExpectationMaximization, "run_epoch", run_two_epochs)
    assert fit("--tol", "0") == 130
    assert skmixmate.load("model").n_iter_ == 2
    out, err = capsys.readouterr()
    assert "epochs         2" in out
    assert err.startswith("skmixmate: warning: The fit was interrupted after 2 whole")


def test_an_interrupt_before_training_saves_nothing(folder, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmixmate.cli._commands.read_table", interrupt)
    assert fit() == 130
    assert capsys.readouterr().err == "skmixmate: interrupted\n"
    assert os.listdir() == ["data.npy"]


@pytest.mark.parametrize("function", ["numpy.save", "os.fsync", "os.replace"])
def test_an_interrupt_while_writing_keeps_the_existing_file(
    function, folder, capsys, monkeypatch
):
    fit()
    capsys.readouterr()
    (folder / "labels.npy").write_bytes(b"existing")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupt)
    assert main(["predict", "model", "data.npy", "-o", "labels.npy"]) == 130
    assert capsys.readouterr().err == "skmixmate: interrupted\n"
    assert (folder / "labels.npy").read_bytes() == b"existing"
    assert sorted(os.listdir()) == ["data.npy", "labels.npy", "model"]


# --- output streams ------------------------------------------------------------------


@pytest.fixture
def broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as file:
        yield file


@pytest.mark.parametrize("buffering", [1, -1])
def test_a_closed_standard_output_is_no_error(
    buffering, folder, monkeypatch, broken_pipe
):
    broken_pipe.reconfigure(line_buffering=buffering == 1)
    monkeypatch.setattr(sys, "stdout", broken_pipe)
    assert fit() == 0
    assert skmixmate.load("model").n_clusters == 3


def test_a_closed_standard_error_is_no_error(folder, monkeypatch, broken_pipe):
    monkeypatch.setattr(sys, "stderr", broken_pipe)
    assert main(["fit", "nothing.npy", "-o", "model"]) == 1


def test_missing_streams_are_no_error(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert fit() == 0
    assert main(["fit", "nothing.npy", "-o", "model"]) == 1
    assert "error" not in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdout", None)
    assert fit() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_a_full_standard_output_is_an_error(folder, monkeypatch, capsys):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert fit() == 1
    assert capsys.readouterr().err == (
        "skmixmate: error: standard output: No space left on device\n"
    )


# --- the program ---------------------------------------------------------------------


def test_the_program_prints_its_version():
    command = [sys.executable, "-m", "skmixmate", "--version"]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == f"skmixmate {skmixmate.__version__}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_do_without_torch(option):
    script = (
        "import sys; from skmixmate.cli._main import main\ntry: main(sys.argv[1:])\n"
    )
    script += "except SystemExit: sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", script, option]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def test_help_into_a_closed_pipe_is_no_error(broken_pipe):
    command = [sys.executable, "-m", "skmixmate", "--help"]
    process = subprocess.run(command, stdout=broken_pipe, stderr=subprocess.PIPE)
    assert process.returncode == 0
    assert not process.stderr


def test_help_shows_examples_and_defaults(capsys):
    for command in (["--help"], ["fit", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(command)
        assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "skmixmate predict model more.csv --proba -o probabilities.npy" in out
    assert "(default: 0.01)" in out
