"""The compiled layers against those of torch."""

import platform
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from skmixmate import MixMateClustering
from skmixmate.model.active_rows import ActiveRows
from skmixmate.model.fista import (
    encode_with_energy_drop,
    lipschitz_bound,
    residual_correlations,
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

LIBRARY = binding._library
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


def there_and_back(correlations, gram, step, prior, n_layers, grad):
    """Codes and both gradients; and what is not 0 after each layer."""
    codes, tape = unroll(correlations, gram, step, prior, n_layers, keep_tape=True)
    supports = [
        unroll(correlations, gram, step, prior, layer)[0] != 0
        for layer in range(1, n_layers + 1)
    ]
    return (codes, *tape.backward(grad)), torch.stack(supports)


class OfFewerLanes:
    """The library on a processor with shorter vectors."""

    def __init__(self, n_lanes):
        self.n_lanes = n_lanes

    def __getattr__(self, name):
        return getattr(LIBRARY, name)

    def layers_lanes(self):
        return self.n_lanes


@pytest.fixture(params=[8, 16], scope="module")
def n_lanes(request):
    """Each kind of vectors that this processor has."""
    if request.param > LIBRARY.layers_lanes():
        pytest.skip(f"this processor has no vectors of {request.param} floats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding, "_library", OfFewerLanes(request.param))
        yield request.param


def in_torch(*problem):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binding, "_library", None)
        return there_and_back(*problem)


@pytest.mark.skipif(
    platform.system() != "Linux"
    or platform.machine() != "x86_64"
    or shutil.which("cc") is None,
    reason="there is no compiler, or it does not make what the layers want",
)
def test_they_are_built_where_there_is_a_compiler():
    assert find_spec("skmixmate.model.native._kernels") is not None


@needs_library
@settings(deadline=None, max_examples=60)
@of_any_size
def test_they_give_what_those_of_torch_give(
    n_lanes, n_clusters, n_atoms, n_rows, n_layers, name, seed
):
    correlations, gram, step, grad = problem(n_clusters, n_atoms, n_rows, seed)
    prior = priors(n_clusters, n_atoms)[name]
    assert prior.thresholds is not None
    assert binding.can_run(correlations)
    inputs = correlations, gram, step, prior, n_layers, grad
    (expected, expected_supports), (actual, supports) = (
        in_torch(*inputs),
        there_and_back(*inputs),
    )
    # What rounding moves across a threshold has a gradient in one of them.
    assume(torch.equal(supports, expected_supports))
    for one, other in zip(actual, expected, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * scale)


@needs_library
def test_a_tape_is_kept_only_if_asked_for():
    correlations, gram, step, _ = problem()
    codes, tape = unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)
    again, none = unroll(correlations, gram, step, Laplace(0.2), 5)
    assert tape is not None
    assert none is None
    assert torch.equal(codes, again)


@needs_library
def test_threads_share_the_work_and_do_not_change_the_codes():
    correlations, gram, step, grad = problem(n_clusters=2, n_rows=300)
    inputs = (correlations, gram, step, Laplace(0.2), 5, grad)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (codes, correlation_slopes, gram_slopes), _ = there_and_back(*inputs)
        torch.set_num_threads(3)
        others, _ = there_and_back(*inputs)
    finally:
        torch.set_num_threads(n_threads)
    assert torch.equal(codes, others[0])
    assert torch.equal(correlation_slopes, others[1])
    # Sums over rows are made of other parts.
    torch.testing.assert_close(gram_slopes, others[2], rtol=1e-4, atol=1e-4)


@needs_library
def test_what_is_not_a_number_stays_none():
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
def test_other_types_and_sizes_are_left_to_torch(dtype, n_atoms, n_rows):
    assert binding.can_run(torch.zeros(2, 12, 40))
    assert not binding.can_run(torch.zeros(2, n_atoms, n_rows, dtype=dtype))


@pytest.mark.parametrize("prior", [ElasticNet(0.2), GroupLaplace(0.2, group_size=2)])
def test_other_priors_are_left_to_torch(prior):
    correlations, gram, step, grad = problem()
    expected, _ = in_torch(correlations, gram, step, prior, 5, grad)
    actual, _ = there_and_back(correlations, gram, step, prior, 5, grad)
    assert all(map(torch.equal, actual, expected))


def test_nothing_is_missed_where_they_were_not_built(monkeypatch):
    monkeypatch.setattr(binding, "find_spec", lambda name: None)
    assert binding.load() is None
    X = load_digits(n_class=3).data
    mixmate = MixMateClustering(3, max_iter=2, random_state=0)
    labels = mixmate.fit_predict(X)
    monkeypatch.setattr(binding, "_library", None)
    assert (mixmate.fit_predict(X) == labels).mean() > 0.99


