"""Every test that docs/limits.md names exists."""

import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Limits(unittest.TestCase):
    def test_named_tests_exist(self) -> None:
        text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| ---"))]
        self.assertGreater(len(rows), 20)
        for row in rows:
            named = re.findall(r"`(tests/[\w./]+):(\w+)`", row)
            self.assertTrue(named, f"no test holds this limit: {row}")
            for path, name in named:
                source = (ROOT / path).read_text(encoding="utf-8")
                pattern = rf"def {name}\(" if path.endswith(".py") else rf"^[\w *]*\b{name}\([^;]*$"
                self.assertRegex(source, re.compile(pattern, re.MULTILINE), f"{path} has no {name}")


if __name__ == "__main__":
    sys.exit(unittest.main())
