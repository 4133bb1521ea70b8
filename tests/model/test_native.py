"""Comparison of the compiled layers with torch."""

import logging
import platform
import shutil
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.data.batch import Batch
from skmixmate.model.active_rows import ActiveRows
from skmixmate.model.centered import add_imputed_products
from skmixmate.model.fista import (
    encode_with_energy_drop,
    lipschitz_bound,
    unroll,
)
from skmixmate.model.native import binding
from skmixmate.model.priors import (
    AtomwiseLaplace,
    ElasticNet,
    Exponential,
    GroupLaplace,
    Laplace,
)
from skmixmate.model.spherical import SphericalMixture
from skmixmate.utils import native

LIBRARY = binding._library
# The first bytes of a library for ARM, and there for Intel and AMD.
FOREIGN_HEADER = (
    b"\x7fELF"
    + bytes(14)
    + bytes([62 if platform.machine() == "aarch64" else 183])
    + bytes(99)
)
needs_library = pytest.mark.skipif(
    binding._library is None, reason="the compiled layers were not built"
)


def problem(n_clusters=3, n_atoms=12, n_rows=40, seed=0, n_features=30):
    generator = torch.Generator().manual_seed(seed)
    dictionaries = torch.randn(n_clusters, n_atoms, n_features, generator=generator)
    dictionaries = torch.nn.functional.normalize(dictionaries, dim=2)
    rows = torch.randn(n_rows, n_features, generator=generator)
    gram = dictionaries @ dictionaries.mT
    grad = torch.randn(n_clusters, n_atoms, n_rows, generator=generator)
    return dictionaries @ rows.mT, gram, lipschitz_bound(gram).reciprocal(), grad


def priors(n_clusters, n_atoms):
    rates = torch.linspace(0.1, 0.5, n_clusters * n_atoms).view(n_clusters, n_atoms)
    return {
        "laplace": Laplace(0.2),
        "rates": AtomwiseLaplace(rates, n_features=30),
        "exponential": Exponential(0.2),
        "none": Laplace(0.0),
    }


of_any_size = given(
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 33),
    n_rows=st.integers(1, 70),
    n_layers=st.integers(1, 15),
    name=st.sampled_from(sorted(priors(1, 1))),
    seed=st.integers(0, 99),
)


def forward_and_backward(correlations, gram, step, prior, n_layers, grad):
    """Codes and both gradients, and the supports of the codes after each layer."""
    codes, tape = unroll(correlations, gram, step, prior, n_layers, keep_tape=True)
    supports = [
        unroll(correlations, gram, step, prior, layer)[0] != 0
        for layer in range(1, n_layers + 1)
    ]
    return (codes, *tape.backward(grad)), torch.stack(supports)


class LibraryWithVectors:
    """The library on a processor with vectors of `vlen` floats."""

    def __init__(self, vlen):
        self.vlen = vlen

    def __getattr__(self, name):
        return getattr(LIBRARY, name)

    def kernels_vlen(self):
        return self.vlen


@pytest.fixture(
    params=[4] if platform.machine() == "aarch64" else [8, 16], scope="module"
)
def vlen(request):
    """Every vector length that this processor supports."""
    if request.param > LIBRARY.kernels_vlen():
        pytest.skip(f"this processor has no vectors of {request.param} floats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding, "_library", LibraryWithVectors(request.param))
        yield request.param


def with_torch(*problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding, "_library", None)
        return forward_and_backward(*problem)


@pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() not in ("x86_64", "aarch64")
    or shutil.which("cc") is None,
    reason="needs a C compiler, and Linux on x86-64 or 64-bit ARM",
)
def test_library_is_built_if_there_is_a_compiler():
    assert binding._PATH.exists()


