import pytest
import torch
from sklearn.linear_model import Lasso

from skmixmate.model.convolutional import (
    ConvolutionalMixture,
    convolve,
    correlate,
    largest_curvature,
)
from skmixmate.model.posterior import loss, posterior

from . import reference


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_mixture(n_clusters=2, n_filters=2, image_shape=(6, 5, 2), **params):
    filters = draw(n_clusters, n_filters, 9 * image_shape[2])
    settings = {"alpha": 0.3, "n_layers": 6, "center": False, **params}
    return ConvolutionalMixture(
        dictionaries=filters / filters.norm(dim=2, keepdim=True),
        weights=torch.arange(1, 1 + n_clusters, dtype=torch.float64).softmax(dim=0),
        image_shape=image_shape,
        filter_size=3,
        **settings,
    )


def random_rows(mixture, n_rows=4, seed=1):
    rows = 2 * draw(n_rows, torch.Size(mixture.image_shape).numel(), seed=seed)
    observed = draw(*rows.shape, seed=seed + 1) > -0.5
    return rows, observed


def as_matrix(filters, image_shape):
    """The dictionary that filters are: one column for each filter and place."""
    places = torch.eye(len(filters) * image_shape[0] * image_shape[1])
    maps = places.to(filters.dtype).view(-1, len(filters), *image_shape[:2])
    return convolve(maps, filters).movedim(1, 3).flatten(1).mT


def test_correlation_is_the_adjoint_of_convolution():
    filters = draw(3, 2, 3, 3)
    codes, images = draw(1, 3, 6, 5, seed=1), draw(1, 2, 6, 5, seed=2)
    torch.testing.assert_close(
        (convolve(codes, filters) * images).sum(),
        (codes * correlate(images, filters)).sum(),
    )


def test_a_code_puts_the_filter_around_its_pixel():
    filters, codes = draw(1, 1, 3, 3), torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    codes[0, 0, 2, 3] = codes[0, 0, 0, 0] = 1
    image = convolve(codes, filters)[0, 0]
    torch.testing.assert_close(image[1:4, 2:5], filters[0, 0])
    torch.testing.assert_close(image[:2, :2], filters[0, 0, 1:, 1:])  # a window


@pytest.mark.parametrize("image_shape", [(3, 3, 1), (6, 5, 1), (6, 5, 3), (20, 24, 1)])
def test_bound_of_the_curvature(image_shape):
    mixture = random_mixture(image_shape=image_shape)
    bounds = largest_curvature(mixture.filters, image_shape[:2])
    for bound, filters in zip(bounds, mixture.filters, strict=True):
        largest = torch.linalg.matrix_norm(as_matrix(filters, image_shape), ord=2) ** 2
        assert largest <= bound
        if image_shape == (20, 24, 1):  # borders hardly count
            assert bound < 1.1 * largest


@pytest.mark.parametrize("masked", [False, True])
def test_codes_are_those_of_the_lasso(masked):
    mixture = random_mixture(n_layers=3000)
    rows, observed = random_rows(mixture)
    rows = rows * observed if masked else rows
    codes, energies = mixture.infer(rows, observed if masked else None)
    for k, filters in enumerate(mixture.filters):
        matrix = as_matrix(filters, mixture.image_shape)
        for row, seen, code, energy in zip(
            rows, observed, codes[k], energies[k], strict=True
        ):
            seen = seen if masked else torch.ones_like(seen)
            design, target = matrix[seen], row[seen]
            lasso = Lasso(
                mixture.alpha / len(target),
                fit_intercept=False,
                tol=1e-10,
                max_iter=100_000,
            ).fit(design.numpy(), target.numpy())
            expected = torch.from_numpy(lasso.coef_)
            torch.testing.assert_close(
                design @ code.flatten(), design @ expected, atol=1e-3, rtol=1e-3
            )
            square = (target - design @ expected).square().sum()
            cost = square + mixture.alpha * expected.abs().sum()
            expected_energy = cost - mixture.weights[k].log()
            torch.testing.assert_close(energy, expected_energy, atol=1e-3, rtol=1e-3)


