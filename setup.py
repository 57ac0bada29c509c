"""Lists the packages and builds the native CPU kernels.

Without a C compiler the installation goes on without the kernels.
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

SOURCES = Path("ftwt/runtime/native/src")
# CFLAGS of the caller go first, so an optimisation of ours would win over theirs.
OPTIMIZE = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]

setup(
    # The folder cli is installed under a name that nobody else has.
    packages=[*find_packages(include=["ftwt", "ftwt.*"]), "ftwt_cli"],
    package_dir={"ftwt": "ftwt", "ftwt_cli": "cli"},
    ext_modules=[
        Extension(
            "ftwt.runtime.native._kernels",
            sources=sorted(str(path) for path in SOURCES.glob("*.c")),
            depends=sorted(str(path) for path in SOURCES.glob("*.h")),
            extra_compile_args=[*OPTIMIZE, "-std=gnu11", "-fno-math-errno", "-Wno-psabi"],
            libraries=["dl", "m"],
            optional=True,
        )
    ],
)
