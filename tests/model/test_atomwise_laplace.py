import numpy as np
import pytest
import torch

from skmixmate.data.batch import Batch
from skmixmate.model.atomwise_laplace import AtomwiseLaplace
from skmixmate.model.fista import encode, lipschitz_bound
from skmixmate.model.priors import Laplace
from skmixmate.model.spherical import SphericalMixture

from ..helpers import DOUBLE


def rates(n_clusters=3, n_atoms=5):
    values = np.random.default_rng(0).uniform(0.2, 2, size=(n_clusters, n_atoms))
    return torch.from_numpy(values)


def test_gradcheck_through_the_encoder():
    generator = torch.Generator().manual_seed(0)
    dictionaries = torch.randn(2, 5, 8, generator=generator, **DOUBLE)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    rows = 2 * torch.randn(6, 8, generator=generator, **DOUBLE)
    step = lipschitz_bound(dictionaries @ dictionaries.mT).reciprocal()
    dictionaries.requires_grad_()
    prior = AtomwiseLaplace(rates(*dictionaries.shape[:2]), n_features=8)
    assert torch.autograd.gradcheck(
        lambda a: encode(a @ rows.mT, a @ a.mT, step, prior, 6), dictionaries
    )


def test_value_grad_equals_autograd():
    generator = torch.Generator().manual_seed(0)
    prior = AtomwiseLaplace(torch.linspace(0.1, 1, 12, **DOUBLE).view(2, 6), 4)
    codes = torch.randn(2, 6, 5, generator=generator, **DOUBLE)
    codes[:, 0] = 0
    row_weights = torch.rand(2, 5, generator=generator, **DOUBLE)
    leaf = codes.clone().requires_grad_()
    (expected,) = torch.autograd.grad(prior.value(leaf), leaf, row_weights)
    torch.testing.assert_close(prior.value_grad(codes, row_weights), expected)


def test_equal_rates_equal_laplace():
    points = torch.randn(3, 5, 7, dtype=torch.float64)
    step, laplace = torch.ones(3, 1, 1), Laplace(0.3)
    atomwise = AtomwiseLaplace(torch.full((3, 5), 0.3, **DOUBLE), n_features=8)
    codes = [
        prior.prox_scaled(points, step, points.clone()) for prior in (laplace, atomwise)
    ]
    torch.testing.assert_close(*codes)
    torch.testing.assert_close(laplace.value(codes[0]), atomwise.value(codes[0]))
    assert atomwise.log_normalizer_ratio().unique().numel() == 1


def test_log_normalizer_ratio_of_one_atom_equals_numerical_integration():
    prior = AtomwiseLaplace(torch.tensor([[0.2], [1.0], [5.0]]).double(), n_features=1)
    reach = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    points = reach.expand(3, 1, -1)
    codes = prior.prox_scaled(
        points, torch.ones(3, 1, 1), torch.empty(points.shape).double()
    )
    energies = (points - codes).square().sum(dim=1) + prior.value(codes)
    integrals = torch.trapezoid(torch.exp(-energies), reach, dim=1)
    expected = (integrals / np.sqrt(np.pi)).log()
    torch.testing.assert_close(
        prior.log_normalizer_ratio()[:, 0], expected, rtol=1e-5, atol=1e-12
    )


@pytest.mark.parametrize("noise_variance", [0.05, 0.5, 3.0])
def test_densities_of_different_rates_integrate_to_the_same(
    noise_variance,
):
    mixture = SphericalMixture(
        dictionaries=torch.ones(3, 1, 1).double(),
        intercepts=None,
        weights=torch.full((3,), 1 / 3).double(),
        prior=AtomwiseLaplace(torch.tensor([[0.2], [1.0], [5.0]]).double(), 1),
        n_layers=30,
        noise_variance=noise_variance,
    )
    axis = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    energies = mixture.e_step(Batch(axis[:, None])).energies
    integrals = torch.trapezoid(torch.exp(-energies), axis, dim=1)
    torch.testing.assert_close(integrals, integrals[:1].expand(3), rtol=1e-5, atol=0)


def test_density_is_a_product_of_laplace_densities():
    atom_rates = rates(2, 3).double()
    prior = AtomwiseLaplace(atom_rates, n_features=8)
    for k in range(2):
        cluster = prior[slice(k, k + 1)]
        factors = [Laplace(float(rate)) for rate in atom_rates[k]]
        assert cluster.log_normalizer(3) == pytest.approx(
            sum(laplace.log_normalizer(1) for laplace in factors)
        )
        codes = cluster.sample(20_000, 3, np.random.RandomState(0))
        magnitudes = np.abs(codes).mean(axis=0)
        np.testing.assert_allclose(magnitudes, 1 / atom_rates[k], rtol=0.05)
        means, variances = torch.randn(2, 1, 3, 4, dtype=torch.float64).abs()
        expected = sum(
            laplace.expected_value(means[:, [d]], variances[:, [d]])
            for d, laplace in enumerate(factors)
        )
        torch.testing.assert_close(cluster.expected_value(means, variances), expected)


def test_log_normalizer_ratio_weights_atoms_by_their_observed_part():
    prior = AtomwiseLaplace(rates(3, 2), n_features=2)
    atoms = torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
    observed = torch.tensor([[0.0, 1, 0, 1], [0, 0, 1, 1]]).double()  # features first
    log_ratio = prior.log_normalizer_ratio(atoms, observed)  # (n_clusters, n_rows)
    assert not log_ratio[:, 0].any()
    torch.testing.assert_close(log_ratio[:, 1] + log_ratio[:, 2], log_ratio[:, 3])
    torch.testing.assert_close(log_ratio[:, 3:], prior.log_normalizer_ratio())


@pytest.mark.parametrize("n_atoms", [4, 40])
def test_log_normalizer_ratio_of_more_atoms_than_features_is_limited(n_atoms):
    small, large = (
        AtomwiseLaplace(torch.full((1, n_atoms), rate), n_features=4)
        .log_normalizer_ratio()
        .item()
        for rate in (0.02, 0.01)
    )
    assert large - small == pytest.approx(4 * np.log(2), rel=1e-2)


def test_indexing_selects_the_rates_of_clusters():
    prior = AtomwiseLaplace(rates(), n_features=8)
    codes = torch.randn(3, 5, 7, dtype=torch.float64)
    chunk = slice(1, 3)
    torch.testing.assert_close(
        prior[chunk].value(codes[chunk]), prior.value(codes)[chunk]
    )
    torch.testing.assert_close(
        prior[chunk].log_normalizer_ratio(), prior.log_normalizer_ratio()[chunk]
    )
