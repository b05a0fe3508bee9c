"""Builds phi3._phi3 by calling CMake: configure, build, install the component `python`.

How to build is written in CMakeLists.txt. The environment may choose: PHI3_CUDA=on|off (auto: the
CUDA backend is built where nvcc and cuBLAS are found) and CMAKE_ARGS, for anything else.
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        # Fresh: pip's isolated environment with CMake, Ninja and oneDNN is another each time.
        cmake(
            *["--fresh", "-S", ROOT, "-B", self.build_temp, "-G", "Ninja"],
            *["-DPHI3_PYTHON=ON", "-DPHI3_TESTS=OFF"],
            f"-DPHI3_PYTHON_EXECUTABLE={sys.executable}",
            f"-DPHI3_CUDA={os.environ.get('PHI3_CUDA', 'auto')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        )
        cmake("--build", self.build_temp, "--target", "phi3_python")
        self.install(ext)

    def install(self, ext: Extension) -> None:
        """Puts the module and the libraries that go with it into the package."""
        package = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        cmake("--install", self.build_temp, "--component", "python", "--prefix", package, "--strip")

    def copy_extensions_to_source(self) -> None:
        """What an editable install calls in place of the installation into a wheel."""
        for ext in self.extensions:
            self.install(ext)


def cmake(*arguments: object) -> None:
    subprocess.run(["cmake", *map(str, arguments)], check=True)


setup(
    ext_modules=[Extension("phi3._phi3", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": CMakeBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
