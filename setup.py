"""Builds the native CPU kernels; without a C compiler the installation goes on without them."""

import os
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("ftwt/runtime/native/src")
# CFLAGS of the caller go first, so an optimisation of ours would win over theirs.
OPTIMIZE = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]

setup(
    ext_modules=[
        Extension(
            "ftwt.runtime.native._kernels",
            sources=sorted(str(path) for path in SOURCES.glob("*.c")),
            depends=sorted(str(path) for path in SOURCES.glob("*.h")),
            extra_compile_args=[*OPTIMIZE, "-std=gnu11", "-fno-math-errno", "-Wno-psabi"],
            libraries=["dl", "m"],
            optional=True,
        )
    ]
)
