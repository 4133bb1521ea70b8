"""The size of classes and modules, and the names that are not used any more."""

import ast
from pathlib import Path

import pytest

import skmixmate

PACKAGE = Path(skmixmate.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_METHODS, MOST_LINES, MOST_CODE_LINES = 20, 500, 250


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
