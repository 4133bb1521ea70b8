import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, minimize
from sklearn import linear_model
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture
from skmixmate.model.fista import encode, lipschitz_bound
from skmixmate.model.incomplete import encode_incomplete
from skmixmate.model.priors import (
    PRIORS,
    ElasticNet,
    Exponential,
    GroupLaplace,
    Laplace,
    as_prior,
)

from .. import helpers
from ..helpers import DOUBLE, DuckNet, data


class ElasticNetWithBackward(DuckNet):
    """The same with prox_backward in place of autograd."""

    def prox(self, codes, step):
        return super().prox(codes.detach(), step)

    def prox_backward(self, grad, codes, step):
        is_used = codes.abs() > step * self.alpha
        return grad * is_used / (1 + step * self.ridge)


NAMED = [pytest.param(as_prior(name, 0.3), id=name) for name in PRIORS]
ALL = [
    *NAMED,
    pytest.param(GroupLaplace(0.3, group_size=3), id="groups of three"),
    pytest.param(as_prior(DuckNet(), None), id="duck"),
    pytest.param(as_prior(ElasticNetWithBackward(), None), id="prox_backward"),
]


def prox(prior, points, step):
    """The proximal operator in plain units."""
    points = points / step
    return step * prior.prox_scaled(points, step, out=torch.empty_like(points))


def random_problem(n_atoms=5, n_rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dictionaries = torch.randn(2, n_atoms, 8, generator=generator, **DOUBLE)
    dictionaries /= dictionaries.norm(dim=2, keepdim=True)
    rows = torch.randn(n_rows, 8, generator=generator, **DOUBLE)
    step = lipschitz_bound(dictionaries @ dictionaries.mT).reciprocal()
    return 2 * rows, dictionaries, step


def encode_rows(rows, dictionaries, step, prior, n_layers):
    gram = dictionaries @ dictionaries.mT
    return encode(dictionaries @ rows.mT, gram, step, prior, n_layers)


# --- the proximal operator and its gradient -------------------------------------------


@pytest.mark.parametrize("prior", ALL)
@settings(deadline=None, max_examples=25)
@given(
    points=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    step=st.floats(0.05, 2),
)
def test_prox_minimizes_its_objective(prior, points, step):
    points = torch.tensor(points, **DOUBLE)[None, :, None]
    step = torch.tensor(step, **DOUBLE).view(1, 1, 1)

    def objective(code):
        code = torch.as_tensor(code).view(1, 3, 1)
        distance = (code - points).square().sum() / 2
        return float(distance + step.squeeze() * prior.value(code).squeeze())

    bounds = [(0, 5) if isinstance(prior, Exponential) else (-5, 5)] * 3
    code = prox(prior, points, step)
    for start in (np.full(3, 0.1), code.flatten().numpy()):
        result = minimize(objective, start, bounds=bounds, method="Powell")
        assert objective(code) <= result.fun + 1e-9


@pytest.mark.parametrize("prior", ALL)
@pytest.mark.parametrize("n_layers", [1, 2, 6])
def test_gradcheck_through_the_encoder(prior, n_layers):
    rows, dictionaries, step = random_problem()
    dictionaries.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a: encode_rows(rows, a, step, prior, n_layers), dictionaries
    )


@pytest.mark.parametrize("prior", ALL)
def test_gradcheck_of_the_value(prior):
    codes = torch.tensor([[[1.0], [0.5], [2.0]]], **DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(prior.value, codes)


@pytest.mark.parametrize("prior", ALL)
def test_prox_scaled_may_write_to_its_input(prior):
    points = torch.linspace(-2, 2, 9)[None, :, None]
    step = torch.full((1, 1, 1), 0.5)
    codes = prior.prox_scaled(points, step, out=torch.empty_like(points))
    assert codes.count_nonzero() > 0
    assert prior.prox_scaled(points, step, out=points) is points
    torch.testing.assert_close(points, codes)


@pytest.mark.parametrize("prior", ALL)
def test_gradient_of_an_empty_code_is_zero(prior):
    points = torch.zeros(1, 4, 1)
    step = torch.ones(1, 1, 1)
    codes = prior.prox_scaled(points, step, out=torch.empty_like(points))
    grad = torch.ones_like(points)
    prior.prox_vjp_(grad, codes, points, step)
    assert not codes.any()
    assert not grad.any()


# --- comparison with general solvers --------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "solver"),
    [
        (Laplace(0.2), linear_model.Lasso(0.2 / 8)),
        (Exponential(0.2), linear_model.Lasso(0.2 / 8, positive=True)),
        # scikit-learn has the sum of both penalties, over the features, and shares.
        (ElasticNet(0.2, ridge=0.6), linear_model.ElasticNet(0.8 / 8, l1_ratio=0.25)),
    ],
)
def test_many_layers_equal_coordinate_descent(prior, solver):
    rows, dictionaries, step = random_problem()
    codes = encode_rows(rows, dictionaries, step, prior, n_layers=2000)
    solver.set_params(fit_intercept=False, tol=1e-10, max_iter=100_000)
    for code, dictionary in zip(codes, dictionaries, strict=True):
        solver.fit(dictionary.T.numpy(), rows.T.numpy())
        np.testing.assert_allclose(code.T.numpy(), solver.coef_, atol=1e-6)


