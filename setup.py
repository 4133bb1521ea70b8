"""What setup.cfg can't express: libraries that are built where they can be."""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class BuildLibraries(build_ext):
    """Builds libraries that ctypes loads, and which know no version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return a file name without the tag of this version of Python."""
        return f"{Path(*fullname.split('.'))}.so"

    def build_extension(self, ext: Extension) -> None:
        """Compile a library, or leave none: not one of an earlier build either."""
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        super().build_extension(ext)

    def copy_extensions_to_source(self) -> None:
        """Copy the libraries to an editable installation, and remove earlier ones."""
        for extension in self.extensions:
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        super().copy_extensions_to_source()

    def run(self) -> None:
        """Compile, and remove libraries from the distribution that failed to."""
        super().run()
        self.distribution.ext_modules = [
            extension
            for extension in self.extensions
            if Path(self.get_ext_fullpath(extension.name)).exists()
        ]


class PlatformWheel(bdist_wheel):
    """Wheels for all versions of Python; with libraries, for one platform."""

    def run_command(self, command: str) -> None:
        """Run a command; after the build it is known whether there are libraries."""
        super().run_command(command)
        if command == "build":
            self.root_is_pure = not self.distribution.has_ext_modules()

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags of Python, of its ABI, and of the platform."""
        *_, platform_tag = super().get_tag()
        return "py3", "none", platform_tag


# The encoder's layers, products with sparse rows, and wavelet scattering, in vectors of
# the processor. Without them, or without a C compiler, torch and scipy do what they do.
threads = "skmixmate/utils/threads.h"
encoder = "skmixmate/model/native/"
layers = Extension(
    "skmixmate.model.native._kernels",
    [encoder + "kernels.c"],
    depends=[threads, encoder + "tiles.h", encoder + "incomplete.h"],
    extra_compile_args=["-O3"],
    optional=True,
)
products = Extension(
    "skmixmate.data.native._products",
    ["skmixmate/data/native/products.c"],
    depends=[threads],
    extra_compile_args=["-O3"],
    optional=True,
)
scattering = Extension(
    "skmixmate.image.native._scattering",
    ["skmixmate/image/native/scattering.c"],
    depends=[threads],
    # No error number for the root of a negative one: it would need a call for each.
    extra_compile_args=["-O3", "-fno-math-errno", "-Wno-psabi"],
    optional=True,
)

is_supported = platform.system() == "Linux" and platform.machine() in (
    "x86_64",
    "aarch64",
)
setup(
    ext_modules=[layers, products, scattering] if is_supported else [],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
    license_expression="BSD-3-Clause",  # for which setup.cfg has no key
)
