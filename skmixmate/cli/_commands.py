"""Commands of the program: fit, predict and demo."""

import argparse
import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from ..data.validation import resolve_device
from ..estimators._mixmate import MixMateClustering
from ..files.atomic import check_writable
from ..files.model_file import write_model
from ..io import load_with_table
from ..metrics import clustering_accuracy_score
from ._columns import MISSING, Columns, Table
from ._csv import has_numeric_header
from ._exit_codes import INTERRUPTED
from ._image_folders import read_images
from ._options import PARAMETERS
from ._outputs import (
    check_distinct,
    check_result_destinations,
    check_table_destination,
    write_results,
    write_table,
)
from ._preparation import Preparation
from ._streams import is_terminal, log, write_line
from ._tables import check_source, read_table


def fit(arguments: argparse.Namespace) -> int:
    """Fit a model, and write it.

    Parameters
    ----------
    arguments : Namespace
        Parsed options.

    Returns
    -------
    code : int
    """
    check_writable(arguments.output)
    destinations = {"-o": arguments.output}
    if arguments.labels is not None:
        check_table_destination(arguments.labels)
        destinations["--labels"] = arguments.labels
    destinations |= check_result_destinations(arguments.report, arguments.picture)
    check_distinct(destinations, {"the data": arguments.data})
    params = {k: v for k, v in vars(arguments).items() if k in PARAMETERS}
    mixmate = MixMateClustering(**params).set_callbacks(*_progress_bars())
    mixmate._validate_params()
    resolve_device(mixmate.device, None)
    columns = Columns(
        arguments.columns,
        arguments.drop,
        arguments.index,
        arguments.categorical,
        MISSING.union(arguments.missing),
    )
    table, image_shape = _read(arguments, columns)
    if image_shape is not None and "image_shape" not in params:
        mixmate.set_params(image_shape=image_shape)
    preparation = Preparation.fit(arguments.data, table, arguments.standardize)
    X = preparation.transform(arguments.data, table)
    # Progress bars are drawn on standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr), _name_file_in_errors(arguments.data):
        mixmate.fit(X)
    if preparation.feature_names is not None:
        mixmate.feature_names_in_ = np.array(preparation.feature_names, dtype=object)
    write_model(
        mixmate,
        arguments.output,
        {"MixMateClustering": MixMateClustering},
        None if preparation.is_trivial else preparation.to_dict(),
    )
    if arguments.labels is not None:
        write_table(arguments.labels, mixmate.labels_, ["cluster"], table.index)
    with _unnamed_features():
        write_results(mixmate, X, table, arguments.report, arguments.picture)
    _summarize(mixmate, table, preparation)
    # There are no callbacks that stop a fit early.
    was_interrupted = not mixmate.converged_ and mixmate.n_iter_ < mixmate.max_iter
    return INTERRUPTED if was_interrupted else 0


def _summarize(
    mixmate: MixMateClustering, table: Table, preparation: Preparation
) -> None:
    sizes = np.bincount(mixmate.labels_, minlength=mixmate.n_clusters_)
    write_line(f"samples        {table.n_samples}")
    if preparation.feature_names is not None:
        n_categorical = len(preparation.categories)
        categorical = f", {n_categorical} of categories" * bool(n_categorical)
        write_line(f"columns        {preparation.n_numbers} of numbers{categorical}")
    if mixmate.image_shape_ is not None:
        write_line(f"image shape    {'x'.join(map(str, mixmate.image_shape_))}")
    write_line(f"epochs         {mixmate.n_iter_}")
    write_line(f"loss           {mixmate.loss_:.6g}")
    write_line(f"cluster sizes  {' '.join(map(str, sizes))}")


def _read(
    arguments: argparse.Namespace,
    columns: Columns,
    image_shape: tuple[int, ...] | None = None,
) -> tuple[Table, tuple[int, ...] | None]:
    """Read a table or a folder of images, whose shape is returned."""
    path = arguments.data
    if is_terminal():
        log(f"reading {path}")
    if os.path.isdir(path):
        return read_images(path, image_shape, arguments.image_size)
    if arguments.image_size is not None:
        raise ValueError(f"--image-size is for folders of images only, not for {path}.")
    table = read_table(path, columns, arguments.key, arguments.header)
    is_text = path.endswith((".csv", ".tsv"))
    if is_text and arguments.header == "auto" and has_numeric_header(path):
        log(
            f"note: the first line of {path} was read as data; if it holds the names "
            "of the columns, pass --header yes."
        )
    return table, None


def _progress_bars() -> list[ProgressBar]:
    """Return a progress bar if standard error is a terminal and rich is installed."""
    if not is_terminal():
        return []
    try:
        return [ProgressBar()]
    except ImportError:
        return []


@contextlib.contextmanager
def _name_file_in_errors(path: str) -> Iterator[None]:
    """Put the name of the file before errors about the X that was read from it."""
    try:
        yield
    except ValueError as error:
        if re.search(r"\bX\b", str(error)):
            raise ValueError(f"{path}: {error}") from error
        raise


@contextlib.contextmanager
def _unnamed_features() -> Iterator[None]:
    """Accept arrays without names: columns have been selected by name before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        yield


def predict(arguments: argparse.Namespace) -> int:
    """Predict the clusters of rows, and write them.

    Parameters
    ----------
    arguments : Namespace
        Parsed options.

    Returns
    -------
    code : int
    """
    check_table_destination(arguments.output)
    destinations = {"-o": arguments.output}
    destinations |= check_result_destinations(arguments.report, arguments.picture)
    sources = {"the model": arguments.model, "the data": arguments.data}
    check_distinct(destinations, sources)
    check_source(arguments.model)
    if arguments.device is not None:
        resolve_device(arguments.device, None)
    mixmate, stored = load_with_table(arguments.model, arguments.device)
    columns = Columns(index=arguments.index, missing=MISSING.union(arguments.missing))
    preparation = None
    if stored is not None:
        preparation = Preparation.from_dict(stored)
        columns = preparation.columns(columns)
    table, _ = _read(arguments, columns, mixmate.image_shape_)
    X: Any = table.numbers
    if preparation is not None:
        X = preparation.transform(arguments.data, table)
    with _unnamed_features(), _name_file_in_errors(arguments.data):
        if arguments.proba:
            values: Any = mixmate.predict_proba(X)
            header = [f"cluster{k}" for k in range(values.shape[1])]
        else:
            values, header = mixmate.predict(X), ["cluster"]
        write_table(arguments.output, values, header, table.index)
        write_results(mixmate, X, table, arguments.report, arguments.picture)
    return 0


def demo(_: argparse.Namespace) -> int:
    """Compare with KMeans on scikit-learn's digits.

    Returns
    -------
    code : int
    """
    X, y = load_digits(return_X_y=True)
    write_line(f"scikit-learn's digits: {len(X)} images of 8 x 8 pixels, 10 classes\n")
    write_line(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}{'seconds':>10}")
    for clusterer in (
        MixMateClustering(n_clusters=10, random_state=0),
        KMeans(n_clusters=10, n_init=10, random_state=0),
    ):
        start = time.perf_counter()
        labels = clusterer.fit_predict(X)
        seconds = time.perf_counter() - start
        scores = (
            normalized_mutual_info_score(y, labels),
            adjusted_rand_score(y, labels),
            clustering_accuracy_score(y, labels),
        )
        columns = "".join(f"{score:10.3f}" for score in scores)
        write_line(f"{type(clusterer).__name__:20}{columns}{seconds:10.1f}")
    return 0
