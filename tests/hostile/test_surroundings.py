"""The command-line tool where little works: no GPU, half an installation, no memory, no disk, no home.

Each time one line says what is the matter and the exit status is right; it never ends by a signal.

Environment: DETECT_CLI, DET_LIBRARY, DET_TEST_MODEL; DET_CUDA_MODULE, a module that refuses; DET_NEEDY_MODULE, one that
needs a library besides: DET_NEEDED, or DET_NEEDED_OLD without what is new in it; where they are there, DET_FAULTS, the
preloaded library of tests/faults, and DET_EMULATED_MODULE, the CUDA module on the fake device of tests/emulation.
"""

import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from ordinary_user import as_ordinary_user

CLI, LIBRARY, MODEL = os.environ["DETECT_CLI"], os.environ["DET_LIBRARY"], os.environ["DET_TEST_MODEL"]
CUDA_MODULE, FAULTS = os.environ["DET_CUDA_MODULE"], os.environ.get("DET_FAULTS", "")
EMULATED_MODULE = os.environ.get("DET_EMULATED_MODULE", "")
NEEDY_MODULE, NEEDED, NEEDED_OLD = os.environ["DET_NEEDY_MODULE"], os.environ["DET_NEEDED"], os.environ["DET_NEEDED_OLD"]
DONE, PICTURES, USAGE, NO_MODEL = 0, 1, 2, 3
LOADER = 127  # the system's loader could not start the program
MIB = 1 << 20


def picture_bytes(width=60, height=40):
    return b"P6 %d %d 255\n" % (width, height) + random.Random(1).randbytes(3 * width * height)


