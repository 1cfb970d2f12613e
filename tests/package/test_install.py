"""Installs the build into an empty folder, moves it, and builds programs against it there as a user would.

Environment: DET_BUILD, the build folder; DET_WITH_CUDA and DET_WITH_SERVER, 1 where it has those; DET_TEST_MODEL, a model
file; CC and CXX.
"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from running import run

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["DET_BUILD"])
MODEL = os.environ["DET_TEST_MODEL"]
CC, CXX = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
STATIC = (BUILD / "libdetect.a").exists()
WITH_CUDA, WITH_SERVER = os.environ["DET_WITH_CUDA"] == "1", os.environ["DET_WITH_SERVER"] == "1"
TOOLS = ("detect", "detect-bench", "detect-server") if WITH_SERVER else ("detect", "detect-bench")


def picture(path):
    """A PPM of 160 x 120 with some structure."""
    pixels = bytes(v for y in range(120) for x in range(160) for v in ((x * 5) % 256, (y * 3) % 256, (x * y // 7) % 256))
    path.write_bytes(b"P6 160 120 255\n" + pixels)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_install."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run("cmake", "--install", BUILD, "--prefix", cls.folder / "first")
        cls.prefix = (cls.folder / "first").rename(cls.folder / "moved to")
        cls.library_folder = next(cls.prefix.glob("**/libdetect.so.0")).parent
        cls.picture = cls.folder / "picture.ppm"
        picture(cls.picture)
        cls.empty = cls.folder / "empty"
        cls.empty.mkdir()
        for name in ("minimal.c", "minimal_cxx.cc"):
            shutil.copy(ROOT / "examples" / name, cls.empty)
        cls.environment = {
            **os.environ, "CC": CC, "CXX": CXX,
            "PKG_CONFIG_PATH": str(cls.library_folder / "pkgconfig"), "LD_LIBRARY_PATH": str(cls.library_folder),
        }
        cls.expected = run(BUILD / "minimal", MODEL, cls.picture)
        assert cls.expected.count("class ") > 0, cls.expected

    def flags(self, package):
        """pkg-config's, as a shell splits them."""
        text = run("pkg-config", "--cflags", "--libs", package, env=self.environment)
        return re.sub(r"\\(.)", lambda match: "\0" if match[1] == " " else match[1], text)

    def build(self, compiler, source, package, *options):
        program = self.empty / f"{package}_{Path(source).suffix[1:]}"
        flags = [flag.replace("\0", " ") for flag in self.flags(package).split()]
        run(compiler, *options, source, "-o", program, *flags, cwd=self.empty)
        return program

    def test_what_is_there(self):
        files = {str(path.relative_to(self.prefix)) for path in self.prefix.glob("**/*") if not path.is_dir()}
        for name in ("include/libdetect/detect.h", *(f"bin/{tool}" for tool in TOOLS),
                     *(f"share/man/man1/{tool}.1" for tool in TOOLS),
                     "share/bash-completion/completions/detect", "share/zsh/vendor-completions/_detect",
                     "share/fish/vendor_completions.d/detect.fish", "share/doc/libdetect/LICENSE"):
            self.assertIn(name, files)
        for name in ("libdetect.so", "pkgconfig/libdetect.pc", "cmake/libdetect/libdetect-config.cmake"):
            self.assertTrue((self.library_folder / name).exists(), name)
        self.assertEqual((self.library_folder / "libdetect_cuda.so.0").exists(), WITH_CUDA)
        self.assertEqual(os.readlink(self.library_folder / "libdetect.so"), "libdetect.so.0")
        self.assertIn("Library soname: [libdetect.so.0]", run("readelf", "-d", self.library_folder / "libdetect.so"))

    @unittest.skipUnless("CMAKE_BUILD_TYPE:STRING=Release" in (BUILD / "CMakeCache.txt").read_text(), "not a release")
    def test_nothing_names_the_build(self):
        for path in self.prefix.glob("**/*"):
            if path.is_file():
                data = path.read_bytes()
                for folder in (str(BUILD), str(ROOT), str(self.folder)):
                    self.assertNotIn(folder.encode(), data, path)

    def loading(self, program, *arguments, status=0):
        """What a program prints, and the libraries that the loader opens for it, where nothing tells it where they lie."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "LIBDETECT_"))}
        done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**environment, "LD_DEBUG": "files"})
        self.assertEqual(done.returncode, status, done.stdout)
        return done.stdout, {Path(path).resolve() for path in re.findall(r"calling init: (.*)", done.stdout)}

    def test_tools(self):
        for tool in TOOLS:
            shown, loaded = self.loading(self.prefix / "bin" / tool, "--version")
            self.assertIn("oneDNN", shown, tool)
            self.assertIn((self.library_folder / "libdetect.so.0").resolve(), loaded, tool)

    def test_module_is_looked_for_beside_the_library(self):
        """Also from a tool that found the library by its own place. A file that is none shows where: no GPU is needed."""
        prefix = self.folder / "without module"
        shutil.copytree(self.prefix, prefix, symlinks=True)
        module = prefix / self.library_folder.relative_to(self.prefix) / "libdetect_cuda.so.0"
        module.unlink(missing_ok=True)
        module.write_text("no module")
        shown, _ = self.loading(prefix / "bin" / "detect", "--device", "cuda", "--model", MODEL, self.picture, status=3)
        tried = re.search(r"the CUDA module cannot be opened: (.*libdetect_cuda\.so\.0): ", shown)
        self.assertEqual(Path(tried[1]).resolve(), module, shown)

    def test_pkg_config(self):
        for package in ("libdetect", "libdetect-static") if STATIC else ("libdetect",):
            for compiler, source, standard in ((CC, "minimal.c", "-std=c11"), (CXX, "minimal_cxx.cc", "-std=c++11")):
                with self.subTest(package=package, source=source):
                    program = self.build(compiler, source, package, standard, "-Wall", "-Wextra", "-Werror")
                    self.assertEqual(run(program, MODEL, self.picture, env=self.environment), self.expected)
                    needed = run("readelf", "-d", program)
                    self.assertEqual("libdetect.so.0" in needed, package == "libdetect", needed)

    def test_cmake(self):
        project = self.folder / "project"
        shutil.copytree(Path(__file__).parent / "consumer", project)
        for name in ("minimal.c", "minimal_cxx.cc"):
            shutil.copy(ROOT / "examples" / name, project)
        run("cmake", "-S", project, "-B", project / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}", env=self.environment)
        run("cmake", "--build", project / "build")
        for program in ("c", "cxx"):
            for kind in ("libdetect", "static") if STATIC else ("libdetect",):
                done = run(project / "build" / f"{program}_{kind}", MODEL, self.picture)
                self.assertEqual(done, self.expected, (program, kind))

    def test_copies_do_not_clash(self):
        source = Path(__file__).parent / "clash.c"
        shutil.copy(source, self.empty)
        for package in ("libdetect", "libdetect-static") if STATIC else ("libdetect",):
            flags = [flag.replace("\0", " ") for flag in self.flags(package).split()]
            run(CC, "-std=c11", "-fPIC", "-shared", "-DPLUGIN", "clash.c", "-o", "plugin.so", *flags, cwd=self.empty)
            run(CC, "-std=c11", "-D_GNU_SOURCE", "-rdynamic", "clash.c", "-o", "clash", *flags, "-ldl", cwd=self.empty)
            done = run("./clash", "./plugin.so", MODEL, cwd=self.empty, env=self.environment)
            self.assertRegex(done, r"^(\d+) objects here, \1 in the plugin\n$", package)

    @unittest.skipUnless(STATIC, "libdetect.a was not built")
    def test_static_library_shows_its_api_alone(self):
        shown = re.findall(r"^\S+ [A-TV-Z] (\S+)$", run("nm", self.library_folder / "libdetect.a"), re.M)
        wanted = re.findall(r"^ +(det_\w+);$", (ROOT / "include/libdetect/libdetect.map").read_text(), re.M)
        self.assertEqual(sorted(shown), sorted(wanted))


if __name__ == "__main__":
    unittest.main()
