"""The command line: fit, predict and demo."""

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from . import __version__
from ._files import check_destination
from ._mixmate import MixMateClustering
from ._persistence import load
from ._tables import check_table_destination, read_table, write_table
from .metrics import clustering_accuracy_score
from .model.likelihoods import LIKELIHOODS
from .model.priors import PRIORS

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


def _int_or_word(text):
    return int(text) if text.lstrip("+-").isdigit() else text


def _float_or_word(text):
    try:
        return float(text)
    except ValueError:
        return text


def _image_shape(text):
    try:
        return tuple(int(size) for size in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be like 28x28 or, with channels, 28x28x3"
        ) from None


# Parameters of the estimator that are options: how to read them, and what they are.
_PARAMETERS = {
    "n_clusters": (int, "number of clusters"),
    "n_atoms": (_int_or_word, "atoms in the dictionary of each cluster"),
    "alpha": (_float_or_word, "rate of the prior: the larger, the sparser"),
    "prior": (str, f"what codes are drawn from: {', '.join(PRIORS)}"),
    "likelihood": (str, f"what entries are drawn from: {', '.join(LIKELIHOODS)}"),
    "init": (str, "first clusters: auto, spectral, ssc, kmeans or random"),
    "init_size": (int, "size of the subsample that they are found in"),
    "n_init": (int, "starts that are tried"),
    "image_shape": (_image_shape, "rows are images: 28x28, or 28x28x3 with channels"),
    "representation": (str, "what images are modelled in: pixels or scattering"),
    "noise_variance": (_float_or_word, "of an entry of the scaled data, or auto"),
    "weights": (str, "prior probabilities of the clusters: uniform or learned"),
    "max_iter": (int, "largest number of epochs"),
    "tol": (float, "part of the loss that an epoch has to gain to go on"),
    "random_state": (int, "seed, to get the same again"),
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
    arguments = _parser().parse_args(argv)
    try:
        with _warnings_in_lines():
            return arguments.run(arguments)
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    except OSError as error:
        told = error.filename and f"{error.filename}: {error.strerror}"
        _say(f"error: {told or error}")
    except (ImportError, ValueError) as error:
        _say(f"error: {error}")
    return _MISTAKE


def _say(message):
    print("skmixmate:", " ".join(message.split()), file=sys.stderr)


@contextlib.contextmanager
def _warnings_in_lines():
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for warning in caught:
                _say(f"warning: {warning.message}")


def _parser():
    parser = argparse.ArgumentParser(
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
        "data", help="rows to cluster: .npy, .npz, .csv or .parquet; NaN is missing"
    )
    command.add_argument("--key", metavar="NAME", help="which array of an .npz file")


def _add_fit(commands):
    fit = _add_command(commands, "fit", _fit, "fit a model to data, and save it")
    _add_data(fit)
    fit.add_argument("-o", "--output", required=True, help="file for the model")
    fit.add_argument("--labels", help="file for the clusters of the data: .npy or .csv")
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
    predict.add_argument("model", help="file that fit wrote")
    _add_data(predict)
    predict.add_argument(
        "-o",
        "--output",
        required=True,
        help="file for the clusters: .npy, or .csv, with nine digits",
    )
    predict.add_argument(
        "--proba", action="store_true", help="probabilities of the clusters instead"
    )
    predict.add_argument("--device", help="where to compute, if not as in fit")


def _fit(arguments):
    check_destination(arguments.output)
    if arguments.labels is not None:
        check_table_destination(arguments.labels)
    X = read_table(arguments.data, arguments.key)
    given = {k: v for k, v in vars(arguments).items() if k in _PARAMETERS}
    mixmate = MixMateClustering(**given).set_callbacks(*_progress_bars())
    # What draws the bars takes standard output, which is for results.
    with contextlib.redirect_stdout(sys.stderr):
        mixmate.fit(X)
    mixmate.save(arguments.output)
    if arguments.labels is not None:
        write_table(arguments.labels, mixmate.labels_, ["cluster"])
    sizes = np.bincount(mixmate.labels_, minlength=mixmate.n_clusters)
    print(f"samples        {len(X)}")
    print(f"epochs         {mixmate.n_iter_}")
    print(f"loss           {mixmate.loss_:.6g}")
    print(f"cluster sizes  {' '.join(map(str, sizes))}")
    # Nothing else ends a fit before its time: there is no callback that would.
    was_cut_short = not mixmate.converged_ and mixmate.n_iter_ < mixmate.max_iter
    return _INTERRUPTED if was_cut_short else 0


def _progress_bars():
    """scikit-learn's progress bar, where somebody sees it and rich can draw it."""
    if not sys.stderr.isatty():
        return []
    try:
        return [ProgressBar()]
    except ImportError:
        return []


def _predict(arguments):
    check_table_destination(arguments.output)
    mixmate = load(arguments.model, device=arguments.device)
    X = read_table(arguments.data, arguments.key)
    if arguments.proba:
        answer = mixmate.predict_proba(X)
        header = [f"cluster{k}" for k in range(answer.shape[1])]
    else:
        answer, header = mixmate.predict(X), ["cluster"]
    write_table(arguments.output, answer, header)
    return 0


def _demo(_):
    X, y = load_digits(return_X_y=True)
    print(f"scikit-learn's digits: {len(X)} images of 8 x 8 pixels, 10 classes\n")
    print(f"{'':20}{'NMI':>10}{'ARI':>10}{'accuracy':>10}{'seconds':>10}")
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
        print(f"{type(clusterer).__name__:20}{figures}{seconds:10.1f}")
    return 0
