import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixmate import ScatteringTransform
from skmixmate.image.native import binding

from ..sources import File, Pairs

KYMATIO = Path(__file__).parents[1] / "resources" / "scattering_kymatio.npz"


def kymatio_cases():
    with np.load(KYMATIO) as arrays:
        return [name.removeprefix("image_") for name in arrays if "image" in name]


def images(n_images=5, shape=(16, 16), seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_images, np.prod(shape))).astype(dtype)


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.fixture(params=["compiled float32", "torch float32", "torch float64"])
def dtype(request, monkeypatch):
    """The dtype of images, by all implementations."""
    implementation, name = request.param.split()
    if implementation == "torch":
        monkeypatch.setattr(binding, "_library", None)
    return np.dtype(name)


@pytest.mark.parametrize("case", kymatio_cases())
def test_coefficients_match_kymatio(case, dtype):
    height, width, J, L, order = map(int, case.split("_"))
    with np.load(KYMATIO) as arrays:
        image, expected = arrays[f"image_{case}"], arrays[f"coefficients_{case}"]
    scattering = ScatteringTransform((height, width), J=J, L=L, order=order)
    coefficients = scattering.fit_transform(image.reshape(1, -1).astype(dtype))
    assert scattering.output_shape_ == expected.shape
    coefficients = coefficients.reshape(expected.shape)
    assert relative_error(coefficients, expected) < 1e-6
    for path, expected_path in zip(coefficients, expected, strict=True):
        assert relative_error(path, expected_path) < 1e-5


def digits_and_shifted():
    """Return padded digits, the same digits shifted by a pixel, and their classes."""
    digits = np.pad(load_digits().images, [(0, 0), (4, 4), (4, 4)])
    shifted = np.roll(digits, 1, axis=2)
    return digits.reshape(-1, 256), shifted.reshape(-1, 256), load_digits().target


def test_a_shift_changes_coefficients_less_than_pixels():
    digits, shifted, _ = digits_and_shifted()
    scattering = ScatteringTransform((16, 16), J=3).fit(digits)
    before, after = scattering.transform(digits), scattering.transform(shifted)
    assert relative_error(after, before) < 0.25 * relative_error(shifted, digits)


def test_only_the_average_of_a_constant_image_is_nonzero():
    flat = np.full((1, 256), 5.0)
    scattering = ScatteringTransform((16, 16), J=2)
    paths = scattering.fit_transform(flat).reshape(scattering.output_shape_)
    np.testing.assert_allclose(paths[0], 5, rtol=1e-4)
    np.testing.assert_allclose(paths[1:], 0, atol=1e-12)


@pytest.mark.parametrize("j", [0, 1])
@pytest.mark.parametrize(("axis", "theta"), [(0, 3), (1, 7)])
def test_the_largest_coefficient_of_a_wave_has_its_scale_and_orientation(
    j, axis, theta
):
    positions = np.mgrid[:32, :32][axis]
    wave = np.cos(3 * np.pi / 4 / 2**j * positions)
    scattering = ScatteringTransform((32, 32), J=2, order=1)
    coefficients = scattering.fit_transform(wave.reshape(1, -1))
    paths = coefficients.reshape(scattering.output_shape_)[1:]
    strengths = paths[:, 2:-2, 2:-2].mean(axis=(1, 2)).reshape(2, 8)
    assert np.unravel_index(strengths.argmax(), (2, 8)) == (j, theta)


def test_coefficients_have_no_more_energy_than_the_image():
    X = images(20)
    scattering = ScatteringTransform((16, 16), J=2)
    coefficients = scattering.fit_transform(X).reshape(20, -1, 4, 4)
    # Each coefficient represents 4 x 4 pixels; wavelets overlap a little.
    energy = 16 * np.square(coefficients).sum(axis=(1, 2, 3))
    assert (energy < 1.2 * np.square(X).sum(axis=1)).all()
    assert (coefficients[:, 1:] > -1e-3 * np.abs(X).max()).all()  # averaged moduli


@settings(deadline=None, max_examples=20)
@given(
    factor=st.floats(1e-3, 1e3),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 1000),
)
def test_coefficients_scale_with_the_images(factor, dtype, seed):
    X = images(2, (8, 8), seed, dtype)
    scattering = ScatteringTransform((8, 8), J=2).fit(X)
    scaled = scattering.transform((factor * X).astype(dtype))
    assert relative_error(scaled, factor * scattering.transform(X)) < 1e-5