@needs_library
@settings(deadline=None, max_examples=60)
@of_any_size
def test_compiled_matches_torch(
    vlen, n_clusters, n_atoms, n_rows, n_layers, name, seed
):
    correlations, gram, step, grad = problem(n_clusters, n_atoms, n_rows, seed)
    prior = priors(n_clusters, n_atoms)[name]
    assert prior.thresholds is not None
    assert binding.can_run(correlations)
    inputs = correlations, gram, step, prior, n_layers, grad
    (expected, expected_supports), (actual, supports) = (
        with_torch(*inputs),
        forward_and_backward(*inputs),
    )
    # Codes that rounding moves across a threshold have a gradient in one of them only.
    assume(torch.equal(supports, expected_supports))
    for result, reference in zip(actual, expected, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(result, reference, rtol=1e-3, atol=1e-4 * scale)


@needs_library
def test_keep_tape_decides_whether_there_is_a_tape():
    correlations, gram, step, _ = problem()
    codes, tape = unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)
    same_codes, no_tape = unroll(correlations, gram, step, Laplace(0.2), 5)
    assert tape is not None
    assert no_tape is None
    assert torch.equal(codes, same_codes)


@needs_library
def test_codes_do_not_depend_on_the_number_of_threads():
    correlations, gram, step, grad = problem(n_clusters=2, n_rows=300)
    inputs = (correlations, gram, step, Laplace(0.2), 5, grad)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (codes, grad_correlations, grad_gram), _ = forward_and_backward(*inputs)
        torch.set_num_threads(3)
        threaded, _ = forward_and_backward(*inputs)
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(codes, threaded[0])
    assert torch.equal(grad_correlations, threaded[1])
    # Rows are summed in a different order.
    torch.testing.assert_close(grad_gram, threaded[2], rtol=1e-4, atol=1e-4)


@needs_library
def test_nan_propagates_within_its_row():
    correlations, gram, step, _ = problem(n_rows=20)
    correlations[1, 3, 17] = torch.nan
    codes, _ = unroll(correlations, gram, step, Laplace(0.2), 5)
    assert codes[1, :, 17].isnan().all()
    assert codes.isnan().sum() == codes.shape[1]


@needs_library
@pytest.mark.parametrize(
    ("dtype", "n_atoms", "n_rows"),
    [
        (torch.float64, 12, 40),
        (torch.float32, 257, 40),
        (torch.float32, 0, 40),
        (torch.float32, 12, 0),
    ],
)
def test_other_dtypes_and_sizes_use_torch(dtype, n_atoms, n_rows):
    assert binding.can_run(torch.zeros(2, 12, 40))
    assert not binding.can_run(torch.zeros(2, n_atoms, n_rows, dtype=dtype))


@pytest.mark.parametrize("prior", [ElasticNet(0.2), GroupLaplace(0.2, group_size=2)])
def test_priors_without_thresholds_use_torch(prior):
    correlations, gram, step, grad = problem()
    expected, _ = with_torch(correlations, gram, step, prior, 5, grad)
    actual, _ = forward_and_backward(correlations, gram, step, prior, 5, grad)
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "not built" if sys.platform == "linux" else "there is none"),
        (b"not a library", "damaged"),
        (FOREIGN_HEADER, "was built for"),
    ],
)
def test_labels_without_the_library(content, reason, monkeypatch, tmp_path, caplog):
    X = load_digits(n_class=3).data.astype(np.float32)
    mixmate = MixMateClustering(3, max_iter=2, random_state=0)
    labels = mixmate.fit_predict(X)
    path = tmp_path / "_kernels.so"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(binding, "_PATH", path)
    monkeypatch.delenv("SKMIXMATE_COMPILED", raising=False)
    library, actual_reason = binding.load()
    monkeypatch.setattr(binding, "_library", library)
    monkeypatch.setattr(binding, "_reason", actual_reason)
    native._log_once.cache_clear()
    caplog.set_level(logging.INFO, "skmixmate")
    assert (mixmate.fit_predict(X) == labels).all()
    assert reason in actual_reason
    (record,) = (r for r in caplog.records if "compiled code" in r.message)
    assert record.message.endswith(actual_reason)
    assert binding.implementation() == f"torch ({actual_reason})"


