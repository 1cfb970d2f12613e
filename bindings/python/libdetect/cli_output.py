"""What the command prints: tables, CSV and JSON, written as the tool `detect` writes them."""

import csv
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List

from .cli_streams import clean


@dataclass(frozen=True)
class Result:
    """What was found in a picture."""

    path: str
    width: int
    height: int
    objects: Any  #: array of OBJECT_DTYPE
    time_ms: Dict[str, float]


class Number(float):
    """A number with its text in JSON."""

    def __new__(cls, value: float, decimals: int) -> "Number":
        number = super().__new__(cls, value)
        number.text = f"{value:.{decimals}f}"
        if decimals:
            number.text = number.text.rstrip("0").rstrip(".")
        return number

    text: str


def dumps(value: Any) -> str:
    """One line of JSON. Floats that are no Number have the seven digits that a C float is good for."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(key)}: {dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(dumps, value)) + "]"
    if isinstance(value, str):  # what was no UTF-8 in a file's name is U+FFFD
        value = re.sub("[\ud800-\udfff]", "\ufffd", value)
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f").replace("\ufffd", "\\ufffd")
    return json.dumps(value)


def as_json(result: Result, info: Any) -> str:
    """A line of JSON."""
    objects = []
    for found in result.objects:
        item: Dict[str, Any] = {
            "class_id": int(found["class_id"]),
            "label": info.class_names[found["class_id"]],
            "score": Number(float(found["score"]), 5),
            "box": [Number(float(found[name]), 2) for name in ("x1", "y1", "x2", "y2")],
        }
        if info.n_landmarks:
            points = found["landmarks"][: info.n_landmarks]
            item["landmarks"] = [[Number(float(x), 2), Number(float(y), 2)] for x, y in points]
        objects.append(item)
    times = {key: Number(ms, 3) for key, ms in result.time_ms.items()}
    return dumps({"path": result.path, "width": result.width, "height": result.height, "objects": objects,
                  "time_ms": times})


def csv_header(info: Any) -> str:
    """The line before the first object's."""
    names = ["path", "width", "height", "class_id", "label", "score", "x1", "y1", "x2", "y2"]
    for i in range(1, info.n_landmarks + 1):
        names += [f"landmark{i}_x", f"landmark{i}_y"]
    return ",".join(names)


def as_csv(result: Result, info: Any) -> List[str]:
    """A line for each object (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for found in result.objects:
        row = [result.path, result.width, result.height, int(found["class_id"]), info.class_names[found["class_id"]]]
        row += [f"{float(found['score']):.5f}"] + [f"{float(found[name]):.2f}" for name in ("x1", "y1", "x2", "y2")]
        row += [f"{float(value):.2f}" for value in found["landmarks"][: info.n_landmarks].ravel()]
        writer.writerow(row)
    return text.getvalue().splitlines()


def as_table(result: Result, info: Any) -> List[str]:
    """A line for the picture, and one for each object."""
    n = len(result.objects)
    lines = [
        f"{clean(result.path)}  {result.width}x{result.height}  {n} object{'' if n == 1 else 's'}"
        f"  {result.time_ms['total']:.1f} ms"
    ]
    labels = [clean(info.class_names[found["class_id"]]) for found in result.objects]
    width = max(map(len, labels), default=0)
    for label, found in zip(labels, result.objects):
        box = " ".join(f"{float(found[name]):8.1f}" for name in ("x1", "y1", "x2", "y2"))
        lines.append(f"  {label:{width}}  {float(found['score']):5.3f}  {box}")
    return lines
