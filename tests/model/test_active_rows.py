import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmixmate.data.batch import Batch
from skmixmate.model.active_rows import ActiveRows, use_dense_rows


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 100), min_size=1, max_size=12),
    n_others=st.integers(0, 40),
    seed=st.integers(0, 2**31),
)
def test_blocks_contain_every_active_row_once(counts, n_others, seed):
    n_rows = max(counts) + n_others
    generator = torch.Generator().manual_seed(seed)
    responsibilities = torch.zeros(len(counts), n_rows)
    for row, count in zip(responsibilities, counts, strict=True):
        row[torch.randperm(n_rows, generator=generator)[:count]] = 0.5
    blocks = ActiveRows.from_responsibilities(responsibilities)
    contained = torch.zeros_like(responsibilities)
    for k, index in zip(blocks.cluster_ids, blocks.index, strict=True):
        assert len(index.unique()) == len(index)
        contained[k, index] += responsibilities[k, index]
    torch.testing.assert_close(contained, responsibilities)
    assert blocks.index.numel() <= len(counts) * max(counts)
    assert (blocks.cluster_ids.diff() >= 0).all()


def test_large_clusters_are_split_into_several_blocks():
    responsibilities = torch.zeros(50, 200)
    responsibilities[:, :20] = responsibilities[0] = 1
    blocks = ActiveRows.from_responsibilities(responsibilities)
    assert len(blocks.cluster_ids) > 50
    assert blocks.index.numel() < 50 * 60


def test_clusters_of_equal_size_have_one_block_each():
    responsibilities = torch.zeros(49, 200)
    responsibilities[:, :20] = 1
    blocks = ActiveRows.from_responsibilities(responsibilities)
    assert blocks.index.shape == (49, 20)


def test_gather_selects_the_rows_of_each_block():
    generator = torch.Generator().manual_seed(0)
    responsibilities = (torch.rand(4, 50, generator=generator) > 0.7).float()
    blocks = ActiveRows.from_responsibilities(responsibilities)
    codes = torch.arange(4 * 3 * 50.0).view(4, 3, 50)
    for chunk in (blocks, blocks[1:3]):
        gathered, of_first_atom = chunk.gather(codes), chunk.gather(codes[:, 0])
        rows = chunk.gather_rows(codes[0].mT)
        for i, (k, index) in enumerate(
            zip(chunk.cluster_ids, chunk.index, strict=True)
        ):
            torch.testing.assert_close(gathered[i], codes[k][:, index])
            torch.testing.assert_close(of_first_atom[i], codes[k, 0, index])
            torch.testing.assert_close(rows[i], codes[0].mT[index])


def test_scatter_puts_back_what_gather_selects():
    generator = torch.Generator().manual_seed(0)
    is_active = torch.rand(4, 50, generator=generator) > 0.7
    blocks = ActiveRows.from_responsibilities(is_active)
    codes = torch.randn(4, 3, 50, generator=generator)
    scattered = blocks.scatter(blocks.gather(codes), 4, 50)
    torch.testing.assert_close(scattered.mT[is_active], codes.mT[is_active])
    of_first_atom = blocks.scatter(blocks.gather(codes[:, 0]), 4, 50)
    torch.testing.assert_close(of_first_atom, scattered[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_products_equal_a_sum_over_active_rows(dtype):
    generator = torch.Generator().manual_seed(0)
    responsibilities = (torch.rand(4, 50, generator=generator) > 0.7).to(dtype)
    blocks = ActiveRows.from_responsibilities(responsibilities)
    rows = torch.randn(50, 9, generator=generator, dtype=dtype)
    grad_correlations = torch.randn(4, 3, 50, generator=generator, dtype=dtype)
    grad_correlations *= responsibilities[:, None]
    gradient = torch.zeros(4, 3, 9, dtype=dtype)
    blocks.add_gradient_products(
        gradient, blocks.gather(grad_correlations), Batch(rows)
    )
    torch.testing.assert_close(gradient, grad_correlations @ rows)


def test_only_a_gpu_with_few_clusters_uses_all_rows():
    assert use_dense_rows(3, torch.device("cuda"))
    assert not use_dense_rows(1000, torch.device("cuda"))
    assert not use_dense_rows(3, torch.device("cpu"))
