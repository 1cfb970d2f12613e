"""The library's reader of model files beside one in a few lines of Python (json, struct, numpy), on random files, whole and
damaged: both take a file or both refuse it, and what they read is the same. DET_FILES: how many."""

import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

DUMP = sys.argv[1]
N_FILES = int(os.environ.get("DET_FILES", "4000"))
RESIZE = ["stretch", "letterbox-top", "letterbox-centre"]

# -------------------------------------------------------------------------------------------------- reading, by the book


class Refused(Exception):
    pass


def require(condition: Any) -> None:
    if not condition:
        raise Refused


def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    require(len({key for key, _ in pairs}) == len(pairs))
    return dict(pairs)


def refuse(_: str) -> None:
    raise Refused


def integer(text: str) -> int:
    require(-(1 << 63) <= int(text) < 1 << 63)
    return int(text)


def real(text: str) -> float:
    require(np.isfinite(float(text)))
    return float(text)


def texts(value: Any) -> None:
    """No zeros, no lone surrogates."""
    if isinstance(value, str):
        require("\0" not in value and not any(0xD800 <= ord(c) < 0xE000 for c in value))
    elif isinstance(value, list):
        for item in value:
            texts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            texts(key)
            texts(item)


def parse(data: bytes) -> Dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse, parse_int=integer, parse_float=real)
    except ValueError:
        raise Refused from None
    require(isinstance(value, dict))
    texts(value)
    return value


def is_int(value: Any) -> bool:
    return type(value) is int


def number(m: Dict[str, Any], key: str, low: float, high: float) -> float:
    require(type(m.get(key)) in (int, float) and low <= m[key] <= high)
    return float(np.float32(m[key]))


def read_metadata(m: Dict[str, Any]) -> List[str]:
    require(is_int(m.get("format")) and m["format"] == 1)
    for key in ("family", "variant", "licence", "source", "source_sha256"):
        require(isinstance(m.get(key), str))
    require(re.fullmatch("([0-9a-fA-F]{64})?", m["source_sha256"]))
    size = m.get("input")
    require(isinstance(size, list) and len(size) == 2 and all(is_int(n) and 32 <= n <= 8192 and n % 32 == 0 for n in size))
    require(m.get("resize") in RESIZE)
    numbers = [number(m, *row) for row in (("pad", 0, 255), ("mean", -255, 255), ("scale", 1e-6, 1e3), ("score", 0, 1), ("iou", 0, 1))]
    require(isinstance(m.get("multi_label"), bool))
    require(is_int(m.get("max_objects")) and 1 <= m["max_objects"] <= 65536)
    require(is_int(m.get("landmarks")) and m["landmarks"] in (0, 5))
    classes = m.get("classes")
    require(isinstance(classes, list) and 1 <= len(classes) <= 4096 and all(isinstance(name, str) for name in classes))
    hexed = [m[key].encode().hex() for key in ("family", "variant", "source")]
    middle = [str(n) for n in size] + [str(RESIZE.index(m["resize"]))] + ["%.9g" % n for n in numbers]
    return hexed + middle + [str(int(m["multi_label"])), str(m["max_objects"]), str(m["landmarks"])] + [name.encode().hex() for name in classes]


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & ((1 << 64) - 1)
    return "%016x" % value


def read_tensor(name: str, entry: Any, body: bytes) -> Tuple[int, int, List[str]]:
    require(1 <= len(name.encode()) <= 127 and isinstance(entry, dict))
    shape, offsets, dtype = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    require(isinstance(shape, list) and len(shape) <= 4 and all(is_int(n) and 1 <= n < 1 << 31 for n in shape))
    require(dtype in ("F32", "F16") and isinstance(offsets, list) and len(offsets) == 2 and all(map(is_int, offsets)))
    begin, end = offsets
    count = 1
    for n in shape:
        count *= n
    require(0 <= begin and end - begin == count * (4 if dtype == "F32" else 2) and end <= len(body))
    values = np.frombuffer(body[begin:end], "<f4" if dtype == "F32" else "<f2").astype("<f4")
    require(np.isfinite(values).all())
    return begin, end, [name.encode().hex(), "[" + ", ".join(map(str, shape)) + "]", fnv(values.tobytes())]


def read(data: bytes) -> str:
    require(len(data) >= 8)
    (length,) = struct.unpack_from("<Q", data)
    require(length <= min(len(data) - 8, 4 << 20))
    header, body = parse(data[8 : 8 + length]), data[8 + length :]
    metadata = header.pop("__metadata__", None)
    require(len(header) <= 4096 and isinstance(metadata, dict) and isinstance(metadata.get("libdetect"), str))
    words = read_metadata(parse(metadata["libdetect"].encode()))
    tensors = [read_tensor(name, entry, body) for name, entry in header.items()]
    at = 0
    for begin, end, _ in sorted(tensors, key=lambda t: t[:2]):
        require(begin == at)
        at = end
    require(at == len(body))
    for _, _, line in sorted(tensors, key=lambda t: bytes.fromhex(t[2][0])):
        words += line
    return " ".join(["ok", *words])


