import torch
from hypothesis import given
from hypothesis import strategies as st

from skmixmate.model.priors import Laplace


@given(point=st.floats(-5, 5), alpha=st.floats(0, 3))
def test_prox_minimises_its_objective(point, alpha):
    prior = Laplace(alpha)
    point = torch.full((1, 1, 1), point, dtype=torch.float64)

    def objective(code):
        return (code - point).square().sum() / 2 + prior.value(code).sum()

    best = prior.prox(point, out=torch.empty_like(point))
    for shift in (-1e-3, 1e-3):
        assert objective(best) <= objective(best + shift)


def test_value_sums_magnitudes_of_each_code():
    codes = torch.tensor([[[1.0, 0.0], [-2.0, 0.5]]])  # (1 cluster, 2 atoms, 2 rows)
    torch.testing.assert_close(Laplace(2.0).value(codes), torch.tensor([[6.0, 1.0]]))


def test_prox_backward_equals_autograd():
    points = torch.linspace(-2, 2, 9, requires_grad=True)[None, :, None]
    grad = torch.arange(1.0, 10.0)[None, :, None]
    codes = torch.nn.functional.softshrink(points, 0.7)
    (expected,) = torch.autograd.grad(codes, points, grad)
    Laplace(0.7).prox_backward_(grad, codes.detach())
    torch.testing.assert_close(grad, expected)


def test_prox_may_write_over_its_points():
    points = torch.linspace(-2, 2, 9)[None, :, None]
    prior = Laplace(1.0)
    codes = prior.prox(points, out=torch.empty_like(points))
    assert prior.prox(points, out=points) is points
    torch.testing.assert_close(points, codes)
