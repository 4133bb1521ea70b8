import numpy as np
import pytest
import torch
from scipy import stats

from skmixmate.data.batch import Batch
from skmixmate.model import spherical
from skmixmate.model.fista import encode_with_energy_drop
from skmixmate.model.likelihoods import Gaussian, StudentT
from skmixmate.model.posterior import (
    is_excluded,
    loss_gradient,
    posterior,
    with_known_labels,
)
from skmixmate.model.priors import Exponential, Laplace
from skmixmate.model.spherical import Precomputed, SphericalMixture

from .. import reference


def random_mixture(
    with_intercepts=False,
    step_size=None,
    n_atoms=5,
    n_rows=6,
    seed=0,
    likelihood=Gaussian(),  # noqa: B008
):
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
        likelihood=likelihood,
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
def test_intercepts_are_equivalent_to_shifted_rows(masked):
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
@pytest.mark.parametrize("likelihood", [Gaussian(), StudentT(3.0)])
@pytest.mark.parametrize("n_unlabelled", [0, 5, 40])
def test_labels_leave_the_other_clusters_as_they_are(
    n_unlabelled, likelihood, with_intercepts
):
    mixture, rows, _ = random_mixture(with_intercepts, n_rows=40, likelihood=likelihood)
    labels = torch.arange(40) % 3
    labels[:n_unlabelled] = -1
    batch = Batch(rows, labels=labels)
    e_step, expected = mixture.e_step_given_labels(batch), mixture.e_step(batch)
    energies = with_known_labels(expected.energies, labels)
    torch.testing.assert_close(e_step.energies, energies)
    is_possible = ~is_excluded(labels, 3)
    for field, whole in zip(e_step, expected, strict=True):
        assert (field is None) == (whole is None)
        if field is not None:
            assert field.isfinite().all()
            kept = is_possible if field.dim() == 2 else is_possible[:, None]
            torch.testing.assert_close(field * kept, whole * kept)


def test_clusters_that_labels_exclude_are_not_encoded(monkeypatch):
    mixture, rows, _ = random_mixture(n_rows=60)
    n_encoded = []

    def count(correlations, *args):
        n_encoded.append(correlations.shape[0] * correlations.shape[2])
        return encode_with_energy_drop(correlations, *args)

    monkeypatch.setattr(spherical, "encode_with_energy_drop", count)
    mixture.e_step_given_labels(Batch(rows, labels=torch.arange(60) % 3))
    mixture.e_step_given_labels(Batch(rows, labels=torch.full((60,), -1)))
    assert n_encoded == [60, 180]


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
    mixture.n_layers = 4000  # at the minimum of Eq. 3 a fill changes nothing
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
@pytest.mark.parametrize(
    ("likelihood", "masked"),
    [(Gaussian(), False), (Gaussian(), True), (StudentT(3.0), False)],
)
def test_gradient_equals_autograd_for_any_responsibilities(
    likelihood, with_intercepts, masked
):
    mixture, rows, observed = random_mixture(
        with_intercepts, n_rows=70, likelihood=likelihood
    )
    observed = observed if masked else None
    generator = torch.Generator().manual_seed(1)
    responsibilities = torch.rand(3, 70, generator=generator, dtype=torch.float64)
    responsibilities[1, 5:] = responsibilities[2] = 0
    precomputed = mixture.precompute()
    batch = Batch(rows, observed)
    e_step = mixture.e_step(batch, precomputed)
    gradient = torch.ones_like(mixture.dictionaries)
    mixture.add_gradient(gradient, batch, e_step, responsibilities, precomputed)

    imputed = rows.expand(3, 70, 8)
    if masked:
        explained = [
            mixture.decode(e_step.codes[k].mT, torch.full((70,), k)) for k in range(3)
        ]
        imputed = torch.where(observed, rows, torch.stack(explained))
    if with_intercepts:
        imputed = imputed - mixture.intercepts[:, None]
    leaf = mixture.dictionaries.clone().requires_grad_()
    energies = mixture.energies_from_gram(
        leaf @ imputed.mT,
        imputed.square().sum(dim=2),
        Precomputed(leaf @ leaf.mT, precomputed.step),
    ).energies
    grad_energies = loss_gradient(e_step.energies, responsibilities)
    (expected,) = torch.autograd.grad(energies, leaf, grad_energies)
    torch.testing.assert_close(gradient - 1, expected)
    assert not expected[2].any()


