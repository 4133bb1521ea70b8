"""Arrays of other libraries, which export DLPack as those of cupy and jax do."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from skmixmate import MixMateClustering
from skmixmate.data.containers import wrap_dlpack

X = np.array(load_iris().data)


class Foreign:
    """An array that numpy cannot convert, as if it were on a GPU."""

    def __init__(self, array):
        self.array = np.asarray(array)
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.ndim = self.array.ndim

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return type(self)(self.array[index])

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a numpy array is not allowed")

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Namespaced(Foreign):
    def __array_namespace__(self, api_version=None):
        return Namespaced

    @staticmethod
    def from_dlpack(array):
        return Namespaced(np.from_dlpack(array))


@pytest.fixture(scope="module")
def mixmate():
    return MixMateClustering(3, random_state=0).fit(X)


def test_arrays_are_wrapped_without_a_copy():
    tensor = wrap_dlpack(Foreign(X))
    assert tensor.data_ptr() == X.ctypes.data
    assert wrap_dlpack(X) is X


def test_a_fit_equals_that_of_numpy(mixmate):
    fitted = MixMateClustering(3, random_state=0).fit(Namespaced(X))
    np.testing.assert_array_equal(fitted.labels_, mixmate.labels_)
    np.testing.assert_array_equal(fitted.dictionaries_, mixmate.dictionaries_)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform"])
def test_results_are_arrays_of_the_same_library(mixmate, method):
    result = getattr(mixmate, method)(Namespaced(X))
    assert isinstance(result, Namespaced)
    np.testing.assert_array_equal(result.array, getattr(mixmate, method)(X))


def test_results_are_tensors_if_the_library_has_no_namespace(mixmate):
    labels = mixmate.predict(Foreign(X))
    assert isinstance(labels, torch.Tensor)
    np.testing.assert_array_equal(labels, mixmate.labels_)


def test_images_are_reconstructed_as_images():
    images = np.random.default_rng(0).random((40, 6, 6))
    mixmate = MixMateClustering(
        2, image_shape=(6, 6), representation="pixels", random_state=0
    ).fit(Namespaced(images))
    result = mixmate.reconstruct(Namespaced(images))
    assert result.shape == images.shape
    np.testing.assert_allclose(result.array, mixmate.reconstruct(images))


def test_read_only_arrays_are_left_to_numpy(mixmate):
    array = X.copy()
    array.flags.writeable = False

    class Convertible(Foreign):
        def __array__(self, *args, **kwargs):
            return self.array

        def __dlpack__(self, **kwargs):
            raise BufferError("readonly")

    np.testing.assert_array_equal(mixmate.predict(Convertible(array)), mixmate.labels_)
