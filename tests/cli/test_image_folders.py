"""Folders of images."""

import sys

import numpy as np
import pytest

from skmixmate.cli._image_folders import read_images

Image = pytest.importorskip("PIL.Image")


def save(folder, name, values):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


@pytest.fixture
def grey(tmp_path):
    for i, name in enumerate(["b.png", "a.PNG", "c/d.png"]):
        save(tmp_path, name, np.full((4, 6), 10 * i))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_grey_images_are_rows_of_pixels(grey):
    table, shape = read_images(str(grey), None, None)
    assert shape == (4, 6)
    assert table.numbers.dtype == np.float32
    np.testing.assert_array_equal(table.numbers[:, 0], [10, 0, 20])
    assert table.index == ("file", ["a.PNG", "b.png", "c/d.png"])


def test_a_colour_image_makes_all_coloured(grey):
    save(grey, "e.jpg", np.full((4, 6, 3), [200, 0, 0]))
    table, shape = read_images(str(grey), None, None)
    assert shape == (4, 6, 3)
    assert table.numbers.shape == (4, 72)
    # Unless the model was fitted to grey images.
    table, shape = read_images(str(grey), (4, 6), None)
    assert shape == (4, 6)


def test_images_are_resized(grey):
    save(grey, "large.png", np.zeros((9, 9)))
    message = r"different sizes: a\.PNG is 4x6, large\.png is 9x9.*--image-size"
    with pytest.raises(ValueError, match=message):
        read_images(str(grey), None, None)
    table, shape = read_images(str(grey), None, (3, 5))
    assert shape == (3, 5)
    assert table.numbers.shape == (4, 15)


def test_folders_without_images_are_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"has no images: files of \.png"):
        read_images(str(tmp_path), None, None)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"broken\.png is not an image"):
        read_images(str(tmp_path), None, None)


def test_pillow_is_named_if_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install skmixmate\[images\]"):
        read_images(str(tmp_path), None, None)
