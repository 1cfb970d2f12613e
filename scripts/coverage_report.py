"""Sums up what gcov counted in lib/: coverage_report.py BUILD_FOLDER REPORT"""

import datetime
import gzip
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import DefaultDict, Dict, List

LEAST = 90.0
ROOT = Path(__file__).resolve().parents[1]


def count_lines(build: Path) -> Dict[str, Dict[int, int]]:
    """How often each line of each file of lib/ ran, in any object that has it."""
    lines: DefaultDict[str, DefaultDict[int, int]] = defaultdict(lambda: defaultdict(int))
    notes = sorted(path for path in build.rglob("*.gcno") if "/lib/" in str(path))
    with tempfile.TemporaryDirectory() as folder:
        for note in notes:
            subprocess.run(["gcov", "--json-format", str(note.resolve())], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for packed in Path(folder).glob("*.gcov.json.gz"):
                for entry in json.loads(gzip.decompress(packed.read_bytes()))["files"]:
                    path = (build / entry["file"]).resolve()
                    if path.is_relative_to(ROOT / "lib"):
                        for line in entry["lines"]:
                            lines[str(path.relative_to(ROOT))][line["line_number"]] += line["count"]
                packed.unlink()
    return {name: dict(found) for name, found in lines.items()}


def spans(numbers: List[int]) -> str:
    """12, 14-17: the lines that never ran."""
    parts: List[List[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def main(build: str, report: str) -> int:
    counted = count_lines(Path(build).resolve())
    n_all = sum(len(found) for found in counted.values())
    n_run = sum(count > 0 for found in counted.values() for count in found.values())
    percent = 100.0 * n_run / max(n_all, 1)
    version = subprocess.run(["gcov", "--version"], stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()[0]
    rows = []
    for name, found in sorted(counted.items()):
        missed = [line for line, count in sorted(found.items()) if not count]
        rows.append(f"| `{name}` | {len(found)} | {100.0 * (len(found) - len(missed)) / len(found):.1f} % | {spans(missed)} |")
    text = f"""# Coverage

Written by `scripts/coverage` on {datetime.date.today().isoformat()} with {version}: **{percent:.1f} %** of the {n_all} lines of `lib/` that hold
code are run by the tests.

| file | lines | run | never run |
| --- | --- | --- | --- |
""" + "\n".join(rows) + "\n"  # fmt: skip
    Path(report).write_text(text, encoding="utf-8")
    print(f"coverage: {n_run} of {n_all} lines, {percent:.1f} %")
    return int(percent < LEAST)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
