"""The size of classes and modules, and the names that are not used any more."""

import ast
from pathlib import Path

import pytest

import skmixmate

PACKAGE = Path(skmixmate.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_METHODS, MOST_LINES, MOST_CODE_LINES = 20, 500, 250

# Names of an earlier vocabulary, for which the field has terms.
RETIRED = """
unexplained moved_intercepts counting_posterior take_all_rows keeps_to_device
encode_and_gain shrink_backward_ needs_points mean_value _Adapted soften log_base
judged _ANCHOR_PERIOD owners brightness _MANNERS _START _STREAM _TRIAL_HASTE
_NEARLY_FULL fullness _take_over _as_start has_begun goes_on _has_shapes
_leaves_rates_open _has_rates _in_pixels _answers reblocked placed_codes own_codes
drawn_generator first_weights Processes Exchange find_processes _reaching _meet
new_threads_waiting_their_turn written_whole written_state check_destination
CapturedStep recorder without_units as_natural arranged _DAMAGES _MALFORMED
_Unreadable opinions _N_HEARD how_much _MISTAKE _say _int_or_word is_mapped joined
"""


def name_of(path):
    return str(path.relative_to(PACKAGE))


def classes(path):
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def functions(node):
    return [item for item in node.body if isinstance(item, ast.FunctionDef)]


def docstring_lines(node):
    """Lines of the docstrings of a class and its methods."""
    count = 0
    for item in [node, *functions(node)]:
        first = item.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            count += first.end_lineno - first.lineno + 1
    return count


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_classes_have_few_methods(path):
    counts = {node.name: len(functions(node)) for node in classes(path)}
    assert max(counts.values(), default=0) <= MOST_METHODS, counts


def test_the_estimator_is_short_without_its_documentation():
    path = PACKAGE / "estimators" / "_mixmate.py"
    (node,) = (node for node in classes(path) if node.name == "MixMateClustering")
    n_lines = node.end_lineno - node.lineno + 1 - docstring_lines(node)
    assert n_lines <= MOST_CODE_LINES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_annotated(path):
    tree = ast.parse(path.read_text())
    bare = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        if any(
            argument.annotation is None
            for argument in [
                *node.args.posonlyargs,
                *node.args.args,
                *node.args.kwonlyargs,
            ]
            if argument.arg not in ("self", "cls")
        )
    ]
    assert not bare


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_retired_names_are_not_used(path):
    names = {
        getattr(node, field)
        for node in ast.walk(ast.parse(path.read_text()))
        for field in ("id", "attr", "name", "arg")
        if isinstance(getattr(node, field, None), str)
    }
    assert not names.intersection(RETIRED.split())
