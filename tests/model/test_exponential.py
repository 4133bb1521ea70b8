import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from skmixmate.data.batch import Batch
from skmixmate.model.exponential import ExponentialMixture
from skmixmate.model.likelihoods import Bernoulli, NegativeBinomial, Poisson
from skmixmate.model.mixture import EStep
from skmixmate.model.posterior import loss, posterior, thresholded_responsibilities
from skmixmate.model.priors import (
    ElasticNet,
    Exponential,
    GroupLaplace,
    Laplace,
    as_prior,
)
from skmixmate.model.proximal_gradient import proximal_gradient

from ..helpers import DuckNet

LIKELIHOODS = [
    pytest.param(Poisson(), id="poisson"),
    pytest.param(Bernoulli(), id="bernoulli"),
    pytest.param(NegativeBinomial(0.5), id="negative_binomial"),
]
PRIORS = [
    pytest.param(prior, id=type(prior).__name__)
    for prior in (
        Laplace(0.3),
        Exponential(0.3),
        GroupLaplace(0.3, 2),
        ElasticNet(0.3, 0.2),
        as_prior(DuckNet(), None),
    )
]


def with_all_combinations(test):
    for name, values in {
        "likelihood": LIKELIHOODS,
        "prior": PRIORS,
        "with_intercepts": [False, True],
        "masked": [False, True],
    }.items():
        test = pytest.mark.parametrize(name, values)(test)
    return test


def random_mixture(likelihood, prior=None, n_layers=15, with_intercepts=True):
    """Three clusters of five atoms, twelve features."""
    generator = torch.Generator().manual_seed(0)
    like = {"generator": generator, "dtype": torch.float64}
    dictionaries = torch.randn(3, 5, 12, **like)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    return ExponentialMixture(
        dictionaries=dictionaries,
        intercepts=torch.randn(3, 12, **like) / 2 if with_intercepts else None,
        weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        prior=prior or Laplace(0.3),
        n_layers=n_layers,
        likelihood=likelihood,
    )


def random_rows(likelihood, n_rows=8):
    generator = torch.Generator().manual_seed(1)
    like = {"generator": generator, "dtype": torch.float64}
    natural = 1.5 * torch.randn(n_rows, 12, **like)
    if likelihood.is_nonnegative:
        rows = torch.poisson(natural.exp(), generator=generator)
    else:
        rows = torch.bernoulli(natural.sigmoid(), generator=generator)
    return rows, torch.rand(n_rows, 12, **like) > 0.3


def masked_rows(likelihood, masked, n_rows=8):
    rows, observed = random_rows(likelihood, n_rows)
    return (rows * observed, observed) if masked else (rows, None)


def log_densities(likelihood, natural, rows):
    """Written with the distributions of torch."""
    if isinstance(likelihood, Poisson):
        distribution = torch.distributions.Poisson(natural.exp())
    elif isinstance(likelihood, Bernoulli):
        distribution = torch.distributions.Bernoulli(logits=natural)
    else:
        r = 1 / likelihood.dispersion
        distribution = torch.distributions.NegativeBinomial(
            r, logits=natural - math.log(r)
        )
    return distribution.log_prob(rows)


def cost(mixture, k, rows, observed, codes):
    """Energy but for the weight, written out; codes are (n_rows, n_atoms)."""
    natural = codes @ mixture.dictionaries[k]
    if mixture.intercepts is not None:
        natural = natural + mixture.intercepts[k]
    log_density = log_densities(mixture.likelihood, natural, rows)
    mask = 1 if observed is None else observed
    return -(log_density * mask).sum(dim=1) + mixture.prior.value(codes.mT[None])[0]