def test_gradient_weights_the_squared_errors_of_incomplete_rows():
    """As if the weights, and the imputed entries, did not depend on the atoms."""
    mixture, rows, observed = random_mixture(True, n_rows=70, likelihood=StudentT(3.0))
    precomputed, batch = mixture.precompute(), Batch(rows, observed)
    e_step = mixture.e_step(batch, precomputed)
    responsibilities = posterior(e_step.energies)
    gradient = torch.zeros_like(mixture.dictionaries)
    mixture.add_gradient(gradient, batch, e_step, responsibilities, precomputed)

    decoded = [
        mixture.decode(codes.mT, torch.full((70,), k))
        for k, codes in enumerate(e_step.codes)
    ]
    imputed = torch.where(observed, rows, torch.stack(decoded))
    imputed = imputed - mixture.intercepts[:, None]
    leaf = mixture.dictionaries.clone().requires_grad_()
    mixture.likelihood = Gaussian()
    codes, energies, *_ = mixture.energies_from_gram(
        leaf @ imputed.mT,
        imputed.square().sum(dim=2),
        Precomputed(leaf @ leaf.mT, precomputed.step),
    )
    penalties = mixture.prior.value(codes)
    energies = e_step.row_weights * (energies - penalties) + penalties
    grad_energies = loss_gradient(e_step.energies, responsibilities)
    (expected,) = torch.autograd.grad(energies, leaf, grad_energies)
    torch.testing.assert_close(gradient, expected)


def test_posterior_of_an_empty_row_equals_the_weights():
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


@pytest.mark.parametrize("masked", [False, True])
def test_student_t_noise_with_many_degrees_of_freedom_is_gaussian(masked):
    mixture, rows, observed = random_mixture(with_intercepts=True)
    batch = Batch(rows, observed if masked else None)
    expected = mixture.e_step(batch)
    mixture.likelihood = StudentT(1e8)
    e_step = mixture.e_step(batch)
    torch.testing.assert_close(e_step.codes, expected.codes)
    torch.testing.assert_close(e_step.energies, expected.energies, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        mixture.log_evidence(batch, e_step),
        mixture.log_evidence(batch, expected),
        atol=1e-3,
        rtol=0,
    )


@pytest.mark.parametrize("masked", [False, True])
def test_student_t_evidence_bound_is_below_the_integral_and_close(masked):
    mixture, rows, observed = random_mixture(
        with_intercepts=True, n_atoms=1, n_rows=20, likelihood=StudentT(3.0)
    )
    mixture.noise_variance = 0.3
    batch = Batch(rows, observed if masked else None)
    bounds = mixture.log_evidence(batch, mixture.e_step(batch))
    x = torch.linspace(-60, 60, 12_001, dtype=torch.float64)
    integrals = torch.zeros(20, dtype=torch.float64)
    for i, (row, mask) in enumerate(zip(rows, observed, strict=True)):
        index = mask.nonzero()[:, 0] if masked else torch.arange(8)
        for k in range(3):
            natural = mixture.intercepts[k] + x[:, None] * mixture.dictionaries[k]
            log_density = np.zeros(len(x))
            if len(index):
                log_density = stats.multivariate_t(
                    np.zeros(len(index)), 0.3 * np.eye(len(index)), df=3.0
                ).logpdf((row - natural)[:, index])
            joint = (torch.as_tensor(log_density) - 0.2 * x.abs()).exp() * 0.1
            integrals[i] += mixture.weights[k] * torch.trapezoid(joint, x)
    gaps = integrals.log() - bounds
    assert gaps.min() > -1e-6
    assert gaps.max() < 0.5


