"""Settings of Sphinx; build with ``python -m sphinx -W docs docs/_build``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tables

import skmixmate

project = "skmixmate"
author = "the skmixmate developers"
version = release = skmixmate.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
numpydoc_show_class_members = False
exclude_patterns = ["_build", "_tables"]

tables.write(Path(__file__).parent / "_tables")
