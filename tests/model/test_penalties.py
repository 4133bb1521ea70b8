import numpy as np
import pytest
import torch

from skmixmate.model.penalties import Smoothness


def random_atoms(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return atoms / atoms.norm(dim=2, keepdim=True)


@pytest.mark.parametrize("image_shape", [(4, 6), (6, 4, 1), (2, 4, 3)])
def test_gradient_equals_autograd(image_shape):
    penalty = Smoothness(0.7, image_shape)
    atoms = random_atoms(3, 5, 24).requires_grad_()
    (expected,) = torch.autograd.grad(penalty.value(atoms), atoms)
    torch.testing.assert_close(penalty.gradient(atoms.detach()), expected)


def test_value_is_the_mean_of_squared_differences():
    atoms = random_atoms(2, 4, 5 * 6 * 3)
    images = atoms.numpy().reshape(8, 5, 6, 3)
    down, across = np.diff(images, axis=1), np.diff(images, axis=2)
    expected = ((down**2).sum() + (across**2).sum()) / 8
    assert Smoothness(2.0, (5, 6, 3)).value(atoms).item() == pytest.approx(2 * expected)


def test_channels_are_penalised_separately():
    one_in_red = torch.zeros(1, 1, 12)
    one_in_red[..., ::3] = 0.5  # all four pixels
    assert Smoothness(1.0, (2, 2, 3)).value(one_in_red) == 0


@pytest.mark.parametrize("size", [8, 64])
def test_value_lies_between_zero_and_eight_for_any_size(size):
    penalty = Smoothness(1.0, (size, size))
    flat = torch.full((2, 3, size * size), 1 / size)
    signs = torch.ones(size)
    signs[::2] = -1
    checkerboard = flat * torch.outer(signs, signs).flatten()
    assert penalty.value(flat).item() == 0
    assert penalty.value(checkerboard).item() == pytest.approx(8, rel=8 / size / 4)


def test_penalty_without_atoms_is_zero():
    no_atoms = torch.empty(3, 0, 16)
    penalty = Smoothness(1.0, (4, 4))
    assert penalty.value(no_atoms) == 0
    assert penalty.gradient(no_atoms).shape == no_atoms.shape
