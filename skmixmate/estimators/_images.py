"""The shape of images that a model is of: as given, or recognised."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.images import check_images
from ..data.sparse import SparseRows, as_dense
from ..distributed.communicator import Communicator
from ..image._detection import can_be_images, find_image_shape, rows_to_judge
from ..training.loop import logger
from ._checks import check_without_images
from ._logging import log_to_stdout
from ._state import Rows

# Most features of sparse rows that images are recognised among: the rows that are
# judged become dense, and wider ones are words or genes.
_MAX_SPARSE_PIXELS = 2**14


def resolve_image_shape(
    estimator: Any,
    params: Mapping[str, Any],
    X: Rows,
    item_shape: tuple[int, ...] | None,
    continues: bool,
    communicator: Communicator,
    counted: slice | np.ndarray = slice(None),
) -> tuple[int, ...] | None:
    """Resolve the parameter `image_shape`.

    Parameters
    ----------
    estimator : MixMateClustering
    params : mapping
        Its parameters.
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)
    item_shape : tuple of int or None
        Shape of the images that were flattened to X.
    continues : bool
        Whether there is a fitted model, of images of the same shape.
    communicator : Communicator
    counted : slice(None) or int ndarray, default=slice(None)
        Rows of positive weight; images are recognised by these.

    Returns
    -------
    image_shape : tuple of int or None

    Raises
    ------
    ValueError
        If something that is only for images was asked for, and there are none, or
        images are not of the shape that the fitted model has.
    """
    image_shape = params["image_shape"]
    if image_shape is not None and not isinstance(image_shape, str):
        return tuple(int(size) for size in image_shape)
    if continues and estimator.representation_ is not None:
        image_shape = "auto"
    if image_shape is None:
        return None
    if continues:
        image_shape = estimator.image_shape_
        if item_shape is not None:
            check_images((len(X), *item_shape), image_shape)
    elif item_shape is not None:
        image_shape = item_shape
    else:
        image_shape = _recognize(X, counted, communicator)
        if image_shape is not None and communicator.rank == 0:
            with log_to_stdout(estimator.verbose):
                logger.info("rows are images: image_shape_ is %s", image_shape)
    if image_shape is None:
        check_without_images(params)
    return image_shape


def _recognize(
    X: Rows, counted: slice | np.ndarray, communicator: Communicator
) -> tuple[int, ...] | None:
    """Find the shape of images from rows of all processes."""
    n_rows = len(X) if isinstance(counted, slice) else len(counted)
    n_samples, n_features = communicator.all_reduce(n_rows), X.shape[1]
    if not can_be_images(n_samples, n_features):
        return None
    if isinstance(X, SparseRows) and n_features > _MAX_SPARSE_PIXELS:
        return None
    indices = rows_to_judge(n_samples, n_features)
    if communicator.size > 1:
        # As large a share of the rows of each process.
        share = -(-len(indices) * n_rows // n_samples)
        indices = np.linspace(0, n_rows - 1, share).astype(np.intp)
    if not isinstance(counted, slice):
        indices = counted[indices]
    gathered = communicator.all_gather(as_dense(X[indices]))
    return communicator.broadcast(lambda: find_image_shape(np.concatenate(gathered)))
