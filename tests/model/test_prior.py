"""The protocol of priors: the defaults of the base class, and user-defined priors."""

import numpy as np
import pytest
import torch

from skmixmate.model.fista import encode, lipschitz_bound
from skmixmate.model.prior import Prior, UserPrior, check_prior
from skmixmate.model.priors import PRIORS, Laplace, as_prior

from ..helpers import DOUBLE, data, small


class DuckLaplace:
    """The Laplace prior as an object with just `value` and `prox`."""

    def __init__(self, alpha=0.3):
        self.alpha = alpha

    def value(self, codes):
        return self.alpha * codes.abs().sum(dim=1)

    def prox(self, points, step):
        return points.sign() * (points.abs() - step * self.alpha).clamp_min(0)


class SubclassLaplace(DuckLaplace, Prior):
    """The same as a subclass of Prior: everything else is a default."""


class BackwardLaplace(SubclassLaplace):
    """The same with a proximal operator that autograd cannot differentiate."""

    def prox(self, points, step):
        return super().prox(points.detach(), step)

    def prox_backward(self, grad, points, step):
        return grad * (points.abs() > step * self.alpha)


class ScaledUnitsLaplace(Prior):
    """The same in units of the step size, without `prox`."""

    saves_input = False

    def __init__(self, alpha=0.3):
        self.alpha = alpha

    def value(self, codes):
        return self.alpha * codes.abs().sum(dim=1)

    def prox_scaled(self, points, step, out):
        return torch.sub(points, points.clamp(-self.alpha, self.alpha), out=out)

    def prox_vjp_(self, grad, codes, points, step):
        grad.mul_(codes != 0)


USER_PRIORS = [
    pytest.param(DuckLaplace(), id="duck-typed"),
    pytest.param(SubclassLaplace(), id="subclass"),
    pytest.param(BackwardLaplace(), id="prox_backward"),
    pytest.param(ScaledUnitsLaplace(), id="prox_scaled"),
]


def random_points(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), **DOUBLE)


@pytest.mark.parametrize("factor", [1, 0.5])
@pytest.mark.parametrize("user_prior", USER_PRIORS)
def test_defaults_equal_the_methods_of_laplace(user_prior, factor):
    prior = as_prior(user_prior, None).scaled(factor)
    laplace = Laplace(0.3 * factor)
    points, step = random_points(2, 5, 7), torch.tensor([[[0.5]], [[2.0]]], **DOUBLE)
    row_weights = torch.linspace(0, 1, 14, **DOUBLE).view(2, 7)

    assert prior.thresholds is None
    torch.testing.assert_close(prior.prox(points, step), laplace.prox(points, step))
    codes = laplace.prox_scaled(points, step, out=torch.empty_like(points))
    actual = prior.prox_scaled(points, step, out=torch.empty_like(points))
    torch.testing.assert_close(actual, codes)
    torch.testing.assert_close(prior.value(codes), laplace.value(codes))
    torch.testing.assert_close(
        prior.value_grad(codes, row_weights), laplace.value_grad(codes, row_weights)
    )
    actual, expected = points.flip(1), points.flip(1)
    prior.prox_vjp_(actual, codes, points, step)
    laplace.prox_vjp_(expected, codes, points, step)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        prior.prox_backward(points.flip(1), points * step, step), expected
    )


@pytest.mark.parametrize("user_prior", USER_PRIORS)
def test_defaults_without_a_density(user_prior):
    prior = as_prior(user_prior, None)
    assert prior.log_normalizer(3) is None
    assert prior.log_normalizer_ratio() == 0
    assert prior[slice(0, 1)] is prior
    assert prior.scaled(1) is prior
    with pytest.raises(ValueError, match="cannot be sampled from: its class does not"):
        prior.sample(2, 3, np.random.RandomState(0))


@pytest.mark.parametrize("user_prior", USER_PRIORS)
def test_expected_value_is_an_upper_bound(user_prior):
    means, variances = random_points(1, 5, 7), random_points(1, 5, 7).square()
    bound = as_prior(user_prior, None).expected_value(means, variances)
    assert (bound >= Laplace(0.3).expected_value(means, variances)).all()


@pytest.mark.parametrize("user_prior", USER_PRIORS)
@pytest.mark.parametrize("n_layers", [1, 2, 6])
def test_gradcheck_through_the_encoder(user_prior, n_layers):
    dictionaries = torch.nn.functional.normalize(random_points(2, 5, 8), dim=2)
    dictionaries.requires_grad_()
    rows = 2 * random_points(6, 8)
    step = lipschitz_bound(dictionaries.detach() @ dictionaries.detach().mT) ** -1
    prior = as_prior(user_prior, None).scaled(0.7)

    def codes(dictionaries):
        gram = dictionaries @ dictionaries.mT
        return encode(dictionaries @ rows.mT, gram, step, prior, n_layers)

    assert torch.autograd.gradcheck(codes, dictionaries)


@pytest.mark.parametrize("user_prior", USER_PRIORS)
@pytest.mark.parametrize(
    "params", [{}, {"noise_variance": 0.2}, {"likelihood": "poisson"}], ids=str
)
def test_user_prior_fits_as_laplace(user_prior, params):
    X = np.abs(data()).round() if "likelihood" in params else data()
    expected = small(prior=Laplace(0.3), **params).fit(X)
    mixmate = small(prior=user_prior, **params).fit(X)
    np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_, atol=1e-9)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    np.testing.assert_allclose(mixmate.encode(X), expected.encode(X), atol=1e-8)


def test_as_prior_adapts_objects_and_keeps_subclasses():
    assert isinstance(as_prior(DuckLaplace(), None), UserPrior)
    subclass = SubclassLaplace()
    assert as_prior(subclass, None) is subclass
    assert as_prior("laplace", 0.5) == Laplace(0.5)


@pytest.mark.parametrize("user_prior", USER_PRIORS)
def test_check_prior_accepts_every_way_to_define_a_prior(user_prior):
    check_prior(user_prior, n_atoms=4)


@pytest.mark.parametrize("name", PRIORS)
def test_check_prior_accepts_named_priors(name):
    check_prior(PRIORS[name](0.3), n_atoms=4)


def test_check_prior_rejects_a_subclass_without_a_gradient():
    class NotDifferentiable(SubclassLaplace):
        def prox(self, points, step):
            return super().prox(points.detach(), step)

    with pytest.raises(ValueError, match="autograd cannot differentiate"):
        check_prior(NotDifferentiable(), n_atoms=4)


def test_a_subclass_without_a_proximal_operator_raises():
    with pytest.raises(TypeError, match="Incomplete has no proximal operator"):

        class Incomplete(Prior):
            def value(self, codes):
                return codes.abs().sum(dim=1)


def test_a_subclass_without_a_value_cannot_be_created():
    class NoValue(Prior):
        def prox(self, points, step):
            return points

    with pytest.raises(TypeError, match="abstract"):
        NoValue()


def test_scaled_priors_are_repeatedly_scaled():
    codes = torch.ones(1, 2, 1)
    prior = SubclassLaplace(0.5).scaled(2).scaled(3)
    assert prior.value(codes) == 6
    assert repr(prior).endswith(".scaled(6)")
