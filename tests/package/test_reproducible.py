"""The same source gives the same library, archive, tool and packages twice, in folders of different names and depths.

Environment: CC and CXX; DET_OPTIMIZE, flags for the optimizer: -O1 unless given, for paths and dates are what could differ.
"""

import filecmp
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("CMakeLists.txt", "CHANGELOG.md", "LICENSE", "README.md", "cmake", "examples", "include", "lib", "kernels", "models",
         "packaging")
OPTIMIZE = os.environ.get("DET_OPTIMIZE", "-O1")


def run(*command, **keywords):
    done = subprocess.run(list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(os.fspath, command))}: {done.returncode}\n{done.stdout}")


def build(folder, date):
    """A copy of the source in `folder`, built. No ccache: it would hand the first build's objects to the second."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part)
        elif (ROOT / part).exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, folder)
    environment = {**os.environ, "CCACHE_DISABLE": "1", "SOURCE_DATE_EPOCH": str(date)}
    flags = [f"-DCMAKE_{language}_FLAGS_RELEASE={OPTIMIZE} -g" for language in ("C", "CXX")]
    run("cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", "-DDET_BUILD_TESTS=OFF", "-DDET_REVISION=test",
        "-DDET_CUDA=OFF", *flags, env=environment)
    run("cmake", "--build", folder / "build", env=environment)
    if shutil.which("dpkg-shlibdeps"):
        run("cpack", "-G", "DEB", cwd=folder / "build", env=environment)
    return folder / "build"


class Reproducible(unittest.TestCase):
    def test_two_builds(self):
        folder = Path(tempfile.mkdtemp(prefix="test_reproducible."))
        self.addCleanup(shutil.rmtree, folder)
        first, second = build(folder / "a", 1_700_000_000), build(folder / "somewhere else" / "deeper", 1_700_000_000)
        names = [path.name for pattern in ("libdetect.so.*.*.*", "libdetect.a", "detect", "*.deb") for path in first.glob(pattern)]
        self.assertGreaterEqual(len(names), 3, names)
        for name in names:
            self.assertTrue(filecmp.cmp(first / name, second / name, shallow=False), name)
        for path in first.glob("libdetect.so.*.*.*"):
            self.assertNotIn(os.fsencode(folder), path.read_bytes())


if __name__ == "__main__":
    unittest.main()