# ---------------------------------------------------------------------------------------------------------------- writing

NAMES = ["a", "b.weight", "model.0.conv", "\u00e9", "x" * 127, "neck.\U0001f600", "__metadata", "B", "a.b", "z\\n", "q\"q"]


def random_tensor(r: random.Random, at: int) -> Tuple[Dict[str, Any], bytes]:
    half = r.random() < 0.4
    shape = [r.randrange(1, 5) for _ in range(r.randrange(5))]
    values = np.array([r.uniform(-9, 9) * 10 ** r.randrange(-6, 3) for _ in range(int(np.prod(shape, initial=1)))])
    raw = values.astype("<f2" if half else "<f4").tobytes()
    return {"dtype": "F16" if half else "F32", "shape": shape, "data_offsets": [at, at + len(raw)]}, raw


def random_metadata(r: random.Random) -> Dict[str, Any]:
    return {
        "format": 1, "family": r.choice(["damofd", "x", "\u00fc", ""]), "variant": "t", "licence": "l\n", "source": r.choice(["a.pt", "\U0001f600\"\\"]),
        "source_sha256": r.choice(["", "%064x" % r.getrandbits(256), "%064X" % r.getrandbits(256)]), "input": [32 * r.randrange(1, 257), 32 * r.randrange(1, 257)], "resize": r.choice(RESIZE), "pad": r.choice([0, 114, 254.99, 1e-9]),
        "mean": r.uniform(-255, 255), "scale": r.choice([1 / 255, 1 / 128, 1e-6, 1000, r.random()]), "score": r.random(), "iou": r.random(),
        "multi_label": r.random() < 0.5, "max_objects": r.randrange(1, 65537), "classes": [f"c{i}\u00df" for i in range(r.randrange(1, 6))],
        "landmarks": r.choice([0, 5]),
    }  # fmt: skip


def random_text(r: random.Random, value: Any) -> str:
    return json.dumps(value, ensure_ascii=r.random() < 0.5, indent=r.choice([None, None, 1]))


def random_file(r: random.Random) -> bytes:
    header: Dict[str, Any] = {}
    body = b""
    for name in r.sample(NAMES, r.randrange(6)):
        header[name], raw = random_tensor(r, len(body))
        body += raw
    metadata = random_metadata(r)
    if r.random() < 0.25:  # one value of another kind or size
        metadata[r.choice(list(metadata))] = r.choice([None, 0, 1, -1, 5, 33, 64, 1.0, 0.5, 1e9, True, "", "stretch", [], [64, 64], [""], ["a", 1], {}])
    if r.random() < 0.25 and len(header) > 0:
        entry = header[r.choice(list(header))]
        entry[r.choice(list(entry))] = r.choice([None, 0, [], [0], [1, 1], [0, 4], [0, 4, 8], [-1], [1.0], "F32", "F64", [1 << 31], [True], {}])
    header["__metadata__"] = {"libdetect": random_text(r, metadata), "x": "y"}
    entries = list(header.items())
    r.shuffle(entries)
    text = random_text(r, dict(entries)).encode()
    text += b" " * r.randrange(9)
    data = bytearray(struct.pack("<Q", len(text)) + text + body)
    if r.random() < 0.5:
        for _ in range(r.randrange(1, 3)):
            kind, at = r.randrange(4), r.randrange(len(data))
            if kind == 0:
                data[at] = r.randrange(256)
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                data.insert(8 + r.randrange(len(text)), r.choice(b'",:[]{}\\0-1.e \xff\x00'))
                data[:8] = struct.pack("<Q", len(text) + 1)
            else:
                data += bytes(r.randrange(3))
            if not data:
                break
    return bytes(data)


def main() -> int:
    r = random.Random(20260)
    n_taken = n_wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        files = [random_file(r) for _ in range(N_FILES)]
        paths = [str(Path(folder) / str(i)) for i in range(N_FILES)]
        for path, data in zip(paths, files):
            Path(path).write_bytes(data)
        lines: List[str] = []
        for i in range(0, N_FILES, 500):
            done = subprocess.run([DUMP, *paths[i : i + 500]], stdout=subprocess.PIPE, check=True)
            lines += done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    assert len(lines) == N_FILES, f"{len(lines)} lines for {N_FILES} files"
    for data, line in zip(files, lines):
        try:
            expected = read(data)
        except Refused:
            expected = ""
        n_taken += expected != ""
        if line.rstrip() != expected if expected else line.startswith("ok "):
            n_wrong += 1
            print(f"{data!r}\n  here:   {line}\n  Python: {expected or 'refused'}", file=sys.stderr)
    print(f"{N_FILES} files, {n_taken} taken, {n_wrong} read otherwise than by Python")
    return int(n_wrong > 0 or not N_FILES // 10 < n_taken < N_FILES * 9 // 10)


if __name__ == "__main__":
    sys.exit(main())
