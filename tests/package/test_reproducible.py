"""The same source gives the same bytes wherever and whenever it is built.

Builds the source a second time, with the first build's flags, in a folder of another name and depth and outside the source,
and compares library, archive, tools and Debian packages with the first's. Then the wheel, twice. Not the CUDA module: nvcc names
kernels after the folder that their source lies in, and temporary files after its process.

Environment: DET_BUILD, the first build.
"""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["DET_BUILD"])
CACHE = (BUILD / "CMakeCache.txt").read_text()
PARTS = ("CMakeLists.txt", "CHANGELOG.md", "LICENSE", "README.md", "bindings/python", "cmake", "examples", "include", "lib", "kernels",
         "models", "packaging")  # fmt: skip
# Of the first build: what decides over the bytes.
SETTINGS = (r"CMAKE_(BUILD_TYPE|INSTALL_\w+|CX*_(COMPILER|FLAGS\w*))|DET_(CU\w+|NVCC|BUNDLED_MODEL|BUILD_STATIC)|DNNL_\w+|"
            r"CPACK_PACKAGE_CONTACT")  # fmt: skip
TARGETS = ("detect_lib", "detect_archive", "detect", "detect-bench", "detect-server")
# No ccache: it would hand the first build's objects to the second.
ENVIRONMENT = {**os.environ, "CCACHE_DISABLE": "1", "SOURCE_DATE_EPOCH": "1700000000"}


def run(*command, **keywords):
    done = subprocess.run(list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=keywords.pop("env", ENVIRONMENT), **keywords)  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{' '.join(map(os.fspath, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout


def copy_source(folder):
    for part in PARTS:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        else:
            shutil.copy(ROOT / part, target)
    return folder


def build_again(source, build):
    """What BUILD was built from and with, elsewhere."""
    settings = re.findall(rf"^((?:{SETTINGS}):\w+=.*)$", CACHE, re.M)
    revision = re.search('"(.*)"', (BUILD / "generated" / "revision.h").read_text())[1]
    run("cmake", "-S", source, "-B", build, "-G", "Ninja", "-DDET_BUILD_TESTS=OFF", f"-DDET_REVISION={revision}",
        *(f"-D{setting[0]}" for setting in settings))  # fmt: skip
    known = run("ninja", "-C", build, "-t", "targets", "all")
    run("cmake", "--build", build, "--target", *(name for name in TARGETS if re.search(rf"^{name}: ", known, re.M)))
    return build


def pack(build, folder):
    """Its Debian packages, but for the CUDA module's."""
    run("cpack", "--config", build / "CPackConfig.cmake", "-G", "DEB", "-B", folder, "-D", "CPACK_COMPONENTS_ALL=runtime;tools;dev")
    return folder


class Reproducible(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test_reproducible."))
        self.addCleanup(shutil.rmtree, self.folder)

    def compare(self, first, second, *patterns):
        """Files of two folders."""
        for pattern in patterns:
            names = [path.name for path in first.glob(pattern) if path.is_file() and not path.is_symlink()]
            self.assertTrue(names, pattern)
            for name in names:
                self.assertTrue(filecmp.cmp(first / name, second / name, shallow=False), f"{name} differs (is {first} up to date?)")

    @unittest.skipUnless("CMAKE_BUILD_TYPE:STRING=Release" in CACHE, "other builds name their folders, for debuggers")
    def test_build(self):
        source = copy_source(self.folder / "somewhere else" / "deeper")
        second = build_again(source, self.folder / "built")
        built = [name for name in ("libdetect.a", "detect", "detect-bench", "detect-server") if (BUILD / name).exists()]
        self.compare(BUILD, second, "libdetect.so.*.*.*", *built)
        if shutil.which("dpkg-shlibdeps"):
            self.compare(pack(BUILD, self.folder / "first"), pack(second, self.folder / "second"), "*.deb")

    def test_wheel(self):
        tools = self.folder / "tools"
        run(sys.executable, "-m", "venv", tools)
        install = [tools / "bin" / "pip", "install", "-q", "--retries", "0", "setuptools>=70.1"]
        fetched = subprocess.run(install, stderr=subprocess.DEVNULL)
        if fetched.returncode:
            self.skipTest("PyPI cannot be reached")
        # The optimizer has been compared with itself above: without it the two take seconds.
        launcher = self.folder / "launcher"
        launcher.write_text('#!/bin/sh\nexec "$@" -O0\n')
        launcher.chmod(0o755)
        environment = {**ENVIRONMENT, "CMAKE_ARGS": f"-DDET_CUDA=OFF -DCMAKE_C_COMPILER_LAUNCHER={launcher}"}
        wheels = []
        for name in ("a", "somewhere else/deeper"):
            source = copy_source(self.folder / name)
            wheels.append(source / "wheel")
            run(tools / "bin" / "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", wheels[-1],
                source / "bindings" / "python", env=environment)  # fmt: skip
        self.compare(*wheels, "*.whl")


if __name__ == "__main__":
    unittest.main()