@pytest.mark.combinations(7)
@pytest.mark.slow
@with_all_combinations
def test_codes_minimise_the_energy(likelihood, prior, with_intercepts, masked):
    mixture = random_mixture(likelihood, prior, 500, with_intercepts)
    rows, observed = masked_rows(likelihood, masked, n_rows=2)
    codes, energies, *_ = mixture.e_step(Batch(rows, observed))
    for k, log_weight in enumerate(mixture.weights.log()):
        energy = cost(mixture, k, rows, observed, codes[k].mT)
        torch.testing.assert_close(energies[k], energy - log_weight)
        for i, row in enumerate(rows):
            row_observed = None if observed is None else observed[i : i + 1]

            def objective(code, k=k, row=row, row_observed=row_observed):
                code = torch.from_numpy(code)[None]
                energy = cost(mixture, k, row[None], row_observed, code)
                return float(energy.nan_to_num(torch.inf))

            bounds = [(0, 50)] * 5 if isinstance(prior, Exponential) else None
            start = codes[k, :, i].numpy() + 0.1
            options = {"xtol": 1e-7, "ftol": 1e-10}
            solved = minimize(
                objective, start, bounds=bounds, method="Powell", options=options
            )
            assert float(energy[i]) <= solved.fun + 1e-4
    if isinstance(prior, Exponential):
        assert (codes >= 0).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_few_layers_nearly_reach_the_minimum(likelihood):
    """Most of the way for nearly all rows, even such as no code explains."""
    rows, _ = random_rows(likelihood, 200)
    nothing, few, many = (
        random_mixture(likelihood, n_layers=n_layers).e_step(Batch(rows)).energies
        for n_layers in (0, 15, 1000)
    )
    assert (few - many <= 0.02 * (nothing - many) + 1e-6).double().mean() > 0.9
    assert (few <= nothing + 1e-9).all()


def test_codes_of_extreme_rows_converge():
    """Thousands of events where one was expected, in float32."""
    dictionaries = torch.eye(3)[None]
    codes, natural = proximal_gradient(
        dictionaries,
        torch.zeros(1, 3, 1),
        torch.tensor([[5000.0], [1.0], [0.0]]),
        None,
        Poisson(),
        Laplace(1.0),
        n_layers=60,
    )
    assert natural.isfinite().all()
    assert natural[0, 0, 0].exp().item() == pytest.approx(4999, rel=0.01)
    assert codes[0, 1, 0] == 0


class Shrink(torch.autograd.Function):
    """A prior's own proximal operator and way back, which test_priors checks."""

    @staticmethod
    def forward(ctx, points, step, prior):
        codes = prior.prox_scaled(points, step, out=torch.empty_like(points))
        ctx.save_for_backward(points, codes, step)
        ctx.prior = prior
        return codes

    @staticmethod
    def backward(ctx, grad):
        points, codes, step = ctx.saved_tensors
        grad = grad.clone()
        ctx.prior.prox_vjp_(grad, codes, points, step)
        return grad, None, None


def plain_codes(mixture, k, dictionary, rows, observed):
    """One cluster's codes (n_rows, n_atoms), layer by layer under autograd."""
    likelihood, mask = mixture.likelihood, 1 if observed is None else observed
    offset = 0 if mixture.intercepts is None else mixture.intercepts[k]

    def means(codes):
        return likelihood.cumulant_grad(offset + codes @ dictionary, rows)

    def grad_codes(codes):
        return ((rows - means(codes)) * mask) @ dictionary.mT

    codes = points = rows.new_zeros(len(rows), len(dictionary))
    first = grad_codes(points).detach()
    curvatures = (
        likelihood.cumulant_hess((rows + means(points).detach()) / 2, rows) * mask
    )
    curved = ((first @ dictionary.detach()).square() * curvatures).sum(dim=1)
    step, t = (first.square().sum(dim=1) / curved)[:, None], rows.new_ones(1)
    for _ in range(mixture.n_layers):
        prox_in = points / step + grad_codes(points)
        candidate = (
            step * Shrink.apply(prox_in.mT[None], step.mT[None], mixture.prior)[0].mT
        )
        with torch.no_grad():
            natural_change = ((candidate - points) @ dictionary) * mask
            curvature = ((means(candidate) - means(points)) * natural_change).sum(
                dim=1, keepdim=True
            )
            length = (candidate - points).square().sum(dim=1, keepdim=True)
            accept = step * curvature <= (1 + 1e-3) * length
            shrinkage = (step * curvature / length).nan_to_num(16.0).clamp(2, 16)
        t_next = (1 + (1 + 4 * t.square()).sqrt()) / 2
        extrapolated = candidate + (t - 1) / t_next * (candidate - codes)
        points, codes = (
            torch.where(accept, extrapolated, codes),
            torch.where(accept, candidate, codes),
        )
        t = torch.where(accept, t_next, 1)
        step = torch.where(accept, step, step / shrinkage)
    return codes


