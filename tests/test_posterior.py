import torch
from hypothesis import given
from hypothesis import strategies as st

from skmixmate.model.posterior import (
    counting_posterior,
    counting_rows,
    loss,
    loss_gradient,
    posterior,
    take,
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
def test_what_does_not_count_is_lost_beside_one(seed, spread):
    energies = random_energies(seed, spread=spread).float()
    responsibilities, whole = counting_posterior(energies), posterior(energies)
    counts = responsibilities > 0
    assert (1 + whole[counts] > 1).all()
    assert (1 + whole[~counts] / 2 == 1).all()
    assert (responsibilities == whole)[counts].all()


def test_each_cluster_takes_the_rows_that_count_for_it():
    responsibilities = counting_posterior(random_energies(spread=100.0))
    index = counting_rows(responsibilities)
    counts = (responsibilities > 0).sum(dim=1)
    assert index.shape == (4, counts.max())
    assert counts.min() < counts.max() < 50
    for own, row in zip(responsibilities, index, strict=True):
        assert set(own.nonzero()[:, 0].tolist()) <= set(row.tolist())
        assert len(set(row.tolist())) == len(row)
    codes = torch.arange(4 * 3 * 50.0).view(4, 3, 50)
    for k in range(4):
        torch.testing.assert_close(take(codes, index)[k], codes[k][:, index[k]])
        torch.testing.assert_close(take(codes[:, 0], index)[k], codes[k, 0, index[k]])
