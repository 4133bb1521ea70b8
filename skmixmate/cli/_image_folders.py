"""Reading of folders of images."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._columns import Table

_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_images(
    folder: str, shape: Sequence[int] | None, size: Sequence[int] | None
) -> tuple[Table, tuple[int, ...]]:
    """Read the PNG and JPEG images of a folder, in the order of their names.

    Parameters
    ----------
    folder : str
        Its subfolders are read as well.
    shape : sequence of int or None
        (height, width) for grey images, or (height, width, 3), that a model was fitted
        to; None for grey images if all are grey.
    size : sequence of int or None
        (height, width) to which images are resized; None if they should have this size
        already.

    Returns
    -------
    table : Table
        Rows of pixels from 0 to 255, float32; the index has the paths in the folder.
    image_shape : tuple of int

    Raises
    ------
    ValueError
        If there is no image, one is damaged, or they differ in size.
    ImportError
        If Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{folder} needs Pillow to read images: pip install skmixmate[images]."
        ) from error
    names = _find_images(folder)
    images = []
    for name in names:
        try:
            with Image.open(os.path.join(folder, name)) as image:
                images.append(_convert(image, shape, size))
        # Pillow raises SyntaxError and ValueError for damaged files.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
            path = os.path.join(folder, name)
            raise ValueError(f"{path} is not an image: {e}") from e
    first = images[0]
    for name, image in zip(names, images, strict=True):
        if image.size != first.size:
            raise ValueError(
                f"{folder} has images of different sizes: {names[0]} is "
                f"{first.height}x{first.width}, {name} is {image.height}x"
                f"{image.width}. Resize all by --image-size HEIGHTxWIDTH."
            )
    mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
    pixels = np.stack([np.asarray(image.convert(mode)) for image in images])
    X = pixels.reshape(len(pixels), -1).astype(np.float32)
    return Table(X, index=("file", names)), pixels.shape[1:]


def _find_images(folder: str) -> list[str]:
    names = [
        os.path.relpath(os.path.join(parent, file), folder)
        for parent, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(_SUFFIXES) and not file.startswith(".")
    ]
    if not names:
        raise ValueError(f"{folder} has no images: files of {', '.join(_SUFFIXES)}.")
    return sorted(names)


def _convert(
    image: Any, shape: Sequence[int] | None, size: Sequence[int] | None
) -> Any:
    """Return an image as grey or RGB, of a given size."""
    is_grey = image.mode in ("1", "L", "I;16", "LA")
    if shape is not None:
        is_grey = len(shape) == 2
    converted = image.convert("L" if is_grey else "RGB")
    return converted if size is None else converted.resize((size[1], size[0]))