@with_all_combinations
def test_gradient_equals_autograd_through_the_layers(
    likelihood, prior, with_intercepts, masked
):
    """With steps taken as the constants that they are said to be."""
    mixture = random_mixture(likelihood, prior, 6, with_intercepts)
    rows, observed = masked_rows(likelihood, masked)
    with torch.no_grad():
        batch = Batch(rows, observed)
        e_step = mixture.e_step(batch)
        responsibilities = thresholded_responsibilities(e_step.energies)
        actual = torch.zeros_like(mixture.dictionaries)
        mixture.add_gradient(actual, batch, e_step, responsibilities, None)
    leaf = mixture.dictionaries.clone().requires_grad_()
    mixture.dictionaries = leaf
    plain = [plain_codes(mixture, k, leaf[k], rows, observed) for k in range(3)]
    torch.testing.assert_close(torch.stack(plain).mT, e_step.codes)
    costs = [cost(mixture, k, rows, observed, plain[k]) for k in range(3)]
    total = loss(torch.stack(costs) - mixture.weights.log()[:, None]).sum()
    (expected,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_missing_entries_do_not_matter(likelihood):
    mixture = random_mixture(likelihood)
    rows, observed = random_rows(likelihood)
    other = torch.where(observed, rows, 1 - rows.clamp_max(1))
    whole = torch.ones_like(observed)
    for first, second in [
        (Batch(rows, observed), Batch(other, observed)),
        (Batch(rows, whole), Batch(rows)),
    ]:
        torch.testing.assert_close(
            mixture.e_step(first).codes, mixture.e_step(second).codes
        )
        torch.testing.assert_close(
            mixture.e_step(first).energies, mixture.e_step(second).energies
        )


def test_posterior_of_an_empty_row_equals_the_weights():
    mixture = random_mixture(Poisson())
    rows, observed = random_rows(Poisson())
    batch = Batch(0 * rows, torch.zeros_like(observed))
    energies = mixture.e_step(batch).energies
    torch.testing.assert_close(
        posterior(energies), mixture.weights[:, None].expand(3, 8)
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_intercepts_converge_to_the_maximum_of_the_likelihood(likelihood, masked):
    mixture = random_mixture(likelihood)
    rows, observed = masked_rows(likelihood, masked, 300)
    batch = Batch(rows, observed)
    e_step = mixture.e_step(batch)
    responsibilities = thresholded_responsibilities(e_step.energies)
    for _ in range(50):
        mixture.m_step(mixture.statistics(batch, e_step, responsibilities))
    mask = torch.ones_like(rows) if observed is None else observed.to(rows.dtype)
    for k in range(3):
        explained = e_step.codes[k].mT @ mixture.dictionaries[k]
        natural = explained + mixture.intercepts[k]
        residual = (rows - likelihood.cumulant_grad(natural, rows)) * mask
        gradient = responsibilities[k] @ residual
        # Of the additional row, one half everywhere.
        gradient += 0.5 - likelihood.cumulant_grad(mixture.intercepts[k], 0.5)
        torch.testing.assert_close(
            gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0
        )


def test_newton_steps_of_intercepts_are_limited():
    """From a rate of a thousandth to one of ten, Newton's step is ten thousand."""
    mixture = random_mixture(Poisson())
    mixture.intercepts = torch.full_like(mixture.intercepts, -7)
    codes = torch.zeros(3, 5, 100, dtype=torch.float64)
    rows = torch.full((100, 12), 10.0, dtype=torch.float64)
    e_step = EStep(codes, torch.zeros(3, 100, dtype=torch.float64))
    responsibilities = torch.full((3, 100), 1 / 3, dtype=torch.float64)
    mixture.m_step(mixture.statistics(Batch(rows), e_step, responsibilities))
    torch.testing.assert_close(
        mixture.intercepts, torch.full_like(mixture.intercepts, -6)
    )


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_decode_returns_means(likelihood):
    mixture = random_mixture(likelihood)
    rows, _ = random_rows(likelihood)
    codes, energies, *_ = mixture.e_step(Batch(rows))
    labels = energies.argmin(dim=0)
    decoded = mixture.decode(codes[labels, :, torch.arange(8)], labels)
    for row, label, i in zip(decoded, labels, range(8), strict=True):
        natural = codes[label, :, i] @ mixture.dictionaries[label]
        natural = natural + mixture.intercepts[label]
        torch.testing.assert_close(row, likelihood.mean(natural))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evidence_bound_is_below_the_integral_and_close(likelihood):
    mixture = random_mixture(likelihood)
    mixture.dictionaries = mixture.dictionaries[:, :1]
    rows, _ = random_rows(likelihood)
    bounds = mixture.log_evidence(Batch(rows), mixture.e_step(Batch(rows)))
    x = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    integrals = []
    for k in range(3):
        natural = mixture.intercepts[k] + x[:, None] * mixture.dictionaries[k]
        log_density = log_densities(likelihood, natural, rows[:, None]).sum(dim=2)
        joint = (log_density - 0.3 * x.abs() + math.log(0.15)).exp()
        integrals.append(mixture.weights[k] * torch.trapezoid(joint, x))
    gaps = sum(integrals).log() - bounds
    assert gaps.min() > -1e-6
    assert gaps.max() < 0.2


def drawn_counts(dispersion, n_rows=2000):
    """Draw rows of two clusters of two atoms, and return their mixture."""
    rng = np.random.RandomState(0)
    dictionaries = rng.standard_normal((2, 2, 30))
    dictionaries /= np.linalg.norm(dictionaries, axis=2, keepdims=True)
    intercepts = 1.5 + rng.standard_normal((2, 30))
    labels = rng.randint(2, size=n_rows)
    codes = rng.laplace(size=(n_rows, 2))
    natural = intercepts[labels] + np.einsum("nd,ndf->nf", codes, dictionaries[labels])
    rows = NegativeBinomial(dispersion).sample(natural, rng)
    mixture = ExponentialMixture(
        dictionaries=torch.from_numpy(dictionaries),
        intercepts=torch.from_numpy(intercepts),
        weights=torch.full((2,), 0.5, dtype=torch.float64),
        prior=Laplace(1.0),
        n_layers=15,
        likelihood=NegativeBinomial().initial(rows, labels),
    )
    return rows, mixture


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("dispersion", [0.1, 0.5, 2.0])
def test_dispersion_is_recovered(dispersion, missing):
    rows, mixture = drawn_counts(dispersion)
    assert mixture.likelihood.dispersion > dispersion  # codes add to it
    observed = np.random.RandomState(1).uniform(size=rows.shape) >= missing
    batch = Batch(torch.from_numpy(rows * observed), torch.from_numpy(observed))
    for _ in range(10):
        e_step = mixture.e_step(batch)
        mixture.m_step(
            mixture.statistics(
                batch,
                e_step,
                thresholded_responsibilities(e_step.energies),
                learn_likelihood=True,
            )
        )
    assert mixture.likelihood.dispersion == pytest.approx(dispersion, rel=0.2)


def test_expected_statistics_keep_the_parameters():
    _, mixture = drawn_counts(0.5, n_rows=100)
    intercepts, likelihood = mixture.intercepts.clone(), mixture.likelihood
    mixture.m_step(mixture.expected_statistics(100, learn_likelihood=True))
    assert mixture.likelihood.dispersion == pytest.approx(likelihood.dispersion)
    torch.testing.assert_close(mixture.intercepts, intercepts, atol=0.1, rtol=0)


def test_rows_of_an_entrywise_likelihood_have_no_outlier_scores():
    mixture = random_mixture(Poisson())
    rows, _ = random_rows(Poisson())
    assert (mixture.outlier_scores(Batch(rows)) == 1).all()
