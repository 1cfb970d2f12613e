"""Arithmetic and tables of bench_peers: python3 -m libdetect.bench_report RESULTS.json [--into FILE]"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

BEGIN, END = "<!-- figures: generated, do not edit -->", "<!-- end of figures -->"
LIBDETECT = "libdetect"


# --------------------------------------------------------------------------------------------------------- arithmetic


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie, 0 to 1, between neighbours in proportion."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(blocks: Sequence[Sequence[float]]) -> Dict[str, Any]:
    """Median and spread of all blocks together, and every block's own median."""
    values = [value for taken in blocks for value in taken]
    return {
        "n": len(values),
        "min": round(min(values), 4),
        "p10": round(quantile(values, 0.1), 4),
        "median": round(quantile(values, 0.5), 4),
        "p90": round(quantile(values, 0.9), 4),
        "blocks": [round(quantile(taken, 0.5), 4) for taken in blocks],
    }


def ratio(theirs: Dict[str, Any], ours: Dict[str, Any]) -> Dict[str, float]:
    """How many times our time the peer takes, block by block, as they were measured in turn: median and range."""
    ratios = [a / b for a, b in zip(theirs["blocks"], ours["blocks"])]
    return {"median": quantile(ratios, 0.5), "low": min(ratios), "high": max(ratios)}


# ------------------------------------------------------------------------------------------------------------- tables


def line(row: Dict[str, Any]) -> str:
    """A row in one line, for a terminal."""
    parts = [
        f"{row['network']:18s} {row['threads']} thread{'s' if row['threads'] > 1 else ' '} others {row['others']:.2f} |"
    ]
    ours = row["times"][LIBDETECT]
    for name, times in row["times"].items():
        text = f"{name} {times['network']['median']:.1f} / {times['total']['median']:.1f}"
        if name != LIBDETECT:
            network, total = (ratio(times[part], ours[part])["median"] for part in ("network", "total"))
            text += f" (x{network:.2f} / x{total:.2f})"
        parts.append(text)
    return "  ".join(parts)


def _cell(times: Dict[str, Any]) -> str:
    return f"{_number(times['median'])} ({_number(times['p10'])}-{_number(times['p90'])})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def _ratio_cell(theirs: Dict[str, Any], ours: Dict[str, Any]) -> str:
    found = ratio(theirs, ours)
    return f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _peers(rows: Sequence[Dict[str, Any]]) -> List[str]:
    """Names in the order of the first row that has them, ours first."""
    names = [LIBDETECT]
    for row in rows:
        names += [name for name in row["times"] if name not in names]
    return names


def _times_table(rows: Sequence[Dict[str, Any]], part: str) -> List[str]:
    names = _peers(rows)
    return _table(
        ["network", "threads", *names],
        [
            [row["network"], str(row["threads"])]
            + [_cell(row["times"][name][part]) if name in row["times"] else "" for name in names]
            for row in rows
        ],
    )


def _ratio_table(rows: Sequence[Dict[str, Any]]) -> List[str]:
    names = _peers(rows)[1:]
    body = []
    for row in rows:
        cells = [row["network"], str(row["threads"])]
        for part in ("network", "total"):
            for name in names:
                times = row["times"]
                cells.append(_ratio_cell(times[name][part], times[LIBDETECT][part]) if name in times else "")
        body.append(cells)
    header = ["network", "threads", *names, *(f"{name}, end to end" for name in names)]
    return _table(header, body)


def _checks_table(rows: Sequence[Dict[str, Any]]) -> List[str]:
    body = []
    for row in rows:
        agreed = min(row["agreed"].values(), default=row["boxes"])
        counts = sorted(times["network"]["n"] for times in row["times"].values())
        speed = row["macs"] / row["times"][LIBDETECT]["network"]["median"] / 1e6
        body.append(
            [
                row["network"],
                str(row["threads"]),
                "x".join(map(str, row["input"])),
                f"{row['macs'] / 1e9:.2f}",
                f"{speed:.1f}",
                f"{agreed} of {row['boxes']}",
                f"{counts[0]}-{counts[-1]}",
                f"{row['others']:.2f}",
            ]
        )
    header = [
        "network",
        "threads",
        "input",
        "GMAC",
        "libdetect GMAC/s",
        "boxes that every peer shares",
        "pictures",
        "CPU taken by others",
    ]
    return _table(header, body)


def _environment(result: Dict[str, Any]) -> List[str]:
    found, plan = result["environment"], result["plan"]
    cpu = found["cpu"]
    versions = {LIBDETECT: found["libdetect"], "Python": found["python"], **found["packages"]}
    export = found.get("export") or {}
    lines = [
        f"- {found['date']}; {cpu['model']}, family/model/stepping {cpu['family']},"
        f" {cpu['usable']} of {cpu['cores']} cores usable"
        + (", a virtual machine" if cpu["virtual"] else "")
        + f"; {', '.join(cpu['flags'])}; Linux {found['kernel']}",
        "- " + ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    ways = sorted({(row["device"], row["precision"]) for row in result["rows"] if row.get("precision")})
    lines += [f"- libdetect in {precision} on {device}" for device, precision in ways if precision != "fp32"]
    if export:
        made = ", ".join(f"{name} {version}" for name, version in export["versions"].items() if version)
        lines.append(f"- Models exported with {made}; seed {export['seed']}")
    lines.append(
        f"- {plan['repeats']} blocks of {plan['seconds']:g} s and at least {plan['least']} pictures for each library;"
        f" load average before the start {found['load']:.2f}"
    )
    failed = [f"{one['network']} on {one['threads']}: {one['reason']}" for one in result.get("failed", ())]
    if failed:
        lines.append("- Failed, by network and threads: " + "; ".join(failed))
    if found["openmp"]:
        lines.append("- " + ", ".join(f"{key}={value}" for key, value in found["openmp"].items()))
    return lines


def render(results: Sequence[Dict[str, Any]]) -> str:
    """The tables of docs/performance.md, one chapter for each file of results."""
    lines: List[str] = []
    for result in results:
        rows = sorted(result["rows"], key=lambda row: (row["threads"], row["macs"]))
        lines += [f"### {result.get('title') or result['environment']['cpu']['model']}", "", *_environment(result), ""]
        lines += ["**Network**: milliseconds, median (10th-90th percentile).", "", *_times_table(rows, "network"), ""]
        lines += ["**End to end**: milliseconds, median (10th-90th percentile).", "", *_times_table(rows, "total"), ""]
        lines += [
            "**Ratio**: the peer's time over libdetect's, median (range) of the blocks; above 1, libdetect is faster.",
            "",
        ]
        lines += [*_ratio_table(rows), "", "**Checks**", "", *_checks_table(rows), ""]
    return "\n".join(lines)


def insert(text: str, figures: str) -> str:
    """The text with everything between the two markers replaced."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no '{BEGIN}' with '{END}' behind it")
    return f"{head}{BEGIN}\n\n{figures}\n{END}{tail}"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m libdetect.bench_report", description="Tables of benchmark results."
    )
    parser.add_argument("results", metavar="RESULTS", nargs="+", type=Path, help="what bench_peers --out wrote")
    parser.add_argument(
        "--into", metavar="FILE", type=Path, help="replace the figures in this document; default: print"
    )
    given = parser.parse_args(arguments)
    figures = render([json.loads(path.read_text(encoding="utf-8")) for path in given.results])
    if given.into is None:
        print(figures)
        return 0
    given.into.write_text(insert(given.into.read_text(encoding="utf-8"), figures), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
