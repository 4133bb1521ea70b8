import pytest
import torch

from skmixmate.model import prior_formulas

POINTS = torch.tensor([[-3.0, -1.0, -0.5, 0.0], [0.5, 1.0, 3.0, torch.nan]])


@pytest.fixture(params=["with the operators of torch", "without them"])
def _operators(request, monkeypatch):
    if request.param == "without them":
        monkeypatch.setattr(prior_formulas, "_softshrink", None)
        monkeypatch.setattr(prior_formulas, "_softshrink_backward", None)


@pytest.mark.usefixtures("_operators")
def test_soft_threshold():
    out = torch.empty_like(POINTS)
    result = prior_formulas.soft_threshold(POINTS, 1.0, out=out)
    expected = torch.tensor([[-2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, torch.nan]])
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)
    assert result is out


@pytest.mark.usefixtures("_operators")
def test_mask_zero_codes():
    grad = torch.full_like(POINTS, 7.0)
    prior_formulas.mask_zero_codes_(grad, POINTS)
    assert grad.tolist() == [[7.0, 7.0, 7.0, 0.0], [7.0, 7.0, 7.0, 7.0]]