def test_rows_that_no_cluster_explains_have_larger_outlier_scores():
    mixture, rows, _ = random_mixture(with_intercepts=True, n_rows=200)
    decoded = mixture.decode(
        torch.zeros(200, 5, dtype=torch.float64), torch.arange(200) % 3
    )
    rows = decoded + 0.7 * rows
    rows[:5] += 20 * torch.ones(8)
    mixture.likelihood = StudentT(3.0)
    scores = mixture.outlier_scores(Batch(rows))
    assert scores.shape == (200,)
    assert set(scores.argsort()[-5:].tolist()) == set(range(5))
    assert 0.3 < scores[5:].median() < 1.5
    mixture.likelihood = Gaussian()
    assert (mixture.outlier_scores(Batch(rows)) == 1).all()


def test_expected_statistics_keep_the_parameters():
    mixture, _, _ = random_mixture(with_intercepts=True, likelihood=StudentT(3.0))
    intercepts = mixture.intercepts.clone()
    mixture.m_step(
        mixture.expected_statistics(100, learn_noise=True, learn_likelihood=True)
    )
    torch.testing.assert_close(mixture.intercepts, intercepts)
    assert mixture.noise_variance == pytest.approx(0.5)
    assert mixture.likelihood.df == pytest.approx(3.0)


def drawn_rows(df, n_rows=3000, n_features=20):
    """Draw rows of two clusters of two atoms, with t noise of the variance 0.1."""
    rng = np.random.RandomState(0)
    dictionaries = rng.standard_normal((2, 2, n_features))
    dictionaries /= np.linalg.norm(dictionaries, axis=2, keepdims=True)
    intercepts = rng.standard_normal((2, n_features))
    labels = rng.randint(2, size=n_rows)
    codes = rng.laplace(size=(n_rows, 2))
    rows = intercepts[labels] + np.einsum("nd,ndf->nf", codes, dictionaries[labels])
    rows += np.sqrt(0.1) * StudentT(df).sample_noise(rows.shape, rng)
    mixture = SphericalMixture(
        dictionaries=torch.from_numpy(dictionaries),
        intercepts=torch.from_numpy(intercepts),
        weights=torch.full((2,), 0.5, dtype=torch.float64),
        prior=Laplace(1.0),
        n_layers=15,
        likelihood=StudentT().initial(),
    )
    return torch.from_numpy(rows), mixture


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("df", [1.0, 3.0, 10.0])
def test_degrees_of_freedom_and_noise_are_recovered(df, missing):
    rows, mixture = drawn_rows(df)
    observed = torch.from_numpy(
        np.random.RandomState(1).uniform(size=rows.shape) >= missing
    )
    batch = Batch(rows * observed, observed if missing else None)
    for _ in range(40):
        e_step = mixture.e_step(batch)
        mixture.m_step(
            mixture.statistics(
                batch,
                e_step,
                posterior(e_step.energies),
                learn_noise=True,
                learn_likelihood=True,
            )
        )
    assert mixture.likelihood.df == pytest.approx(df, rel=0.25)
    assert mixture.noise_variance == pytest.approx(0.1, rel=0.25)


def test_degrees_of_freedom_are_learned_with_a_prior_that_is_no_known_density():
    rows, mixture = drawn_rows(3.0, n_rows=500)
    mixture.prior = Exponential(1.0)
    e_step = mixture.e_step(Batch(rows))
    statistics = mixture.statistics(
        Batch(rows), e_step, posterior(e_step.energies), learn_likelihood=True
    )
    assert statistics.noise is None
    mixture.m_step(statistics)
    assert 0.5 <= mixture.likelihood.df < 10


def test_far_outliers_hardly_move_intercepts_with_student_t_noise():
    rows, mixture = drawn_rows(10.0, n_rows=500)
    mixture.noise_variance = 0.1
    start = mixture.intercepts.clone()
    rows[:5] = 100.0
    distances = []
    for likelihood in (Gaussian(), StudentT(3.0)):
        mixture.likelihood = likelihood
        mixture.intercepts = start.clone()
        e_step = mixture.e_step(Batch(rows))
        responsibilities = posterior(e_step.energies)
        mixture.m_step(mixture.statistics(Batch(rows), e_step, responsibilities))
        distances.append((mixture.intercepts - start).norm())
    assert distances[1] < 0.1 * distances[0]
