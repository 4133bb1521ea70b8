"""Damaged and hostile files, kills and interrupts: no data lost, documented errors."""

import contextlib
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import skmixmate
from skmixmate import MixMateClustering
from skmixmate.files import checkpoint as checkpoint_module
from skmixmate.training.em import ExpectationMaximization

resource = pytest.importorskip("resource")  # not on Windows

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")

# Time limit of a try in seconds, and limit of the memory growth of a test in KiB.
SECONDS, KIB = 10, 300 * 2**10

BLOBS = np.random.default_rng(0).normal(size=(30, 6)) + np.repeat([[0], [9]], 15, 0)
DIGITS = load_digits().data[:40]
SMALL = {"max_iter": 1, "tol": 0, "random_state": 0}

MODELS = {
    "plain": (MixMateClustering(2, n_atoms=3, **SMALL), BLOBS),
    "float32": (
        MixMateClustering(2, n_atoms=2, weights="learned", prior="group", **SMALL),
        BLOBS.astype(np.float32),
    ),
    "counts": (
        MixMateClustering(2, n_atoms=2, likelihood="poisson", **SMALL),
        np.abs(BLOBS).round(),
    ),
    "scattering": (
        MixMateClustering(2, n_atoms=2, image_shape=(8, 8), init="kmeans", **SMALL),
        DIGITS,
    ),
}

FLOATS = [0.0, -0.0, -1.0, 0.5, 1e-320, 1e-200, 1e-30, 1e30, 1e200, 1e308]
FLOATS += [float("nan"), float("inf"), -float("inf")]
INTS = [0, 1, -1, 2, 7, 8, 10**3, 10**6, 2**31, 2**63, 10**30, 10**400]
OTHERS = [None, True, False, "", "x", "auto", "meta", "cuda", "\ud800", "\x1b[2J"]
OTHERS += ["poisson", "laplace", "group", "learned", "a" * 10**5, [], {}, [[]], [0]]
OTHERS += [{"array": "weights_"}, {"tuple": [4, 16]}, {"tuple": 3}, {"prior": "group"}]
OTHERS += [{"prior": "group", "parameters": {"alpha": 1.0, "group_size": 10**9}}]
OTHERS += [{"prior": "elastic_net", "parameters": {"alpha": 1e300, "ridge": 1e300}}]
NASTY = FLOATS + INTS + OTHERS

HEADERS = [
    b"",
    b"-" * 9000 + b"1",
    b"(" * 5000,
    b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 999999999999), }",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
    b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,), }",
]


def pick(rng, values):
    return values[rng.integers(len(values))]


