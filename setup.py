"""Lists the packages and builds the native CPU kernels.

Without a C compiler the installation goes on without the kernels. Two variables are for those who
want to know better: FTWT_REQUIRE_NATIVE=1 makes a failure of the compiler one of the installation,
FTWT_WERROR=1 takes warnings for failures (a compiler newer than the sources may have new ones).
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("ftwt/runtime/native/src")
# CFLAGS of the caller go first, so an optimisation of ours would win over theirs.
OPTIMIZE = [] if "-O" in os.environ.get("CFLAGS", "") else ["-O3", "-g0"]
WARN = ["-Wall", "-Wextra", "-Wno-psabi", *(["-Werror"] if os.environ.get("FTWT_WERROR") else [])]


class BuildLibrary(build_ext):
    """Names the library as what it is: plain C, for any version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """The path of an extension's file, from its dotted name."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))


class Wheel(bdist_wheel):
    """Tags the wheel with the platform alone."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform."""
        return "py3", "none", super().get_tag()[2]


setup(
    # The folder cli is installed under a name that nobody else has.
    packages=[*find_packages(include=["ftwt", "ftwt.*"]), "ftwt_cli"],
    package_dir={"ftwt": "ftwt", "ftwt_cli": "cli"},
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            "ftwt.runtime.native._kernels",
            sources=sorted(str(path) for path in SOURCES.glob("*.c")),
            depends=sorted(str(path) for path in SOURCES.glob("*.h")),
            extra_compile_args=[*OPTIMIZE, *WARN, "-std=gnu11", "-fno-math-errno"],
            libraries=["dl", "m"],
            optional=not os.environ.get("FTWT_REQUIRE_NATIVE"),
        )
    ],
)
