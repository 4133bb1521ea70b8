"""Random problems through the compiled layers, built with sanitizers.

A process of its own runs them, as the library of the sanitizer has to be loaded first.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[2] / "skmixmate" / "model" / "native"

needs_compiler = pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() != "x86_64"
    or shutil.which("gcc") is None,
    reason="there is no gcc, or it does not make what the layers want",
)

# Sanitizers make everything several times as slow.
_COST = 4

# All arrays are of their exact sizes, so that reading beyond one is found.
PROGRAM = """
import ctypes, sys
import numpy as np, torch
from skmixmate.model import compiled
from skmixmate.model.fista import encode_and_gain, largest_eigenvalue, pulls, unroll
from skmixmate.model.posterior import Blocks
from skmixmate.model.priors import AtomwiseLaplace, Exponential, Laplace

library = ctypes.CDLL(sys.argv[1])
n_most = library.layers_lanes()

class Library:
    def __getattr__(self, name):
        return getattr(library, name)

    def layers_lanes(self):
        return self.n_lanes

compiled._library = Library()
for seed in map(int, sys.argv[2:]):
    print("seed", seed, flush=True)
    rng = np.random.default_rng(seed)
    compiled._library.n_lanes = min(n_most, int(rng.choice([8, 16])))
    torch.set_num_threads(int(rng.integers(1, 4)))
    K, D, P, N, L = (int(rng.integers(1, top)) for top in (6, 71, 71, 71, 17))

    def draw(*shape):
        values = 10.0 ** rng.uniform(-20, 15) * rng.normal(size=shape)
        if rng.random() < 0.1:
            values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, 1e-40])
        return torch.from_numpy(values.astype(np.float32))

    dictionaries = torch.nn.functional.normalize(draw(K, D, P).nan_to_num(), dim=2)
    gram = dictionaries @ dictionaries.mT
    step = largest_eigenvalue(gram).reciprocal()
    prior = rng.choice([
        Laplace(0.2), Laplace(0.0), Exponential(0.3),
        AtomwiseLaplace(torch.ones(K, D), P),
    ])
    codes, tape = unroll(draw(K, D, N), gram, step, prior, L, keep=True)
    tape.backward(draw(K, D, N))
    with torch.no_grad():
        encode_and_gain(draw(K, D, N), gram, step, prior, L)
    observed = (torch.from_numpy(rng.random((P, N))) < 0.5).float()
    targets = draw(P, N) if rng.random() < 0.5 else draw(K, P, N)
    pulls(targets, observed, dictionaries, codes)
    counting = torch.from_numpy(rng.random((K, N))) < rng.random()
    counting[0, 0] = True
    blocks = Blocks.of(counting.float())
    slopes = draw(len(blocks.index), D, blocks.index.shape[1])
    blocks.add_products(torch.zeros(K, D, P), slopes, draw(N, P))
print("done")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Build the layers; return their path, and variables for the process."""
    path = tmp_path_factory.mktemp("sanitized") / "layers.so"
    flags = ["-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined"]
    flags.append("-fno-sanitize-recover=undefined")
    command = ["gcc", *flags, str(MODEL / "kernels.c"), "-o", str(path)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"gcc has no sanitizers here: {built.stderr[-200:]}")
    found = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    variables = {
        "LD_PRELOAD": " ".join(found),
        # Python itself leaves memory to the end of the process.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "OMP_WAIT_POLICY": "passive",  # threads may be more than processors
        "PYTHONPATH": str(MODEL.parents[1]),
    }
    return path, {**os.environ, **variables}


@needs_compiler
def test_sanitizers_find_nothing(request, environment, record_property):
    path, variables = environment
    first, n_tries = (request.config.getoption(name) for name in ("seed", "tries"))
    seeds = range(first, first + max(1, n_tries // _COST))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), *map(str, seeds)],
        env=variables,
        capture_output=True,
        text=True,
    )
    last = result.stdout.splitlines()[-1:]
    report = f"after {last}; repeat with --tries 1 --seed N:\n{result.stderr[-5000:]}"
    assert result.returncode == 0, report
    assert last == ["done"], report
    assert "Sanitizer" not in result.stderr, report
    assert "runtime error" not in result.stderr, report
    record_property("tries", len(seeds))
