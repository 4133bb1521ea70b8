import dataclasses

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit, logsumexp, softmax
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering, load
from skmixmate.model.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Gaussian,
    NegativeBinomial,
    Poisson,
    StudentT,
    as_likelihood,
)
from skmixmate.model.priors import ElasticNet

from .. import helpers
from ..helpers import DuckNet

ENTRYWISE = [
    pytest.param(likelihood, id=type(likelihood).__name__)
    for likelihood in (Poisson(), Bernoulli(), NegativeBinomial(0.5))
]
SPHERICAL = [
    pytest.param(likelihood, id=type(likelihood).__name__)
    for likelihood in (Gaussian(), StudentT(4.0))
]


def naturals(**more):
    return torch.linspace(-3, 2, 11, dtype=torch.float64, **more)


@pytest.mark.parametrize("likelihood", ENTRYWISE)
def test_derivatives_of_the_cumulant_equal_autograd(likelihood):
    natural = naturals(requires_grad=True)
    for target in (0.0, 0.5, 1.0):
        targets = torch.full_like(natural, target)
        (grad,) = torch.autograd.grad(
            likelihood.cumulant(natural, targets).sum(), natural, create_graph=True
        )
        (hess,) = torch.autograd.grad(grad.sum(), natural)
        actual = likelihood.cumulant_grad(natural, targets)
        torch.testing.assert_close(actual, grad)
        torch.testing.assert_close(likelihood.cumulant_hess(actual, targets), hess)


@pytest.mark.parametrize("likelihood", ENTRYWISE)
@pytest.mark.parametrize("deviation", [0.0, 0.3, 2.5])
def test_expectations_are_integrals(deviation, likelihood):
    means = naturals()
    targets = torch.ones_like(means)
    actual = likelihood.expectations(
        means, torch.full_like(means, deviation**2), targets
    )
    axis = torch.linspace(-12, 12, 10_001, dtype=torch.float64)
    density = torch.exp(-axis.square() / 2)[:, None] / (2 * np.pi) ** 0.5
    natural = means + deviation * axis[:, None]
    grad = likelihood.cumulant_grad(natural, targets)
    hess = likelihood.cumulant_hess(grad, targets)
    cumulant = likelihood.cumulant(natural, targets)
    # Of the logistic function, which the negative binomial cumulant multiplies by 3.
    atol = 9e-6 if isinstance(likelihood, NegativeBinomial) else 3e-6
    for expectation, values in zip(actual, (cumulant, grad, hess), strict=True):
        expected = torch.trapezoid(values * density, axis, dim=0)
        torch.testing.assert_close(expectation, expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("likelihood", ENTRYWISE)
def test_link_is_the_inverse_of_the_mean(likelihood):
    natural = naturals()
    linked = likelihood.link(likelihood.mean(natural).numpy())
    np.testing.assert_allclose(linked, natural.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "distribution", "values"),
    [
        pytest.param(
            Poisson(), lambda z: stats.poisson(np.exp(z)), range(9), id="poisson"
        ),
        pytest.param(
            Bernoulli(), lambda z: stats.bernoulli(expit(z)), (0, 1), id="bernoulli"
        ),
        *(
            pytest.param(
                NegativeBinomial(dispersion),
                lambda z, r=1 / dispersion: stats.nbinom(r, r / (r + np.exp(z))),
                range(9),
                id=f"negative_binomial({dispersion})",
            )
            for dispersion in (1e-3, 0.5, 20.0)
        ),
    ],
)
def test_density_equals_scipy(likelihood, distribution, values):
    natural = naturals()
    for value in values:
        row = torch.full_like(natural, value)
        log_density = row * natural - likelihood.cumulant(natural, row)
        log_density = log_density + likelihood.log_base_measure(row)
        expected = distribution(natural.numpy()).logpmf(value)
        np.testing.assert_allclose(log_density.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("likelihood", ENTRYWISE)
def test_draws_have_the_mean_and_the_variance(likelihood):
    natural = naturals()
    rows = likelihood.sample(
        np.tile(natural.numpy(), (50_000, 1)), np.random.RandomState(0)
    )
    likelihood.validate(torch.from_numpy(rows))
    mean = likelihood.mean(natural)
    np.testing.assert_allclose(rows.mean(axis=0), mean.numpy(), rtol=0.1)
    variance = mean + mean**2 / 2  # of the negative binomial distribution
    if not isinstance(likelihood, NegativeBinomial):
        variance = likelihood.cumulant_hess(mean, mean)
    np.testing.assert_allclose(rows.var(axis=0), variance.numpy(), rtol=0.1)


@pytest.mark.parametrize("likelihood", ENTRYWISE)
def test_natural_parameters_of_single_entries_are_finite_and_ordered(likelihood):
    natural = likelihood.link(likelihood.to_interior(np.array([0.0, 0.3, 1.0])))
    assert np.isfinite(natural).all()
    assert (np.diff(natural) > 0).all()


def test_variance_stabilized_counts_have_one_variance():
    rng = np.random.RandomState(0)
    few, many = (rng.poisson(rate, size=50_000) for rate in (5, 500))
    spreads = [Poisson().variance_stabilize(counts).std() for counts in (few, many)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.15)


@pytest.mark.parametrize(
    ("likelihood", "entry", "message"),
    [
        (Poisson(), -1.0, r"entry of -1, but likelihood='poisson' is for counts"),
        (Bernoulli(), -0.5, r"entry of -0.5, but likelihood='bernoulli' is for 0 and"),
        (Bernoulli(), 2.0, r"entry of 2, but likelihood='bernoulli' is for 0 and 1"),
    ],
)
def test_impossible_entries_are_refused(likelihood, entry, message):
    with pytest.raises(ValueError, match=message):
        likelihood.validate(torch.tensor([[0.0, 1.0], [entry, 1.0]]))


@pytest.mark.parametrize("likelihood", ENTRYWISE)
def test_empty_rows_are_valid(likelihood):
    likelihood.validate(torch.empty(0, 3))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_are_values(name):
    likelihood = as_likelihood(name)
    assert likelihood == LIKELIHOODS[name]()
    assert as_likelihood(likelihood) is likelihood
    assert repr(likelihood).startswith(type(likelihood).__name__)
    fields = dataclasses.asdict(likelihood)
    assert likelihood.n_learned == len(fields)
    initial = likelihood.initial()
    assert not initial.is_learned
    assert type(likelihood)(**dataclasses.asdict(initial)) == initial
    assert initial.initial() is initial


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (StudentT, "df", 0.0),
        (StudentT, "df", np.nan),
        (StudentT, "df", "many"),
        (NegativeBinomial, "dispersion", -1.0),
        (NegativeBinomial, "dispersion", 0.0),
        (NegativeBinomial, "dispersion", True),
    ],
)
def test_invalid_fields_are_refused(kind, field, value):
    with pytest.raises(ValueError, match=rf"{field}={value!r} should be 'auto' or a"):
        kind(**{field: value})


