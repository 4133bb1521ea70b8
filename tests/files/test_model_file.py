import io
import json
import os
import pickle
import zipfile

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError

import skmixmate
from skmixmate.model.priors import Laplace

from .models import IMAGES, X, small


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X)


@pytest.fixture(scope="module")
def fitted_on_images():
    return small(image_shape=(8, 8)).fit(IMAGES)


class CustomPrior(Laplace):
    """A prior from outside the package, which cannot be restored from a file."""


# --- estimators that cannot be saved -------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"init": KMeans(3)}, r"init=KMeans\(.*'auto', another name, or an array"),
        ({"random_state": np.random.RandomState(0)}, r"random_state=.*an int or None"),
        ({"prior": CustomPrior(0.5)}, r"prior=.*a name, or a prior of skmixmate"),
        (
            {"weights": np.full(3, 1 / 3).astype(object)},
            r"(?s)weights=.*array of numbers",
        ),
    ],
)
def test_parameters_that_cannot_be_saved_are_named(params, message, tmp_path):
    mixmate = small(**params).fit(X)
    with pytest.raises(TypeError, match=message):
        mixmate.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_saving_needs_a_fitted_estimator(tmp_path):
    with pytest.raises(NotFittedError):
        small().save(tmp_path / "model")
    interrupted = small()
    interrupted.n_features_in_ = 16  # set at the start of fit
    with pytest.raises(NotFittedError):
        interrupted.save(tmp_path / "model")
    incomplete = small().fit(X)
    del incomplete.representation_
    with pytest.raises(NotFittedError):
        incomplete.save(tmp_path / "model")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_save_keeps_the_existing_file(
    error, fitted, fitted_on_images, tmp_path, monkeypatch
):
    fitted.save(tmp_path / "model")
    write_array = np.lib.format.write_array

    def fail_midway(member, array, **options):
        if array.ndim == 1:
            raise error
        write_array(member, array, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail_midway)
    with pytest.raises(error):
        fitted_on_images.save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    loaded = skmixmate.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), fitted.labels_)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_features_in_": 15}, r"dictionaries_ of shape \(3, 6, 16\), which should"),
        ({"weights_": np.full(2, 0.5)}, r"which should be \(2, 6, 16\)"),
        ({"scale_": np.inf}, r"scale_ inf, which should be a positive"),
        ({"alpha": -1}, r"The 'alpha' parameter"),
    ],
)
def test_attributes_that_do_not_fit_together_replace_no_file(
    changed, message, fitted, tmp_path
):
    path = tmp_path / "model"
    fitted.save(path)
    before = path.read_bytes()
    mixmate = pickle.loads(pickle.dumps(fitted))
    for name, value in changed.items():
        setattr(mixmate, name, value)
    with pytest.raises(ValueError, match=rf"cannot be saved, since it .*{message}"):
        mixmate.save(path)
    assert path.read_bytes() == before


