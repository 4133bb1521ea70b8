"""Options of the commands: parsers, and their descriptions."""

import argparse
import math
import re
from collections.abc import Callable
from typing import Any

from ..estimators._mixmate import MixMateClustering
from ..model.likelihoods import LIKELIHOODS
from ..model.priors import PRIORS
from ._columns import parse_names

# Largest number of digits of an integer.
_MAX_DIGITS = 18


def _int(text: str) -> int:
    # int also accepts underscores and the digits of all scripts.
    if not re.fullmatch(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} should be an integer, of {_MAX_DIGITS} digits at most"
        )
    return int(text)


def _float(text: str) -> float:
    number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    if not re.fullmatch(number, text) or math.isinf(float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} should be a finite number")
    return float(text)


def _or_str(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser that leaves words to the estimator, and parses all else."""

    def parse_or_keep(text: str) -> Any:
        if text.isalpha():
            return text
        try:
            return parse(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or auto") from None

    return parse_or_keep


def _image_shape(text: str) -> tuple[int, ...] | str | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    try:
        return tuple(_int(size) for size in text.split("x"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be like 28x28 or, with channels, 28x28x3; or auto, "
            "or none"
        ) from None


def _image_size(text: str) -> tuple[int, int]:
    if not re.fullmatch("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError(f"{text!r} should be like 32x32")
    height, width = map(int, text.split("x"))
    return height, width


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} should be the name of a file")
    return text


# Parameters of the estimator that are options: their parsers and descriptions.
PARAMETERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "n_clusters": (_or_str(_int), "number of clusters, or auto"),
    "n_atoms": (_or_str(_int), "atoms in the dictionary of each cluster"),
    "alpha": (_or_str(_float), "rate of the prior: the larger, the sparser"),
    "prior": (str, f"prior of the codes: {', '.join(PRIORS)}"),
    "likelihood": (str, f"distribution of the entries: {', '.join(LIKELIHOODS)}"),
    "init": (str, "initial clustering: auto, spectral, ssc, kmeans or random"),
    "init_size": (_or_str(_int), "size of the subsample for the initial clustering"),
    "n_init": (_int, "number of initialisations to try"),
    "image_shape": (
        _image_shape,
        "shape of images: 28x28, or 28x28x3 with channels; none for no images",
    ),
    "representation": (str, "representation of images: pixels or scattering"),
    "noise_variance": (_or_str(_float), "noise variance of the scaled data, or auto"),
    "weights": (str, "prior probabilities of the clusters: uniform or learned"),
    "max_iter": (_int, "largest number of epochs"),
    "tol": (_float, "stop when an epoch improves the loss by less than this fraction"),
    "random_state": (_int, "random seed, for reproducible results"),
    "device": (str, "device to compute on: cpu, cuda and so on"),
}


def add_fit_options(fit: argparse.ArgumentParser) -> None:
    """Add the options of ``skmixmate fit``.

    Parameters
    ----------
    fit : ArgumentParser
    """
    _add_data(fit)
    fit.add_argument(
        "-o", "--output", type=_path, required=True, help="file for the model"
    )
    fit.add_argument(
        "--labels", type=_path, help="file for the labels of the rows: .npy or .csv"
    )
    _add_results(fit)
    group = fit.add_argument_group("columns of the table")
    group.add_argument(
        "--columns",
        type=parse_names,
        default=[],
        metavar="NAMES",
        help="the only columns to cluster by, separated by commas: names in the "
        "header, or numbers from 1 on if there is none",
    )
    group.add_argument(
        "--drop",
        type=parse_names,
        default=[],
        metavar="NAMES",
        help="columns to ignore",
    )
    group.add_argument(
        "--categorical",
        type=parse_names,
        default=[],
        metavar="NAMES",
        help="columns of text, each category of which becomes a column of 0 and 1",
    )
    group.add_argument(
        "--standardize",
        action="store_true",
        help="scale columns of numbers to mean 0 and variance 1; the model keeps the "
        "scales for predict",
    )
    defaults = MixMateClustering().get_params()
    group = fit.add_argument_group("parameters of MixMateClustering")
    for name, (parse, description) in PARAMETERS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=parse,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{description} (default: {defaults[name]})",
        )


def add_predict_options(predict: argparse.ArgumentParser) -> None:
    """Add the options of ``skmixmate predict``.

    Parameters
    ----------
    predict : ArgumentParser
    """
    predict.add_argument("model", type=_path, help="model file written by fit")
    _add_data(predict)
    predict.add_argument(
        "-o",
        "--output",
        type=_path,
        required=True,
        help="file for the labels: .npy or .csv (.csv is written with nine significant "
        "digits)",
    )
    predict.add_argument(
        "--proba", action="store_true", help="write the probabilities of all clusters"
    )
    _add_results(predict)
    predict.add_argument("--device", help="device to compute on (default: as in fit)")


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        type=_path,
        help="table with the rows to cluster: a regular .csv, .tsv, .parquet, .npy, "
        ".npz or .mtx file; or a folder of PNG and JPEG images",
    )
    command.add_argument(
        "--key", metavar="NAME", help="name of the array in an .npz file"
    )
    command.add_argument(
        "--header",
        choices=["auto", "yes", "no"],
        default="auto",
        help="whether the first line of a .csv file is a header; auto (the default) is "
        "yes if no field in it is a number",
    )
    command.add_argument(
        "--index",
        metavar="NAME",
        help="column that names the rows: it is not used to cluster, and becomes the "
        "first column of .csv files of labels",
    )
    command.add_argument(
        "--missing",
        type=parse_names,
        default=[],
        metavar="TEXTS",
        help="texts that mark missing entries of .csv files, in addition to empty "
        "fields, NA, NaN, null and the like",
    )
    command.add_argument(
        "--image-size",
        type=_image_size,
        metavar="HEIGHTxWIDTH",
        help="size to which the images of a folder are resized",
    )


def _add_results(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--report", type=_path, help="file for a report of the clusters: .html"
    )
    command.add_argument(
        "--picture",
        type=_path,
        help="file for a map of the clusters: .png, .svg or .pdf",
    )
