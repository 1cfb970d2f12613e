"""Arithmetic and tables of the benchmark: python3 -m libdetect.bench_report RESULTS.json [--into docs/performance.md]"""

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
    """How many times our time the peer takes. Block by block, as they were measured in turn: the median, and the range."""
    ratios = [a / b for a, b in zip(theirs["blocks"], ours["blocks"])]
    return {"median": quantile(ratios, 0.5), "low": min(ratios), "high": max(ratios)}


# ------------------------------------------------------------------------------------------------------------- tables


def line(row: Dict[str, Any]) -> str:
    """A row in one line, for a terminal."""
    parts = [f"{row['network']:18s} {row['threads']} thread{'s' if row['threads'] > 1 else ' '} others {row['others']:.2f} |"]
    ours = row["times"][LIBDETECT]
    for name, times in row["times"].items():
        text = f"{name} {times['network']['median']:.1f} / {times['total']['median']:.1f}"
        if name != LIBDETECT:
            text += f" (x{ratio(times['network'], ours['network'])['median']:.2f} / x{ratio(times['total'], ours['total'])['median']:.2f})"
        parts.append(text)
    return "  ".join(parts)
