import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skmixmate.files import checkpoint as checkpoint_module
from skmixmate.image._features import IMPUTATION

from .checkpoints import data, sealed, small, written


def content_of(path):
    payload = path.read_bytes()[len(checkpoint_module._FORMAT) + 32 :]
    return torch.load(io.BytesIO(payload), weights_only=True)


@pytest.mark.parametrize("content", [[], {}, {"identity": 1}, torch.ones(3), None])
def test_other_content_is_rejected(content, path):
    path.write_bytes(sealed(written(content)))
    with pytest.raises(ValueError, match=r"checkpoint=.* damaged: it has as content"):
        small(checkpoint=path).fit(data())


def deflated(payload):
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(payload)) as stored,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))
    return file.getvalue()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80\x02U\xff.",
        pickle.dumps({"identity": {}}),
        written({"identity": bytearray(3)}),
        deflated(written({"identity": {}, "x": torch.zeros(10**6)})),
        written({"identity": {}}).replace(b"identity", b"identit\xff"),
    ],
)
def test_other_payloads_are_rejected(payload, path):
    path.write_bytes(sealed(payload))
    with pytest.raises(ValueError, match=r"checkpoint=.*not a checkpoint of skmixmate"):
        small(checkpoint=path).fit(data())


def swap_position(content):
    start = content["start"]
    start["random_state"] = start["random_state"].replace('"pos": ', '"pos": 10000')


def change(*names):
    """Return a change of the value that a sequence of keys leads to."""
    *names, last, function = names

    def change_content(content):
        for name in names:
            content = content[name]
        content[last] = function(content[last])

    return change_content


ATTRIBUTES = ("start", "attributes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("losses"), r"content .* with the names"),
        (change("losses", lambda v: ["a"]), r"losses \['a'\], which should be a list"),
        (change("losses", lambda v: v * 10), r"losses .* at most 5 floats"),
        (change("stopped", lambda v: 1), r"stopped 1, which should be True or False"),
        (change("start", lambda v: None), r"start None, which should be"),
        (change("start", "random_state", lambda v: "x"), r"a random_state that cannot"),
        (swap_position, r"random_state .* which should be the state of a RandomState"),
        (
            change(*ATTRIBUTES, "scale_", lambda v: "x"),
            r"scale_ 'x', which should be a",
        ),
        (
            change(*ATTRIBUTES, "intercepts_", lambda v: v[:2]),
            r"intercepts_ of shape \(2, 16\), which should be \(3, 16\)",
        ),
        (
            change(*ATTRIBUTES, "dictionaries_", lambda v: v[:, :1].expand(-1, 99, -1)),
            r"dictionaries_ that is not a plain tensor",
        ),
        (
            change(*ATTRIBUTES, "dictionaries_", lambda v: v[:, :2]),
            r"rates_ of shape \(3, 4\), which should be \(3, 2\)",
        ),
        (change(*ATTRIBUTES, "weights_", torch.neg), r"weights_ that sum to -1"),
        (change("state", "weights", lambda v: v.float()), r"weights of type float32"),
        (
            change("state", "weights", lambda v: v[:2]),
            r"weights of shape \(2,\)",
        ),
        (
            change("state", "intercepts", lambda v: None),
            r"intercepts None",
        ),
        (
            change("state", "sums", lambda v: v / 0),
            r"sums with entries that",
        ),
        (
            change("state", "noise_variance", lambda v: -1.0),
            r"noise_variance -1",
        ),
        (
            change("state", "moments", lambda v: {}),
            r"moments {}, which should",
        ),
        (
            change("state", "moments", "exp_avg_sq", lambda v: v - 1),
            r"exp_avg_sq be",
        ),
        (
            change("state", "generator", lambda v: v[:9]),
            r"an invalid state of the gen",
        ),
    ],
)
def test_content_that_a_fit_cannot_resume_from_is_rejected(
    change, message, path, fail_in_epoch
):
    X = data()
    fail_in_epoch(small(checkpoint=path), X)
    content = content_of(path)
    change(content)
    path.write_bytes(sealed(written(content)))
    with pytest.raises(ValueError, match=rf"checkpoint=.* damaged: it has .*{message}"):
        small(checkpoint=path).fit(X)


