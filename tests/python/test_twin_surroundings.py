"""python -m libdetect where little works, beside the tool detect: no streams, no memory, no disk, no home, Ctrl-C.

Each time the two end alike, with the same one line or none, and never with a traceback. Environment: DETECT_CLI, the
tool. Needs the built library.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from test_binding import MISSING, model_file
from test_twin import ROOT, TOOL, ppm

sys.path.insert(0, str(ROOT / "tests" / "support"))
from ordinary_user import as_ordinary_user

DONE, PICTURES, USAGE, NO_MODEL = 0, 1, 2, 3
MIB = 1 << 20
COMMANDS = [[TOOL], [sys.executable, "-m", "libdetect"]]


@unittest.skipIf(MISSING or not TOOL, MISSING or "DETECT_CLI is not set")
class Surroundings(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="test_twin."))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model, cls.picture = cls.folder / "model", cls.folder / "a.ppm"
        cls.model.write_bytes(model_file(input=[96, 64]))
        cls.picture.write_bytes(ppm(1, 60, 40))

    def environment(self, more: Optional[Dict[str, str]] = None) -> Dict[str, str]:
        found = {**os.environ, "LIBDETECT_MODEL": str(self.model), "PYTHONPATH": str(ROOT / "bindings" / "python")}
        return {**found, **(more or {})}

    def call(
        self, command: Sequence[str], *arguments: Any, limits: Sequence[Tuple[int, int]] = (),
        setup: Callable[[], Any] = lambda: None, env: Optional[Dict[str, str]] = None, stdout: Any = subprocess.PIPE,
    ) -> Any:  # fmt: skip
        def prepare() -> None:
            for kind, value in limits:
                resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
            setup()

        return subprocess.run([*command, *map(str, arguments)], env=self.environment(env), preexec_fn=prepare,
                              stdout=stdout, stderr=subprocess.PIPE, timeout=300)  # fmt: skip

    def alike(self, code: int, *arguments: Any, **surroundings: Any) -> str:
        """Both end with `code` and say the same, but for their names in front; returns what that is."""
        said = []
        for command in COMMANDS:
            done = self.call(command, *arguments, **surroundings)
            self.assertEqual(done.returncode, code, done.stderr)
            said.append([line.partition(": ")[2] for line in done.stderr.decode().splitlines()])
        self.assertEqual(*said)
        return "\n".join(said[0])

    def objects(self, done: Any) -> List[Any]:
        return [json.loads(line)["objects"] for line in done.stdout.splitlines()]

    # ---------------------------------------------------------------------------------------------------- streams

    def test_closed_streams(self) -> None:
        for closed in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)):
            def setup(closed: Sequence[int] = closed) -> None:
                for number in closed:
                    os.close(number)

            with self.subTest(closed=closed):
                said = self.alike(PICTURES if 1 in closed else DONE, self.picture, setup=setup)
                heard = 1 in closed and 2 not in closed
                self.assertEqual(said, "standard output: Bad file descriptor" if heard else "")
        for arguments in (["--help"], ["--version"], ["models"], ["info"]):
            with self.subTest(arguments):
                said = self.alike(PICTURES, *arguments, setup=lambda: os.close(1))
                self.assertEqual(said, "standard output: Bad file descriptor")
        said = self.alike(PICTURES, self.folder / "missing.ppm", setup=lambda: os.close(2))
        self.assertEqual(said, "")

    def test_streams_that_cannot_be_written(self) -> None:
        with open("/dev/full", "wb") as full:
            self.assertEqual(self.alike(PICTURES, "--json", self.picture, stdout=full),
                             "standard output: No space left on device")
            said = self.alike(PICTURES, self.folder / "missing.ppm", setup=lambda: os.dup2(full.fileno(), 2))
            self.assertEqual(said, "")
        read, write = os.pipe()
        os.close(read)
        self.addCleanup(os.close, write)
        self.assertEqual(self.alike(PICTURES, "--json", self.picture, stdout=write), "standard output: Broken pipe")

    # ---------------------------------------------------------------------------------------------------- signals

    def interrupt(self, command: Sequence[str], ignored: bool = False) -> Tuple[int, bytes]:
        """Ctrl-C while a picture is awaited that does not come until then."""
        pipe = self.folder / "pipe.ppm"
        os.mkfifo(pipe)
        self.addCleanup(pipe.unlink)

        def setup() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.SIG_DFL)

        started = subprocess.Popen([*command, self.picture, pipe], env=self.environment(), preexec_fn=setup,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        assert started.stdout is not None
        started.stdout.read(1)  # the first picture is done
        with open(pipe, "wb") as file:
            started.send_signal(signal.SIGINT)
            if ignored:
                file.write(ppm(2, 50, 40))
        said = started.communicate(timeout=300)[1]
        self.doCleanups()
        return started.returncode, said

    def test_interrupted(self) -> None:
        for command in COMMANDS:
            self.assertEqual(self.interrupt(command), (-signal.SIGINT, b""), command)

    def test_interrupts_that_are_ignored(self) -> None:
        for command in COMMANDS:
            self.assertEqual(self.interrupt(command, ignored=True), (DONE, b""), command)

    # ----------------------------------------------------------------------------------------------------- limits

    def test_memory_limit(self) -> None:
        """From what hardly starts an interpreter to what is enough: a result, or one line."""
        twin, outcomes = COMMANDS[1], set()
        expected = self.objects(self.call(twin, "--json", self.picture))
        for mib in (48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024):
            done = self.call(twin, "--json", "--threads", "2", self.picture, limits=[(resource.RLIMIT_AS, mib * MIB)])
            with self.subTest(mib=mib):
                self.assertIn(done.returncode, (DONE, PICTURES, NO_MODEL), done.stderr)
                if done.returncode == DONE:
                    self.assertEqual((self.objects(done), done.stderr), (expected, b""))
                else:
                    self.assertEqual(done.stdout, b"")
                    self.assertRegex(done.stderr, rb"^libdetect: [^\n]+\n$")
            outcomes.add(done.returncode)
        self.assertLessEqual({DONE, NO_MODEL}, outcomes)

    def test_full_disk(self) -> None:
        """A limit of a file's size stands for a disk that is full; the drawing is whole or not there."""
        out = self.folder / "out"
        for n in (0, 1, 100):
            with self.subTest(n=n):
                said = self.alike(PICTURES, "--draw", out, self.picture, limits=[(resource.RLIMIT_FSIZE, n)])
                self.assertEqual(said, f"{out}/a.png: cannot write: File too large")
                self.assertEqual(list(out.iterdir()), [])

    # ------------------------------------------------------------------------------------------------ environment

    def test_home_and_working_directory(self) -> None:
        home, nowhere = self.folder / "home", self.folder / "nowhere"
        home.mkdir()
        self.alike(DONE, self.picture, env={"HOME": str(home), "TMPDIR": "/none", "XDG_CACHE_HOME": "/none"})
        self.assertEqual(list(home.iterdir()), [])
        home.chmod(0o500)
        self.alike(DONE, self.picture, env={"HOME": str(home)}, setup=as_ordinary_user)

        def lose_directory() -> None:
            nowhere.mkdir()
            os.chdir(nowhere)
            nowhere.rmdir()

        self.alike(DONE, self.picture, setup=lose_directory)

    @unittest.skipIf(shutil.which("localedef") is None, "there is no localedef to make a locale with")
    def test_german(self) -> None:
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", self.folder / "de_DE.UTF-8"], check=True)
        env = {"LOCPATH": str(self.folder), "LC_ALL": "de_DE.UTF-8"}
        point = "import locale; locale.setlocale(locale.LC_ALL, ''); print(locale.localeconv()['decimal_point'])"
        self.assertEqual(self.call([sys.executable, "-c", point], env=env).stdout, b",\n")
        for command in COMMANDS:
            expected = self.objects(self.call(command, "--json", self.picture))
            self.assertEqual(self.objects(self.call(command, "--json", "--score", "0.5", self.picture, env=env)), expected)


if __name__ == "__main__":
    unittest.main()
