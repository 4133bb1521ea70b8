"""The command line: fit, predict and demo."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence

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
from ._tables import (
    check_separate,
    check_source,
    check_table_destination,
    has_numbers_for_names,
    read_table,
    write_table,
)

# Exit codes, besides argparse's 2: of what a user got wrong, and of shells for Ctrl-C.
_MISTAKE, _INTERRUPTED = 1, 130

_EXAMPLES = """\
examples:
  skmixmate fit data.npy --n-clusters 10 -o model
  skmixmate fit images.npz --key X --image-shape 28x28 --n-clusters 10 -o model
  skmixmate predict model more.csv -o labels.csv
  skmixmate predict model more.csv --proba -o probabilities.npy
  skmixmate demo
"""

# Characters of a line on standard error, and digits that an integer may have.
_LONGEST_LINE, _MAX_DIGITS = 1000, 18


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        super().error(_printable(message))


def _printable(message):
    """Make one line of a message, in which nothing moves the cursor of a terminal."""
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(message[: 2 * _LONGEST_LINE].split())
    )
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def _int(text):
    # int takes underscores and the digits of all alphabets as well.
    if not re.fullmatch(rf"[+-]?[0-9]{{1,{_MAX_DIGITS}}}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} should be an integer, of {_MAX_DIGITS} digits at most"
        )
    return int(text)


def _float(text):
    number = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
    if not re.fullmatch(number, text) or math.isinf(float(text)):
        raise argparse.ArgumentTypeError(f"{text!r} should be a finite number")
    return float(text)


def _or_word(read):
    """Keep words, which the estimator checks, and read anything else."""

    def read_or_keep(text):
        if text.isalpha():
            return text
        try:
            return read(text)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}, or auto") from None

    return read_or_keep


def _image_shape(text):
    try:
        return tuple(_int(size) for size in text.split("x"))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be like 28x28 or, with channels, 28x28x3"
        ) from None


def _path(text):
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} should be the name of a file")
    return text


# Parameters of the estimator that are options: how to read them, and what they are.
_PARAMETERS = {
    "n_clusters": (_int, "number of clusters"),
    "n_atoms": (_or_word(_int), "atoms in the dictionary of each cluster"),
    "alpha": (_or_word(_float), "rate of the prior: the larger, the sparser"),
    "prior": (str, f"what codes are drawn from: {', '.join(PRIORS)}"),
    "likelihood": (str, f"what entries are drawn from: {', '.join(LIKELIHOODS)}"),
    "init": (str, "first clusters: auto, spectral, ssc, kmeans or random"),
    "init_size": (_int, "size of the subsample that they are found in"),
    "n_init": (_int, "starts that are tried"),
    "image_shape": (_image_shape, "rows are images: 28x28, or 28x28x3 with channels"),
    "representation": (str, "what images are modelled in: pixels or scattering"),
    "noise_variance": (_or_word(_float), "of an entry of the scaled data, or auto"),
    "weights": (str, "prior probabilities of the clusters: uniform or learned"),
    "max_iter": (_int, "largest number of epochs"),
    "tol": (_float, "part of the loss that an epoch has to gain to go on"),
    "random_state": (_int, "seed, to get the same again"),
    "device": (str, "where to compute: cpu, cuda and so on"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        What follows the name of the program; None is what it was called with.

    Returns
    -------
    code : int
        0 if all went well, 1 if what was given cannot be used, 130 if interrupted.

    Raises
    ------
    SystemExit
        With 2 if the command line cannot be understood, with 0 after ``--help``
        and ``--version``.
    """
    try:
        code = _run(_parser().parse_args(argv))
    except KeyboardInterrupt:
        _say("interrupted")
        code = _INTERRUPTED
    finally:
        is_answered = _flush()
    return code if is_answered else _MISTAKE


def _run(arguments):
    try:
        with _warnings_in_lines():
            return arguments.run(arguments)
    except OSError as error:
        told = error.filename and f"{error.filename}: {error.strerror}"
        _say(f"error: {told or error}")
    except MemoryError as error:
        _say(f"error: there is not enough memory. {error}")
    # RuntimeError is how torch says that it lacks memory or that a device fails.
    except (ImportError, RuntimeError, ValueError) as error:
        _say(f"error: {error}")
    return _MISTAKE


def _say(message):
    if sys.stderr is not None:  # print would take standard output
        with contextlib.suppress(OSError):
            print("skmixmate:", _printable(message), file=sys.stderr)


def _answer(line):
    with contextlib.suppress(BrokenPipeError):  # as head does, once it has seen enough
        print(line)


def _flush():
    """Write out what was printed; return whether standard output took it.

    Returns True if nobody reads it any more, as in a pipe to head.
    """
    is_answered = True
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except OSError as error:
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                _say(f"error: standard output: {error.strerror}")
                is_answered = False
            # Python would try again as it ends, and tell of it.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return is_answered


@contextlib.contextmanager
def _warnings_in_lines():
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for warning in caught:
                _say(f"warning: {warning.message}")


@contextlib.contextmanager
def _errors_about(path):
    """Put the name of a file before an error in the X that it holds."""
    try:
        yield
    except ValueError as error:
        if re.search(r"\bX\b", str(error)):
            raise ValueError(f"{path}: {error}") from error
        raise


