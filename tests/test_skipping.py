"""Clusters that cannot matter to a row may be skipped: the experiment in benchmarks."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.skipping import EnergyBound, SkippingMixture
from skmixmate.model.normal import NormalMixture
from skmixmate.model.posterior import counting_posterior, posterior
from skmixmate.model.priors import Laplace


def drawn(seed, n_clusters=6, n_atoms=5, n_features=8, n_rows=40, alpha=0.75):
    """Dictionaries, and rows that each have a code in one of them."""
    generator = torch.Generator().manual_seed(seed)
    dictionaries = torch.randn(n_clusters, n_atoms, n_features, generator=generator)
    dictionaries /= torch.linalg.vector_norm(dictionaries, dim=2, keepdim=True)
    labels = torch.randint(n_clusters, (n_rows,), generator=generator)
    codes = 4 * torch.randn(n_rows, 1, n_atoms, generator=generator)
    settings = {
        "dictionaries": dictionaries,
        "intercepts": None,
        "weights": torch.full((n_clusters,), 1 / n_clusters),
        "prior": Laplace(alpha),
        "n_layers": 15,
    }
    return settings, (codes @ dictionaries[labels])[:, 0]


@given(seed=st.integers(0, 2**31), alpha=st.floats(0.01, 5), n_atoms=st.integers(1, 12))
def test_no_code_costs_less_than_the_bound(seed, alpha, n_atoms):
    settings, rows = drawn(seed, n_atoms=n_atoms, alpha=alpha)
    mixture = NormalMixture(**settings | {"n_layers": 100})
    gram, _ = mixture.curvature()
    correlations, norms = mixture.correlate(rows)
    bounds = EnergyBound(gram, alpha)(correlations, norms)
    # With half the rate, the layers minimise what the energy is made of.
    halved = NormalMixture(**vars(mixture) | {"prior": Laplace(alpha / 2)})
    for codes in (mixture.infer(rows)[0], halved.infer(rows)[0]):
        left = rows - codes.mT @ mixture.dictionaries
        costs = left.square().sum(dim=2) + alpha * codes.abs().sum(dim=1)
        assert (bounds <= costs + 1e-5 * norms).all()


def test_what_is_skipped_changes_nothing():
    settings, rows = drawn(seed=0, n_clusters=20, n_features=30)
    found = []
    for mixture in (NormalMixture(**settings), SkippingMixture(**settings)):
        curvature = mixture.curvature()
        *_, codes, energies = inferred = mixture.e_step(rows, None, curvature)
        responsibilities = counting_posterior(energies)
        gradient = torch.zeros_like(mixture.dictionaries)
        mixture.add_gradient(
            gradient, rows, None, inferred, responsibilities, curvature
        )
        found.append((posterior(energies), gradient))
    assert (codes == 0).all(dim=1).float().mean() > 0.5  # so much is skipped
    (expected, expected_gradient), (actual, gradient) = found
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)
    assert (actual.argmax(dim=0) == expected.argmax(dim=0)).all()
