"""Builds libdetect inside a project of somebody else's, with CMake's add_subdirectory.

Environment: DET_TEST_MODEL, a model file; CC and CXX.
"""

import os
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from running import run

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("CMakeLists.txt", "CHANGELOG.md", "LICENSE", "README.md", "cmake", "examples", "include", "lib", "models", "packaging",
         "tests")  # fmt: skip
MODEL = os.environ["DET_TEST_MODEL"]


class Embedded(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_embedded."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.source, cls.host, cls.build = cls.folder / "libdetect", cls.folder / "host", cls.folder / "build"
        shutil.copytree(Path(__file__).parent / "host", cls.host)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            cls.source.mkdir(exist_ok=True)
            copy(ROOT / part, cls.source / part)
        cls.configure(cls.build)
        run("cmake", "--build", cls.build)

    @classmethod
    def configure(cls, build, *options):
        run("cmake", "-S", cls.host, "-B", build, "-G", "Ninja", f"-DLIBDETECT={cls.source}", "-DDET_CUDA=OFF", *options)

    def described(self):
        return run(self.build / "host", MODEL)

    def test_runs(self):
        self.assertRegex(self.described(), r"^libdetect \d+\.\d+\.\d+ \(.+\), .*\ndamofd\n$")

    def test_what_is_the_hosts_remains_so(self):
        cache = (self.build / "CMakeCache.txt").read_text().splitlines()
        self.assertIn("CMAKE_BUILD_TYPE:STRING=", cache)
        for name in ("compile_commands.json", "CPackConfig.cmake", "CTestTestfile.cmake"):
            self.assertFalse((self.build / name).exists(), name)
        commands = run("ninja", "-C", self.build, "-t", "commands", "host")
        of_host = re.search(r"^.* -c \S*/host/main\.c$", commands, re.M)[0]
        self.assertNotRegex(of_host, r" -(O|W|f)\w")

    def test_library_alone(self):
        targets = set(re.findall(r"^([\w-]+): ", run("ninja", "-C", self.build, "-t", "targets", "all"), re.M))
        self.assertLessEqual({"host", "detect_lib", "install"}, targets)
        self.assertEqual(targets & {"test", "package", "uninstall", "detect", "detect-bench", "detect-server", "minimal"}, set())
        programs = {path.name for path in self.build.glob("**/*") if path.is_file() and os.access(path, os.X_OK)}
        self.assertEqual({name for name in programs if not name.startswith(("CMake", "a.out", "libdetect.so"))}, {"host"})

    def test_installed_with_the_host(self):
        prefix = self.folder / "installed"
        run("cmake", "--install", self.build, "--prefix", prefix)
        self.assertEqual([path.name for path in (prefix / "bin").iterdir()], ["host"])
        self.assertTrue(list(prefix.glob("lib*/**/libdetect.so.0")))
        self.assertTrue((prefix / "include" / "libdetect" / "detect.h").exists())
        self.assertEqual([path.name for path in (prefix / "share" / "doc").iterdir()], ["libdetect"])

    def test_the_host_may_choose(self):
        """Its own oneDNN, and that nothing of libdetect is installed."""
        found = re.search(r"^DNNL_LIBRARY:\w+=(.*)$", (self.build / "CMakeCache.txt").read_text(), re.M)[1]
        build = self.folder / "other"
        self.configure(build, f"-DDNNL={found}", "-DHOW=EXCLUDE_FROM_ALL")
        self.assertNotIn("DNNL_LIBRARY", (build / "CMakeCache.txt").read_text())
        includes = 'libdetect/cmake_install.cmake"'
        self.assertIn(includes, (self.build / "cmake_install.cmake").read_text())
        self.assertNotIn(includes, (build / "cmake_install.cmake").read_text())

    @unittest.skipUnless(shutil.which("git"), "git is not installed")
    def test_revision_is_of_the_last_build(self):
        author = {f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        git = ("git", "-C", self.source)
        run(*git, "init", "-q")
        for tag in ("v1", "v2"):
            run(*git, "commit", "-q", "--allow-empty", "-m", tag, env={**os.environ, **author})
            run(*git, "tag", tag)
            run("cmake", "--build", self.build)
            self.assertIn(f"({tag})", self.described())
        self.assertNotIn("Building C", run("cmake", "--build", self.build))


if __name__ == "__main__":
    unittest.main()