@pytest.mark.parametrize("group_size", [2, 3])
def test_many_layers_with_groups_equal_bfgs(group_size):
    prior = GroupLaplace(0.2, group_size=group_size)
    rows, dictionaries, step = random_problem(n_rows=2)
    codes = encode_rows(rows, dictionaries, step, prior, n_layers=2000)
    group = torch.arange(5) // group_size
    weights = 0.2 * group.bincount(minlength=3).double().sqrt()
    for k in range(2):
        for i in range(2):

            def objective(code, k=k, i=i):
                code = torch.tensor(code, requires_grad=True)
                squares = torch.zeros(3, **DOUBLE).index_add(0, group, code.square())
                norms = (squares + 1e-14).sqrt()
                residual = rows[i] - code @ dictionaries[k]
                total = residual.square().sum() / 2 + weights @ norms
                total.backward()
                return total.item(), code.grad.numpy()

            result = minimize(objective, np.ones(5), jac=True, options={"gtol": 1e-9})
            np.testing.assert_allclose(codes[k, :, i], result.x, atol=1e-4)


@pytest.mark.parametrize("prior", ALL)
def test_missing_entries_are_ignored(prior):
    rows, dictionaries, step = random_problem()
    mask = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) > 0.3).double()
    gram = dictionaries @ dictionaries.mT
    targets = rows.T * mask
    codes = encode_incomplete(
        targets, mask, dictionaries, gram, step, prior, n_layers=4
    ).codes
    for i, row in enumerate(rows):
        expected = encode_rows(row[None], dictionaries * mask[:, i], step, prior, 4)
        torch.testing.assert_close(codes[:, :, [i]], expected)


# --- values, densities and log-normalisers --------------------------------------------


@pytest.mark.parametrize("prior", ALL)
def test_value_grad_equals_autograd(prior):
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2, 6, 5, generator=generator, **DOUBLE)
    codes[:, 0] = 0
    weights = torch.rand(2, 5, generator=generator, **DOUBLE)
    leaf = codes.clone().requires_grad_()
    (expected,) = torch.autograd.grad(prior.value(leaf), leaf, weights)
    torch.testing.assert_close(prior.value_grad(codes, weights), expected)


def test_values_of_known_codes():
    codes = torch.tensor([[[3.0, 0.0], [-4.0, 0.5]]])  # (1 cluster, 2 atoms, 2 rows)
    for prior, expected in [
        (Laplace(2.0), [14.0, 1.0]),
        (ElasticNet(2.0, ridge=1.0), [26.5, 1.125]),
        (GroupLaplace(2.0), [10 * 2**0.5, 2**0.5]),
        (Exponential(2.0), [14.0, 1.0]),
    ]:
        signed = codes.abs() if isinstance(prior, Exponential) else codes
        torch.testing.assert_close(prior.value(signed), torch.tensor([expected]))


def test_all_entries_of_a_group_are_zero_or_none():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1, 7, 50, generator=generator)
    codes = prox(GroupLaplace(0.7, group_size=3), points, torch.ones(1, 1, 1))
    used = codes != 0
    assert 0 < used.sum() < used.numel()
    for group in (slice(0, 3), slice(3, 6), slice(6, 7)):
        assert (used[:, group] == used[:, group][:, :1]).all()


def test_groups_of_one_atom_equal_laplace():
    points, step = torch.linspace(-2, 2, 9)[None, :, None], torch.ones(1, 1, 1)
    codes = prox(GroupLaplace(0.5, group_size=1), points, step)
    torch.testing.assert_close(codes, prox(Laplace(0.5), points, step))


