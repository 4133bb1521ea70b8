"""Settings of Sphinx; build with ``python -m sphinx -W docs docs/_build``."""

import skmixmate

project = "skmixmate"
author = "the skmixmate developers"
version = release = skmixmate.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
numpydoc_show_class_members = False
exclude_patterns = ["_build"]
