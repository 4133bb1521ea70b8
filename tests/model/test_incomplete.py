import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skmixmate.model.fista import lipschitz_bound
from skmixmate.model.incomplete import encode_incomplete
from skmixmate.model.priors import Laplace

from .. import reference
from .test_fista import random_problem


def encode_observed(rows, dictionaries, observed, step, alpha, n_layers):
    mask = observed.T.to(rows.dtype)
    gram = dictionaries @ dictionaries.mT
    prior = Laplace(alpha)
    return encode_incomplete(
        rows.T * mask, mask, dictionaries, gram, step, prior, n_layers
    )


@settings(deadline=None, max_examples=30)
@given(
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 7),
    n_features=st.integers(1, 9),
    n_rows=st.integers(1, 6),
    n_layers=st.integers(1, 4),  # with more, not every layer is exact
    seed=st.integers(0, 99),
)
def test_codes_equal_the_published_formulation(
    n_clusters, n_atoms, n_features, n_rows, n_layers, seed
):
    rows, dictionaries, observed, step = random_problem(
        n_clusters, n_atoms, n_features, n_rows, seed
    )
    expected = reference.codes(rows, dictionaries, step, 0.1, n_layers, observed).mT
    actual = encode_observed(rows, dictionaries, observed, step, 0.1, n_layers)
    torch.testing.assert_close(actual.codes, expected)

    # Missing entries are imputed by the reconstructions.
    explained = actual.codes.mT @ dictionaries
    imputed = torch.where(observed, rows, explained)
    torch.testing.assert_close(actual.correlations, dictionaries @ imputed.mT)
    torch.testing.assert_close(actual.squared_norms, imputed.square().sum(dim=2))
    squares = (imputed - explained).square().sum(dim=2)
    torch.testing.assert_close(actual.squared_residuals, squares)


def missing_patterns(n_rows, n_features):
    """Patterns of missing entries, with the tolerance of the objective."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.rand(n_rows, n_features, generator=generator)
    feature = torch.arange(n_features).expand(n_rows, n_features)
    return {
        "none": (feature >= 0, 1e-12),
        "tenth": (draw > 0.1, 1e-6),
        "quarter": (draw > 0.25, 1e-5),
        "block": (feature >= 50, 1e-5),
        "three quarters": (draw > 0.75, 0.03),
        "all but a block": (feature < 50, 0.03),
    }


def objective(codes, rows, dictionaries, observed):
    """Eq. 3, summed over rows and dictionaries, with alpha 0.1."""
    residuals = (rows - codes.mT @ dictionaries) * observed
    return residuals.square().sum() / 2 + 0.1 * codes.abs().sum()


def exact_and_approximate(rows, dictionaries, observed, n_layers):
    """Objective of Eq. 3 with the gradient of Eq. 4 in all layers, and in some."""
    step = lipschitz_bound(dictionaries @ dictionaries.mT).reciprocal()
    exact = reference.codes(rows, dictionaries, step, 0.1, n_layers, observed).mT
    codes = encode_observed(rows, dictionaries, observed, step, 0.1, n_layers).codes
    return [objective(c, rows, dictionaries, observed) for c in (exact, codes)]


@pytest.mark.parametrize("pattern", missing_patterns(1, 1))
def test_few_exact_layers_are_nearly_as_good_as_all(pattern):
    rows, dictionaries, _, _ = random_problem(n_atoms=20, n_features=200, n_rows=50)
    observed, tolerance = missing_patterns(50, 200)[pattern]
    exact, approximate = exact_and_approximate(rows, dictionaries, observed, 15)
    assert approximate < (1 + tolerance) * exact


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    n_atoms=st.integers(1, 30),
    n_features=st.integers(1, 30),
    missing=st.floats(0, 1),
    seed=st.integers(0, 99),
)
# With most of a row missing, but not the entries that the atoms cover, the steps of the
# approximate layers were once too long: they oscillated or diverged.
@example(n_atoms=3, n_features=3, missing=0.375, seed=74)
@example(n_atoms=15, n_features=7, missing=0.7, seed=78265)
def test_many_layers_converge_whatever_is_missing(n_atoms, n_features, missing, seed):
    rows, dictionaries, _, _ = random_problem(2, n_atoms, n_features, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    observed = torch.rand(rows.shape, generator=generator) >= missing
    exact, approximate = exact_and_approximate(rows, dictionaries, observed, 6000)
    torch.testing.assert_close(approximate, exact, rtol=1e-3, atol=1e-6)