@pytest.fixture(autouse=True)
def within_bounds():
    """Fail if a test takes more memory than the limit."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert growth <= KIB, f"{growth} KiB more than before"


@pytest.fixture
def limited():
    """Return a caller that raises TimeoutError after a time limit; no warnings."""

    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)

    def call(function, *args):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return function(*args)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    yield call
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the content of a file of each model."""
    path, contents = tmp_path_factory.mktemp("models") / "model", {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (mixmate, X) in MODELS.items():
            mixmate.fit(X).save(path)
            contents[name] = path.read_bytes()
    return contents


# --- damages -------------------------------------------------------------------------


def mutated(rng, content):
    """Return changed bytes: flipped, cut off, removed, moved, repeated, overwritten."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, stop = sorted(rng.integers(len(content) + 1, size=2))
        stop = min(stop, start + int(2 ** rng.uniform(0, 12)))
        chunk = content[start:stop]
        kind = rng.integers(7)
        if kind == 0 and content:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        elif kind == 1:
            del content[start:]
        elif kind == 2:
            del content[start:stop]
        elif kind == 3:
            offset = rng.integers(len(content) + 1)
            content[offset:offset] = chunk
        elif kind == 4:
            content[start:stop] = rng.bytes(len(chunk))
        elif kind == 5:
            content[start:stop] = pick(rng, [b"\0", b"\xff"]) * len(chunk)
        else:
            content += chunk
    return bytes(content)


def unpacked(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(rng, members):
    """Pack members into an archive, mostly a valid one."""
    file = io.BytesIO()
    compression = pick(rng, [zipfile.ZIP_STORED] * 15 + [zipfile.ZIP_DEFLATED])
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of duplicate names
        for name, content in members.items():
            archive.writestr(name, content)
        if rng.random() < 0.03:
            archive.writestr(name, content)
        if rng.random() < 0.03:
            archive.comment = b"PK\5\6" * 9
    content = file.getvalue()
    if rng.random() < 0.1:  # the directory alone
        start = content.rfind(b"PK\1\2")
        content = content[:start] + mutated(rng, content[start:])
    if rng.random() < 0.05:  # a number in a record of the archive
        start = content.find(pick(rng, [b"PK\1\2", b"PK\3\4", b"PK\5\6"]))
        offset = start + 2 * int(rng.integers(2, 15))
        number = struct.pack("<I", pick(rng, [0, 1, 2**16 - 1, 2**31, 2**32 - 1]))
        content = content[:offset] + number + content[offset + 4 :]
    return content


def with_nasty_array(rng, members):
    name = pick(rng, [name for name in members if name.endswith(".npy")])
    kind = rng.integers(5)
    if kind == 0:  # another header
        header = pick(rng, HEADERS)
        length = struct.pack("<H", len(header) + 1)
        content = b"\x93NUMPY\1\0" + length + header + b"\n" + rng.bytes(16)
    elif kind == 1:  # a damaged header
        content = mutated(rng, members[name][:128]) + members[name][128:]
    elif kind == 2:  # the content of another array
        content = members[pick(rng, [n for n in members if n.endswith(".npy")])]
    else:
        array = np.load(io.BytesIO(members[name]))
        if kind == 3:  # other entries
            if array.size:
                n_changed = pick(rng, [1, array.size])
                array = array.copy()
                with np.errstate(all="ignore"):
                    values = [np.asarray(v).astype(array.dtype) for v in FLOATS]
                array.reshape(-1)[:n_changed] = pick(rng, values)
        else:  # another type, shape or order
            types = [np.float32, ">f8", "<f2", np.longdouble, np.int8, np.uint64, bool]
            changes = [lambda a: a.astype(pick(rng, types)), np.asfortranarray]
            changes += [lambda a: a[:0], lambda a: a[..., :1], lambda a: a[None]]
            changes += [np.ravel, lambda a: np.zeros((0, 10**12)), lambda a: 2 * a]
            with np.errstate(all="ignore"):
                array = pick(rng, changes)(array)
        file = io.BytesIO()
        np.lib.format.write_array(file, array, version=(1, 0))
        content = file.getvalue()
    members[name] = content


def with_nasty_description(rng, members):
    """Change, remove, add or duplicate a value of the description."""
    text = members["skmixmate.json"]
    if rng.random() < 0.1:
        members["skmixmate.json"] = pick(
            rng,
            [
                mutated(rng, text),
                b"[" * 10**5,
                b'{"a":' * 10**5,
                b"[]," * 10**6,
                b"\xff\xfe" + text,
                text.replace(b"{", b'{"format_version": 1, ', 1),
            ],
        )
        return
    description = json.loads(text)
    sections = ["parameters", "attributes", "representation"]
    section = pick(rng, [s for s in sections if description[s]])
    owner = pick(rng, [description] + [description[section]] * 9)
    name = pick(rng, list(owner))
    kind = rng.integers(10)
    if kind == 0:
        del owner[name]
    elif kind == 1:
        owner[pick(rng, ["x", "array", "tuple", "\ud800"])] = owner[name]
    elif kind == 2:
        owner[name] = owner[pick(rng, list(owner))]
    else:
        owner[name] = pick(rng, NASTY)
    members["skmixmate.json"] = json.dumps(description).encode()


def use(mixmate, X, path):
    """Call all methods of a loaded estimator."""
    X = X[:9]
    for method in (*type(mixmate)._OUTPUTS, "score"):
        getattr(mixmate, method)(X)
    mixmate.get_feature_names_out()
    mixmate.save(path)
    if isinstance(mixmate, MixMateClustering):
        codes = mixmate.transform(X)
        if np.isfinite(codes).all():  # they may overflow with a scale of 1e308
            mixmate.inverse_transform(codes)
        mixmate.bic(X)
        with contextlib.suppress(ValueError):  # not all priors are densities
            mixmate.sample(5, random_state=0)
        learn(mixmate, X)


def learn(mixmate, X):
    """Call partial_fit, which checks more parameters than prediction does."""
    try:
        mixmate.partial_fit(X)
    except np.linalg.LinAlgError:
        raise
    except ValueError:
        pass


# Starts of errors about rows whose distance to the clusters of a file, in units of its
# scale, overflows.
TOO_FAR = ("X has a row so far", "X has an entry")


def load_and_use(path, X):
    """Load a file and use the model; only documented errors may be raised."""
    try:
        mixmate = skmixmate.load(path)
    except ValueError as error:
        if repr(str(path)) not in str(error):
            raise
        return
    try:
        use(mixmate, X, path)
    except np.linalg.LinAlgError:
        raise
    except ValueError as error:
        # Errors that a valid model may raise too, for other data or machines.
        documented = ("device=", "should be", *TOO_FAR)
        if not any(words in str(error) for words in documented):
            raise


@pytest.mark.parametrize("name", MODELS)
def test_damaged_model_files_are_rejected_or_usable(
    name, saved, attempt, limited, tmp_path
):
    path, X = tmp_path / "model", MODELS[name][1]

    def try_one(rng):
        if rng.random() < 0.2:
            content = mutated(rng, saved[name])
        else:
            members = unpacked(saved[name])
            change = pick(rng, [with_nasty_array] + 2 * [with_nasty_description])
            change(rng, members)
            content = packed(rng, members)
        path.write_bytes(content)
        limited(load_and_use, path, X)

    attempt(try_one, cost=len(MODELS))


# --- checkpoints ---------------------------------------------------------------------


def fit(name, path, max_iter=3):
    """Fit with a checkpoint."""
    mixmate, X = MODELS[name]
    params = mixmate.get_params() | {"max_iter": max_iter, "checkpoint": path}
    return MixMateClustering(**params).fit(X)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return the content of a checkpoint of an unfinished fit of each model."""
    folder, contents = tmp_path_factory.mktemp("checkpoints"), {}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(checkpoint_module, "_INTERVAL", 0)
        run_epoch = ExpectationMaximization.run_epoch

        def run(em):
            if float(em.optimizer.moments["step"]) > 0:
                raise ZeroDivisionError
            return run_epoch(em)

        patch.setattr(ExpectationMaximization, "run_epoch", run)
        for name in ("plain", "float32", "counts", "scattering"):
            with pytest.raises(ZeroDivisionError):
                fit(name, folder / name)
            contents[name] = (folder / name).read_bytes()
    return contents


def sealed(payload):
    return checkpoint_module._FORMAT + hashlib.sha256(payload).digest() + payload


def with_nasty_content(rng, payload):
    """Change a value in the content of a checkpoint."""
    content = torch.load(io.BytesIO(payload), weights_only=True)
    owner = content
    while rng.random() < 0.8:
        inner = [value for value in owner.values() if isinstance(value, dict)]
        if not inner:
            break
        owner = pick(rng, inner)
    name = pick(rng, list(owner))
    value, kind = owner[name], rng.integers(8)
    if kind == 0:
        del owner[name]
    elif kind == 1:
        owner["x"] = value
    elif kind == 2:
        owner[name] = owner[pick(rng, list(owner))]
    elif isinstance(value, torch.Tensor) and kind < 7:
        changes = [lambda t: t[:0], lambda t: t[None], lambda t: t.int(), torch.neg]
        changes += [lambda t: t.double(), lambda t: t.float(), lambda t: 2 * t]
        changes += [lambda t: torch.full_like(t.double(), pick(rng, FLOATS))]
        changes += [lambda t: t.flatten()[:1].expand(10**9), lambda t: t.to("meta")]
        changes += [lambda t: t.to_sparse(), torch.nn.Parameter, lambda t: t.bool()]
        try:
            owner[name] = pick(rng, changes)(value)
        except (IndexError, RuntimeError):  # not possible for this tensor
            owner[name] = torch.zeros(3)
    elif isinstance(value, str) and kind < 6:
        owner[name] = mutated(rng, value.encode()).decode(errors="replace")
    else:
        owner[name] = pick(rng, NASTY)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def resume(name, path):
    try:
        fit(name, path)
    except np.linalg.LinAlgError:
        raise
    except ValueError as error:
        documented = (f"checkpoint={str(path)!r} is", *TOO_FAR)
        if not any(words in str(error) for words in documented):
            raise


@pytest.mark.parametrize("name", ["plain", "float32", "counts", "scattering"])
def test_damaged_checkpoints_are_rejected_or_usable(
    name, checkpoints, attempt, limited, tmp_path
):
    path = tmp_path / "checkpoint"
    n_header = len(checkpoint_module._FORMAT) + checkpoint_module._DIGEST_SIZE
    payload = checkpoints[name][n_header:]

    def try_one(rng):
        kind = rng.integers(8)
        if kind == 0:
            content = mutated(rng, checkpoints[name])
        elif kind == 1:
            content = sealed(mutated(rng, payload))
        elif kind < 4:
            members = unpacked(payload)
            member = pick(rng, ["archive/data.pkl"] * 3 + list(members))
            members[member] = mutated(rng, members[member])
            content = sealed(packed(rng, members))
        else:
            content = sealed(with_nasty_content(rng, payload))
        path.write_bytes(content)
        limited(resume, name, path)

    attempt(try_one, cost=4)


# --- kills and interrupts ------------------------------------------------------------

# Reads seeds from standard input, and prints "ok" or a traceback for each.
KILLER = """
import os, pickle, signal, sys, time, traceback, warnings
import numpy as np
import skmixmate
from skmixmate import MixMateClustering
from skmixmate.files import checkpoint as checkpoint_module
from tests.campaign.test_files import assert_killed_is_harmless

checkpoint_module._INTERVAL = 0
for line in sys.stdin:
    try:
        assert_killed_is_harmless(int(line), sys.argv[1])
        print("ok", flush=True)
    except BaseException:
        print(repr(traceback.format_exc()), flush=True)
"""


def run_and_kill(rng, function):
    """Run a function in a forked process, and kill it at a random moment."""
    process = os.fork()
    if process == 0:
        try:
            function()
        finally:
            os._exit(0)
    time.sleep(rng.uniform(0, 0.2))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


def assert_killed_is_harmless(seed, folder):
    warnings.simplefilter("ignore")
    rng, path = np.random.default_rng(seed), os.path.join(folder, f"{seed}")
    fits = [MixMateClustering(2, n_atoms=k, **SMALL).fit(BLOBS) for k in (2, 3)]
    fits[0].save(path)

    def save():
        while True:
            for mixmate in fits:
                mixmate.save(path)

    run_and_kill(rng, save)
    assert len(skmixmate.load(path).dictionaries_[0]) in (2, 3)
    params = {"n_atoms": 2, "max_iter": 60, "tol": 0, "random_state": seed}
    expected = MixMateClustering(2, **params).fit(BLOBS)
    mixmate = MixMateClustering(2, checkpoint=path + ".fit", **params)
    for _ in range(3):
        run_and_kill(rng, lambda: mixmate.fit(BLOBS))
    mixmate.fit(BLOBS)
    assert not os.path.exists(path + ".fit")
    for name in ("dictionaries_", "intercepts_", "labels_", "loss_curve_"):
        np.testing.assert_array_equal(getattr(mixmate, name), getattr(expected, name))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_are_complete_and_fits_resume_after_kills(attempt, tmp_path):
    # The threads of OpenMP do not survive a fork.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as killer:

        def try_one(rng):
            print(rng.integers(2**31), file=killer.stdin, flush=True)
            assert killer.stdout.readline().strip() == "ok"

        attempt(try_one, cost=50)
        killer.stdin.close()


MODULES = ("model_file", "model_content", "atomic", "checkpoint", "archives")
INTERRUPTIBLE = tuple(os.path.join("files", f"{name}.py") for name in MODULES)
INTERRUPTIBLE += ("zipfile.py", "contextlib.py", "format.py")


def interrupted(function, n_lines):
    """Call a function, and raise KeyboardInterrupt before its line number `n_lines`.

    Returns the number of lines that were not reached.
    """

    def trace(frame, event, argument):
        nonlocal n_lines
        if not frame.f_code.co_filename.endswith(INTERRUPTIBLE):
            return None
        if frame.f_code.co_name == "__del__":  # Python ignores what is raised there
            return None
        if event == "line":
            n_lines -= 1
            if n_lines == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return n_lines


# Python only reports, and ignores, an interrupt in the constructor of an archive.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["save", "checkpoint"])
def test_interrupts_leave_a_complete_file_and_no_other(kind, saved, attempt, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(saved["plain"])
    mixmate = skmixmate.load(path)
    checkpoint = checkpoint_module.Checkpoint(tmp_path / "other", {}, expected=None)
    checkpoint.start, checkpoint.path = {}, os.fspath(path)

    def write():
        if kind == "save":
            mixmate.save(path)
        else:
            checkpoint.write({}, checkpoint.history)

    many = 10**6
    n_lines = many - interrupted(write, many)
    complete = {saved["plain"], path.read_bytes()}

    def try_one(rng):
        path.write_bytes(saved["plain"])
        interrupted(write, rng.integers(1, n_lines + 1))
        assert path.read_bytes() in complete
        assert os.listdir(tmp_path) == ["file"]

    attempt(try_one)
