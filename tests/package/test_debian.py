"""Packs the build for Debian, and looks at the packages as Debian does.

Environment: DET_BUILD, the build folder; DET_WITH_CUDA, 1 where it has the CUDA module; DET_TEST_MODEL, a model file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from running import run

BUILD = Path(os.environ["DET_BUILD"])
WITH_CUDA = os.environ["DET_WITH_CUDA"] == "1"
TOOLS = ("cpack", "dpkg-deb", "dpkg-shlibdeps", "file", "gzip")
# CPack's own calls of ldconfig; and pkg-config files lie in lib where CMake's prefix is not /usr (scripts/package).
ALLOWED = ("maintscript-calls-ldconfig", "pkg-config-unavailable-for-cross-compilation")


class Packages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_debian."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run("cpack", "--config", BUILD / "CPackConfig.cmake", "-G", "DEB", "-B", cls.folder)
        cls.packages = {path.name.split("_")[0]: path for path in cls.folder.glob("*.deb")}

    def field(self, package, name):
        return run("dpkg-deb", "-f", self.packages[package], name).strip()

    def test_fields(self):
        cuda = ["libdetect-cuda0"] if WITH_CUDA else []
        self.assertEqual(sorted(self.packages), [*cuda, "libdetect-dev", "libdetect-tools", "libdetect0"])
        version = self.field("libdetect0", "Version")
        self.assertRegex(self.field("libdetect0", "Depends"), r"libdnnl\d")
        self.assertIn(f"libdetect0 (= {version})", self.field("libdetect-tools", "Depends"))
        self.assertRegex(self.field("libdetect-tools", "Depends"), r"libpng16")
        self.assertIn(f"libdetect0 (= {version})", self.field("libdetect-dev", "Depends"))

    def unpack(self, *packages):
        root = Path(tempfile.mkdtemp(dir=self.folder))
        for package in packages:
            run("dpkg-deb", "-x", self.packages[package], root)
        return root

    @unittest.skipUnless(WITH_CUDA, "built without CUDA")
    def test_module(self):
        """In a package of its own, which goes with the library's and needs of NVIDIA's what it cannot do without."""
        others = self.unpack(*(set(self.packages) - {"libdetect-cuda0"}))
        self.assertEqual(list(others.glob("**/*cuda*")), [])
        self.assertEqual(self.field("libdetect-cuda0", "Depends"), f"libdetect0 (= {self.field('libdetect0', 'Version')})")
        root = self.unpack("libdetect-cuda0")
        module = next(root.glob("usr/lib/**/libdetect_cuda.so.0"))
        self.assertEqual(module.parent.relative_to(root), next(others.glob("usr/lib/**/libdetect.so.0")).parent.relative_to(others))
        needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", module))
        self.assertEqual({re.split(r"\.so|-linux", name)[0] for name in needed} - {"libc", "libm", "libgcc_s", "libstdc++", "ld"},
                         {"libcudnn", "libcublasLt"})  # fmt: skip
        nvidia = re.findall(r"^DET_CU\w+_LIBRARY:\w+=(.*)/", (BUILD / "CMakeCache.txt").read_text(), re.M)
        run(sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", module,
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(nvidia)})  # fmt: skip

    def test_unpacked_tool_runs(self):
        root = self.unpack(*self.packages)
        library = next(root.glob("usr/lib/**/libdetect.so.0"))
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}
        described = run(root / "usr/bin/detect", "info", os.environ["DET_TEST_MODEL"], env=environment)
        self.assertIn("damofd", described)
        for program in (root / "usr/bin").iterdir():
            self.assertNotRegex(run("readelf", "-d", program), r"R(UN)?PATH")
        self.assertTrue((root / "usr/include/libdetect/detect.h").exists())
        self.assertTrue((root / "usr/share/man/man1/detect.1.gz").exists())

    def test_lintian(self):
        if not shutil.which("lintian"):
            self.skipTest("lintian is not installed")
        done = subprocess.run(["lintian", "--allow-root", *map(str, self.packages.values())], stdout=subprocess.PIPE, text=True)
        # Not the CUDA module's: its libraries come from NVIDIA's packages or folders, which Debian's rules do not know.
        complaints = [line for line in done.stdout.splitlines()
                      if "libdetect-cuda" not in line and not any(tag in line for tag in ALLOWED)]  # fmt: skip
        self.assertEqual(complaints, [])


if __name__ == "__main__":
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        print("SKIP: not installed:", *missing)
        sys.exit(77)
    unittest.main()