def test_layers_are_those_of_dense_dictionaries():
    """An unrolled encoder on the matrix that the filters are."""
    mixture = random_mixture(n_layers=4)
    rows, _ = random_rows(mixture)
    codes, _ = mixture.infer(rows)
    for k, (filters, step) in enumerate(
        zip(mixture.filters, mixture.curvature(), strict=True)
    ):
        matrix = as_matrix(filters, mixture.image_shape)
        dense = reference.codes(rows, matrix.mT[None], step, mixture.alpha, 4)[0]
        torch.testing.assert_close(codes[k].flatten(1), dense)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_gradient_is_that_of_the_loss(masked, center):
    mixture = random_mixture(center=center)
    rows, observed = random_rows(mixture)
    rows, observed = (rows * observed, observed) if masked else (rows, None)
    with torch.no_grad():
        inferred = mixture.e_step(rows, observed, mixture.curvature())
        actual = torch.ones_like(mixture.dictionaries)
        mixture.add_gradient(
            actual,
            rows,
            observed,
            inferred,
            posterior(inferred[1]),
            mixture.curvature(),
        )
        actual -= 1
    start = mixture.dictionaries

    def total(dictionaries):
        mixture.dictionaries = dictionaries
        return loss(mixture.infer(rows, observed)[1]).sum()

    leaf = start.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total(leaf), leaf)
    expected -= (expected * start).sum(dim=2, keepdim=True) * start
    torch.testing.assert_close(actual, expected)
    assert torch.autograd.gradcheck(total, (leaf,))


def test_rows_that_do_not_count_have_no_part_in_the_gradient():
    mixture = random_mixture()
    rows, _ = random_rows(mixture)
    counting = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0] * 4], dtype=torch.float64)

    def gradient(rows, responsibilities):
        inferred = mixture.e_step(rows, None, mixture.curvature())
        gradient = torch.zeros_like(mixture.dictionaries)
        mixture.add_gradient(gradient, rows, None, inferred, responsibilities, None)
        return gradient

    whole = gradient(rows, counting)
    torch.testing.assert_close(whole, gradient(rows[::2], counting[:, ::2]))
    assert not whole[1].any()


@pytest.mark.parametrize("masked", [False, True])
def test_brightness_is_free(masked):
    mixture = random_mixture(center=True)
    rows, observed = random_rows(mixture)
    observed = observed if masked else None
    shifts = draw(4, 2, seed=5).repeat(1, 30)  # channels are last
    seen = 1 if observed is None else observed
    torch.testing.assert_close(
        mixture.infer((rows + shifts) * seen, observed),
        mixture.infer(rows * seen, observed),
    )


def test_with_all_observed_it_is_as_if_nothing_was_missing():
    mixture = random_mixture(center=True)
    rows, observed = random_rows(mixture)
    torch.testing.assert_close(
        mixture.infer(rows, torch.ones_like(observed)), mixture.infer(rows)
    )


def test_row_with_nothing_observed_has_the_weights_for_its_posterior():
    mixture = random_mixture(center=True)
    rows, observed = random_rows(mixture)
    _, energies = mixture.infer(0 * rows, torch.zeros_like(observed))
    torch.testing.assert_close(
        posterior(energies), mixture.weights[:, None].expand(2, 4)
    )


@pytest.mark.parametrize("center", [False, True])
def test_decode_gives_what_the_energy_measures(center):
    mixture = random_mixture(center=center)
    rows, _ = random_rows(mixture)
    codes, energies = mixture.infer(rows)
    labels = energies.argmin(dim=0)
    own = codes[labels, torch.arange(4)]
    *_, brightness = mixture.unfold(rows, None)
    squares = (rows - mixture.decode(own, labels, brightness)).square().sum(dim=1)
    penalties = mixture.alpha * own.abs().flatten(1).sum(dim=1)
    torch.testing.assert_close(
        energies.amin(dim=0), squares + penalties - mixture.weights[labels].log()
    )