def test_duck_typed_prior_encodes_as_the_named_one():
    rows, dictionaries, step = random_problem()
    dictionaries.requires_grad_()
    answers = []
    for prior in (ElasticNet(0.3, ridge=0.5), as_prior(DuckNet(), None)):
        codes = encode_rows(rows, dictionaries, step, prior, n_layers=15)
        energies = prior.value(codes) + codes.square().sum(dim=1)
        answers.append((codes, *torch.autograd.grad(energies.sum(), dictionaries)))
    for expected, actual in zip(*answers, strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("prior", "params", "message"),
    [
        (Laplace, {"alpha": -1}, r"alpha=-1 should be .* at least 0"),
        (Exponential, {"alpha": float("nan")}, r"alpha=nan should be"),
        (GroupLaplace, {"alpha": "auto"}, r"alpha='auto' should be a number"),
        (GroupLaplace, {"alpha": 1, "group_size": 0}, r"group_size=0 .* at least 1"),
        (GroupLaplace, {"alpha": 1, "group_size": 1.5}, r"group_size=1.5 .* integer"),
        (ElasticNet, {"alpha": 1, "ridge": -0.1}, r"ridge=-0.1 should be"),
    ],
)
def test_invalid_parameters_raise(prior, params, message):
    with pytest.raises(ValueError, match=message):
        prior(**params)


# --- in the estimator -----------------------------------------------------------------


def small(**params):
    if isinstance(params.get("prior"), str):
        params = {"alpha": 0.75, **params}  # a single rate for all atoms
    return helpers.small(**params)


