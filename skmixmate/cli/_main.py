"""The program: parsing of the command line, errors and exit codes."""

import argparse
import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from .._version import __version__
from ._exit_codes import INTERRUPTED, USER_ERROR
from ._streams import flush, log, printable

_EXAMPLES = """\
examples:
  skmixmate fit people.csv --n-clusters 4 --index id --standardize -o model \\
      --labels labels.csv --report clusters.html
  skmixmate fit photos/ --image-size 32x32 --n-clusters 10 -o model --report photos.html
  skmixmate fit embeddings.npy --n-clusters auto -o model --picture map.png
  skmixmate predict model more.csv --proba -o probabilities.npy
  skmixmate demo
"""


class _Parser(argparse.ArgumentParser):
    """Parser of the program, or of a command, whose options are added when needed.

    Adding them imports the estimator, which takes seconds.
    """

    add_options: Callable[["_Parser"], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the options of the command, and parse them."""
        if self.add_options is not None:
            add_options, self.add_options = self.add_options, None
            add_options(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Write the usage and a message of one line, and exit."""
        super().error(printable(message))


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
        log("interrupted")
        code = INTERRUPTED
    finally:
        is_written = flush()
    return code if is_written else USER_ERROR


def _run(arguments: argparse.Namespace) -> int:
    try:
        with _log_warnings():
            code: int = arguments.run(arguments)
            return code
    except OSError as error:
        reason = error.filename and f"{error.filename}: {error.strerror}"
        log(f"error: {reason or error}")
    except MemoryError as error:
        log(f"error: there is not enough memory. {error}")
    # torch raises RuntimeError if memory is exhausted or a device fails.
    except (ImportError, RuntimeError, ValueError) as error:
        log(f"error: {_with_options(str(error))}")
    return USER_ERROR


def _with_options(message: str) -> str:
    """Replace parameters of the estimator in a message by options of the program."""
    from ._options import PARAMETERS

    for name in PARAMETERS:
        option = f"--{name.replace('_', '-')}"
        message = message.replace(
            f"The '{name}' parameter of MixMateClustering", option
        )
        message = re.sub(rf"\b{name}=", f"{option} ", message)
    scaler = "with sklearn.preprocessing.StandardScaler"
    return message.replace(scaler, "by --standardize")


@contextlib.contextmanager
def _log_warnings() -> Iterator[None]:
    """Write each warning as one line to standard error."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for warning in caught:
                log(f"warning: {_with_options(str(warning.message))}")


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
    descriptions = {
        "fit": "fit a model to data, and save it",
        "predict": "predict the clusters of rows with a saved model",
        "demo": "compare with KMeans on scikit-learn's digits",
    }
    for name, description in descriptions.items():
        command = commands.add_parser(
            name, help=description, description=description, allow_abbrev=False
        )
        command.add_options = _add_options(name)
    return parser


def _add_options(name: str) -> Callable[[_Parser], None]:
    """Return a function that adds the options of a command, and what it runs."""

    def add_options(command: _Parser) -> None:
        from . import _commands, _options

        if name == "fit":
            _options.add_fit_options(command)
        elif name == "predict":
            _options.add_predict_options(command)
        command.set_defaults(run=getattr(_commands, name))

    return add_options
