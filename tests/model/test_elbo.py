import math

import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from scipy.stats import multivariate_normal

from skmixmate.data.batch import Batch
from skmixmate.model.exponential import ExponentialMixture
from skmixmate.model.likelihoods import Bernoulli, Poisson
from skmixmate.model.priors import ElasticNet, Exponential, GroupLaplace, Laplace
from skmixmate.model.spherical import SphericalMixture

from ..helpers import DOUBLE

ONE = torch.tensor([[[1.0, 0.0, 0.0]], [[0.6, 0.8, 0.0]]], **DOUBLE)
TWO = torch.tensor([[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]], **DOUBLE)
SAME = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]], **DOUBLE)  # no full rank
ROWS = torch.tensor([[0.0, 0.0, 0.0], [0.5, -0.2, 0.1], [3.0, 4.0, -1.0]], **DOUBLE)


def make_mixture(
    dictionaries, prior=None, with_intercepts=False, kind=SphericalMixture, **others
):
    n_clusters = len(dictionaries)
    weights = torch.arange(1.0, 1 + n_clusters, **DOUBLE)
    intercepts = torch.linspace(-1, 1, 3 * n_clusters, **DOUBLE).view(-1, 3)
    return kind(
        dictionaries=dictionaries,
        intercepts=intercepts if with_intercepts else None,
        weights=weights / weights.sum(),
        prior=prior or Laplace(0.75),
        n_layers=15,
        **others,
    )


def bounds(mixture, rows, observed=None):
    batch = Batch(rows, observed)
    return mixture.log_evidence(batch, mixture.e_step(batch))


def integrals(mixture, rows, observed=None):
    """Logarithms of the densities of rows, by numerical integration over the codes."""
    n_clusters, n_atoms, _ = mixture.dictionaries.shape
    axis = torch.linspace(-30, 30, 1201, **DOUBLE)
    codes = torch.stack(torch.meshgrid([axis] * n_atoms, indexing="ij")).flatten(1)
    log_priors = -mixture.prior.value(codes[None])[0]
    log_priors -= mixture.prior.log_normalizer(n_atoms)
    mask = torch.ones_like(rows) if observed is None else observed.to(rows.dtype)
    logs = []
    for row, row_mask in zip(rows, mask, strict=True):
        total = 0.0
        for k in range(n_clusters):
            explained = mixture.dictionaries[k].mT @ codes
            if mixture.intercepts is not None:
                explained += mixture.intercepts[k, :, None]
            log_joint = log_priors + row_mask @ log_density(mixture, row, explained)
            density = log_joint.exp().view([len(axis)] * n_atoms)
            for _ in range(n_atoms):
                density = simpson(density, x=axis.numpy())
            total += float(mixture.weights[k]) * float(density)
        logs.append(math.log(total))
    return torch.tensor(logs, **DOUBLE)


def log_density(mixture, row, explained):
    """Log-density of each entry, (n_features, n_codes)."""
    row = row[:, None]
    if isinstance(mixture, ExponentialMixture):
        likelihood = mixture.likelihood
        log_base_measure = likelihood.log_base_measure(row)
        cumulant = likelihood.cumulant(explained, row)
        return row * explained - cumulant + log_base_measure
    variance = mixture.noise_variance
    errors = (row - explained).square() / (2 * variance)
    return -errors - math.log(2 * math.pi * variance) / 2


def assert_bounds(mixture, *data, within):
    gaps = integrals(mixture, *data) - bounds(mixture, *data)
    assert gaps.min() > -1e-6  # error of the integration
    assert gaps.max() < within


PRIORS = [
    Laplace(0.75),
    Laplace(3.0),
    ElasticNet(0.75, ridge=0.5),
    ElasticNet(0.75, ridge=0.0),
]


@pytest.mark.parametrize("prior", PRIORS, ids=str)
@pytest.mark.parametrize("noise_variance", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("dictionaries", [ONE, TWO, SAME], ids=["one", "two", "same"])
def test_bound_is_below_the_integral_and_close(dictionaries, noise_variance, prior):
    mixture = make_mixture(dictionaries, prior, noise_variance=noise_variance)
    assert_bounds(mixture, ROWS, within=0.5)


def test_bound_with_default_parameters_is_tight():
    assert_bounds(make_mixture(ONE), ROWS, within=0.02)
    assert_bounds(make_mixture(TWO), ROWS, within=0.05)


@pytest.mark.parametrize("group_size", [1, 2, 3])  # of three there are only two
def test_bound_for_groups(group_size):
    mixture = make_mixture(TWO, GroupLaplace(0.75, group_size))
    assert_bounds(mixture, ROWS, within=0.5)


@pytest.mark.parametrize("with_intercepts", [False, True])
def test_bound_ignores_missing_entries(with_intercepts):
    mixture = make_mixture(ONE, with_intercepts=with_intercepts)
    observed = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 1]]) == 1
    assert_bounds(mixture, ROWS * observed, observed, within=0.1)
    everything = torch.ones_like(observed)
    torch.testing.assert_close(bounds(mixture, ROWS, everything), bounds(mixture, ROWS))
    nothing = bounds(mixture, 0 * ROWS, ~everything)
    assert ((nothing <= 0) & (nothing > -0.1)).all()


def test_bound_is_exact_for_a_normal_prior():
    # With a negligible alpha, only the ridge remains: x is normal.
    mixture = make_mixture(ONE[:1], ElasticNet(1e-9, ridge=0.25))
    covariance = 0.5 * np.eye(3) + 4 * np.outer(ONE[0, 0], ONE[0, 0])
    expected = multivariate_normal(np.zeros(3), covariance).logpdf(ROWS)
    np.testing.assert_allclose(bounds(mixture, ROWS), expected, rtol=1e-6)