def draw_codes(name, n_samples, n_atoms, rng):
    """Codes from each prior, of rate 0.4 and with few entries or groups not zero."""
    shape = (n_samples, n_atoms)
    is_used = rng.random(shape).argsort(axis=1) < n_atoms // 2
    if name == "laplace":
        return rng.laplace(scale=1 / 0.4, size=shape) * is_used
    if name == "nonnegative":
        return rng.exponential(scale=1 / 0.4, size=shape) * is_used
    if name == "group":
        # In two dimensions the density exp(-rate * norm) has a norm of the law
        # Gamma(2), in all directions alike.
        norms = rng.gamma(2, 1 / (0.4 * 2**0.5), size=(n_samples, n_atoms // 2))
        angles = rng.uniform(0, 2 * np.pi, size=norms.shape)
        norms *= rng.random(norms.shape).argsort(axis=1) < n_atoms // 4
        pairs = np.stack([norms * np.cos(angles), norms * np.sin(angles)], axis=2)
        return pairs.reshape(shape)
    if name == "elastic_net":
        # By rejection: of 50 Laplace draws the first that the normal factor keeps.
        codes = rng.laplace(scale=1 / 0.4, size=(50, *shape))
        kept = rng.random(codes.shape) < np.exp(-0.1 / 2 * codes**2)
        first = np.take_along_axis(codes, kept.argmax(axis=0)[None], axis=0)[0]
        return first * is_used
    raise NotImplementedError(f"draw_codes has no sampler for {name!r}")


def cosines(name, dictionary, true):
    """Cosines of the learned atoms, or planes of groups, with the true ones."""
    if name == "group":
        planes = [
            np.linalg.qr(atoms.reshape(-1, 2, atoms.shape[1]).transpose(0, 2, 1))[0]
            for atoms in (dictionary, true)
        ]
        products = np.einsum("gma,hmb->ghab", *planes)
        similar = np.linalg.svd(products, compute_uv=False).min(axis=2)
    else:
        similar = dictionary @ true.T
        # Of non-negative codes the sign of an atom is known as well.
        similar = similar if name == "nonnegative" else abs(similar)
    return similar[linear_sum_assignment(-similar)]


@pytest.mark.parametrize("name", PRIORS)
def test_fit_recovers_clusters_and_atoms(name):
    rng = np.random.default_rng(1)
    true = make_sparse_mixture(1, n_atoms=8, random_state=0).dictionaries
    labels = rng.integers(3, size=2000)
    codes = draw_codes(name, 2000, 8, rng)
    X = np.einsum("nd,ndm->nm", codes, true[labels])
    X += 0.1 * rng.standard_normal(X.shape)
    mixmate = MixMateClustering(
        3,
        n_atoms=8,
        prior=name,
        init="spectral",
        learning_rate=1e-2,
        fit_intercept=False,
        max_iter=30,
        tol=0,
        random_state=0,
    ).fit(X)
    assert adjusted_rand_score(labels, mixmate.labels_) > 0.95
    if name == "group":
        # Which atoms are a group stays as it was at the start.
        init = true + 0.1 * rng.standard_normal(true.shape)
        mixmate.set_params(init=init).fit(X)
    for k in range(3):
        learned = mixmate.dictionaries_[
            np.bincount(mixmate.labels_[labels == k]).argmax()
        ]
        assert cosines(name, learned, true[k]).min() > 0.95


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("prior", [*PRIORS, DuckNet()], ids=str)
def test_methods_of_the_estimator_agree(prior, dtype, missing):
    X = data(missing=missing).astype(dtype)
    mixmate = small(prior=prior).fit(X)
    labels, codes = mixmate.predict(X), mixmate.encode(X)
    np.testing.assert_array_equal(mixmate.labels_, labels)
    assert codes.dtype == mixmate.dictionaries_.dtype == dtype

    scaled = torch.from_numpy(mixmate.scale_ * codes).permute(1, 2, 0)
    penalties = as_prior(prior, 0.75).value(scaled).T.numpy()
    decoded = np.einsum("nkd,kdm->nkm", codes, mixmate.dictionaries_)
    residuals = np.nan_to_num(X[:, None] - decoded - mixmate.intercepts_)
    squares = (mixmate.scale_**2 * residuals**2).sum(axis=2)
    expected = squares + penalties - np.log(mixmate.weights_)
    rtol = 1e-3 if dtype == np.float32 else 1e-7
    np.testing.assert_allclose(mixmate.energies(X), expected, rtol=rtol)

    blocks = mixmate.transform(X)
    assert blocks.shape == (120, 18)
    np.testing.assert_allclose(
        mixmate.inverse_transform(blocks), mixmate.reconstruct(X), atol=1e-4
    )
    if prior == "nonnegative":
        assert codes.min() == 0
    if prior == "group":
        pairs = codes.reshape(120, 3, 3, 2) != 0
        assert (pairs[..., 0] == pairs[..., 1]).all()


@pytest.mark.parametrize("prior", [*PRIORS, DuckNet()], ids=str)
@pytest.mark.parametrize("n_layers", [1, 15])
def test_training_lowers_the_loss(prior, n_layers):
    X = data()
    start = small(prior=prior, n_layers=n_layers, max_iter=0).fit(X)
    mixmate = small(prior=prior, n_layers=n_layers, warm_start=True).fit(X)
    assert mixmate.loss_ < start.loss_
    before = mixmate.loss_
    assert mixmate.fit(X).loss_ < before


@pytest.mark.parametrize("prior", [*PRIORS, GroupLaplace(0.5, 3), DuckNet()], ids=str)
@pytest.mark.parametrize("copy", [clone, lambda m: pickle.loads(pickle.dumps(m))])
def test_clones_and_pickles_fit_the_same(prior, copy):
    X = data()
    mixmate = small(prior=prior, max_iter=1).fit(X)
    again = copy(mixmate).fit(X)
    np.testing.assert_array_equal(mixmate.dictionaries_, again.dictionaries_)


@pytest.mark.parametrize("name", PRIORS)
def test_a_name_equals_an_instance_with_the_rate_of_the_estimator(name):
    X = data()
    named = small(prior=name, alpha=0.5, max_iter=1).fit(X)
    instance = small(prior=PRIORS[name](0.5), max_iter=1).fit(X)
    np.testing.assert_array_equal(named.dictionaries_, instance.dictionaries_)


@pytest.mark.parametrize("prior", [DuckNet(), ElasticNetWithBackward()])
def test_duck_typed_prior_fits_as_the_named_one(prior):
    X = data()
    expected = small(prior=ElasticNet(0.3, ridge=0.5)).fit(X)
    mixmate = small(prior=prior).fit(X)
    np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)


def test_grid_search_over_priors():
    search = GridSearchCV(
        small(max_iter=1),
        {"prior": [*PRIORS, GroupLaplace(0.5, group_size=3)]},
        cv=2,
        scoring=lambda mixmate, X: -((mixmate.reconstruct(X) - X) ** 2).mean(),
        error_score="raise",
    ).fit(data())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.filterwarnings("ignore:The codes are nearly full")
@pytest.mark.parametrize("prior", [*PRIORS, GroupLaplace(0.5, 3), DuckNet()], ids=str)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_noise_variance_scales_the_penalty_of_the_encoder(prior, missing):
    # Scaled rows, and a rate that undoes it: see the test of the same for Laplace.
    X = data(missing=missing)
    mixmate = small(prior=prior, noise_variance=0.01, scale=1.0, max_iter=1).fit(X)
    exact = small(prior=prior, noise_variance=0.5, scale=1.0, max_iter=1).fit(X)
    assert (mixmate.encode(X) != 0).mean() > (exact.encode(X) != 0).mean()


class WrongShape(DuckNet):
    def prox(self, codes, step):
        return codes[:, :1]


class WrongValue(DuckNet):
    def value(self, codes):
        return codes.abs().sum()


class NoTensor(DuckNet):
    def prox(self, codes, step):
        return codes.detach().numpy()


class NoGradient(DuckNet):
    def prox(self, codes, step):
        return super().prox(codes.detach(), step)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"prior": "normal"}, ValueError, r"'prior'.*'elastic_net'.*Got 'normal'"),
        ({"prior": 3.0}, ValueError, r"'prior'.*implementing.*Got 3.0"),
        (
            {"prior": GroupLaplace(0.5), "alpha": 0.3},
            ValueError,
            r"alpha=0.3 should be 'auto' with prior=GroupLaplace\(alpha=0.5",
        ),
        ({"prior": GroupLaplace}, TypeError, "GroupLaplace.* is a class; pass an"),
        ({"prior": DuckNet}, TypeError, "prior=.* is a class; pass an instance"),
        (
            {"prior": WrongShape()},
            ValueError,
            r"prior=.*prox that returns shape \(2, 1, 3\).*should return.*\(2, 6, 3\)",
        ),
        (
            {"prior": WrongValue(), "n_atoms": "auto"},
            ValueError,
            r"prior=.*value that returns shape \(\) .*\(2, 50, 3\).*\(2, 3\)",
        ),
        (
            {"prior": NoTensor()},
            TypeError,
            "prox that returns ndarray; it should",
        ),
        ({"prior": NoGradient()}, ValueError, "prior=.*autograd cannot differentiate"),
    ],
)
def test_invalid_priors_raise_before_data_are_read(params, error, message, monkeypatch):
    monkeypatch.setattr("skmixmate.estimators._fit.summarize", None)
    with pytest.raises(error, match=message):
        small(**params).fit(data())


