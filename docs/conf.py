"""Configure Sphinx; build with ``python -m sphinx -W docs docs/_build/html``."""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tables
from docutils import nodes

import skmixmate

project = "skmixmate"
author = "the skmixmate developers"
copyright = author
version = release = skmixmate.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_tables", "gallery/GALLERY_HEADER.rst"]
# The examples create the plots; a warning of the package fails the build.
warnings.filterwarnings("error", module=r"skmixmate")

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings are more precise
numpydoc_show_class_members = False
# All checks of numpydoc except four: a docstring may be a single line, See Also
# and Examples are optional, and returned values have names, as in scikit-learn.
numpydoc_validation_checks = {"all", "ES01", "EX01", "RT02", "SA01"}
# The last one returns a generator, of which numpydoc takes only "Yields" functions.
numpydoc_validation_exclude = {r"\._", r"\.predict_batches$"}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(^|/)(digits|make_people)\.py",
    "abort_on_example_error": True,
    "capture_repr": (),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "plot_gallery": True,
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skmixmate",),
}

html_theme = "pydata_sphinx_theme"
html_title = "skmixmate"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 4,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
html_sidebars = {"*": []}  # top-level pages have no section navigation

tables.write(Path(__file__).parent / "_tables")

# Pages of other packages, by the start of a name: inventories would need a network.
PAGES = {
    "joblib.": "https://joblib.readthedocs.io/en/stable/generated/{}.html",
    "matplotlib.": "https://matplotlib.org/stable/api/_as_gen/{}.html",
    "scipy.": "https://docs.scipy.org/doc/scipy/reference/generated/{}.html",
    "sklearn.": "https://scikit-learn.org/stable/modules/generated/{}.html",
}
nitpicky = True  # any other name that is not found is an error
# Attributes that are properties, which numpydoc takes for pages of their own.
nitpick_ignore = [("py:obj", "n_clusters_"), ("py:obj", "linkage_")]


def link_to_page(app, env, node, contnode):
    """Link a name of another package to its page."""
    target = node["reftarget"]
    for start, page in PAGES.items():
        if target.startswith(start):
            reference = nodes.reference("", "", refuri=page.format(target))
            reference += contnode
            return reference
    return None


def setup(app):
    """Connect the function above."""
    app.connect("missing-reference", link_to_page)
