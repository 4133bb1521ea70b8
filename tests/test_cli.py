import os
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import skmixmate
from skmixmate._cli import main
from skmixmate._training import ExpectationMaximization
from skmixmate.datasets import make_sparse_mixture

X = make_sparse_mixture(120, 16, n_atoms=4, random_state=0).data
QUICK = ["--n-clusters", "3", "--n-atoms", "6", "--random-state", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Go to a folder with a data set."""
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", X)
    return tmp_path


def fit(*options):
    return main(["fit", "data.npy", "-o", "model", *QUICK, *options])


# --- what the commands do ------------------------------------------------------------


def test_fit_does_what_the_estimator_does(folder, capsys):
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


def test_options_are_parameters(folder):
    options = ["--alpha", "0.5", "--init", "kmeans", "--init-size", "90"]
    options += ["--n-init", "2", "--image-shape", "4x2x2", "--weights", "learned"]
    options += ["--representation", "pixels", "--max-iter", "3", "--tol", "0"]
    assert fit(*options, "--device", "cpu") == 0
    params = skmixmate.load("model").get_params()
    given = {
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
    assert {name: params[name] for name in given} == given


def test_words_for_numbers(folder):
    assert fit("--n-atoms", "auto", "--alpha", "auto", "--max-iter", "0") == 0
    assert skmixmate.load("model").n_atoms == "auto"


def test_predict(folder):
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


def test_one_array_of_an_archive(folder):
    np.savez("data.npz", X=X, y=np.zeros(120))
    assert main(["fit", "data.npz", "--key", "X", "-o", "model", *QUICK]) == 0
    command = ["predict", "model", "data.npz", "--key", "X", "-o", "labels.npy"]
    assert main(command) == 0
    assert len(np.load("labels.npy")) == 120


def test_demo(capsys, monkeypatch):
    images, classes = load_digits(return_X_y=True)
    few = images[:500], classes[:500]
    monkeypatch.setattr("skmixmate._cli.load_digits", lambda **_: few)
    assert main(["demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = {line.split()[0]: float(line.split()[1]) for line in lines[3:]}
    assert scores["MixMateClustering"] > 0.85 > scores["KMeans"]


# --- what is said beside -------------------------------------------------------------


@pytest.mark.filterwarnings("default")
def test_warnings_are_lines(folder, capsys):
    assert fit("--max-iter", "1", "--tol", "1e-9") == 0
    assert capsys.readouterr().err == (
        "skmixmate: warning: The loss was still falling after max_iter=1 epochs. "
        "Raise max_iter or tol.\n"
    )


def test_progress_bars_where_somebody_sees_them(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fit()
    out, err = capsys.readouterr()
    assert "MixMateClustering - fit" in err
    assert out.startswith("samples")
    monkeypatch.setitem(sys.modules, "rich", None)
    fit()
    assert not capsys.readouterr().err


# --- what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit nothing.npy -o model", "nothing.npy: No such file or directory"),
        ("fit data.txt -o model", "data.txt should end in one of .npy"),
        ("fit data.npy -o no/model", "no/model cannot be written: there is no"),
        ("fit data.npy -o model --labels l.txt", "l.txt should end in .npy or .csv"),
        ("fit data.npy -o model --n-atoms few", "'n_atoms' parameter .* Got 'few'"),
        ("fit data.npy -o model --alpha much", "'alpha' parameter .* Got 'much'"),
        ("fit data.npy -o model --init best", "'init' parameter .* Got 'best'"),
        ("fit data.npy -o model --image-shape 3x5", r"image_shape=\(3, 5\) should"),
        ("fit data.npy -o model --device nowhere", "device='nowhere' is not to be"),
        ("predict nothing data.npy -o l.npy", "nothing: No such file or directory"),
        ("predict data.npy data.npy -o l.npy", "'data.npy' is not a file that"),
        ("predict data.npy data.npy -o l.txt", "l.txt should end in .npy or .csv"),
    ],
)
def test_mistakes_are_one_line(command, message, folder, capsys):
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
        "fit data.npy -o model --n-clusters many",
        "fit data.npy -o model --image-shape 4by4",
        "fit data.npy -o model --n-clust 3",
        "predict model data.npy",
    ],
)
def test_usage(command, folder, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(command.split())
    assert exit_.value.code == 2
    assert "usage: skmixmate" in capsys.readouterr().err
    assert os.listdir() == ["data.npy"]


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


def test_interrupted_before_there_is_a_model(folder, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmixmate._cli.read_table", interrupt)
    assert fit() == 130
    assert capsys.readouterr().err == "skmixmate: interrupted\n"
    assert os.listdir() == ["data.npy"]


# --- as a program --------------------------------------------------------------------


def test_version_of_the_program():
    command = [sys.executable, "-m", "skmixmate", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == f"skmixmate {skmixmate.__version__}\n"


def test_help_has_examples_and_the_defaults_of_the_estimator(capsys):
    for command in (["--help"], ["fit", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(command)
        assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert "skmixmate predict model more.csv -o labels.csv" in out
    assert "(default: 0.01)" in out
