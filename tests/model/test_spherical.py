import pytest
import torch

from skmixmate.data.batch import Batch
from skmixmate.model.posterior import loss_gradient, posterior
from skmixmate.model.priors import Laplace
from skmixmate.model.spherical import Precomputed, SphericalMixture

from .. import reference


def random_mixture(with_intercepts=False, step_size=None, n_atoms=5, n_rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dictionaries = draw(3, n_atoms, 8)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    mixture = SphericalMixture(
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
    energies = mixture.e_step(Batch(rows, observed)).energies
    expected = reference.energies(
        rows, mixture.dictionaries, 0.1, 0.2, 4, mixture.weights, observed
    )
    torch.testing.assert_close(energies, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_intercept_is_the_same_as_shifted_rows(masked):
    mixture, rows, observed = random_mixture(with_intercepts=True)
    observed = observed if masked else None
    e_step = mixture.e_step(Batch(rows, observed))
    intercepts, mixture.intercepts = mixture.intercepts, None
    for k, intercept in enumerate(intercepts):
        shifted = rows - intercept
        if masked:
            shifted *= observed
        expected = mixture.e_step(Batch(shifted, observed))
        torch.testing.assert_close(e_step.codes[k], expected.codes[k])
        torch.testing.assert_close(e_step.energies[k], expected.energies[k])


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
    together = SphericalMixture(**settings, **others).e_step(Batch(rows))
    for k in range(n_clusters):
        one = {name: tensor[k : k + 1] for name, tensor in settings.items()}
        alone = SphericalMixture(**one, **others).e_step(Batch(rows))
        torch.testing.assert_close(together.codes[k], alone.codes[0])
        torch.testing.assert_close(together.energies[k], alone.energies[0])


@pytest.mark.parametrize("with_intercepts", [False, True])
def test_mask_without_missing_entries_changes_nothing(with_intercepts):
    mixture, rows, observed = random_mixture(with_intercepts)
    masked = mixture.e_step(Batch(rows, torch.ones_like(observed)))
    complete = mixture.e_step(Batch(rows))
    torch.testing.assert_close(masked.codes, complete.codes)
    torch.testing.assert_close(masked.energies, complete.energies)


@pytest.mark.parametrize("with_intercepts", [False, True])
def test_each_cluster_imputes_missing_entries_by_its_reconstruction(with_intercepts):
    mixture, rows, observed = random_mixture(with_intercepts)
    mixture.n_layers = 2000  # at the minimum of Eq. 3 a fill changes nothing
    precomputed = mixture.precompute()
    e_step = mixture.e_step(Batch(rows, observed), precomputed)
    for k in range(3):
        decoded = mixture.decode(e_step.codes[k].mT, torch.full((6,), k))
        imputed = Batch(torch.where(observed, rows, decoded))
        again = mixture.e_step(imputed, precomputed)
        for name in ("correlations", "squared_norms", "energies"):
            actual, expected = getattr(e_step, name)[k], getattr(again, name)[k]
            torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            again.codes[k], e_step.codes[k], atol=1e-6, rtol=1e-6
        )


@pytest.mark.parametrize("with_intercepts", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_equals_autograd_for_any_responsibilities(with_intercepts, masked):
    mixture, rows, observed = random_mixture(with_intercepts, n_rows=70)
    observed = observed if masked else None
    generator = torch.Generator().manual_seed(1)
    responsibilities = torch.rand(3, 70, generator=generator, dtype=torch.float64)
    responsibilities[1, 5:] = responsibilities[2] = 0
    precomputed = mixture.precompute()
    batch = Batch(rows, observed)
    e_step = mixture.e_step(batch, precomputed)
    gradient = torch.ones_like(mixture.dictionaries)
    mixture.add_gradient(gradient, batch, e_step, responsibilities, precomputed)

    filled = rows.expand(3, 70, 8)
    if masked:
        explained = [
            mixture.decode(e_step.codes[k].mT, torch.full((70,), k)) for k in range(3)
        ]
        filled = torch.where(observed, rows, torch.stack(explained))
    if with_intercepts:
        filled = filled - mixture.intercepts[:, None]
    leaf = mixture.dictionaries.clone().requires_grad_()
    energies = mixture.energies_from_gram(
        leaf @ filled.mT,
        filled.square().sum(dim=2),
        Precomputed(leaf @ leaf.mT, precomputed.step),
    ).energies
    grad_energies = loss_gradient(e_step.energies, responsibilities)
    (expected,) = torch.autograd.grad(energies, leaf, grad_energies)
    torch.testing.assert_close(gradient - 1, expected)
    assert not expected[2].any()


def test_row_with_nothing_observed_has_the_weights_for_its_posterior():
    mixture, rows, observed = random_mixture(with_intercepts=True)
    energies = mixture.e_step(Batch(0 * rows, torch.zeros_like(observed))).energies
    torch.testing.assert_close(
        posterior(energies), mixture.weights[:, None].expand(3, 6)
    )


def test_auto_step_size_never_diverges():
    mixture, rows, _ = random_mixture(n_atoms=100)
    mixture.n_layers = 500
    codes, energies, *_ = mixture.e_step(Batch(rows))
    assert energies.isfinite().all()
    assert codes.abs().max() < 10 * rows.norm(dim=1).max()


def test_energy_is_the_squared_error_of_the_decoded_code_plus_penalty():
    mixture, rows, _ = random_mixture(with_intercepts=True)
    codes, energies, *_ = mixture.e_step(Batch(rows))
    labels = energies.argmin(dim=0)
    own = codes[labels, :, torch.arange(6)]
    distances = (rows - mixture.decode(own, labels)).square().sum(dim=1)
    expected = distances + 0.2 * own.abs().sum(dim=1) - mixture.weights[labels].log()
    torch.testing.assert_close(energies.amin(dim=0), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_m_step_minimises_the_expected_energy_over_intercepts(masked):
    mixture, rows, observed = random_mixture(with_intercepts=True)
    observed = observed if masked else None
    batch = Batch(rows, observed)
    e_step = mixture.e_step(batch)
    responsibilities = posterior(e_step.energies)
    mixture.m_step(mixture.statistics(batch, e_step, responsibilities))

    intercepts = mixture.intercepts.requires_grad_()
    explained = e_step.codes.mT @ mixture.dictionaries + intercepts[:, None]
    squares = (rows - explained).square() * (1 if observed is None else observed)
    expected = (squares.sum(dim=2) * responsibilities).sum()
    (gradient,) = torch.autograd.grad(expected, intercepts)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))
