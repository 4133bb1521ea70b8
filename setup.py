"""What setup.cfg can't say: extensions that are built where they can be."""

import platform

from setuptools import Extension, setup

# The encoder's layers, and products with sparse rows, in vectors of Intel's and AMD's
# processors. Without them, or without a C compiler, torch and scipy do what they do.
layers = Extension(
    "skmixmate.model.native._kernels",
    ["skmixmate/model/native/kernels.c"],
    depends=["skmixmate/model/native/tiles.h"],
    extra_compile_args=["-O3"],
    optional=True,
)
products = Extension(
    "skmixmate.data.native._products",
    ["skmixmate/data/native/products.c"],
    extra_compile_args=["-O3"],
    optional=True,
)

setup(ext_modules=[layers, products] if platform.machine() == "x86_64" else [])
