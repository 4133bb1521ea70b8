import torch

from skmixmate.data.batch import Batch


def test_complete_and_incomplete_rows_are_separated():
    rows = torch.arange(12.0).view(4, 3)
    observed = torch.ones(4, 3, dtype=torch.bool)
    observed[1, 2] = observed[3] = False
    complete, incomplete = Batch(rows, observed).completeness_groups()
    assert complete[0].tolist() == [0, 2]
    assert incomplete[0].tolist() == [1, 3]
    assert complete[1].observed is None
    assert torch.equal(incomplete[1].rows, rows[[1, 3]])
    assert torch.equal(incomplete[1].observed, observed[[1, 3]])
    ((index, batch),) = Batch(rows, ~torch.ones_like(observed)).completeness_groups()
    assert index == slice(None)
    assert batch.rows is rows
    assert len(list(Batch(rows, observed | True).completeness_groups())) == 1


def test_products_match_einsum():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 3, generator=generator)
    dictionaries = torch.randn(2, 4, 3, generator=generator)
    responsibilities = torch.rand(2, 5, generator=generator)
    batch = Batch(rows)
    expected = torch.einsum("kdj,ij->kdi", dictionaries, rows)
    torch.testing.assert_close(batch.project(dictionaries), expected)
    torch.testing.assert_close(batch.squared_norms(), (rows**2).sum(dim=1))
    expected = torch.einsum("ki,ij->kj", responsibilities, rows)
    torch.testing.assert_close(batch.weighted_sums(responsibilities), expected)
    assert batch.n_observed(torch.float32).tolist() == [3.0] * 5


def test_selected_rows_keep_what_is_known_about_them():
    batch = Batch(
        torch.arange(6.0).view(3, 2),
        torch.tensor([[True, True], [True, False], [True, True]]),
        weights=torch.tensor([1.0, 2.0, 3.0]),
        labels=torch.tensor([-1, 1, 0]),
    )
    selected = batch.select(torch.tensor([2, 1]))
    assert selected.rows.tolist() == [[4.0, 5.0], [2.0, 3.0]]
    assert selected.observed.tolist() == [[True, True], [True, False]]
    assert selected.weights.tolist() == [3.0, 2.0]
    assert selected.labels.tolist() == [0, 1]
    assert Batch(batch.rows).select(slice(1))[1:] == (None, None, None)
    (_, complete), (_, incomplete) = batch.completeness_groups()
    assert complete.labels.tolist() == [-1, 0]
    assert incomplete.weights.tolist() == [2.0]


def test_values_are_multiplied_by_the_weights_of_their_rows():
    values = torch.ones(2, 3)
    rows = torch.zeros(3, 4)
    assert Batch(rows).weigh(values) is values
    weighted = Batch(rows, weights=torch.tensor([1.0, 0.0, 2.5])).weigh(values)
    assert weighted.tolist() == [[1.0, 0.0, 2.5]] * 2