def test_unknown_likelihoods_are_refused():
    with pytest.raises(ValueError, match=r"likelihood='gamma' should be one of \['ber"):
        as_likelihood("gamma")
    with pytest.raises(TypeError, match=r"likelihood=3 should be one of"):
        as_likelihood(3)


@pytest.mark.parametrize("likelihood", SPHERICAL)
def test_row_weights_are_derivatives_of_the_energy(likelihood):
    residuals = torch.linspace(0, 50, 11, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(likelihood.energy(residuals, 7).sum(), residuals)
    weights = likelihood.row_weights(residuals.detach(), 7)
    if weights is None:
        weights = torch.ones_like(expected)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("likelihood", SPHERICAL)
def test_number_of_observed_entries_may_differ_between_rows(likelihood):
    residuals = torch.tensor([0.5, 3.0, 20.0], dtype=torch.float64)
    energies = likelihood.energy(residuals.clone(), torch.tensor([2, 5, 9]))
    for i, n_observed in enumerate([2, 5, 9]):
        expected = likelihood.energy(residuals[i : i + 1].clone(), n_observed)
        torch.testing.assert_close(energies[i : i + 1], expected)


def test_student_t_density_equals_scipy():
    rows = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None] * torch.ones(3)
    residuals = rows.square().sum(dim=1) / (2 * 0.3)
    energies = StudentT(4.0).energy(residuals, 3) + 1.5 * np.log(2 * np.pi * 0.3)
    expected = stats.multivariate_t(np.zeros(3), 0.3 * np.eye(3), df=4.0).logpdf(rows)
    np.testing.assert_allclose(-energies, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_student_t_energies_converge_to_gaussian_ones(dtype):
    residuals = torch.linspace(0, 50, 11, dtype=dtype)
    energies = StudentT(1e8).energy(residuals, 30)
    torch.testing.assert_close(energies, residuals, atol=1e-4, rtol=1e-4)
    weights = StudentT(1e8).row_weights(residuals, 30)
    torch.testing.assert_close(weights, torch.ones_like(weights), atol=1e-5, rtol=0)


@pytest.mark.parametrize("df", [1.0, 4.0, 50.0])
def test_degrees_of_freedom_are_estimated_from_t_noise(df):
    noise = StudentT(df).sample_noise((20_000, 10), np.random.RandomState(0))
    residuals = torch.from_numpy(noise).square().sum(dim=1) / 2
    likelihood, ones = StudentT().initial(), torch.ones_like(residuals)
    for _ in range(100):
        weights = likelihood.row_weights(residuals, 10)
        likelihood = likelihood.m_step(likelihood.statistics(weights, 10, ones))
    assert likelihood.df == pytest.approx(df, rel=0.2)


@pytest.mark.parametrize("df", [0.5, 3.0, 200.0])
def test_expected_statistics_keep_the_degrees_of_freedom(df):
    statistics = torch.tensor(StudentT(df).expected_statistics(100.0))
    assert StudentT(7.0).m_step(statistics).df == pytest.approx(df, rel=0.05)


@pytest.mark.parametrize(("value", "df"), [(-10.0, 0.5), (0.0, 200.0)])
def test_degrees_of_freedom_stay_in_their_range(value, df):
    assert StudentT(7.0).m_step(torch.tensor([value, 1.0, 1.0])).df == df


def test_degrees_of_freedom_do_not_depend_on_the_unit_of_precisions():
    statistics = torch.tensor(StudentT(3.0).expected_statistics(1.0))
    doubled = statistics + torch.tensor([np.log(2), 1.0, 0.0])
    assert StudentT(7.0).m_step(doubled).df == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize("likelihood", [StudentT(7.0), NegativeBinomial(0.5)])
def test_diverged_statistics_change_nothing(likelihood):
    statistics = torch.full((likelihood.n_statistics,), np.nan)
    assert likelihood.m_step(statistics) == likelihood


def test_dispersion_stays_in_its_range():
    """Counts that vary less than Poisson counts have none."""
    assert NegativeBinomial(0.5).m_step(torch.tensor([-1.0, 1.0])).dispersion == 1e-6


@pytest.mark.parametrize("dispersion", [0.1, 0.5, 2.0])
def test_initial_dispersion_is_estimated_within_clusters(dispersion):
    rng = np.random.RandomState(0)
    natural = np.array([[0.0] * 20, [3.0] * 20])
    labels = rng.randint(-1, 2, size=3000)
    sample = NegativeBinomial(dispersion).sample(natural[labels], rng)
    initial = NegativeBinomial().initial(sample, labels)
    assert initial.dispersion == pytest.approx(dispersion, rel=0.1)


def test_without_samples_the_initial_dispersion_is_a_constant():
    nothing = NegativeBinomial().initial(np.ones((3, 2)), np.full(3, -1))
    assert nothing == NegativeBinomial().initial()


# --- in the estimator ---------------------------------------------------------------


# Mean magnitude of a code, the inverse of the rate it is drawn with.
MAGNITUDES = {"gaussian": 3, "poisson": 3, "negative_binomial": 3, "bernoulli": 10}


def draw_data(name, prior="laplace", offset=0.7, n_rows=600):
    """Three clusters, each of three atoms; strong enough codes to tell them."""
    rng = np.random.RandomState(0)
    atoms = rng.standard_normal((3, 3, 40))
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    intercepts = offset * rng.standard_normal((3, 40))
    labels = rng.randint(3, size=n_rows)
    codes = MAGNITUDES[name] * rng.laplace(size=(n_rows, 3))
    codes = np.abs(codes) if prior == "nonnegative" else codes
    natural = intercepts[labels] + np.einsum("nd,ndf->nf", codes, atoms[labels])
    if name == "gaussian":
        X = natural + 0.9 * rng.standard_normal(natural.shape)
    else:
        likelihood = as_likelihood(name).initial()
        X = likelihood.sample(np.minimum(natural, 6), rng)
    return X.astype(np.float32), labels, atoms


def subspace_similarity(dictionaries, atoms):
    """Return the mean cosine of the principal angles between subspaces."""
    cosines = []
    for learned, true in zip(dictionaries, atoms, strict=True):
        bases = [np.linalg.qr(rows.T)[0] for rows in (learned, true)]
        cosines.append(np.linalg.svd(bases[0].T @ bases[1])[1].mean())
    return np.mean(cosines)


@pytest.mark.combinations(7)
@pytest.mark.slow
# As they should be: each row was made of all three atoms.
@pytest.mark.filterwarnings("ignore:The codes are nearly full")
@pytest.mark.parametrize("missing", [0, 0.2], ids=["complete", "incomplete"])
@pytest.mark.parametrize("offset", [0.7, 0], ids=["offset", "no offset"])
@pytest.mark.parametrize(
    "prior",
    ["laplace", "nonnegative", "group", ElasticNet(0.2, 0.005), DuckNet(0.2, 0.005)],
    ids=str,
)
@pytest.mark.parametrize("name", ["gaussian", "poisson", "bernoulli"])
def test_dictionaries_and_clusters_are_recovered(name, prior, offset, missing):
    """From three rows of each cluster, whose noise is larger than what is in them."""
    X, labels, atoms = draw_data(name, prior, offset)
    init = np.stack([X[labels == label][:3] for label in range(3)])
    is_rate_known = name != "gaussian" and isinstance(prior, str)
    X[np.random.RandomState(1).uniform(size=X.shape) < missing] = np.nan
    mixmate = MixMateClustering(
        3,
        likelihood=name,
        prior=prior,
        alpha=1 / MAGNITUDES[name] if is_rate_known else "auto",
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
    assert subspace_similarity(start.dictionaries_, atoms) < 0.6
    assert subspace_similarity(mixmate.dictionaries_, atoms) > 0.85
    assert adjusted_rand_score(labels, mixmate.labels_) > 0.7
    assert mixmate.loss_ < start.loss_


def small(name, **params):
    """Return an estimator that fits quickly."""
    defaults = {"n_atoms": 3, "max_iter": 2, "batch_size": 256}
    return helpers.small(likelihood=name, **{**defaults, **params})


NAMES = ["poisson", "bernoulli"]
ENTRYWISE = [*NAMES, "negative_binomial"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_without_atoms_it_is_the_plain_mixture(name):
    """A fixed point of EM, with one more row of one half in each cluster."""
    X, _, _ = draw_data(name, n_rows=300)
    mixmate = small(name, n_atoms=0, max_iter=300, batch_size=len(X)).fit(X)
    log_density = {"poisson": stats.poisson, "bernoulli": stats.bernoulli}[name].logpmf
    mean = as_likelihood(name).mean(torch.from_numpy(mixmate.intercepts_)).numpy()
    log_densities = log_density(X[:, None], mean).sum(axis=2)
    shares = softmax(log_densities, axis=1)
    np.testing.assert_allclose(mixmate.predict_proba(X), shares, atol=1e-3)
    expected = logsumexp(log_densities, axis=1) - np.log(3)
    np.testing.assert_allclose(mixmate.score_samples(X), expected, rtol=1e-4)
    again = (shares.T @ X + 0.5) / (shares.sum(axis=0)[:, None] + 1)
    np.testing.assert_allclose(mean, again, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize(("name", "values"), [("poisson", 80), ("bernoulli", 2)])
def test_density_adds_up_to_nearly_one(name, values):
    X, _, _ = draw_data(name, n_rows=300)
    X = np.minimum(X[:, :2], values - 1)
    mixmate = small(name, n_atoms=2).fit(X)
    every = np.stack(np.meshgrid(*2 * [np.arange(float(values))]), axis=-1)
    total = np.exp(mixmate.score_samples(every.reshape(-1, 2))).sum()
    assert 0.85 < total < 1


@pytest.mark.combinations(3)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The codes are nearly full")
@pytest.mark.parametrize("name", NAMES)
def test_bic_finds_the_number_of_clusters(name):
    X, _, _ = draw_data(name, n_rows=1000)
    params = {"n_atoms": 3, "alpha": 1 / MAGNITUDES[name], "learning_rate": 1e-2}
    params |= {"max_iter": 30, "tol": 0, "batch_size": 60, "random_state": 0}
    fitted = [MixMateClustering(k, likelihood=name, **params).fit(X) for k in (2, 3, 4)]
    assert np.argmin([fit.bic(X) for fit in fitted]) == 1


@pytest.mark.parametrize("name", ENTRYWISE)
def test_methods_agree_with_one_another(name):
    X, _, _ = draw_data(name, n_rows=300)
    X[0, :5] = np.nan
    mixmate = small(name).fit(X)
    assert mixmate.scale_ == 1
    assert mixmate.rates_ is None
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))
    energies = mixmate.energies(X)
    np.testing.assert_allclose(
        mixmate.predict_proba(X), softmax(-energies, axis=1), atol=1e-5
    )
    means = mixmate.reconstruct(X)
    mixmate.likelihood_.validate(torch.from_numpy(means))
    np.testing.assert_allclose(
        mixmate.inverse_transform(mixmate.transform(X)), means, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", ENTRYWISE)
def test_samples_resemble_the_data(name):
    X, _, _ = draw_data(name)
    mixmate = small(name, max_iter=20).fit(X)
    samples, labels = mixmate.sample(2000, random_state=0)
    mixmate.likelihood_.validate(torch.from_numpy(samples))
    assert np.isin(samples, np.round(samples)).all()
    means = np.stack([samples[labels == k].mean(axis=0) for k in range(3)])
    expected = np.stack([X[mixmate.labels_ == k].mean(axis=0) for k in range(3)])
    correlation = np.corrcoef(np.sqrt(means).ravel(), np.sqrt(expected).ravel())
    assert correlation[0, 1] > 0.9


@pytest.mark.parametrize("name", ENTRYWISE)
def test_stream_does_not_depend_on_its_chunks(name):
    X, _, _ = draw_data(name)
    whole, parted = (small(name, init_size=200, batch_size=50) for _ in range(2))
    whole.partial_fit(X)
    for part in np.split(X, [90, 250, 470]):
        parted.partial_fit(part)
    for attribute in ("dictionaries_", "intercepts_", "weights_"):
        np.testing.assert_array_equal(
            getattr(whole, attribute), getattr(parted, attribute)
        )


@pytest.mark.parametrize("name", ENTRYWISE)
def test_saved_model_equals_the_loaded_one(name, tmp_path):
    X, _, _ = draw_data(name, n_rows=200)
    mixmate = small(name, weights="learned").fit(X)
    mixmate.save(tmp_path / "model")
    np.testing.assert_array_equal(
        load(tmp_path / "model").energies(X), mixmate.energies(X)
    )


@pytest.mark.parametrize("name", ENTRYWISE)
def test_images(name):
    """On pixels, with offsets, and with smooth atoms if these are wanted."""
    X, _, _ = draw_data(name)
    how = {"image_shape": (5, 8), "init": "kmeans", "max_iter": 10}
    rough = small(name, **how).fit(X)
    smooth = small(name, dictionary_penalty=1000.0, learning_rate=1e-2, **how).fit(X)
    assert rough.representation_ is None
    assert rough.intercepts_.any()

    def roughness(mixmate):
        images = mixmate.dictionaries_.reshape(3, 3, 5, 8)
        return sum((np.diff(images, axis=axis) ** 2).sum() for axis in (2, 3))

    assert roughness(smooth) < 0.8 * roughness(rough)


def test_features_without_any_event_have_finite_intercepts():
    X, _, _ = draw_data("poisson")
    X[:, 3] = 0
    mixmate = small("poisson", max_iter=30).fit(X)
    assert np.isfinite(mixmate.intercepts_).all()
    assert mixmate.reconstruct(X)[:, 3].max() < 0.1
    other = X.copy()
    other[:, 3] = 1
    assert np.isfinite(mixmate.energies(other)).all()


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("poisson", -1, "entry of -1, but likelihood='poisson' is for counts"),
        ("bernoulli", 3, "entry of 3, but likelihood='bernoulli' is for 0 and 1"),
    ],
)
def test_entries_are_checked_in_fit_and_after(name, entry, message):
    X, _, _ = draw_data(name, n_rows=100)
    mixmate = small(name).fit(X)
    X[50, 2] = entry
    for method in (mixmate.predict, mixmate.transform, mixmate.fit):
        with pytest.raises(ValueError, match=message):
            method(X)
    with pytest.raises(ValueError, match=message):
        small(name).partial_fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"noise_variance": 0.3}, r"noise_variance=0.3 should be 0.5 with likelihood="),
        ({"noise_variance": "auto"}, r"noise_variance='auto' should be 0.5 with"),
        ({"step_size": 0.1}, r"step_size=0.1 should be 'auto' with likelihood="),
        ({"scale": 2.0}, r"scale=2.0 should be 'auto' with likelihood="),
        (
            {"representation": "scattering", "image_shape": (5, 8)},
            r"representation='scattering' should be 'auto' or 'pixels' with likeli",
        ),
    ],
)
@pytest.mark.parametrize("name", ENTRYWISE)
def test_parameters_of_gaussian_noise_are_refused(name, params, message):
    X, _, _ = draw_data(name, n_rows=100)
    with pytest.raises(ValueError, match=message):
        small(name, **params).fit(X)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"'likelihood' parameter .* must be a str"):
        MixMateClustering(likelihood="gamma").fit(np.ones((10, 2)))


def test_tags_require_positive_counts():
    assert small("poisson").__sklearn_tags__().input_tags.positive_only
    assert not small("bernoulli").__sklearn_tags__().input_tags.positive_only


def test_expectations_do_not_depend_on_the_default_device():
    means, variances = torch.zeros(3), torch.ones(3)
    expected = Bernoulli().expectations(means, variances, means)
    with torch.device("meta"):
        actual = Bernoulli().expectations(means, variances, means)
    assert all(map(torch.equal, actual, expected))
