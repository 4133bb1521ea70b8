"""Random problems in the compiled code, built with sanitizers.

They run in a separate process, as the library of the sanitizer has to be loaded first.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    "layers": ROOT / "skmixmate" / "model" / "native" / "kernels.c",
    "scattering": ROOT / "skmixmate" / "image" / "native" / "scattering.c",
}

needs_compiler = pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() != "x86_64"
    or shutil.which("gcc") is None,
    reason="needs gcc for x86-64 Linux",
)

# Sanitizers slow the code down several times.
_COST = 4

# All arrays have their exact sizes, so that reading beyond one is detected.
LAYERS = """
import ctypes, sys
import numpy as np, torch
from skmixmate.data.batch import Batch
from skmixmate.model.active_rows import ActiveRows
from skmixmate.model.centered import add_imputed_products
from skmixmate.model.fista import encode_with_energy_drop, lipschitz_bound, unroll
from skmixmate.model.incomplete import encode_incomplete
from skmixmate.model.native import binding
from skmixmate.model.priors import AtomwiseLaplace, Exponential, Laplace

library = ctypes.CDLL(sys.argv[1])
max_vlen = library.kernels_vlen()

class Library:
    def __getattr__(self, name):
        return getattr(library, name)

    def kernels_vlen(self):
        return self.vlen

binding._library = Library()
for seed in map(int, sys.argv[2:]):
    print("seed", seed, flush=True)
    rng = np.random.default_rng(seed)
    binding._library.vlen = min(max_vlen, int(rng.choice([8, 16])))
    torch.set_num_threads(int(rng.integers(1, 4)))
    K, D, P, N, L = (int(rng.integers(1, top)) for top in (6, 71, 71, 71, 17))

    def draw(*shape):
        values = 10.0 ** rng.uniform(-20, 15) * rng.normal(size=shape)
        if rng.random() < 0.1:
            values.flat[rng.integers(values.size)] = rng.choice([np.nan, np.inf, 1e-40])
        return torch.from_numpy(values.astype(np.float32))

    dictionaries = torch.nn.functional.normalize(draw(K, D, P).nan_to_num(), dim=2)
    gram = dictionaries @ dictionaries.mT
    step = lipschitz_bound(gram).reciprocal()
    prior = rng.choice([
        Laplace(0.2), Laplace(0.0), Exponential(0.3),
        AtomwiseLaplace(torch.ones(K, D), P),
    ])
    codes, tape = unroll(draw(K, D, N), gram, step, prior, L, keep_tape=True)
    tape.backward(draw(K, D, N))
    with torch.no_grad():
        encode_with_energy_drop(draw(K, D, N), gram, step, prior, L)
    observed = (torch.from_numpy(rng.random((P, N))) < 0.5).float()
    targets = draw(P, N) if rng.random() < 0.5 else draw(K, P, N)
    encode_incomplete(targets, observed, dictionaries, gram, step, prior, L)
    is_active = torch.from_numpy(rng.random((K, N))) < rng.random()
    is_active[0, 0] = True
    blocks = ActiveRows.from_responsibilities(is_active.float())
    grad_correlations = draw(len(blocks.index), D, blocks.index.shape[1])
    gradient = torch.zeros(K, D, P)
    blocks.add_gradient_products(gradient, grad_correlations, Batch(draw(N, P)))
    incomplete = Batch(draw(N, P), observed.mT.bool())
    intercepts = draw(K, P) if rng.random() < 0.5 else None
    imputation = (codes, dictionaries, intercepts, blocks)
    add_imputed_products(gradient, grad_correlations, incomplete, *imputation)
print("done")
"""

SCATTERING = """
import ctypes, sys
import numpy as np, torch
from skmixmate.image.native import binding

binding._library = ctypes.CDLL(sys.argv[1])
for seed in map(int, sys.argv[2:]):
    print("seed", seed, flush=True)
    rng = np.random.default_rng(seed)
    torch.set_num_threads(int(rng.integers(1, 4)))
    height, width, n_images = (int(rng.integers(2, top)) for top in (50, 50, 40))
    J = int(rng.integers(1, min(height, width).bit_length()))
    L, order = int(rng.integers(1, 9)), int(rng.integers(1, 3))
    scattering = binding.CompiledScattering((height, width), J, L, order)
    images = rng.normal(size=(n_images - 1, height, width)).astype(np.float32)
    scattering.transform(torch.from_numpy(images))
print("done")
"""

PROGRAMS = {"layers": LAYERS, "scattering": SCATTERING}


@pytest.fixture(params=list(SOURCES))
def part(request):
    return request.param


@pytest.fixture
def environment(part, tmp_path):
    """Build a library; return its path and the environment of the process."""
    path = tmp_path / f"{part}.so"
    flags = ["-O1", "-g", "-fPIC", "-shared", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=undefined", "-fno-math-errno"]
    command = ["gcc", *flags, str(SOURCES[part]), "-o", str(path)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"gcc has no sanitizers here: {built.stderr[-200:]}")
    libraries = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    variables = {
        "LD_PRELOAD": " ".join(libraries),
        # Python does not free all memory before the process ends.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "OMP_WAIT_POLICY": "passive",  # there may be more threads than processors
        "PYTHONPATH": str(ROOT),
    }
    return path, {**os.environ, **variables}


@needs_compiler
def test_sanitizers_find_nothing(request, part, environment, record_property):
    path, variables = environment
    first, n_tries = (request.config.getoption(name) for name in ("seed", "tries"))
    seeds = range(first, first + max(1, n_tries // _COST))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAMS[part], str(path), *map(str, seeds)],
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