def _parser():
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
        commands, "demo", _demo, "cluster scikit-learn's digits, beside KMeans"
    )
    return parser


def _add_command(commands, name, run, description):
    command = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    command.set_defaults(run=run)
    return command


def _add_data(command):
    command.add_argument(
        "data",
        type=_path,
        help="rows to cluster: a file, and no pipe, that ends in .npy, .npz, .csv or "
        ".parquet; NaN is missing",
    )
    command.add_argument("--key", metavar="NAME", help="which array of an .npz file")
    command.add_argument(
        "--header",
        choices=["auto", "yes", "no"],
        default="auto",
        help="whether the first line of a .csv file has names; auto (the default) is "
        "yes if nothing in it is a number",
    )


def _add_fit(commands):
    fit = _add_command(commands, "fit", _fit, "fit a model to data, and save it")
    _add_data(fit)
    fit.add_argument(
        "-o", "--output", type=_path, required=True, help="file for the model"
    )
    fit.add_argument(
        "--labels", type=_path, help="file for the clusters of the data: .npy or .csv"
    )
    defaults = MixMateClustering().get_params()
    group = fit.add_argument_group("parameters of MixMateClustering")
    for name, (read, meaning) in _PARAMETERS.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=read,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{meaning} (default: {defaults[name]})",
        )


def _add_predict(commands):
    predict = _add_command(
        commands, "predict", _predict, "find the clusters of data with a saved model"
    )
    predict.add_argument("model", type=_path, help="file that fit wrote")
    _add_data(predict)
    predict.add_argument(
        "-o",
        "--output",
        type=_path,
        required=True,
        help="file for the clusters: .npy, or .csv, with nine digits",
    )
    predict.add_argument(
        "--proba", action="store_true", help="probabilities of the clusters instead"
    )
    predict.add_argument("--device", help="where to compute, if not as in fit")


def _fit(arguments):
    check_writable(arguments.output)
    destinations = {"-o": arguments.output}
    if arguments.labels is not None:
        check_table_destination(arguments.labels)
        destinations["--labels"] = arguments.labels
    check_separate(destinations, {"the data": arguments.data})
    given = {k: v for k, v in vars(arguments).items() if k in _PARAMETERS}
    mixmate = MixMateClustering(**given).set_callbacks(*_progress_bars())
    mixmate._validate_params()
    resolve_device(mixmate.device, None)
    X = _read(arguments)
    # What draws the bars takes standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr), _errors_about(arguments.data):
        mixmate.fit(X)
    mixmate.save(arguments.output)
    if arguments.labels is not None:
        write_table(arguments.labels, mixmate.labels_, ["cluster"])
    sizes = np.bincount(mixmate.labels_, minlength=mixmate.n_clusters)
    _answer(f"samples        {len(X)}")
    _answer(f"epochs         {mixmate.n_iter_}")
    _answer(f"loss           {mixmate.loss_:.6g}")
    _answer(f"cluster sizes  {' '.join(map(str, sizes))}")
    # Nothing else ends a fit before its time: there is no callback that would.
    was_cut_short = not mixmate.converged_ and mixmate.n_iter_ < mixmate.max_iter
    return _INTERRUPTED if was_cut_short else 0


def _read(arguments):
    X = read_table(arguments.data, arguments.key, arguments.header)
    is_csv = arguments.data.endswith(".csv")
    if is_csv and arguments.header == "auto" and has_numbers_for_names(arguments.data):
        _say(
            f"note: the first line of {arguments.data} was taken for data; if it has "
            "the names of the columns, say --header yes."
        )
    return X


def _progress_bars():
    """scikit-learn's progress bar, where somebody sees it and rich can draw it."""
    if sys.stderr is None or not sys.stderr.isatty():
        return []
    try:
        return [ProgressBar()]
    except ImportError:
        return []


def _predict(arguments):
    check_table_destination(arguments.output)
    sources = {"the model": arguments.model, "the data": arguments.data}
    check_separate({"-o": arguments.output}, sources)
    check_source(arguments.model)
    if arguments.device is not None:
        resolve_device(arguments.device, None)
    mixmate = load(arguments.model, device=arguments.device)
    X = _read(arguments)
    with _errors_about(arguments.data):
        if arguments.proba:
            answer = mixmate.predict_proba(X)
            header = [f"cluster{k}" for k in range(answer.shape[1])]
        else:
            answer, header = mixmate.predict(X), ["cluster"]
    write_table(arguments.output, answer, header)
    return 0


def _demo(_):
    X, y = load_digits(return_X_y=True)
    _answer(f"scikit-learn's digits: {len(X)} images of 8 x 8 pixels, 10 classes\n")
    _answer(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}{'seconds':>10}")
    for clusterer in (
        MixMateClustering(n_clusters=10, image_shape=(8, 8), random_state=0),
        KMeans(n_clusters=10, n_init=10, random_state=0),
    ):
        begin = time.perf_counter()
        labels = clusterer.fit_predict(X)
        seconds = time.perf_counter() - begin
        scores = (
            normalized_mutual_info_score(y, labels),
            adjusted_rand_score(y, labels),
            clustering_accuracy_score(y, labels),
        )
        figures = "".join(f"{score:10.3f}" for score in scores)
        _answer(f"{type(clusterer).__name__:20}{figures}{seconds:10.1f}")
    return 0