@pytest.mark.parametrize("prior", ["nonnegative", DuckNet()])
def test_noise_variance_auto_needs_a_prior_with_a_density(prior):
    with pytest.raises(ValueError, match="noise_variance='auto' should be a number"):
        small(noise_variance="auto", prior=prior).fit(data())


@pytest.mark.parametrize(
    "prior",
    [
        Laplace(0.5),
        Exponential(0.5),
        ElasticNet(0.5, 0.3),
        ElasticNet(0.5, 0.0),
        GroupLaplace(0.5, group_size=3),
    ],
    ids=str,
)
def test_samples_follow_the_prior(prior):
    codes = prior.sample(40_000, 5, np.random.RandomState(0))
    assert codes.shape == (40_000, 5)
    assert np.all(codes >= 0) == isinstance(prior, Exponential)
    # The derivative of the expected log-density of c * x with respect to c, which is
    # n_atoms - E[x . g'(x)] at c = 1, is 0.
    x = torch.from_numpy(codes.T[None]).requires_grad_()
    (grad,) = torch.autograd.grad(prior.value(x).sum(), x)
    mean = (x * grad).sum(dim=1).mean().item()
    assert mean == pytest.approx(5, rel=0.02)
    magnitudes = np.abs(codes).mean(axis=0)
    np.testing.assert_allclose(magnitudes[:3], magnitudes[0], rtol=0.03)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (DuckNet(), "prior=.*DuckNet object.* cannot be sampled from"),
        (
            Laplace(0.0),
            r"prior=Laplace.*is not a density.*set alpha to a positive number",
        ),
        (ElasticNet(0.0, 0.0), r"prior=ElasticNet.*is not a density"),
    ],
)
@pytest.mark.filterwarnings("ignore:The codes are nearly full")
def test_sample_raises_without_a_density(prior, message):
    mixmate = small(prior=prior, max_iter=0).fit(data())
    with pytest.raises(ValueError, match=message):
        mixmate.sample(3)


def test_fit_warns_if_all_codes_are_empty():
    message = r"Every code is empty: prior=GroupLaplace\(alpha=1000, .* too large"
    with pytest.warns(UserWarning, match=message):
        small(prior=GroupLaplace(1000)).fit(data())


def test_a_group_size_above_n_atoms_makes_one_group():
    codes = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4)))
    step = torch.ones(2, 1, 1, dtype=codes.dtype)
    answers = [
        (
            prior.value(codes),
            prior.prox_scaled(codes, step, out=torch.empty_like(codes)),
        )
        for prior in (GroupLaplace(0.5, group_size=3), GroupLaplace(0.5, 10**9))
    ]
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
