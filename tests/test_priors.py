import torch
from hypothesis import given
from hypothesis import strategies as st

from skmixmate.model.priors import Laplace


@given(point=st.floats(-5, 5), step=st.floats(0.01, 2), alpha=st.floats(0, 3))
def test_prox_minimises_its_objective(point, step, alpha):
    prior = Laplace(alpha)
    point = torch.full((1, 1, 1), point, dtype=torch.float64)

    def objective(code):
        return (code - point).square().sum() / 2 + step * prior.value(code).sum()

    best = prior.prox(point, torch.tensor(step, dtype=torch.float64))
    for shift in (-1e-3, 1e-3):
        assert objective(best) <= objective(best + shift)


def test_value_sums_magnitudes_of_each_code():
    codes = torch.tensor([[[1.0, 0.0], [-2.0, 0.5]]])  # (1 cluster, 2 atoms, 2 rows)
    torch.testing.assert_close(Laplace(2.0).value(codes), torch.tensor([[6.0, 1.0]]))


def test_prox_backward_equals_autograd():
    points = torch.linspace(-2, 2, 9, requires_grad=True)[None, :, None]
    grad = torch.arange(1.0, 10.0)[None, :, None]
    prior, step = Laplace(1.0), torch.tensor(0.7)
    thresholded = torch.nn.functional.softshrink(points, 0.7)
    (expected,) = torch.autograd.grad(thresholded, points, grad)
    actual = prior.prox_backward(grad, prior.prox(points.detach(), step))
    torch.testing.assert_close(actual, expected)
