"""Loading of fitted estimators from model files."""

import os
import warnings
from typing import Any

import torch

from .estimators._mixmate import MixMateClustering
from .files.model_file import read_model


def load(
    path: str | os.PathLike[str], *, device: str | torch.device | None = None
) -> MixMateClustering:
    """Load an estimator from a file written by its method ``save``.

    No code is run from the file, whoever made it.

    A model that the command line fitted to the columns of a table expects features that
    are computed from them, standardised or one column for each category; a warning
    lists them.

    Parameters
    ----------
    path : str or path-like
        The path that was passed to ``save``.
    device : str or torch.device, default=None
        Device to compute on, in place of the saved parameter `device`: a model fitted
        on a GPU can be used without one.

    Returns
    -------
    estimator : MixMateClustering
        Predicts the same as the saved estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file cannot be read.
    ValueError
        If the file is not a model file, is truncated or damaged, has a newer version
        of the format, or holds what no fit has written: invalid parameters, more than
        5000 layers, entries out of their range, arrays that do not fit together.

    Examples
    --------
    >>> import os, tempfile
    >>> import skmixmate
    >>> from skmixmate.datasets import make_sparse_mixture
    >>> X = make_sparse_mixture(random_state=0).data
    >>> mixmate = skmixmate.MixMateClustering(3, n_atoms=8, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model")
    ...     mixmate.save(path)
    ...     loaded = skmixmate.load(path)
    >>> (loaded.predict(X) == mixmate.labels_).all()
    np.True_
    """
    estimator, table = load_with_table(path, device)
    if table is not None and (table.get("means") or table.get("categories")):
        names = getattr(estimator, "feature_names_in_", estimator.n_features_in_)
        warnings.warn(
            f"{os.fspath(path)} was fitted by the command line to features that it "
            f"computed from a table: {names}. Pass these features to its methods.",
            UserWarning,
            stacklevel=2,
        )
    return estimator


def load_with_table(
    path: str | os.PathLike[str], device: str | torch.device | None
) -> tuple[MixMateClustering, dict[str, Any] | None]:
    """Load an estimator, and how its features were computed from a table.

    Parameters
    ----------
    path, device
        As in :func:`load`.

    Returns
    -------
    estimator : MixMateClustering
    table : dict or None
        What the command line wrote, not checked.
    """
    classes = {"MixMateClustering": MixMateClustering}
    return read_model(path, classes, device)
