import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering
from skmixmate.model.likelihoods import LIKELIHOODS, Bernoulli, Poisson
from skmixmate.model.priors import ElasticNet

from .test_priors import Outside

NAMED = [
    pytest.param(likelihood, id=name)
    for name, likelihood in LIKELIHOODS.items()
    if likelihood is not None
]


def naturals(**more):
    return torch.linspace(-3, 2, 11, dtype=torch.float64, **more)


@pytest.mark.parametrize("likelihood", NAMED)
def test_mean_and_variance_are_slopes_of_the_cumulant(likelihood):
    natural = naturals(requires_grad=True)
    (slope,) = torch.autograd.grad(
        likelihood.cumulant(natural).sum(), natural, create_graph=True
    )
    (curvature,) = torch.autograd.grad(slope.sum(), natural)
    mean = likelihood.mean(natural)
    torch.testing.assert_close(slope, mean)
    torch.testing.assert_close(curvature, likelihood.variance(mean))


@pytest.mark.parametrize("likelihood", NAMED)
def test_link_undoes_the_mean(likelihood):
    natural = naturals()
    found = likelihood.link(likelihood.mean(natural).numpy())
    np.testing.assert_allclose(found, natural.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "distribution", "values"),
    [
        pytest.param(
            Poisson(), lambda z: stats.poisson(np.exp(z)), range(9), id="poisson"
        ),
        pytest.param(
            Bernoulli(), lambda z: stats.bernoulli(expit(z)), (0, 1), id="bernoulli"
        ),
    ],
)
def test_density_is_that_of_scipy(likelihood, distribution, values):
    natural = naturals()
    for value in values:
        row = torch.full_like(natural, value)
        log_density = row * natural - likelihood.cumulant(natural)
        log_density = log_density + likelihood.log_base(row)
        expected = distribution(natural.numpy()).logpmf(value)
        np.testing.assert_allclose(log_density.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("likelihood", NAMED)
def test_draws_have_the_mean_and_the_variance(likelihood):
    natural = naturals()
    rows = likelihood.draw(
        np.tile(natural.numpy(), (50_000, 1)), np.random.RandomState(0)
    )
    likelihood.check(torch.from_numpy(rows))
    mean = likelihood.mean(natural)
    np.testing.assert_allclose(rows.mean(axis=0), mean.numpy(), rtol=0.1)
    variance = likelihood.variance(mean).numpy()
    np.testing.assert_allclose(rows.var(axis=0), variance, rtol=0.1)


@pytest.mark.parametrize("likelihood", NAMED)
def test_single_entries_speak_for_finite_parameters_in_their_order(likelihood):
    natural = likelihood.link(likelihood.soften(np.array([0.0, 0.3, 1.0])))
    assert np.isfinite(natural).all()
    assert (np.diff(natural) > 0).all()


def test_distances_of_counts_do_not_depend_on_their_mean():
    rng = np.random.RandomState(0)
    few, many = (rng.poisson(rate, size=50_000) for rate in (5, 500))
    spreads = [Poisson().stabilize(counts).std() for counts in (few, many)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.15)


@pytest.mark.parametrize(
    ("likelihood", "entry", "message"),
    [
        (Poisson(), -1.0, r"entry of -1, but likelihood='poisson' is for counts"),
        (Bernoulli(), -0.5, r"entry of -0.5, but likelihood='bernoulli' is for 0 and"),
        (Bernoulli(), 2.0, r"entry of 2, but likelihood='bernoulli' is for 0 and 1"),
    ],
)
def test_entries_that_cannot_be_are_refused(likelihood, entry, message):
    with pytest.raises(ValueError, match=message):
        likelihood.check(torch.tensor([[0.0, 1.0], [entry, 1.0]]))


@pytest.mark.parametrize("likelihood", NAMED)
def test_no_rows_are_no_wrong_rows(likelihood):
    likelihood.check(torch.empty(0, 3))


# --- in the estimator ---------------------------------------------------------------


def drawn_from_the_model(name, prior="laplace", offset=0.7, n_rows=600):
    """Three clusters, each of three atoms; strong enough codes to tell them."""
    rng = np.random.RandomState(0)
    atoms = rng.standard_normal((3, 3, 40))
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    intercepts = offset * rng.standard_normal((3, 40))
    labels = rng.randint(3, size=n_rows)
    codes = {"poisson": 3, "bernoulli": 10}[name] * rng.laplace(size=(n_rows, 3))
    codes = np.abs(codes) if prior == "nonnegative" else codes
    natural = intercepts[labels] + np.einsum("nd,ndf->nf", codes, atoms[labels])
    X = LIKELIHOODS[name].draw(np.minimum(natural, 6), rng)
    return X.astype(np.float32), labels, atoms


def share_of_the_subspaces(dictionaries, atoms):
    """Mean cosine of the principal angles between what was found and what is."""
    cosines = []
    for found, true in zip(dictionaries, atoms, strict=True):
        bases = [np.linalg.qr(rows.T)[0] for rows in (found, true)]
        cosines.append(np.linalg.svd(bases[0].T @ bases[1])[1].mean())
    return np.mean(cosines)


@pytest.mark.parametrize("missing", [0, 0.2], ids=["complete", "incomplete"])
@pytest.mark.parametrize("offset", [0.7, 0], ids=["offset", "no offset"])
@pytest.mark.parametrize(
    "prior",
    ["laplace", "nonnegative", "group", ElasticNet(0.2, 0.005), Outside(0.2, 0.005)],
    ids=str,
)
@pytest.mark.parametrize("name", ["poisson", "bernoulli"])
def test_recovers_what_data_were_drawn_from(name, prior, offset, missing):
    """From three rows of each cluster, whose noise is larger than what is in them."""
    X, labels, atoms = drawn_from_the_model(name, prior, offset)
    init = np.stack([X[labels == label][:3] for label in range(3)])
    X[np.random.RandomState(1).uniform(size=X.shape) < missing] = np.nan
    mixmate = MixMateClustering(
        3,
        likelihood=name,
        prior=prior,
        fit_intercept=offset > 0,
        init=init,
        max_iter=25,
        tol=0,
        batch_size=60,
        learning_rate=1e-2,
        random_state=0,
    )
    start = clone(mixmate).set_params(max_iter=0).fit(X)
    mixmate.fit(X)
    assert share_of_the_subspaces(start.dictionaries_, atoms) < 0.6
    assert share_of_the_subspaces(mixmate.dictionaries_, atoms) > 0.85
    assert adjusted_rand_score(labels, mixmate.labels_) > 0.7
    assert mixmate.loss_ < start.loss_
