"""Build the extension modules. Switches, by environment:

PANGATE_DEBUG=1     no optimisation, debug symbols, assertions on
PANGATE_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer
PANGATE_COVERAGE=1  Cython line tracing, for coverage
"""

import os
import sys
from copy import copy
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


def on(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


cores = os.cpu_count() or 1
debug, sanitize, coverage = on("PANGATE_DEBUG"), on("PANGATE_SANITIZE"), on("PANGATE_COVERAGE")

compile_args = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fvisibility=hidden"]
link_args: list[str] = []
macros: list[tuple[str, str | None]] = []
if debug or sanitize:
    compile_args += ["-O1", "-g", "-UNDEBUG"]
else:
    compile_args += ["-O3", "-g0"]
if sanitize:
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    compile_args += flags
    link_args += flags
if coverage:
    macros.append(("CYTHON_TRACE_NOGIL", "1"))

headers = glob("ext/pangate/*.h") + glob("ext/pangate/*.pxd")
CELLS = ("cell", "names", "scan", "scan_json")


def extension(name: str, *kernels: str) -> Extension:
    """A module with the C files that it calls, which are compiled for each anew."""
    return Extension(
        f"pangate.{name}",
        [f"ext/pangate/{name}.pyx", *(f"ext/pangate/{kernel}.c" for kernel in kernels)],
        depends=headers,
        include_dirs=["ext/pangate"],
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )


class BuildApart(build_ext):
    """Modules are built at the same time: each has its own objects of the C files that several have,
    or one would link what another just writes."""

    def build_extension(self, ext: Extension) -> None:
        apart = copy(self)
        apart.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(apart, ext)


setup(
    cmdclass={"build_ext": BuildApart},
    ext_modules=cythonize(
        [
            extension("_scan", "scan", "scan_json", "scan_stream"),
            extension("_frame", *CELLS, "cell_stream", "copy", "copy_stream"),
            extension("_text", "text"),
            extension("_shape"),
            extension("_leaf", *CELLS, "crc"),
            extension("_again"),
            extension("_book"),
            extension("_wire"),
            extension("_tls"),
            extension("_pump"),
            extension("_gather"),
        ],
        include_path=["ext"],
        build_dir="build/cython",
        nthreads=cores if sys.platform == "linux" else 0,  # elsewhere it would run this file again
        annotate=debug,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "linetrace": coverage,
        },
    ),
    options={"build_ext": {"parallel": cores}},
)
