"""What setup.cfg can't say: an extension that is built where it can be."""

import platform

from setuptools import Extension, setup

# The encoder's layers, in vectors of Intel's and AMD's processors. Without them, or
# without a C compiler, torch does what they do.
layers = Extension(
    "skmixmate.model.native._kernels",
    ["skmixmate/model/native/kernels.c"],
    depends=["skmixmate/model/native/tiles.h"],
    extra_compile_args=["-O3"],
    optional=True,
)

setup(ext_modules=[layers] if platform.machine() == "x86_64" else [])