def test_bound_without_atoms_is_a_mixture_of_normals():
    mixture = make_mixture(ONE[:, :0], noise_variance=0.3, with_intercepts=True)
    densities = [
        float(weight) * multivariate_normal(intercept, 0.3).pdf(ROWS)
        for weight, intercept in zip(mixture.weights, mixture.intercepts, strict=True)
    ]
    expected = np.log(np.sum(densities, axis=0))
    np.testing.assert_allclose(bounds(mixture, ROWS), expected)


def test_bound_in_float32_matches_float64():
    generator = torch.Generator().manual_seed(0)
    dictionaries = torch.randn(2, 40, 20, generator=generator)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    rows = torch.randn(50, 20, generator=generator)
    for noise_variance in (1e-4, 0.5):
        single = make_mixture(dictionaries, noise_variance=noise_variance)
        double = make_mixture(dictionaries.double(), noise_variance=noise_variance)
        answer = bounds(single, rows)
        assert answer.dtype == torch.float32
        torch.testing.assert_close(
            answer.double(), bounds(double, rows.double()), rtol=1e-3, atol=1e-2
        )


def test_bound_is_minus_infinity_without_a_density():
    assert (bounds(make_mixture(TWO, Laplace(0.0)), ROWS) == -math.inf).all()
    assert (bounds(make_mixture(TWO, GroupLaplace(0.0)), ROWS) == -math.inf).all()


def test_bound_without_known_density_uses_energies():
    mixture = make_mixture(ONE, Exponential(0.75))
    energies = mixture.e_step(Batch(ROWS)).energies
    torch.testing.assert_close(bounds(mixture, ROWS), (-energies).logsumexp(dim=0))


@pytest.mark.parametrize("masked", [False, True])
def test_expected_squared_error_matches_integration(masked):
    mixture = make_mixture(ONE, noise_variance=0.4, with_intercepts=True)
    observed = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 1]]) == 1 if masked else None
    rows = ROWS * observed if masked else ROWS
    mask = observed if masked else torch.ones_like(rows)
    responsibilities = torch.tensor([[0.3, 1.0, 0.0], [0.7, 0.0, 1.0]], **DOUBLE)
    batch = Batch(rows, observed)
    statistics = mixture.statistics(
        batch, mixture.e_step(batch), responsibilities, learn_noise=True
    )
    actual, n_entries = statistics.noise.tolist()
    assert n_entries == mask.sum()

    x = torch.linspace(-14, 14, 2001, **DOUBLE)
    expected = 0.0
    for k in range(2):
        explained = mixture.intercepts[k] + x[:, None] * ONE[k]  # (n_codes, n_features)
        squares = ((rows[:, None] - explained).square() * mask[:, None]).sum(dim=2)
        weights = torch.softmax(-squares / 0.8 - 0.75 * x.abs(), dim=1)
        expected += responsibilities[k] @ (weights * squares).sum(dim=1)
    assert actual == pytest.approx(float(expected), rel=0.02)


# --- other likelihoods ----------------------------------------------------------------

COUNTS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 2.0], [20.0, 7.0, 0.0]], **DOUBLE)
BINARY = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]], **DOUBLE)

with_likelihoods = pytest.mark.parametrize(
    ("likelihood", "rows"),
    [pytest.param(Poisson(), COUNTS, id="counts"), pytest.param(Bernoulli(), BINARY)],
)


def make_exponential(dictionaries, likelihood, **others):
    return make_mixture(
        dictionaries, kind=ExponentialMixture, likelihood=likelihood, **others
    )


@pytest.mark.parametrize("prior", [*PRIORS, GroupLaplace(0.75, 2)], ids=str)
@pytest.mark.parametrize("dictionaries", [ONE, TWO, SAME], ids=["one", "two", "same"])
@pytest.mark.parametrize("with_intercepts", [False, True])
@with_likelihoods
def test_bound_of_other_likelihoods_is_below_the_integral(
    likelihood, rows, with_intercepts, dictionaries, prior
):
    mixture = make_exponential(
        dictionaries, likelihood, prior=prior, with_intercepts=with_intercepts
    )
    # Equal atoms can divide a code in any way, so that its posterior is not normal.
    assert_bounds(mixture, rows, within=0.7 if dictionaries is SAME else 0.5)


@with_likelihoods
def test_bound_of_other_likelihoods_ignores_missing_entries(likelihood, rows):
    mixture = make_exponential(ONE, likelihood, with_intercepts=True)
    observed = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 1]]) == 1
    assert_bounds(mixture, rows * observed, observed, within=0.3)
    everything = torch.ones_like(observed)
    torch.testing.assert_close(bounds(mixture, rows, everything), bounds(mixture, rows))


@with_likelihoods
def test_bound_of_other_likelihoods_without_atoms_is_exact(likelihood, rows):
    mixture = make_exponential(ONE[:, :0], likelihood, with_intercepts=True)
    energies = mixture.e_step(Batch(rows)).energies
    torch.testing.assert_close(bounds(mixture, rows), (-energies).logsumexp(dim=0))


@with_likelihoods
@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_bound_of_other_likelihoods_is_finite_for_large_codes(likelihood, rows, size):
    """The means and variances of large codes are near the largest float."""
    generator = torch.Generator().manual_seed(0)
    dictionaries = torch.randn(2, 40, 20, generator=generator)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    mixture = make_exponential(dictionaries, likelihood, prior=Laplace(0.05))
    rows = torch.rand(50, 20, generator=generator)
    rows = (size * rows).round() if isinstance(likelihood, Poisson) else rows.round()
    answer = bounds(mixture, rows)
    assert answer.dtype == torch.float32
    assert answer.isfinite().all()
