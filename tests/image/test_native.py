"""Comparison of the compiled scattering with torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skmixmate import ScatteringTransform
from skmixmate.image._torch_scattering import TorchScattering
from skmixmate.image.native import binding
from skmixmate.image.native.binding import CompiledScattering

CPU = torch.device("cpu")

needs_library = pytest.mark.skipif(
    binding._library is None, reason="the compiled scattering was not built"
)


def images(n_images, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_images, *shape, generator=generator)


def torch_scattering(shape, J, L, order, dtype):
    return TorchScattering(shape, J, L, order, dtype=dtype, device=CPU)


@needs_library
@settings(deadline=None, max_examples=40)
@given(
    # Lengths of transforms are products of 2, 3 and 5, and of other primes.
    shape=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    J=st.integers(1, 4),
    L=st.integers(1, 9),
    order=st.sampled_from([1, 2]),
    n_images=st.sampled_from([1, 3, 16, 19]),
)
def test_coefficients_are_those_of_torch(shape, J, L, order, n_images):
    J = min(J, min(shape).bit_length() - 1)
    X = images(n_images, shape)
    exact = torch_scattering(shape, J, L, order, torch.float64).transform(X.double())
    compiled = CompiledScattering(shape, J, L, order).transform(X)
    assert compiled.shape == exact.shape
    assert compiled.dtype == torch.float32
    tolerance = 3e-6 * exact.abs().max()
    torch.testing.assert_close(compiled.double(), exact, rtol=0, atol=tolerance)


@needs_library
def test_rounding_errors_are_not_larger_than_those_of_torch():
    X = images(16, (28, 28))
    exact = torch_scattering((28, 28), 3, 8, 2, torch.float64).transform(X.double())
    in_torch = torch_scattering((28, 28), 3, 8, 2, torch.float32).transform(X)
    compiled = CompiledScattering((28, 28), 3, 8, 2).transform(X)
    error, error_of_torch = ((c - exact).norm() for c in (compiled, in_torch))
    assert error < 1.5 * error_of_torch


@needs_library
@pytest.mark.parametrize("n_threads", [1, 3])
def test_company_and_threads_do_not_change_an_image(n_threads):
    X = images(50, (12, 20))
    scattering = CompiledScattering((12, 20), 2, 4, 2)
    expected = scattering.transform(X)
    n_before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        one_by_one = torch.cat([scattering.transform(image) for image in X.split(1)])
        shifted = scattering.transform(X[7:])
    finally:
        torch.set_num_threads(n_before)
    assert torch.equal(one_by_one, expected)
    assert torch.equal(shifted, expected[7:])


@needs_library
def test_images_need_not_be_contiguous():
    X = images(5, (16, 12))
    scattering = CompiledScattering((12, 16), 2, 4, 1)
    expected = scattering.transform(X.mT.contiguous())
    assert torch.equal(scattering.transform(X.mT), expected)


@needs_library
def test_no_images_have_no_coefficients():
    assert CompiledScattering((8, 8), 1, 8, 1).transform(images(0, (8, 8))).shape == (
        (0, 9, 16)
    )


@needs_library
def test_few_images_at_a_time_if_they_are_large():
    small, large = (
        CompiledScattering((size, size), 3, 8, 2).images_at_a_time for size in (28, 400)
    )
    assert small >= 8 * large >= 128


@needs_library
@pytest.mark.parametrize(
    ("size", "dtype", "device", "expected"),
    [
        (28, torch.float32, "cpu", True),
        (28, torch.float64, "cpu", False),
        (28, torch.float32, "meta", False),
        (2000, torch.float32, "cpu", False),  # too much memory
    ],
)
def test_what_the_library_supports(size, dtype, device, expected):
    assert binding.can_run(size, size, 3, dtype, torch.device(device)) == expected


def test_without_the_library_torch_computes_the_same(monkeypatch):
    X = images(20, (16, 16)).flatten(1).numpy()
    compiled = ScatteringTransform((16, 16)).fit_transform(X)
    monkeypatch.setattr(binding, "_library", None)
    in_torch = ScatteringTransform((16, 16)).fit_transform(X)
    np.testing.assert_allclose(compiled, in_torch, atol=1e-6)


@needs_library
def test_memory_that_cannot_be_allocated(monkeypatch):
    class Library:
        def scattering_run(self, problem, n_threads):
            return -1

    monkeypatch.setattr(binding, "_library", Library())
    with pytest.raises(MemoryError, match="Scattering could not allocate"):
        ScatteringTransform((8, 8), J=1).fit_transform(np.ones((1, 64), np.float32))
