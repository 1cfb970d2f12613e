"""cmake/revision.cmake names the revision of what is built, wherever the source comes from."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "cmake" / "revision.cmake"
GIT_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    **{f"GIT_{who}_{what}": "test@test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "GIT_CONFIG_GLOBAL": os.devnull,
}


class Revision(unittest.TestCase):
    def setUp(self):
        folder = Path(tempfile.mkdtemp(prefix="test_revision."))
        self.addCleanup(shutil.rmtree, folder)
        self.source, self.header = folder / "the source", folder / "made" / "revision.h"
        self.source.mkdir()

    def git(self, *words, folder=None):
        command = ["git", "-C", folder or self.source, *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=GIT_ENVIRONMENT).stdout.strip()

    def named(self, given="", **environment):
        options = [f"-DSOURCE={self.source}", f"-DOUT={self.header}", f"-DREVISION={given}"]
        subprocess.run(["cmake", *options, "-P", SCRIPT], check=True, env={**os.environ, **environment})
        return self.header.read_text()[len('#define DET_REVISION "') : -len('"\n')]

    def test_without_a_repository(self):
        self.assertEqual(self.named(), "no revision")

    def test_source_distribution(self):
        (self.source / "REVISION").write_text("v7.8-9-gabc\n")
        self.assertEqual(self.named(), "v7.8-9-gabc")
        self.assertEqual(self.named("mine"), "mine")

    @unittest.skipUnless(shutil.which("git"), "git is not installed")
    def test_repository(self):
        self.git("init", "-q")
        file = self.source / "file"
        file.write_text("first")
        self.git("add", "file")
        self.git("commit", "-q", "-m", "first")
        self.assertEqual(self.named(), self.git("rev-parse", "--short", "HEAD"))
        self.git("tag", "v1")
        self.assertEqual(self.named(), "v1")
        file.write_text("second")
        self.assertEqual(self.named(), "v1-dirty")
        self.git("commit", "-q", "-a", "-m", "second")
        self.assertRegex(self.named(), r"^v1-1-g[0-9a-f]+$")
        self.assertEqual(self.named("mine"), "mine")

    @unittest.skipUnless(shutil.which("git"), "git is not installed")
    def test_copy_inside_another_repository(self):
        self.git("init", "-q", folder=self.source.parent)
        self.git("commit", "-q", "--allow-empty", "-m", "of others", folder=self.source.parent)
        self.assertEqual(self.named(), "no revision")

    def test_without_git(self):
        (self.source / ".git").mkdir()
        tools = self.source.parent / "bin"
        tools.mkdir()
        (tools / "cmake").symlink_to(shutil.which("cmake"))
        self.assertEqual(self.named(PATH=str(tools)), "no revision")

    def test_what_is_unchanged_is_not_written(self):
        self.named()
        os.utime(self.header, (1, 1))
        self.named()
        self.assertEqual(self.header.stat().st_mtime, 1)
        self.named("mine")
        self.assertNotEqual(self.header.stat().st_mtime, 1)


if __name__ == "__main__":
    unittest.main()