def test_what_was_built_for_another_machine_is_not_loaded(monkeypatch, tmp_path):
    path = tmp_path / "_layers.so"
    path.write_bytes(b"not a library")
    monkeypatch.setattr(
        binding, "find_spec", lambda name: type("Spec", (), {"origin": str(path)})
    )
    assert binding.load() is None


@needs_library
def test_too_little_memory_is_told(monkeypatch):
    class Poor(OfFewerLanes):
        def layers_run(self, layers, n_threads):
            return -1

    monkeypatch.setattr(binding, "_library", Poor(8))
    correlations, gram, step, _ = problem()
    with pytest.raises(MemoryError, match="found no memory"):
        unroll(correlations, gram, step, Laplace(0.2), 5)


@needs_library
@settings(deadline=None, max_examples=40)
@given(
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 33),
    n_rows=st.integers(1, 40),
    n_features=st.integers(1, 33),
    is_shared=st.booleans(),
    seed=st.integers(0, 99),
)
def test_pulls_are_those_of_torch(
    n_lanes, n_clusters, n_atoms, n_rows, n_features, is_shared, seed
):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    observed = (draw(n_features, n_rows) > 0).float()
    targets = draw(*(() if is_shared else (n_clusters,)), n_features, n_rows) * observed
    dictionaries = draw(n_clusters, n_atoms, n_features)
    codes = draw(n_clusters, n_atoms, n_rows)
    actual = residual_correlations(targets, observed, dictionaries, codes)
    expected = dictionaries @ (targets - dictionaries.mT @ codes * observed)
    scale = 1 + float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * scale)


@needs_library
@settings(deadline=None, max_examples=40)
@of_any_size
def test_gains_are_what_codes_take_off_the_squared_norms(
    n_lanes, n_clusters, n_atoms, n_rows, n_layers, name, seed
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
def test_products_of_blocks_are_added_to_their_clusters(
    n_lanes, n_clusters, n_atoms, n_rows, n_features, seed
):
    generator = torch.Generator().manual_seed(seed)
    counting = torch.rand(n_clusters, n_rows, generator=generator) > 0.5
    counting[0, 0] = True
    blocks = ActiveRows.from_responsibilities(counting.float())
    shape = (len(blocks.index), n_atoms, blocks.index.shape[1])
    slopes = torch.randn(shape, generator=generator)
    rows = torch.randn(n_rows, n_features, generator=generator)
    gradient = torch.randn(n_clusters, n_atoms, n_features, generator=generator)
    expected = gradient.double()
    for owner, slope, index in zip(
        blocks.cluster_ids, slopes, blocks.index, strict=True
    ):
        expected[owner] += slope.double() @ rows[index].double()
    blocks.add_gradient_products(gradient, slopes, rows)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-4)


@needs_library
def test_products_are_added_to_a_gradient_of_any_layout():
    generator = torch.Generator().manual_seed(0)
    blocks = ActiveRows.from_responsibilities(torch.ones(2, 7))
    slopes = torch.randn(len(blocks.index), 5, blocks.index.shape[1])
    rows = torch.randn(7, 3, generator=generator)
    expected, transposed = torch.zeros(2, 5, 3), torch.zeros(2, 3, 5).mT
    for gradient in (expected, transposed):
        blocks.add_gradient_products(gradient, slopes, rows)
    assert expected.any()
    torch.testing.assert_close(transposed, expected)


@needs_library
def test_more_atoms_than_features_are_trained_as_in_float64():
    # The atoms of such a start are laid out column by column.
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
def test_arrays_that_the_library_would_read_wrongly_are_refused(monkeypatch):
    correlations, gram, step, _ = problem()
    with pytest.raises(
        ValueError, match=r"gram of layers_run should be a torch.float32"
    ):
        binding.unroll(correlations, gram.double(), step, (-1.0, 1.0), [0.0])

    def unaligned(like, shape):
        return like.new_empty(shape.numel() + 1)[1:].view(shape)

    monkeypatch.setattr(
        binding,
        "_aligned_empty",
        lambda like, shape: unaligned(like, torch.Size(shape)),
    )
    with pytest.raises(ValueError, match=r"tape on a boundary of 64 bytes"):
        unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)


@needs_library
def test_a_tape_is_aligned_whatever_memory_it_lies_in():
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


def test_the_default_device_plays_no_part():
    correlations, gram, step, grad = problem()
    expected, _ = there_and_back(correlations, gram, step, Laplace(0.2), 5, grad)
    with torch.device("meta"):
        codes, tape = unroll(correlations, gram, step, Laplace(0.2), 5, keep_tape=True)
        found = codes, *tape.backward(grad)
    assert all(map(torch.equal, found, expected))
