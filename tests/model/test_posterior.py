import torch
from hypothesis import given
from hypothesis import strategies as st

from skmixmate.model.posterior import (
    loss,
    loss_gradient,
    posterior,
    thresholded_responsibilities,
    with_known_labels,
)


def random_energies(seed=0, n_clusters=4, n_rows=50, spread=5.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_clusters, n_rows)
    return spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def test_posterior_is_the_softmax_of_negative_energies():
    energies = torch.tensor([[1.0, 100.0], [2.0, 0.0], [0.5, 30.0]])
    torch.testing.assert_close(posterior(energies), torch.softmax(-energies, dim=0))


def test_loss_gradient_equals_autograd():
    energies = random_energies().requires_grad_()
    (expected,) = torch.autograd.grad(loss(energies).sum(), energies)
    energies = energies.detach()
    actual = loss_gradient(energies, posterior(energies))
    torch.testing.assert_close(actual, expected)


@given(seed=st.integers(0, 2**31), spread=st.sampled_from([0.1, 5.0, 100.0]))
def test_responsibilities_below_machine_epsilon_are_set_to_zero(seed, spread):
    energies = random_energies(seed, spread=spread).float()
    responsibilities = thresholded_responsibilities(energies)
    expected = posterior(energies)
    is_active = responsibilities > 0
    assert (1 + expected[is_active] > 1).all()
    assert (1 + expected[~is_active] / 2 == 1).all()
    assert (responsibilities == expected)[is_active].all()


def test_a_known_label_decides_posterior_loss_and_gradient():
    energies, labels = random_energies(n_rows=3), torch.tensor([-1, 2, 0])
    known = with_known_labels(energies, labels)
    assert with_known_labels(energies, None) is energies
    assert known[:, 0].equal(energies[:, 0])
    responsibilities = thresholded_responsibilities(known)
    assert responsibilities[:, 1:].T.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert loss(known)[1:].tolist() == [energies[2, 1], energies[0, 2]]
    assert loss_gradient(known, responsibilities)[:, 1:].equal(responsibilities[:, 1:])