@needs_library
def test_a_processor_without_avx2_uses_torch(monkeypatch):
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: LibraryWithVectors(0))
    library, reason = binding.load()
    assert library is None
    assert reason == "the processor has no AVX2"


@needs_library
def test_one_thread_without_openmp_is_named(monkeypatch):
    class WithoutThreads(LibraryWithVectors):
        def kernels_has_threads(self):
            return 0

    monkeypatch.setattr(binding, "_library", WithoutThreads(8))
    expected = "compiled (AVX2; one thread, since torch has no GNU OpenMP)"
    assert binding.implementation() == expected


@needs_library
def test_memory_error_if_allocation_fails(monkeypatch):
    class OutOfMemory(LibraryWithVectors):
        def kernels_run_layers(self, layers, n_threads):
            return -1

    monkeypatch.setattr(binding, "_library", OutOfMemory(8))
    correlations, gram, step, _ = problem()
    with pytest.raises(MemoryError, match="could not allocate"):
        unroll(correlations, gram, step, Laplace(0.2), 5)


@needs_library
@settings(deadline=None, max_examples=40)
@given(
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 33),
    n_rows=st.integers(1, 40),
    n_features=st.integers(1, 99),
    n_layers=st.integers(1, 14),
    is_centered=st.booleans(),
    seed=st.integers(0, 99),
)
def test_incomplete_rows_match_torch(
    vlen, n_clusters, n_atoms, n_rows, n_features, n_layers, is_centered, seed
):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    dictionaries = torch.nn.functional.normalize(
        draw(n_clusters, n_atoms, n_features), dim=2
    )
    observed = draw(n_rows, n_features) > 0
    observed[0, 0] = False
    batch = Batch(draw(n_rows, n_features) * observed, observed)
    mixture = SphericalMixture(
        dictionaries=dictionaries,
        intercepts=draw(n_clusters, n_features) if is_centered else None,
        weights=torch.full((n_clusters,), 1 / n_clusters),
        prior=Laplace(0.2),
        n_layers=n_layers,
    )

    codes = draw(n_clusters, n_atoms, n_rows)
    blocks = ActiveRows.from_responsibilities(1 + draw(n_clusters, n_rows))
    grad_correlations = draw(len(blocks.index), n_atoms, blocks.index.shape[1])

    def results():
        gradient = torch.zeros_like(dictionaries)
        add_imputed_products(
            gradient,
            grad_correlations,
            batch,
            codes,
            dictionaries,
            mixture.intercepts,
            blocks,
        )
        return [*filter(torch.is_tensor, mixture.e_step(batch)), gradient]

    actual = results()
    with mock.patch.object(binding, "_library", None):
        expected = results()
    for compiled, in_torch in zip(actual, expected, strict=True):
        scale = 1 + float(in_torch.abs().max())
        torch.testing.assert_close(compiled, in_torch, rtol=1e-4, atol=1e-5 * scale)


@needs_library
@settings(deadline=None, max_examples=40)
@of_any_size
def test_explained_energy_matches_torch(
    vlen, n_clusters, n_atoms, n_rows, n_layers, name, seed
):
    correlations, gram, step, _ = problem(n_clusters, n_atoms, n_rows, seed)
    prior = priors(n_clusters, n_atoms)[name]
    with torch.no_grad():
        codes, explained_energy = encode_with_energy_drop(
            correlations, gram, step, prior, n_layers
        )
    expected, _ = unroll(correlations, gram, step, prior, n_layers)
    assert torch.equal(codes, expected)
    expected = (codes * (2 * correlations - gram @ codes)).sum(dim=1)
    scale = 1 + float(expected.abs().max())
    torch.testing.assert_close(explained_energy, expected, rtol=1e-3, atol=1e-5 * scale)