@pytest.mark.parametrize("damage", [lambda v: v[:9], lambda v: v + 3, lambda v: -9])
def test_labels_that_do_not_fit_are_rejected(damage, path, fail_in_epoch):
    X, y = data(), np.where(np.arange(120) < 30, np.arange(120) % 3, -1)
    mixmate = small(checkpoint=path, supervision="auto")
    fail_in_epoch(mixmate, X, y=y)
    content = content_of(path)
    content["start"]["labels"] = damage(content["start"]["labels"])
    path.write_bytes(sealed(written(content)))
    with pytest.raises(ValueError, match=r"checkpoint=.* damaged: it has .*labels"):
        mixmate.fit(X, y)


def test_known_labels_have_to_be_in_the_file(path, fail_in_epoch):
    X, y = data(), np.where(np.arange(120) < 30, np.arange(120) % 3, -1)
    mixmate = small(checkpoint=path, supervision="auto")
    fail_in_epoch(mixmate, X, y=y)
    content = content_of(path)
    del content["start"]["labels"]
    path.write_bytes(sealed(written(content)))
    with pytest.raises(ValueError, match=r"checkpoint=.* damaged: it has .*labels"):
        mixmate.fit(X, y)


def test_images_that_are_not_kept_in_clusters_are_assigned_further(path, fail_in_epoch):
    """Earlier versions assigned all images in training."""
    X = load_digits().data[:100]
    fail_in_epoch(small(checkpoint=path, image_shape=(8, 8)), X)
    content = content_of(path)
    assert content["start"].pop("labels").shape == (100,)
    path.write_bytes(sealed(written(content)))
    mixmate = small(checkpoint=path, image_shape=(8, 8)).fit(X)
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(X))


def test_pixels_of_incomplete_images_are_modelled_further(path, fail_in_epoch):
    """Earlier versions modelled the pixels of incomplete images."""
    X = load_digits().data[:100]
    X[0, 20] = np.nan
    params = {"image_shape": (8, 8), "fit_intercept": False}
    fail_in_epoch(small(checkpoint=path, representation="pixels", **params), X)
    content = content_of(path)
    fail_in_epoch(small(checkpoint=path.with_suffix(".new"), **params), X)
    content["identity"] = content_of(path.with_suffix(".new"))["identity"]
    path.write_bytes(sealed(written(content)))
    mixmate = small(checkpoint=path, **params).fit(X)
    assert mixmate.representation_ is None
    expected = small(representation="pixels", **params).fit(X)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)


def test_a_representation_of_an_earlier_version_is_accepted(path, fail_in_epoch):
    X = load_digits().data[:100]
    fail_in_epoch(small(checkpoint=path, image_shape=(8, 8)), X)
    content = content_of(path)
    for name in IMPUTATION:
        del content["start"]["representation"][name]
    path.write_bytes(sealed(written(content)))
    mixmate = small(checkpoint=path, image_shape=(8, 8)).fit(X)
    np.testing.assert_array_equal(
        mixmate.labels_, small(image_shape=(8, 8)).fit(X).labels_
    )


def test_a_representation_of_other_images_is_rejected(path, fail_in_epoch):
    X = load_digits().data[:100]
    fail_in_epoch(small(checkpoint=path, image_shape=(8, 8)), X)
    content = content_of(path)
    content["start"]["representation"]["L"] = 10**6
    path.write_bytes(sealed(written(content)))
    with pytest.raises(ValueError, match=r"L of the scattering 1000000, which should"):
        small(checkpoint=path, image_shape=(8, 8)).fit(X)
