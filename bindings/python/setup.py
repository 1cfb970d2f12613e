"""Builds the C library with CMake and puts it into the wheel. Everything else is in pyproject.toml.

The C sources are those of the checkout around this folder; a source distribution carries them in `native`.
CMAKE_ARGS in the environment goes to CMake.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
CARRIED = HERE / "native"
SOURCE = CARRIED if CARRIED.exists() else HERE.parent.parent
PARTS = ("CMakeLists.txt", "CHANGELOG.md", "LICENSE", "README.md", "REVISION", "cmake", "include", "lib", "kernels", "models")


class BuildWithLibrary(build_py):
    def run(self):
        shutil.rmtree(self.build_lib, ignore_errors=True)  # a file that has gone from the package stays out of the wheel
        super().run()
        package, build = Path(self.build_lib) / "libdetect", Path(self.build_lib).resolve().parent / "native"
        options = ["-DDET_BUILD_TESTS=OFF", "-DDET_BUILD_EXAMPLES=OFF", "-DDET_BUILD_STATIC=OFF"]
        options += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        (build / "CMakeCache.txt").unlink(missing_ok=True)  # it names the ninja of an environment that pip has removed
        subprocess.run(["cmake", "-S", SOURCE, "-B", build, "-G", "Ninja", *options], check=True)
        subprocess.run(["cmake", "--build", build], check=True)
        prefix = build / "installed"
        for component in ("runtime", "cuda"):
            install = ["cmake", "--install", build, "--prefix", prefix, "--strip", "--component", component]
            subprocess.run(install, check=True)
        for library in prefix.glob("**/libdetect*.so.0"):
            shutil.copy(library, package)  # not the link but what it leads to
        for model in SOURCE.glob("models/*.safetensors"):
            (package / "models").mkdir(exist_ok=True)
            shutil.copy(model, package / "models")


class CarrySources(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for part in PARTS:
            source, target = SOURCE / part, Path(base_dir) / "native" / part
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copy(source, target)
        # As cmake/revision.cmake: of the source's own repository alone.
        if (SOURCE / ".git").exists() and shutil.which("git"):
            git = ["git", "-C", SOURCE, "describe", "--always", "--dirty", "--tags"]
            revision = subprocess.run(git, stdout=subprocess.PIPE, text=True).stdout.strip()
            (Path(base_dir) / "native" / "REVISION").write_text((revision or "no revision") + "\n")


class AnyPython(bdist_wheel):
    """ctypes needs no version of Python's; the library needs this platform."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


setup(
    options={} if CARRIED.exists() else {"build": {"build_base": str(SOURCE / "build" / "python")}},
    distclass=WithLibrary,
    cmdclass={"build_py": BuildWithLibrary, "sdist": CarrySources, "bdist_wheel": AnyPython},
)