@needs_library
@settings(deadline=None, max_examples=40)
@given(
    n_clusters=st.integers(1, 5),
    n_atoms=st.integers(1, 23),
    n_rows=st.integers(1, 40),
    n_features=st.sampled_from([1, 15, 16, 17, 130, 300]),
    seed=st.integers(0, 99),
)
def test_gradient_products_match_torch(
    vlen, n_clusters, n_atoms, n_rows, n_features, seed
):
    generator = torch.Generator().manual_seed(seed)
    is_active = torch.rand(n_clusters, n_rows, generator=generator) > 0.5
    is_active[0, 0] = True
    blocks = ActiveRows.from_responsibilities(is_active.float())
    shape = (len(blocks.index), n_atoms, blocks.index.shape[1])
    grad_correlations = torch.randn(shape, generator=generator)
    rows = torch.randn(n_rows, n_features, generator=generator)
    gradient = torch.randn(n_clusters, n_atoms, n_features, generator=generator)
    expected = gradient.double()
    for cluster, grad, index in zip(
        blocks.cluster_ids, grad_correlations, blocks.index, strict=True
    ):
        expected[cluster] += grad.double() @ rows[index].double()
    blocks.add_gradient_products(gradient, grad_correlations, Batch(rows))
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-4)


@needs_library
def test_gradient_products_support_any_layout():
    generator = torch.Generator().manual_seed(0)
    blocks = ActiveRows.from_responsibilities(torch.ones(2, 7))
    grad_correlations = torch.randn(len(blocks.index), 5, blocks.index.shape[1])
    rows = torch.randn(7, 3, generator=generator)
    expected, transposed = torch.zeros(2, 5, 3), torch.zeros(2, 3, 5).mT
    for gradient in (expected, transposed):
        blocks.add_gradient_products(gradient, grad_correlations, Batch(rows))
    assert expected.any()
    torch.testing.assert_close(transposed, expected)


@needs_library
def test_training_with_more_atoms_than_features_matches_float64():
    # The initial atoms are not contiguous: they are stored column by column.
    rng = np.random.default_rng(0)
    X = rng.laplace(size=(200, 3)) + 20 * rng.integers(2, size=(200, 1))
    X = X.astype(np.float32)
    narrow, wide = (
        MixMateClustering(2, n_atoms=6, max_iter=5, tol=0, random_state=0).fit(data)
        for data in (X, X.astype(np.float64))
    )
    assert narrow.loss_curve_ == pytest.approx(wide.loss_curve_, rel=1e-3)
    np.testing.assert_allclose(narrow.dictionaries_, wide.dictionaries_, atol=2e-3)


@needs_library
def test_invalid_arrays_raise(monkeypatch):
    correlations, gram, step, _ = problem()
    with pytest.raises(
        ValueError, match=r"gram of kernels_run_layers should be a torch.float32"
    ):
        binding.unroll(correlations, gram.double(), step, (-1.0, 1.0), [0.0])

    def unaligned(like, shape):
        return like.new_empty(shape.numel() + 1)[1:].view(shape)

    monkeypatch.setattr(
        binding,
        "_aligned_empty",
        lambda like, shape: unaligned(like, torch.Size(shape)),
    )
    with pytest.raises(ValueError, match=r"aligned to 64 bytes if it is the tape"):
        unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)


@needs_library
def test_tape_is_aligned_in_any_memory():
    class Shifted:
        """Memory from another allocator, which starts anywhere."""

        def __init__(self, shift):
            self.shift = shift

        def element_size(self):
            return 4

        def new_empty(self, size):
            return torch.empty(size + 16)[self.shift : self.shift + size]

    for shift in range(16):
        tape = binding._aligned_empty(Shifted(shift), (2, 3, 5))
        assert tape.data_ptr() % 64 == 0
        assert tape.shape == (2, 3, 5)
        assert tape.is_contiguous()


def test_default_device_is_ignored():
    correlations, gram, step, grad = problem()
    expected, _ = forward_and_backward(correlations, gram, step, Laplace(0.2), 5, grad)
    with torch.device("meta"):
        codes, tape = unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)
        actual = codes, *tape.backward(grad)
    assert all(map(torch.equal, actual, expected))
