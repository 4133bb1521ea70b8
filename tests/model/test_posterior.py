import torch
from hypothesis import given
from hypothesis import strategies as st

from skmixmate.model.posterior import (
    ActiveRows,
    loss,
    loss_gradient,
    posterior,
    thresholded_responsibilities,
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
    responsibilities, whole = (
        thresholded_responsibilities(energies),
        posterior(energies),
    )
    counts = responsibilities > 0
    assert (1 + whole[counts] > 1).all()
    assert (1 + whole[~counts] / 2 == 1).all()
    assert (responsibilities == whole)[counts].all()


@given(
    counts=st.lists(st.integers(0, 100), min_size=1, max_size=12),
    n_others=st.integers(0, 40),
    seed=st.integers(0, 2**31),
)
def test_blocks_hold_each_row_that_counts_once(counts, n_others, seed):
    n_rows = max(counts) + n_others
    generator = torch.Generator().manual_seed(seed)
    counting = torch.zeros(len(counts), n_rows)
    for own, count in zip(counting, counts, strict=True):
        own[torch.randperm(n_rows, generator=generator)[:count]] = 0.5
    blocks = ActiveRows.from_responsibilities(counting)
    held = torch.zeros_like(counting)
    for k, rows in zip(blocks.cluster_ids, blocks.index, strict=True):
        assert len(rows.unique()) == len(rows)
        held[k, rows] += counting[k, rows]
    torch.testing.assert_close(held, counting)
    assert blocks.index.numel() <= len(counts) * max(counts)
    assert (blocks.cluster_ids.diff() >= 0).all()


def test_blocks_are_fewer_where_clusters_share_rows_unevenly():
    counting = torch.zeros(50, 200)
    counting[:, :20] = counting[0] = 1
    assert len(ActiveRows.from_responsibilities(counting).cluster_ids) > 50
    assert ActiveRows.from_responsibilities(counting).index.numel() < 50 * 60
    assert ActiveRows.from_responsibilities(counting[1:]).index.shape == (49, 20)


def test_blocks_take_what_their_clusters_have_of_their_rows():
    blocks = ActiveRows.from_responsibilities(
        thresholded_responsibilities(random_energies(spread=100.0))
    )
    codes = torch.arange(4 * 3 * 50.0).view(4, 3, 50)
    for part in (blocks, blocks[1:3]):
        taken, first = part.take(codes), part.take(codes[:, 0])
        for i, (k, rows) in enumerate(zip(part.cluster_ids, part.index, strict=True)):
            torch.testing.assert_close(taken[i], codes[k][:, rows])
            torch.testing.assert_close(first[i], codes[k, 0, rows])
            torch.testing.assert_close(part.rows(codes[0].mT)[i], codes[0].mT[rows])
