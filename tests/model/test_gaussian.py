import pytest
import torch

from skmixmate.model.gaussian import NormalMixture
from skmixmate.model.posterior import loss_gradient, posterior
from skmixmate.model.priors import Laplace

from .. import reference


def random_mixture(with_intercepts=False, step_size=None, n_atoms=5, n_rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dictionaries = draw(3, n_atoms, 8)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    mixture = NormalMixture(
        dictionaries=dictionaries,
        intercepts=draw(3, 8) if with_intercepts else None,
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        prior=Laplace(0.2),
        n_layers=10,
        step_size=step_size,
    )
    rows = draw(n_rows, 8)
    observed = torch.rand(n_rows, 8, generator=generator) > 0.5
    return mixture, rows * observed, observed


@pytest.mark.parametrize("masked", [False, True])
def test_energies_equal_the_published_formulation(masked):
    mixture, rows, observed = random_mixture(step_size=0.1)
    mixture.n_layers = 4
    observed = observed if masked else None
    _, energies = mixture.infer(rows, observed)
    expected = reference.energies(
        rows, mixture.dictionaries, 0.1, 0.2, 4, mixture.weights, observed
    )
    torch.testing.assert_close(energies, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_intercept_is_the_same_as_shifted_rows(masked):
    mixture, rows, observed = random_mixture(with_intercepts=True)
    observed = observed if masked else None
    codes, energies = mixture.infer(rows, observed)
    intercepts, mixture.intercepts = mixture.intercepts, None
    for k, intercept in enumerate(intercepts):
        shifted = rows - intercept
        if masked:
            shifted *= observed
        shifted_codes, shifted_energies = mixture.infer(shifted, observed)
        torch.testing.assert_close(codes[k], shifted_codes[k])
        torch.testing.assert_close(energies[k], shifted_energies[k])


def test_clusters_do_not_depend_on_one_another():
    """As many as here are worked on a few at a time."""
    generator = torch.Generator().manual_seed(0)
    n_clusters, n_atoms, n_rows = 7, 40, 1000
    settings = {
        "dictionaries": torch.randn(n_clusters, n_atoms, 50, generator=generator) / 7,
        "intercepts": torch.randn(n_clusters, 50, generator=generator),
        "weights": torch.arange(1.0, 1 + n_clusters) / 28,
    }
    others = {"prior": Laplace(0.2), "n_layers": 6}
    rows = torch.randn(n_rows, 50, generator=generator)
    together = NormalMixture(**settings, **others).infer(rows)
    alone = [
        NormalMixture(**{n: of[k : k + 1] for n, of in settings.items()}, **others)
        for k in range(n_clusters)
    ]
    for actual, expected in zip(
        together, zip(*(one.infer(rows) for one in alone), strict=True), strict=True
    ):
        torch.testing.assert_close(actual, torch.cat(expected))


@pytest.mark.parametrize("with_intercepts", [False, True])
def test_with_all_observed_it_is_as_if_nothing_was_missing(with_intercepts):
    mixture, rows, observed = random_mixture(with_intercepts)
    torch.testing.assert_close(
        mixture.infer(rows, torch.ones_like(observed)), mixture.infer(rows)
    )


@pytest.mark.parametrize("with_intercepts", [False, True])
def test_rows_are_filled_with_what_each_cluster_says_of_them(with_intercepts):
    mixture, rows, observed = random_mixture(with_intercepts)
    mixture.n_layers = 2000  # at the minimum of Eq. 3 a fill changes nothing
    precomputed = mixture.precompute()
    correlated, codes, energies = mixture.e_step(rows, observed, precomputed)
    for k in range(3):
        labels = torch.full((6,), k)
        filled = torch.where(observed, rows, mixture.decode(codes[k].mT, labels))
        again, filled_codes, filled_energies = mixture.e_step(filled, None, precomputed)
        for expected, actual in zip(again, correlated, strict=True):
            torch.testing.assert_close(actual[k], expected[k])
        torch.testing.assert_close(filled_codes[k], codes[k], atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(filled_energies[k], energies[k])


@pytest.mark.parametrize("with_intercepts", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_equals_autograd_whatever_rows_count(with_intercepts, masked):
    mixture, rows, observed = random_mixture(with_intercepts, n_rows=70)
    observed = observed if masked else None
    generator = torch.Generator().manual_seed(1)
    responsibilities = torch.rand(3, 70, generator=generator, dtype=torch.float64)
    responsibilities[1, 5:] = responsibilities[2] = 0
    gram, step = mixture.precompute()
    _, codes, energies = inferred = mixture.e_step(rows, observed, (gram, step))
    gradient = torch.ones_like(mixture.dictionaries)
    mixture.add_gradient(
        gradient, rows, observed, inferred, responsibilities, (gram, step)
    )

    filled = rows.expand(3, 70, 8)
    if masked:
        explained = [
            mixture.decode(codes[k].mT, torch.full((70,), k)) for k in range(3)
        ]
        filled = torch.where(observed, rows, torch.stack(explained))
    if with_intercepts:
        filled = filled - mixture.intercepts[:, None]
    leaf = mixture.dictionaries.clone().requires_grad_()
    _, costs = mixture.energies_from_gram(
        leaf @ filled.mT, filled.square().sum(dim=2), (leaf @ leaf.mT, step)
    )
    weights = loss_gradient(energies, responsibilities)
    (expected,) = torch.autograd.grad(costs, leaf, weights)
    torch.testing.assert_close(gradient - 1, expected)
    assert not expected[2].any()


def test_row_with_nothing_observed_has_the_weights_for_its_posterior():
    mixture, rows, observed = random_mixture(with_intercepts=True)
    _, energies = mixture.infer(0 * rows, torch.zeros_like(observed))
    torch.testing.assert_close(
        posterior(energies), mixture.weights[:, None].expand(3, 6)
    )


def test_auto_step_size_never_diverges():
    mixture, rows, _ = random_mixture(n_atoms=100)
    mixture.n_layers = 500
    codes, energies = mixture.infer(rows)
    assert energies.isfinite().all()
    assert codes.abs().max() < 10 * rows.norm(dim=1).max()


def test_decode_gives_what_the_energy_measures():
    mixture, rows, _ = random_mixture(with_intercepts=True)
    codes, energies = mixture.infer(rows)
    labels = energies.argmin(dim=0)
    own = codes[labels, :, torch.arange(6)]
    distances = (rows - mixture.decode(own, labels)).square().sum(dim=1)
    expected = distances + 0.2 * own.abs().sum(dim=1) - mixture.weights[labels].log()
    torch.testing.assert_close(energies.amin(dim=0), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_unexplained_gives_the_intercept_of_least_expected_energy(masked):
    mixture, rows, observed = random_mixture(with_intercepts=True)
    observed = observed if masked else None
    codes, energies = mixture.infer(rows, observed)
    responsibilities = posterior(energies)
    sums, counts = mixture.intercept_statistics(rows, codes, responsibilities, observed)

    intercepts = (sums / counts).requires_grad_()
    explained = codes.mT @ mixture.dictionaries + intercepts[:, None]
    squares = (rows - explained).square() * (1 if observed is None else observed)
    expected = (squares.sum(dim=2) * responsibilities).sum()
    (gradient,) = torch.autograd.grad(expected, intercepts)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