def test_an_interrupted_save_raises_and_keeps_the_existing_file(
    fitted, tmp_path, monkeypatch
):
    fitted.save(tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    open_member = zipfile.ZipFile.open

    def open_and_interrupt(archive, name, mode="r", **options):
        member = open_member(archive, name, mode, **options)
        if mode == "w":
            member.close()  # or Python 3.13 warns when it is collected
            raise KeyboardInterrupt
        return member

    monkeypatch.setattr(zipfile.ZipFile, "open", open_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted.save(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]
    assert (tmp_path / "model").read_bytes() == before


def test_memory_mapped_models_are_saved_the_same(fitted_on_images, tmp_path):
    joblib.dump(fitted_on_images, tmp_path / "mapped")
    mapped = joblib.load(tmp_path / "mapped", mmap_mode="r")
    mapped.save(tmp_path / "a")
    fitted_on_images.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- files that cannot be loaded -----------------------------------------------------


def rewrite(path, edit):
    """Rewrite an archive after `edit` of its members, a dict of bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edit_json(change):
    """Return an edit of the members that changes the description."""

    def edit(members):
        description = json.loads(members["skmixmate.json"])
        change(description)
        members["skmixmate.json"] = json.dumps(description)

    return edit


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        skmixmate.load(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"PK", b"an essay", pickle.dumps([1, 2])])
def test_files_of_other_formats_are_rejected(content, tmp_path):
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(ValueError, match=r"model' is not a skmixmate model file\.$"):
        skmixmate.load(tmp_path / "model")


def test_other_archives_are_rejected(tmp_path):
    np.savez(tmp_path / "model.npz", a=X)
    with pytest.raises(ValueError, match=r"model\.npz' is not a skmixmate model file"):
        skmixmate.load(tmp_path / "model.npz")
    np.savez_compressed(tmp_path / "model.npz", a=X)
    with pytest.raises(
        ValueError, match=r"model\.npz' is truncated or damaged \(a mem"
    ):
        skmixmate.load(tmp_path / "model.npz")


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_rejected(fraction, fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match=r"model' is truncated or damaged \(.*\)\.$"):
        skmixmate.load(path)


def test_a_flipped_bit_is_detected(fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in an array
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is truncated or damaged \(Bad CRC-32.*"):
        skmixmate.load(path)


def npy(array, folder):
    np.save(folder / "array.npy", array)
    return (folder / "array.npy").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("labels_.npy"), r"has no member 'labels_\.npy'"),
        (
            lambda m: m.update({"b.npy": m["labels_.npy"]}),
            r"no estimator uses.*'b\.npy'",
        ),
        (lambda m: m.update({"b.py": b"import os"}), r"'b\.py' that is not an a"),
        (
            lambda m: m.update({"mean_.npy": b"\x93NUMPY\x01\x00"}),
            r"that is not an arr",
        ),
        (lambda m: m.update({"mean_.npy": b"\x93NUMPY\x09\x00"}), r"version \(9, 0\)"),
        (
            lambda m: m.update({"weights_.npy": m["weights_.npy"][:-8]}),
            r"'weights_\.npy' that is not an array",
        ),
        (
            lambda m: m.update({"weights_.npy": m["dictionaries_.npy"]}),
            r"has weights_ of shape \(3, 6, 16\), which should be \(3,\)",
        ),
        (
            edit_json(lambda d: d["attributes"].update(n_features_in_=15)),
            r"has dictionaries_ of shape \(3, 6, 16\), which should be \(3, 6, 15\)",
        ),
        (
            edit_json(lambda d: d.update(format_version=2)),
            r"version 2 of the format",
        ),
        (
            edit_json(lambda d: d.pop("format_version")),
            r"is not a skmixmate model",
        ),
        (
            edit_json(lambda d: d.pop("attributes")),
            r"does not describe an est",
        ),
        (
            edit_json(lambda d: d.update(estimator="KMeans")),
            r"with the name 'KMeans'",
        ),
        (edit_json(lambda d: d["parameters"].update(colour=1)), r"'colour'"),
        (
            edit_json(lambda d: d["attributes"].pop("loss_")),
            r"KeyError\('loss_'\)",
        ),
        (
            lambda m: m.update({"skmixmate.json": b"[" * 10**5}),
            r"is not a skmixmate model",
        ),
    ],
)
def test_edited_files_are_rejected(change, message, fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=r"^'.*model' .*" + message):
        skmixmate.load(path)


def test_arrays_of_objects_are_rejected(fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    objects = npy(np.array([print, 1, 2]), tmp_path)
    rewrite(path, lambda members: members.update({"weights_.npy": objects}))
    with pytest.raises(ValueError, match=r"'weights_\.npy' .*dtype object"):
        skmixmate.load(path)


def test_a_loaded_model_imputes_missing_pixels(fitted_on_images, tmp_path):
    path = tmp_path / "model"
    fitted_on_images.save(path)
    incomplete = IMAGES.copy()
    incomplete[np.random.default_rng(0).random(IMAGES.shape) < 0.2] = np.nan
    for method in ("energies", "reconstruct"):
        np.testing.assert_array_equal(
            getattr(skmixmate.load(path), method)(incomplete),
            getattr(fitted_on_images, method)(incomplete),
        )


def test_representations_that_do_not_fit_are_rejected(fitted_on_images, tmp_path):
    path = tmp_path / "model"
    fitted_on_images.save(path)
    blank = npy(np.zeros((3, 64)), tmp_path)
    name = "representation_.decoder_.npy"
    rewrite(path, lambda members: members.update({name: blank}))
    with pytest.raises(ValueError, match=r"has decoder_ of shape \(3, 64\), which"):
        skmixmate.load(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda a: a[:-1], r"of shape \(2,\), which should be \(3,\)"),
        (lambda a: a * 1.0, "of type float64, which should be int64"),
        (lambda a: 2 * a, r"\[0, 2, 2\], which should be the integers from 0 without"),
        (lambda a: a - 1, r"\[-1, 0, 0\], which should be the integers from 0"),
        (lambda a: 0 * a, "from 0 to 1, which should be from 0 to 0"),
    ],
)
def test_clusters_of_components_that_do_not_fit_are_rejected(
    labels, message, fitted, tmp_path
):
    path = tmp_path / "model"
    fitted.merge(1, 2).save(path)
    rewrite(path, edit_array("component_labels_", labels))
    with pytest.raises(ValueError, match=r"labels_ .*" + message):
        skmixmate.load(path)


def edit_array(name, change):
    """Return an edit of the members that changes the entries of an array."""

    def edit(members):
        array = np.load(io.BytesIO(members[f"{name}.npy"]))
        file = io.BytesIO()
        np.save(file, change(array))
        members[f"{name}.npy"] = file.getvalue()

    return edit


def parameter(**changed):
    """Change parameters, and their values in the settings of the model."""

    def change(description):
        description["parameters"].update(changed)
        names = changed.keys() & description["settings"].keys()
        description["settings"].update({name: changed[name] for name in names})

    return edit_json(change)


def attribute(**changed):
    return edit_json(lambda d: d["attributes"].update(changed))


def scattering(**changed):
    return edit_json(lambda d: d["representation"].update(changed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (parameter(n_layers=10**6), r"n_layers 1000000, which should be at most 5000"),
        (parameter(n_layers="x"), r"out of its range \(The 'n_layers' parameter"),
        (parameter(likelihood="x"), r"out of its range \(The 'likelihood'"),
        (parameter(prior=None), r"out of its range \(The 'prior'"),
        (parameter(prior={"prior": "x", "parameters": {}}), r"KeyError\('x'\)"),
        (parameter(alpha=float("nan")), r"out of its range \(The 'alpha'"),
        (parameter(step_size=1e200), r"step_size 1e\+200, which should be at most"),
        (
            parameter(prior={"prior": "group", "parameters": {"alpha": 1e308}}),
            r"alpha 1e\+308, which should be at most 1e\+30",
        ),
        (
            edit_array("representation_.mean_", lambda a: np.full_like(a, 1e308)),
            r"mean_ with an entry of size 1e\+308, too large",
        ),
        (
            edit_array("representation_.pixel_mean_", lambda a: a[:-1]),
            r"pixel_mean_ of shape \(63,\), which should be \(64,\)",
        ),
        (
            edit_array("representation_.pixel_axes_", lambda a: np.tile(a, (2, 1))),
            r"number of axes 128, which should be at most 64",
        ),
        (
            edit_array("representation_.pixel_axes_", lambda a: 2 * a),
            r"pixel_axes_ of norm 2, which should be 1",
        ),
        (
            edit_array("representation_.pixel_shrinkage_", np.ones_like),
            r"pixel_shrinkage_ from 1 to 1, which should be at least 0 and less than",
        ),
        (parameter(n_atoms=2**63), r"is not a skmixmate model"),
        (
            lambda m: m.update({"skmixmate.json": b"9" * 10**5}),
            r"is not a skmixmate model",
        ),
        (parameter(init={"x": 1}), r"a dictionary with the names"),
        (parameter(device=None), r"out of its range \(The 'device'"),
        (parameter(device="abacus"), r"device 'abacus', which should be the name"),
        (parameter(device="meta"), r"device 'meta', which should be the name"),
        (parameter(image_shape=[8, -8]), r"image_shape \[8, -8\], which should be"),
        (
            edit_json(lambda d: d.update(image_shape={"tuple": [4, 8]})),
            r"image_shape_ \(4, 8\), which should be .* of 64 features",
        ),
        (attribute(scale_=10**18), r"scale_ 1000000000000000000, which should be a"),
        (attribute(scale_="x"), r"scale_ 'x', which should be a positive"),
        (attribute(noise_variance_=float("inf")), r"noise_variance_ inf, which should"),
        (attribute(loss_=True), r"loss_ True, which should be a float"),
        (attribute(loss_curve_=[1.0, None]), r"loss_curve_ \[1.0, None\], which"),
        (attribute(n_iter_=3), r"loss_curve_ of shape \(2,\), which should be \(3,\)"),
        (attribute(labels_=[0, 1]), r"labels_ \[0, 1\], which should be an array"),
        (edit_array("labels_", lambda a: a + 1), r"labels_ from 1 to 3, which"),
        (edit_array("labels_", lambda a: a * 1.0), r"labels_ of type float64"),
        (edit_array("weights_", lambda a: -a), r"weights_ that sum to -1"),
        (edit_array("weights_", lambda a: a.astype(np.float16)), r"type float16"),
        (edit_array("dictionaries_", lambda a: 2 * a), r"of norm 2, which should"),
        (edit_array("intercepts_", lambda a: a / 0), r"that are not finite"),
        (edit_array("overlaps_", lambda a: 2 * a), r"at least 0, with a sum of 1"),
        (edit_array("overlaps_", lambda a: a - 0.1), r"at least 0, with a sum of 1"),
        (edit_array("overlaps_", lambda a: a[:-1]), r"overlaps_ of shape \(2, 3\)"),
        (
            edit_json(lambda d: d.update(component_labels_=[0, 1, 1])),
            r"component_labels_ \[0, 1, 1\], which should be an array",
        ),
        (
            edit_array("representation_.mean_", lambda a: a[:-1]),
            r"mean_ of shape \(143,\), which should be \(144,\)",
        ),
        (scattering(L=10**6), r"L of the scattering 1000000, which should be 8"),
        (scattering(J=10**30), r"is not a skmixmate model"),
        (scattering(order=True), r"order of the scattering True, which should be 2"),
        (scattering(image_shape=[4, 4]), r"image_shape of the representation \[4, 4\]"),
        (
            edit_json(lambda d: d.update(feature_names=[1])),
            r"feature names \[1\]",
        ),
        (
            lambda m: m.update({"skmixmate.json": b'{"a": 1, "a": 1}'}),
            r"is not a skmixmate model",
        ),
        (
            lambda m: m.update({"skmixmate.json": b"\xff{}"}),
            r"is not a skmixmate model",
        ),
        (
            lambda m: m.update({"skmixmate.json": b"[]," * 10**6}),
            r"description of 3000",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:(divide|invalid):RuntimeWarning")
def test_values_that_fit_never_writes_are_rejected(
    change, message, fitted_on_images, tmp_path
):
    path = tmp_path / "model"
    fitted_on_images.save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=r"^'.*model' .*" + message):
        skmixmate.load(path)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-320, 1e200])
def test_rates_out_of_range_are_rejected(value, fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    rewrite(path, edit_array("rates_", lambda a: np.full_like(a, value)))
    with pytest.raises(ValueError, match=r"model' has rates_ from .* should be posit"):
        skmixmate.load(path)


def test_arrays_may_have_another_byte_order(fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    rewrite(path, edit_array("dictionaries_", lambda a: a.astype(">f8")))
    np.testing.assert_array_equal(skmixmate.load(path).predict(X), fitted.labels_)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_raises_at_once(tmp_path):
    os.mkfifo(tmp_path / "\x1b[2J")
    with pytest.raises(ValueError, match=r"x1b\[2J' is not a regular file") as error:
        skmixmate.load(tmp_path / "\x1b[2J")
    assert str(error.value).isprintable()


def test_duplicate_members_are_rejected(fitted, tmp_path):
    path = tmp_path / "model"
    fitted.save(path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Dupl"):
        archive.writestr("labels_.npy", b"")
    with pytest.raises(ValueError, match="two members have the same name"):
        skmixmate.load(path)
