"""Commands of the program: fit, predict and demo."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from .._version import __version__
from ..data.validation import resolve_device
from ..estimators._mixmate import MixMateClustering
from ..files.atomic import check_writable
from ..io import load
from ..metrics import clustering_accuracy_score
from ..model.likelihoods import LIKELIHOODS
from ..model.priors import PRIORS
from ._outputs import check_distinct, check_table_destination, write_table
from ._tables import Table, check_source, has_numeric_header, read_table

# Exit codes: for errors of the user, and for an interrupt, as in shells. The code of
# argparse for an invalid command line is 2.
_EXIT_USER_ERROR, _EXIT_INTERRUPTED = 1, 130

_EXAMPLES = """\
examples:
  skmixmate fit data.npy --n-clusters 10 -o model
  skmixmate fit images.npz --key X --image-shape 28x28 --n-clusters 10 -o model
  skmixmate predict model more.csv -o labels.csv
  skmixmate predict model more.csv --proba -o probabilities.npy
  skmixmate demo
"""

# Largest number of characters of a line on standard error, and of digits of an integer.
_MAX_LINE_LENGTH, _MAX_DIGITS = 1000, 18


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(_printable(message))


def _printable(message: str) -> str:
    """Escape control characters, and join and truncate the lines of a message."""
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(message[: 2 * _MAX_LINE_LENGTH].split())
    )
    return line if len(line) <= _MAX_LINE_LENGTH else f"{line[:_MAX_LINE_LENGTH]} ..."


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


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} should be the name of a file")
    return text


# Parameters of the estimator that are options: their parsers and descriptions.
_PARAMETERS: dict[str, tuple[Callable[[str], Any], str]] = {
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        The arguments after the name of the program; None reads ``sys.argv``.

    Returns
    -------
    code : int
        0 on success, 1 after an error in the input, 130 after an interrupt.

    Raises
    ------
    SystemExit
        With code 2 if the command line is invalid, with 0 after ``--help`` and
        ``--version``.
    """
    try:
        code = _run(_parser().parse_args(argv))
    except KeyboardInterrupt:
        _log("interrupted")
        code = _EXIT_INTERRUPTED
    finally:
        is_written = _flush()
    return code if is_written else _EXIT_USER_ERROR


def _run(arguments: argparse.Namespace) -> int:
    try:
        with _log_warnings():
            code: int = arguments.run(arguments)
            return code
    except OSError as error:
        reason = error.filename and f"{error.filename}: {error.strerror}"
        _log(f"error: {reason or error}")
    except MemoryError as error:
        _log(f"error: there is not enough memory. {error}")
    # torch raises RuntimeError if memory is exhausted or a device fails.
    except (ImportError, RuntimeError, ValueError) as error:
        _log(f"error: {_with_options(str(error))}")
    return _EXIT_USER_ERROR


def _log(message: str) -> None:
    if sys.stderr is not None:  # else print would use standard output
        with contextlib.suppress(OSError):
            print("skmixmate:", _printable(message), file=sys.stderr)


def _with_options(message: str) -> str:
    """Replace parameters of the estimator in a message by options of the program."""
    for name in _PARAMETERS:
        option = f"--{name.replace('_', '-')}"
        message = message.replace(
            f"The '{name}' parameter of MixMateClustering", option
        )
        message = re.sub(rf"\b{name}=", f"{option} ", message)
    return message


