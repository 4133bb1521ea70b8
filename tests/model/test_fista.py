import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from skmixmate.model.fista import encode, lipschitz_bound, momenta
from skmixmate.model.priors import Laplace

from .. import reference
from ..helpers import DOUBLE


def random_problem(n_clusters=3, n_atoms=5, n_features=8, n_rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_clusters, n_atoms, n_features)
    dictionaries = torch.randn(shape, generator=generator, **DOUBLE)
    dictionaries = dictionaries / dictionaries.norm(dim=2, keepdim=True)
    rows = torch.randn(n_rows, n_features, generator=generator, **DOUBLE)
    observed = torch.rand(n_rows, n_features, generator=generator) > 0.3
    step = 0.5 + torch.rand(n_clusters, 1, 1, generator=generator, **DOUBLE)
    return rows, dictionaries, observed, step / 5


def encode_rows(rows, dictionaries, step, alpha, n_layers):
    gram = dictionaries @ dictionaries.mT
    return encode(dictionaries @ rows.mT, gram, step, Laplace(alpha), n_layers)


@settings(deadline=None, max_examples=30)
@given(
    n_clusters=st.integers(1, 4),
    n_atoms=st.integers(1, 7),
    n_features=st.integers(1, 9),
    n_rows=st.integers(1, 6),
    n_layers=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_codes_equal_the_published_formulation(
    n_clusters, n_atoms, n_features, n_rows, n_layers, seed
):
    rows, dictionaries, _, step = random_problem(
        n_clusters, n_atoms, n_features, n_rows, seed
    )
    expected = reference.codes(rows, dictionaries, step, 0.1, n_layers).mT
    actual = encode_rows(rows, dictionaries, step, 0.1, n_layers)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("n_layers", [1, 2, 6])
def test_gradcheck_of_the_gram_form(n_layers):
    rows, dictionaries, _, step = random_problem()
    dictionaries.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a: encode_rows(rows, a, step, 0.1, n_layers), dictionaries
    )


def test_gradient_equals_step_by_step_autograd():
    rows, dictionaries, _, step = random_problem()
    dictionaries.requires_grad_()
    direction = torch.randn(3, 5, 6, **DOUBLE)
    actual = encode_rows(rows, dictionaries, step, 0.1, 15)
    expected = reference.codes(rows, dictionaries, step, 0.1, 15).mT
    torch.testing.assert_close(
        *(
            torch.autograd.grad((code * direction).sum(), dictionaries)
            for code in (actual, expected)
        )
    )


def test_many_layers_solve_the_lasso():
    rows, dictionaries, _, _ = random_problem(n_clusters=1)
    gram = dictionaries @ dictionaries.mT
    step = lipschitz_bound(gram).reciprocal()
    code = encode_rows(rows, dictionaries, step, 0.2, 2000)[0]
    lasso = Lasso(alpha=0.2 / rows.shape[1], fit_intercept=False, tol=1e-10)
    lasso.fit(dictionaries[0].T.numpy(), rows.T.numpy())
    np.testing.assert_allclose(code.T.numpy(), lasso.coef_, atol=1e-6)


@settings(deadline=None)
@given(
    n_atoms=st.integers(1, 30),
    rank=st.integers(1, 30),
    exponent=st.integers(-3, 3),
    seed=st.integers(0, 99),
)
def test_bound_on_the_largest_eigenvalue_is_safe_and_tight(
    n_atoms, rank, exponent, seed
):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(2, n_atoms, rank, generator=generator)
    gram = factor @ factor.mT * 10.0**exponent
    exact = torch.linalg.eigvalsh(gram.double())[:, -1]
    ratio = lipschitz_bound(gram)[:, 0, 0] / exact
    assert (ratio > 1 - 1e-5).all()
    assert (ratio < n_atoms ** (1 / 64) + 1e-5).all()


def test_momenta_of_three_layers():
    t_1 = (1 + 5**0.5) / 2
    t_2 = (1 + (1 + 4 * t_1**2) ** 0.5) / 2
    assert momenta(3) == pytest.approx([0, (t_1 - 1) / t_2])
