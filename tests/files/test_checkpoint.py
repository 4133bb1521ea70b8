import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.callback import ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skmixmate.files import checkpoint as checkpoint_module

from .checkpoints import assert_same_fit, data, small

# --- resuming ------------------------------------------------------------------------

# Fits that are killed one after the other, each resuming the one before, and at last
# one that completes.
KILLED = """
import os, signal, sys
import numpy as np
from sklearn.datasets import load_digits
from skmixmate import MixMateClustering
from skmixmate.files import checkpoint as checkpoint_module
from skmixmate.training.em import ExpectationMaximization as EM

KILLS = [  # before which call of which function
    (EM, "run_epoch", 1),
    (EM, "run_epoch", 3),  # the third epoch
    (EM, "step", 8),  # in the middle of an epoch
    (os, "replace", 3),  # while a checkpoint is written
    (os, "unlink", 1),  # at the very end
]

def kill_before(owner, name, n_calls):
    function = getattr(owner, name)

    def call(*args, **kwargs):
        nonlocal n_calls
        n_calls -= 1
        if n_calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, call)

checkpoint_module._INTERVAL = 0
folder, case = sys.argv[1:]
X = load_digits().data[:200]
params = {"max_iter": 8}
if case == "incomplete":
    X[np.random.default_rng(0).random(X.shape) < 0.02] = np.nan
    params |= {"weights": "learned"}
else:
    params |= {"image_shape": (8, 8)}
path = os.path.join(folder, "checkpoint")

def fit(path):
    mixmate = MixMateClustering(
        3, n_atoms=6, batch_size=64, tol=0, random_state=0, checkpoint=path, **params
    )
    return mixmate.fit(X)

unbroken = fit(None)
for kill in KILLS:
    process = os.fork()
    if process == 0:
        kill_before(*kill)
        fit(path)
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, kill
    assert os.path.exists(path)
mixmate = fit(path)
assert not os.path.exists(path)
for name in ("labels_", "dictionaries_", "intercepts_", "weights_", "loss_curve_"):
    np.testing.assert_array_equal(getattr(mixmate, name), getattr(unbroken, name))
np.testing.assert_array_equal(mixmate.reconstruct(X), unbroken.reconstruct(X))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("case", ["incomplete", "images"])
def test_a_killed_fit_resumes_bit_identically(case, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path), case]
    # The threads of OpenMP do not survive a fork.
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("n_epochs", [0, 1, 4])
def test_a_fit_resumes_after_an_error(n_epochs, path, fail_in_epoch):
    X = data()
    mixmate = small(checkpoint=path)
    fail_in_epoch(mixmate, X, n_epochs)
    assert_same_fit(mixmate.fit(X), small().fit(X))
    assert os.listdir(path.parent) == []


def test_a_link_is_kept_and_a_missing_file_is_no_error(path, monkeypatch):
    path.symlink_to("elsewhere")
    small(checkpoint=path).fit(data())
    assert os.listdir(path.parent) == [path.name]

    def write_and_remove(checkpoint, *args):
        write(checkpoint, *args)
        os.unlink(path.with_name("elsewhere"))

    write = checkpoint_module.Checkpoint.write
    monkeypatch.setattr(checkpoint_module.Checkpoint, "write", write_and_remove)
    assert_same_fit(small(checkpoint=path).fit(data()), small().fit(data()))


def test_an_interrupted_fit_resumes(path, fail_in_epoch):
    X = data()
    mixmate = small(checkpoint=str(path))
    fail_in_epoch(mixmate, X, error=KeyboardInterrupt)
    assert mixmate.n_iter_ == 2
    assert_same_fit(mixmate.fit(X), small().fit(X))


def test_checkpoints_are_a_minute_apart(path, monkeypatch):
    now, n_written = 0.0, 0
    write = checkpoint_module.Checkpoint.write

    def spy(checkpoint, *args):
        nonlocal n_written
        n_written += 1
        write(checkpoint, *args)

    def clock():
        nonlocal now
        now += 25
        return now

    monkeypatch.setattr(checkpoint_module.Checkpoint, "write", spy)
    monkeypatch.setattr(checkpoint_module.time, "monotonic", clock)
    small(checkpoint=path, max_iter=10).fit(data())
    # The clock advances by 25 seconds whenever it is read, after each epoch and each
    # checkpoint: one is written after every third epoch, at the start and at the end.
    assert n_written == 1 + 3 + 1


def test_a_fit_with_a_dictionary_penalty_resumes(path, fail_in_epoch):
    X = data()
    params = {"image_shape": (4, 4), "representation": "pixels"}
    smooth = small(dictionary_penalty=2.0, **params)
    mixmate = small(dictionary_penalty=2.0, checkpoint=path, **params)
    fail_in_epoch(mixmate, X)
    with pytest.raises(
        ValueError, match=r"from a fit with dictionary_penalty=2.0, not 0.0"
    ):
        small(checkpoint=path, **params).fit(X)
    assert_same_fit(mixmate.fit(X), smooth.fit(X))


def test_a_random_seed_is_kept(path, fail_in_epoch):
    X = data()
    mixmate = small(random_state=None, checkpoint=path)
    fail_in_epoch(mixmate, X)
    copy = shutil.copy(path, path.with_name("copy"))
    other = small(random_state=None, checkpoint=copy)
    assert_same_fit(mixmate.fit(X), other.fit(X))


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64])
def test_a_random_state_continues_as_after_an_unbroken_fit(kind, path, fail_in_epoch):
    X, seeds = data(), [np.random.RandomState(kind(5)) for _ in range(3)]
    fail_in_epoch(small(random_state=seeds[0], checkpoint=path), X)
    mixmate = small(random_state=seeds[1], checkpoint=path).fit(X)
    assert_same_fit(mixmate, small(random_state=seeds[2]).fit(X))
    assert seeds[1].randint(2**31) == seeds[2].randint(2**31)


def fail_after_training(mixmate, X, monkeypatch):
    with monkeypatch.context() as patch:
        # It is called after training.
        patch.setattr("skmixmate.estimators._fit.FittedModel", None)
        with pytest.raises(TypeError):
            mixmate.fit(X)


def test_a_converged_fit_is_not_trained_further(path, monkeypatch):
    X = data()
    expected = small(tol=0.5).fit(X)
    mixmate = small(tol=0.5, checkpoint=path)
    fail_after_training(mixmate, X, monkeypatch)
    assert_same_fit(mixmate.fit(X), expected)
    assert expected.converged_


class StopAfter(ScoringMonitor):
    """Stops a training, and records the epochs that were run."""

    def __init__(self, n_epochs=None):
        super().__init__(scoring=None)
        self.n_epochs, self.epochs = n_epochs, []

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "epoch":
            self.epochs.append(context.task_id)

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and len(self.epochs) == self.n_epochs


def test_a_fit_stopped_by_a_callback_is_not_trained_further(path, monkeypatch):
    X = data()
    mixmate = small(checkpoint=path).set_callbacks(StopAfter(2))
    fail_after_training(mixmate, X, monkeypatch)
    assert_same_fit(mixmate.fit(X), small(max_iter=2).fit(X))


def test_callbacks_are_called_for_the_remaining_epochs(path, fail_in_epoch):
    callback = StopAfter()
    fail_in_epoch(small(checkpoint=path), data())
    small(checkpoint=path).set_callbacks(callback).fit(data())
    assert callback.epochs == [2, 3, 4]


def test_runtime_parameters_may_change(path, fail_in_epoch):
    X = data()
    fail_in_epoch(small(checkpoint=path), X)
    mixmate = small(checkpoint=path, device="cpu", n_jobs=2).fit(torch.from_numpy(X))
    assert_same_fit(mixmate, small().fit(X))


def test_a_memory_mapped_warm_start_resumes(path, fail_in_epoch):
    X = data()
    mixmate = small(prior="group", warm_start=True).fit(X)
    joblib.dump(mixmate, path.with_name("mapped"))
    mapped = joblib.load(path.with_name("mapped"), mmap_mode="r")
    fail_in_epoch(mapped.set_params(checkpoint=path), X)
    mapped = joblib.load(path.with_name("mapped"), mmap_mode="r")
    assert_same_fit(mapped.set_params(checkpoint=path).fit(X), mixmate.fit(X))


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_the_mode_of_a_checkpoint_is_kept(path, fail_in_epoch):
    X = data()
    fail_in_epoch(small(checkpoint=path), X)
    path.chmod(0o600)
    fail_in_epoch(small(checkpoint=path), X, n_epochs=1)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_a_fit_of_images_resumes(missing, path, fail_in_epoch):
    X = load_digits().data[:100]
    X[np.random.default_rng(0).random(X.shape) < missing] = np.nan
    fail_in_epoch(small(checkpoint=path, image_shape=(8, 8)), X)
    image_shape = (8, 8) if missing else "auto"
    mixmate = small(checkpoint=path, image_shape=image_shape).fit(X)
    expected = small(image_shape=(8, 8)).fit(X)
    np.testing.assert_array_equal(mixmate.reconstruct(X), expected.reconstruct(X))


# --- files that are rejected ---------------------------------------------------------


def test_other_data_are_rejected(path, fail_in_epoch):
    X = data()
    fail_in_epoch(small(checkpoint=path), X)
    changed = X.copy()
    changed[70, 3] += 1
    for other in (X[:-1], X.astype(np.float32), X[::-1], changed):
        with pytest.raises(ValueError, match=r"from a fit with X=.*Delete the file"):
            small(checkpoint=path).fit(other)
    assert_same_fit(small(checkpoint=path).fit(X), small().fit(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0.5}, r"alpha='auto', not 0.5"),
        ({"max_iter": 6}, r"max_iter=5, not 6"),
        ({"random_state": np.random.RandomState(0)}, r"random_state=0, not 'Random"),
        ({"weights": [0.5, 0.3, 0.2]}, r"weights='uniform', not 'ndarray"),
        ({"init": KMeans(3)}, r"init='random', not 'KMeans with checksum"),
    ],
)
def test_other_parameters_are_rejected(params, message, path, fail_in_epoch):
    fail_in_epoch(small(checkpoint=path, init="random"), data())
    with pytest.raises(ValueError, match=rf"checkpoint=.*from a fit with {message}"):
        small(**{"init": "random", "checkpoint": path, **params}).fit(data())


def test_a_weighted_fit_resumes_with_the_same_weights_only(path, fail_in_epoch):
    X, weights = data(), np.random.default_rng(0).lognormal(size=120)
    params = {"weights": "learned", "noise_variance": "auto"}
    fail_in_epoch(small(checkpoint=path, **params), X, sample_weight=weights)
    other = weights.copy()
    other[70] += 1
    for given in (None, other, np.ones(120)):
        with pytest.raises(ValueError, match=r"from a fit with sample_weight="):
            small(checkpoint=path, **params).fit(X, sample_weight=given)
    mixmate = small(checkpoint=path, **params).fit(X, sample_weight=weights.tolist())
    assert_same_fit(mixmate, small(**params).fit(X, sample_weight=weights))


def test_parameters_of_equal_value_are_accepted(path, fail_in_epoch):
    X = data()
    fitted = KMeans(3, n_init=2).fit(X)
    params = {"weights": [0.5, 0.3, 0.2], "alpha": 1, "init": KMeans(3, n_init=2)}
    fail_in_epoch(small(checkpoint=path, **params), X)
    same = {"weights": np.array([0.5, 0.3, 0.2]), "alpha": np.float32(1)}
    mixmate = small(checkpoint=path, init=fitted, **same).fit(X)
    assert_same_fit(mixmate, small(**params).fit(X))


def test_another_warm_start_is_rejected(path, fail_in_epoch):
    X = data()
    mixmate = small(warm_start=True).fit(X)
    expected = pickle.loads(pickle.dumps(mixmate)).fit(X)
    again = pickle.loads(pickle.dumps(mixmate)).set_params(checkpoint=path)
    fail_in_epoch(again, X)
    with pytest.raises(ValueError, match=r"from a fit with dictionaries_='ndarray"):
        small(warm_start=True, checkpoint=path).fit(X)
    assert_same_fit(mixmate.set_params(checkpoint=path).fit(X), expected)


def test_truncated_and_damaged_files_are_rejected(path, fail_in_epoch):
    fail_in_epoch(small(checkpoint=path), data())
    complete = path.read_bytes()
    header = len(checkpoint_module._FORMAT)
    sizes = [0, 1, header, header + 5, header + 32, header + 40, len(complete) // 2]
    damaged = [complete[:size] for size in [*sizes, len(complete) - 1]]
    for offset in (3, header + 1, len(complete) // 2, len(complete) - 1):
        flipped = bytearray(complete)
        flipped[offset] ^= 1
        damaged.append(bytes(flipped))
    for content in [*damaged, complete + b"more"]:
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"checkpoint=.*(damaged|not a checkpoint).*Delete"
        ):
            small(checkpoint=path).fit(data())
        assert path.read_bytes() == content


class Trojan:
    def __reduce__(self):
        return (exec, ("import os; os.environ['TROJAN'] = 'ran'",))


def test_other_files_are_rejected_without_running_code(path):
    with_code = io.BytesIO()
    torch.save({"identity": Trojan()}, with_code)
    checked = hashlib.sha256(with_code.getbuffer()).digest() + with_code.getvalue()
    array = io.BytesIO()
    np.save(array, data())
    for content in (
        b"Dear diary",
        array.getvalue(),
        pickle.dumps(Trojan()),
        with_code.getvalue(),
        checkpoint_module._FORMAT + checked,
    ):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"checkpoint=.*not a checkpoint of .* Delete"
        ):
            small(checkpoint=path).fit(data())
    assert "TROJAN" not in os.environ


def test_paths_that_cannot_be_written_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        small(checkpoint=tmp_path / "nowhere" / "file").fit(data())
    with pytest.raises(FileExistsError, match="not a regular file"):
        small(checkpoint=tmp_path).fit(data())


def test_parameters_that_cannot_be_pickled_are_rejected(path):
    init = make_pipeline(FunctionTransformer(lambda X: X), KMeans(3))
    with pytest.raises(ValueError, match=r"(?s)init=.*cannot be pickled"):
        small(init=init, checkpoint=path).fit(data())


# --- known labels --------------------------------------------------------------------


def known_labels():
    return np.where(np.arange(120) < 30, np.arange(120) % 3, -1)


def test_a_fit_to_known_labels_resumes(path, fail_in_epoch):
    X, y = data(), known_labels()
    mixmate = small(checkpoint=path, supervision="auto")
    fail_in_epoch(mixmate, X, 2, y=y)
    assert_same_fit(mixmate.fit(X, y), small(supervision="auto").fit(X, y))


def test_other_labels_are_rejected(path, fail_in_epoch):
    X, y = data(), known_labels()
    mixmate = small(checkpoint=path, supervision="auto")
    fail_in_epoch(mixmate, X, 2, y=y)
    with pytest.raises(ValueError, match="from a fit with y="):
        mixmate.fit(X, np.where(y == 2, -1, y))
    with pytest.raises(ValueError, match="from a fit with y="):
        mixmate.fit(X)
