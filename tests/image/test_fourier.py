import numpy as np
import pytest
import torch

from skmixmate.image._fourier import Buffers, FastFourier, MatrixFourier, choose_fourier

SHAPES = [(2, 2), (6, 4), (5, 8), (12, 20)]
TRANSFORMS = [MatrixFourier, FastFourier]


def buffers(dtype=torch.float64):
    return Buffers(dtype, torch.device("cpu"))


def images(shape, n_images=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, n_images, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_spectra_match_numpy(transform, shape):
    x = images(shape)
    expected = np.fft.rfft2(x.numpy(), axes=(0, 1))
    spectra = transform(*shape, buffers()).spectra(x, "spectra")
    np.testing.assert_allclose(spectra[:, 0], expected.real, atol=1e-12)
    np.testing.assert_allclose(spectra[:, 1], expected.imag, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_moduli_match_numpy(transform, shape):
    parts = images((*shape, 2))  # (height, width, 2, n_images)
    spectra = parts[:, :, 0].numpy() + 1j * parts[:, :, 1].numpy()
    expected = np.abs(np.fft.ifft2(spectra, axes=(0, 1)))
    moduli = transform(*shape, buffers()).moduli(parts, "moduli")
    np.testing.assert_allclose(moduli, expected, atol=1e-12)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_float32_errors_are_rounding_errors(transform):
    x = images((40, 40))
    exact = transform(40, 40, buffers()).spectra(x, "spectra")
    rounded = transform(40, 40, buffers(torch.float32)).spectra(x.float(), "spectra")
    assert torch.linalg.norm(rounded - exact) < 2e-7 * torch.linalg.norm(exact)


def test_large_images_use_the_fft():
    assert isinstance(choose_fourier(8, 32, buffers()), MatrixFourier)
    assert isinstance(choose_fourier(8, 320, buffers()), FastFourier)


def test_buffers_are_reused_and_grow():
    memory = buffers()
    first = memory("a", 2, 3)
    assert memory("a", 6).data_ptr() == first.data_ptr()
    assert memory("a", 1, 2).data_ptr() == first.data_ptr()
    assert memory("b", 2, 3).data_ptr() != first.data_ptr()
    assert memory("a", 4, 5).shape == (4, 5)