def _print(line: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # such as by head
        print(line)


def _flush() -> bool:
    """Flush both streams; return whether standard output has been written.

    Returns True if the reader has closed the pipe, as head does.
    """
    is_written = True
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                _log(f"error: standard output: {error.strerror}")
                is_written = False
            # Python would flush again when it ends, and print an error.
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
    return is_written


@contextlib.contextmanager
def _log_warnings() -> Iterator[None]:
    """Write each warning as one line to standard error."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for warning in caught:
                _log(f"warning: {_with_options(str(warning.message))}")


@contextlib.contextmanager
def _name_file_in_errors(path: str) -> Iterator[None]:
    """Put the name of the file before errors about the X that was read from it."""
    try:
        yield
    except ValueError as error:
        if re.search(r"\bX\b", str(error)):
            raise ValueError(f"{path}: {error}") from error
        raise


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="skmixmate",
        description="Cluster data by mixture model auto-encoders.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"skmixmate {__version__}"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_fit(commands)
    _add_predict(commands)
    _add_command(
        commands, "demo", _demo, "compare with KMeans on scikit-learn's digits"
    )
    return parser


def _add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    command.set_defaults(run=run)
    return command


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        type=_path,
        help="table with the rows to cluster: a regular .npy, .npz, .csv, .parquet or "
        ".mtx file; NaN marks missing values",
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


def _add_fit(commands: Any) -> None:
    fit = _add_command(commands, "fit", _fit, "fit a model to data, and save it")
    _add_data(fit)
    fit.add_argument(
        "-o", "--output", type=_path, required=True, help="file for the model"
    )
    fit.add_argument(
        "--labels", type=_path, help="file for the labels of the rows: .npy or .csv"
    )
    defaults = MixMateClustering().get_params()
    group = fit.add_argument_group("parameters of MixMateClustering")
    for name, (parse, description) in _PARAMETERS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=parse,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{description} (default: {defaults[name]})",
        )


def _add_predict(commands: Any) -> None:
    predict = _add_command(
        commands, "predict", _predict, "predict the clusters of rows with a saved model"
    )
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
    predict.add_argument("--device", help="device to compute on (default: as in fit)")


def _fit(arguments: argparse.Namespace) -> int:
    check_writable(arguments.output)
    destinations = {"-o": arguments.output}
    if arguments.labels is not None:
        check_table_destination(arguments.labels)
        destinations["--labels"] = arguments.labels
    check_distinct(destinations, {"the data": arguments.data})
    params = {k: v for k, v in vars(arguments).items() if k in _PARAMETERS}
    mixmate = MixMateClustering(**params).set_callbacks(*_progress_bars())
    mixmate._validate_params()
    resolve_device(mixmate.device, None)
    X = _read(arguments)
    # Progress bars are drawn on standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr), _name_file_in_errors(arguments.data):
        mixmate.fit(X)
    mixmate.save(arguments.output)
    if arguments.labels is not None:
        write_table(arguments.labels, mixmate.labels_, ["cluster"])
    sizes = np.bincount(mixmate.labels_, minlength=mixmate.n_clusters_)
    _print(f"samples        {X.shape[0]}")
    if mixmate.image_shape_ is not None:
        _print(f"image shape    {'x'.join(map(str, mixmate.image_shape_))}")
    _print(f"epochs         {mixmate.n_iter_}")
    _print(f"loss           {mixmate.loss_:.6g}")
    _print(f"cluster sizes  {' '.join(map(str, sizes))}")
    # There are no callbacks that stop a fit early.
    was_interrupted = not mixmate.converged_ and mixmate.n_iter_ < mixmate.max_iter
    return _EXIT_INTERRUPTED if was_interrupted else 0


def _read(arguments: argparse.Namespace) -> Table:
    X = read_table(arguments.data, arguments.key, arguments.header)
    is_csv = arguments.data.endswith(".csv")
    if is_csv and arguments.header == "auto" and has_numeric_header(arguments.data):
        _log(
            f"note: the first line of {arguments.data} was read as data; if it holds "
            "the names of the columns, pass --header yes."
        )
    return X


def _progress_bars() -> list[ProgressBar]:
    """Return a progress bar if standard error is a terminal and rich is installed."""
    if sys.stderr is None or not sys.stderr.isatty():
        return []
    try:
        return [ProgressBar()]
    except ImportError:
        return []


def _predict(arguments: argparse.Namespace) -> int:
    check_table_destination(arguments.output)
    sources = {"the model": arguments.model, "the data": arguments.data}
    check_distinct({"-o": arguments.output}, sources)
    check_source(arguments.model)
    if arguments.device is not None:
        resolve_device(arguments.device, None)
    mixmate = load(arguments.model, device=arguments.device)
    X = _read(arguments)
    with _name_file_in_errors(arguments.data):
        if arguments.proba:
            table: Any = mixmate.predict_proba(X)
            header = [f"cluster{k}" for k in range(table.shape[1])]
        else:
            table, header = mixmate.predict(X), ["cluster"]
    write_table(arguments.output, table, header)
    return 0


def _demo(_: argparse.Namespace) -> int:
    X, y = load_digits(return_X_y=True)
    _print(f"scikit-learn's digits: {len(X)} images of 8 x 8 pixels, 10 classes\n")
    _print(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}{'seconds':>10}")
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
        _print(f"{type(clusterer).__name__:20}{columns}{seconds:10.1f}")
    return 0