class Surroundings(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test_surroundings."))
        self.addCleanup(shutil.rmtree, self.folder)
        self.picture = self.folder / "a.ppm"
        self.picture.write_bytes(picture_bytes())

    def call(self, *arguments, limits=(), setup=None, env=None, cli=CLI):
        def prepare():
            for kind, value in limits:
                resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
            if setup:
                setup()

        environment = {**os.environ, "LIBDETECT_MODEL": MODEL, **(env or {})}
        done = subprocess.run([cli, *map(os.fspath, arguments)], env=environment, timeout=300, preexec_fn=prepare,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode("utf-8", "replace")
        return done

    def expect(self, done, code, message=""):
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), int(code != DONE), done.stderr)

    def objects(self, done):
        """What was found, in the lines of --json, without the times."""
        return [json.loads(line)["objects"] for line in done.stdout.splitlines()]

    # ------------------------------------------------------------------------------------------------------- CUDA

    def installation(self):
        """The tool and the library in a folder of their own, where a module may lie beside them."""
        folder = self.folder / "installed"
        folder.mkdir(exist_ok=True)
        shutil.copy(LIBRARY, folder / "libdetect.so.0")
        return folder, {"LD_LIBRARY_PATH": str(folder)}

    def test_half_an_installation(self):
        folder, env = self.installation()
        module = folder / "libdetect_cuda.so.0"

        def text():
            module.write_text("not a library\n")

        def truncated():
            module.write_bytes(Path(CUDA_MODULE).read_bytes()[:1000])

        def another():
            shutil.copy(LIBRARY, module)  # a good library that is no module

        def needy(library=None):
            shutil.copy(NEEDY_MODULE, module)
            if library:
                shutil.copy(library, folder)

        needed = folder / Path(NEEDED).name
        cases = {
            "missing": (lambda: None, "libdetect_cuda.so.0: cannot open shared object file"),
            "empty": (lambda: module.write_bytes(b""), f"{module}: file too short"),
            "text": (text, f"{module}: "),
            "truncated": (truncated, f"{module}: the file is cut short"),
            "a folder": (module.mkdir, f"{module}: "),
            "a dangling link": (lambda: module.symlink_to("nowhere"), f"{module}: "),
            "another library": (another, "libdetect_cuda.so.0 is not of this version of libdetect"),
            "another version": (lambda: shutil.copy(CUDA_MODULE, module), "libdetect_cuda.so.0 is not of this version of libdetect"),
            "unreadable": (lambda: (text(), module.chmod(0)), f"{module}: "),
            # As it is with cuDNN and cuBLAS.
            "without its library": (needy, f"{needed.name}: cannot open shared object file"),
            "its library too old": (lambda: needy(NEEDED_OLD), "undefined symbol: needed_since_yesterday"),
            "its library unreadable": (lambda: (needy(NEEDED), needed.chmod(0)), f"{needed.name}: cannot open shared object file"),
            "its library good": (lambda: needy(NEEDED), "libdetect_cuda.so.0 is not of this version of libdetect"),
        }  # fmt: skip
        for what, (make, message) in cases.items():
            make()
            with self.subTest(what):
                for device, code in ("cuda", NO_MODEL), ("cpu", DONE), ("auto", DONE):
                    done = self.call("--device", device, self.picture, env=env, setup=as_ordinary_user)
                    self.expect(done, code, message if code != DONE else "")
                env_with_driver = {**env, "LIBDETECT_CUDA_MODULE": str(module)}  # a module by name is tried in any case
                self.expect(self.call(self.picture, env=env_with_driver, setup=as_ordinary_user), DONE)
            if module.is_dir() and not module.is_symlink():
                module.rmdir()
            for path in (module, needed):
                if os.path.lexists(path):
                    path.unlink()

    def test_cudnn_that_does_not_start(self):
        """As it is where one of the libraries that cuDNN consists of is missing."""
        if not EMULATED_MODULE:
            self.skipTest("no CUDA module is built here")
        sublibrary_loading_failed, allocation_failed = 1008, 4003
        for code, auto in (sublibrary_loading_failed, DONE), (allocation_failed, NO_MODEL):
            env = {"LIBDETECT_CUDA_MODULE": EMULATED_MODULE, "DET_FAKE_CUDA_FAIL": f"cudnnCreate:1:{code}"}
            for device, expected in ("cuda", NO_MODEL), ("auto", auto), ("cpu", DONE):
                with self.subTest(code=code, device=device):
                    done = self.call("--device", device, self.picture, env=env)
                    self.expect(done, expected, "cudnnCreate" if expected != DONE else "")

    def test_no_such_gpu(self):
        for device in ("cuda", "cuda:7"):
            done = self.call("--device", device, self.picture)
            if done.returncode == DONE:
                self.skipTest("there is a GPU here")
            self.expect(done, NO_MODEL, "detect: ")

    # ----------------------------------------------------------------------------------------------------- limits

    def test_memory_limit(self):
        """From what starts nothing to what is enough: a result, or one line."""
        expected = self.objects(self.call("--json", self.picture))
        outcomes = set()
        for mib in (8, 24, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 256, 320, 384, 448, 512, 768, 1024, 2048):
            done = self.call("--json", "--threads", "2", self.picture, limits=[(resource.RLIMIT_AS, mib * MIB)])
            with self.subTest(mib=mib):
                self.assertIn(done.returncode, (DONE, PICTURES, NO_MODEL, LOADER) if mib > 24 else range(-64, 128), done.stderr)
                if done.returncode == DONE:
                    self.assertEqual((self.objects(done), done.stderr), (expected, ""))
                elif done.returncode != LOADER and mib > 24:  # below, it is not this program that ends
                    self.assertEqual(done.stdout, "")
                    self.expect(done, done.returncode, "detect: ")
            outcomes.add(done.returncode)
        self.assertLessEqual({DONE, NO_MODEL}, outcomes)

    def test_pictures_that_ask_for_memory(self):
        """A few bytes that claim a gigabyte, and a kilobyte that unpacks to one."""

        def chunk(kind, data, claimed=None):
            return struct.pack(">I", claimed or len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        rest = chunk(b"IDAT", zlib.compress(bytes(8 * 25))) + chunk(b"IEND", b"")
        packer = zlib.compressobj(9)
        packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
        for what, data, code in (
            ("sPLT", start + chunk(b"sPLT", b"", 1 << 30) + rest, PICTURES),
            ("iCCP", start + chunk(b"iCCP", b"x\0\0", 1 << 30) + rest, PICTURES),
            ("zTXt", start + chunk(b"zTXt", b"x\0\0" + packed) + rest, DONE),
            ("iCCP packed", start + chunk(b"iCCP", b"x\0\0" + packed) + rest, DONE),
        ):
            self.picture.with_suffix(".png").write_bytes(data)
            with self.subTest(what):
                started = subprocess.Popen([CLI, "--model", MODEL, self.picture.with_suffix(".png")],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
                _, status, used = os.wait4(started.pid, 0)
                started.returncode = os.waitstatus_to_exitcode(status)
                self.assertEqual(started.returncode, code)
                self.assertLess(used.ru_maxrss, 200 << 10)  # KiB

    def test_small_stack(self):
        done = self.call("--json", "--threads", "4", self.picture, limits=[(resource.RLIMIT_STACK, 128 << 10)])
        self.expect(done, DONE)
        self.assertEqual(self.objects(done), self.objects(self.call("--json", self.picture)))

    def test_few_threads(self):
        """A limit of processes is of a user's, and root has none: the fault comes from tests/faults."""
        if not FAULTS:
            self.skipTest("no faults can be made here")
        for k in (1, 2):
            done = self.call("--threads", "3", self.picture, env={"LD_PRELOAD": FAULTS, "DET_FAULT": f"thread:{k}"})
            self.expect(done, NO_MODEL, f"thread {k + 1} of 3 cannot be started: Resource temporarily unavailable")

    def test_few_open_files(self):
        for n in (3, 4, 5, 6, 8):
            done = self.call(self.picture, limits=[(resource.RLIMIT_NOFILE, n)])
            with self.subTest(n=n):
                self.assertIn(done.returncode, (DONE, PICTURES, NO_MODEL, LOADER), done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), int(done.returncode != DONE), done.stderr)

    def test_full_disk(self):
        """A limit of a file's size stands for a disk that is full; the drawing is whole or not there."""
        out = self.folder / "out"
        for n in (0, 1, 100, 4096):
            done = self.call("--draw", out, self.picture, limits=[(resource.RLIMIT_FSIZE, n)])
            with self.subTest(n=n):
                self.expect(done, PICTURES, "a.png: cannot write: File too large")
                self.assertEqual(list(out.iterdir()), [])
        self.expect(self.call("--draw", out, self.picture, limits=[(resource.RLIMIT_FSIZE, 1 << 20)]), DONE)
        self.assertEqual([path.name for path in out.iterdir()], ["a.png"])

    # ------------------------------------------------------------------------------------------------ environment

    def test_home_and_working_directory(self):
        expected = self.objects(self.call("--json", self.picture))
        home, nowhere = self.folder / "home", self.folder / "nowhere"
        home.mkdir()
        nowhere.mkdir()

        def lose_directory():
            os.chdir(nowhere)
            nowhere.rmdir()

        for env in ({"HOME": str(home)}, {"HOME": "/proc/none"}, {"HOME": ""}, {"HOME": str(home), "TMPDIR": "/none", "XDG_CACHE_HOME": "/none"}):
            done = self.call("--json", self.picture, env=env)
            self.expect(done, DONE)
            self.assertEqual(self.objects(done), expected)
        self.assertEqual(list(home.iterdir()), [])
        home.chmod(0o500)
        self.expect(self.call("--json", self.picture, env={"HOME": str(home)}, setup=as_ordinary_user), DONE)
        self.expect(self.call("--json", self.picture, setup=lose_directory), DONE)

    def test_closed_streams(self):
        for closed in ((0,), (1,), (2,), (0, 1), (0, 1, 2)):
            done = self.call(self.picture, setup=lambda closed=closed: [os.close(fd) for fd in closed])
            with self.subTest(closed=closed):
                self.assertEqual(done.returncode, PICTURES if 1 in closed else DONE, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), int(1 in closed and 2 not in closed), done.stderr)

    def test_ignored_and_blocked_signals(self):
        """As nohup, shells and supervisors leave them to their children."""

        def setup():
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))

        self.expect(self.call(self.picture, setup=setup), DONE)

    # ------------------------------------------------------------------------------------------------------ faults

    def faults(self, kind, most):
        """Every k-th call of a kind, up to `most` of them: the processes that ended, and how many calls there were."""
        report = self.folder / "report"
        arguments = ("--json", "--threads", "2", "--draw", self.folder / "drawn", self.picture)
        env = {"LD_PRELOAD": FAULTS, "DET_FAULT_REPORT": str(report)}
        self.expect(self.call(*arguments, env={**env, "DET_FAULT": f"{kind}:0"}), DONE)
        n_calls = int(report.read_text())
        step = 1 + n_calls // most
        return n_calls, [(k, self.call(*arguments, env={**env, "DET_FAULT": f"{kind}:{k}"})) for k in range(1, n_calls + 1, step)]

    def test_every_call_fails(self):
        if not FAULTS:
            self.skipTest("no faults can be made here")
        expected = self.objects(self.call("--json", "--draw", self.folder / "drawn", self.picture))
        for kind, least, most in (("memory", 100, 80), ("new", 100, 20), ("open", 2, 10), ("read", 3, 10), ("stat", 2, 10), ("map", 10, 20)):
            n_calls, processes = self.faults(kind, most)
            self.assertGreaterEqual(n_calls, least, kind)
            for k, done in processes:
                with self.subTest(kind=kind, k=k):
                    self.assertIn(done.returncode, (DONE, PICTURES, NO_MODEL), done.stderr)
                    self.assertEqual(len(done.stderr.splitlines()), int(done.returncode != DONE), done.stderr)
                    if done.returncode == DONE:
                        self.assertEqual(self.objects(done), expected)
                    self.assertEqual(list((self.folder / "drawn").glob("*.part")), [])


if __name__ == "__main__":
    unittest.main()