def test_channels_are_transformed_separately():
    colour = np.random.default_rng(0).normal(size=(4, 16, 12, 3))
    scattering = ScatteringTransform((16, 12, 3), J=2)
    coefficients = scattering.fit_transform(colour.reshape(4, -1))
    assert scattering.output_shape_ == (3 * 81, 4, 3)
    grey = ScatteringTransform((16, 12), J=2)
    expected = [grey.fit_transform(colour[..., c].reshape(4, -1)) for c in range(3)]
    np.testing.assert_allclose(coefficients, np.hstack(expected), atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_results_do_not_depend_on_the_batch_size(batch_size):
    X = images(11)
    expected = ScatteringTransform((16, 16)).fit_transform(X)
    batched = ScatteringTransform((16, 16), batch_size=batch_size).fit_transform(X)
    np.testing.assert_allclose(batched, expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_container_are_preserved(dtype):
    X = images(dtype=dtype)
    scattering = ScatteringTransform((16, 16)).fit(X)
    coefficients = scattering.transform(X)
    assert isinstance(coefficients, np.ndarray)
    assert coefficients.dtype == dtype
    tensor = torch.from_numpy(X).requires_grad_()
    from_tensor = scattering.transform(tensor)
    assert from_tensor.dtype == tensor.dtype
    assert not from_tensor.requires_grad
    np.testing.assert_array_equal(from_tensor.numpy(), coefficients)


def test_integers_are_converted_to_floats():
    X = np.arange(3 * 64).reshape(3, 64) % 17
    scattering = ScatteringTransform((8, 8)).fit(X)
    expected = scattering.transform(X.astype(np.float64))
    np.testing.assert_array_equal(scattering.transform(X), expected)
    from_tensor = scattering.transform(torch.from_numpy(X))
    assert from_tensor.dtype == torch.float32
    np.testing.assert_allclose(from_tensor.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_images_may_be_in_a_file_or_a_dataset():
    X = images(30)
    scattering = ScatteringTransform((16, 16), J=2)
    expected = scattering.fit_transform(X)
    for container in (File(X, 30), Pairs(X)):
        np.testing.assert_array_equal(scattering.fit_transform(container), expected)
    X[20, 3] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        scattering.transform(File(X, 30))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_matches_cpu():
    X = images(dtype=np.float32)
    expected = ScatteringTransform((16, 16), device="cpu").fit_transform(X)
    from_array = ScatteringTransform((16, 16), device="cuda").fit_transform(X)
    from_tensor = ScatteringTransform((16, 16)).fit_transform(
        torch.from_numpy(X).to("cuda")
    )
    assert from_tensor.device.type == "cuda"
    for coefficients in (from_array, from_tensor.cpu().numpy()):
        assert relative_error(coefficients, expected) < 1e-5


@pytest.mark.parametrize("container", [np.array, torch.tensor])
def test_data_are_not_modified(container):
    X = container(images())
    before = X + 0
    ScatteringTransform((16, 16)).fit_transform(X)
    assert (before == X).all()


def test_read_only_and_strided_arrays_are_accepted():
    X = images(6)
    expected = ScatteringTransform((16, 16)).fit_transform(X)
    X.flags.writeable = False
    every_other = np.repeat(X, 2, axis=0)[::2]
    for rows in (X, np.asfortranarray(X), every_other):
        coefficients = ScatteringTransform((16, 16)).fit_transform(rows)
        np.testing.assert_allclose(coefficients, expected, atol=1e-12)


def test_feature_names_contain_path_and_position():
    X = images(2, (8, 8))
    names = ScatteringTransform((8, 8), J=2, L=4).fit(X).get_feature_names_out()
    assert list(names[:5]) == [
        "order0_y0_x0",
        "order0_y0_x1",
        "order0_y1_x0",
        "order0_y1_x1",
        "order1_j0_theta0_y0_x0",
    ]
    assert names[-1] == "order2_j0_theta3_j1_theta3_y1_x1"
    assert len(set(names)) == len(names) == 4 * (1 + 8 + 16)
    colour = ScatteringTransform((4, 8, 2), J=2, L=4, order=1).fit(X)
    names = colour.get_feature_names_out()
    assert names[0] == "channel0_order0_y0_x0"
    assert names[-1] == "channel1_order1_j1_theta3_y0_x1"
    assert len(names) == colour.transform(X).shape[1] == np.prod(colour.output_shape_)


def test_set_output_returns_data_frames():
    X = pd.DataFrame(images(3, (8, 8)), index=["a", "b", "c"]).add_prefix("pixel")
    scattering = ScatteringTransform((8, 8)).set_output(transform="pandas")
    frame = scattering.fit_transform(X)
    assert list(frame.index) == ["a", "b", "c"]
    assert list(frame.columns) == list(scattering.get_feature_names_out())
    assert scattering.feature_names_in_[0] == "pixel0"


def test_scattering_improves_the_classification_of_shifted_digits():
    digits, shifted, y = digits_and_shifted()
    on_pixels = make_pipeline(StandardScaler(), KNeighborsClassifier())
    scattering = ScatteringTransform((16, 16), J=3)
    on_scattering = make_pipeline(scattering, StandardScaler(), KNeighborsClassifier())
    score = on_scattering.fit(digits, y).score(shifted, y)
    assert score > on_pixels.fit(digits, y).score(shifted, y) + 0.1


def test_clones_and_pickles():
    X = images()
    scattering = ScatteringTransform((16, 16), J=2, L=4, order=1, batch_size=3)
    assert clone(scattering).get_params() == scattering.get_params()
    assert clone(scattering).set_params(J=1).J == 1
    expected = scattering.fit_transform(X)
    restored = pickle.loads(pickle.dumps(scattering))
    np.testing.assert_array_equal(restored.transform(X), expected)
    with pytest.raises(NotFittedError):
        clone(scattering).transform(X)


@pytest.mark.parametrize("container", [np.array, torch.tensor])
def test_missing_and_infinite_pixels_are_rejected(container):
    X = images()
    X[1, 7] = np.nan
    scattering = ScatteringTransform((16, 16))
    with pytest.raises(ValueError, match=r"contains NaN.*reconstruct.*SimpleImputer"):
        scattering.fit(container(X))
    X[1, 7] = -np.inf
    with pytest.raises(ValueError, match="X contains infinity"):
        scattering.fit(container(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image_shape": (16, 15)}, r"X has 256 features.*\(16, 15\) means 240"),
        ({"image_shape": (16, 16, 3)}, r"X has 256 features.*3\) means 768"),
        ({"image_shape": (256,)}, r"image_shape=\(256,\) should be \(height, width\)"),
        ({"image_shape": (-16, -16)}, r"image_shape=\(-16, -16\) should be"),
        ({"image_shape": (16.0, 16.0)}, r"all positive integers"),
        ({"image_shape": 16}, r"'image_shape' parameter .* Got 16 instead"),
        ({"J": 5}, r"J=5 averages over 32 x 32 pixels.*J should be at most 4"),
        ({"J": 0}, r"'J' parameter .* Got 0 instead"),
        ({"L": 0}, r"'L' parameter .* Got 0 instead"),
        ({"order": 3}, r"'order' parameter .* Got 3 instead"),
        ({"batch_size": 0}, r"'batch_size' parameter .* Got 0 instead"),
        ({"device": "toaster"}, r"device='toaster' is not available"),
    ],
)
def test_invalid_parameters_are_rejected(params, message):
    scattering = ScatteringTransform(**{"image_shape": (16, 16), **params})
    with pytest.raises(ValueError, match=message):
        scattering.fit(images())


@pytest.mark.parametrize("container", [np.array, torch.tensor])
def test_images_of_another_size_than_in_fit_are_rejected(container):
    scattering = ScatteringTransform((16, 16)).fit(images())
    with pytest.raises(ValueError, match="X has 64 features"):
        scattering.transform(container(images(2, (8, 8))))


@pytest.mark.parametrize("sign", [-1, 1])
def test_images_of_extreme_magnitude(dtype, sign):
    exponent = sign * (120 if dtype == np.float32 else 1000)
    images = np.random.default_rng(0).random((4, 64)).astype(dtype)
    scattering = ScatteringTransform((8, 8), J=1).fit(images)
    expected = scattering.transform(images)
    scaled = scattering.transform(np.ldexp(images, exponent))
    np.testing.assert_allclose(
        np.ldexp(scaled, -exponent), expected, rtol=1e-4, atol=1e-6
    )
    # One extreme image does not change the coefficients of the others.
    images[1] = np.ldexp(images[1], exponent)
    mixed = scattering.transform(images)
    np.testing.assert_allclose(mixed[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-6)


def test_the_default_device_is_ignored():
    images = np.random.default_rng(0).random((3, 64))
    scattering = ScatteringTransform((8, 8), J=1, device="cpu").fit(images)
    expected = scattering.transform(images)
    with torch.device("meta"):
        np.testing.assert_array_equal(scattering.transform(images), expected)
