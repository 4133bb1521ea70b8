import torch

from skmixmate.utils.operators import find_operator


def test_an_operator_is_found():
    points = torch.tensor([-2.0, 0.5, 3.0])
    operator = find_operator("softshrink", "out")
    assert operator(points, 1.0, out=points).tolist() == [-1.0, 0.0, 2.0]


def test_operators_and_overloads_that_are_missing():
    assert find_operator("no_such_operator") is None
    assert find_operator("softshrink", "no_such_overload") is None
