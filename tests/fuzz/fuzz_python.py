#!/usr/bin/env python3
"""Fuzzes the readers of checkpoints, guided by coverage; numpy is all it needs.

    fuzz_python.py TARGET [--seconds S | --executions N] [--seed K] [--corpus FOLDER] [--found FOLDER]
    fuzz_python.py TARGET --replay

TARGET: pickle (a pickle inside a whole archive), torch (a whole file of torch.save), onnx, safetensors. With
--executions a run is the same each time. Whatever is read must come out or be refused with one printable line, within
a limit of time and of memory; else the input is kept in --found and the exit status is 1. --replay only tries the seeds
and the committed corpus.
"""

import argparse
import os
import random
import re
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import numpy as np  # noqa: E402
import support  # noqa: E402, isort: skip
from libdetect import checkpoint, onnx_reader, pickle_reader, safetensors, torch_file  # noqa: E402
from libdetect.errors import ConvertError  # noqa: E402
from support import Call, Name, module, onnx_model, onnx_node, onnx_tensor, torch_legacy, torch_zip, view  # noqa: E402

MAX_BYTES = 4096
SECONDS_A_TRY = 10
MEMORY_BYTES = 3 << 30
FLOATS = np.arange(12, dtype="<f4").reshape(3, 4)

# ---------------------------------------------------------------------------------------------------------- targets


def try_pickle(data: bytes) -> None:
    """The program of an archive that is whole otherwise, with the storages '0' and '1'."""
    checkpoint._decode(torch_zip({"a": FLOATS, "b": FLOATS.astype("<f2")}, pickled=data))


def pickle_seeds() -> Iterator[bytes]:
    for value in saved_values():
        yield support.TorchWriter().pickle(value)


def saved_values() -> List[Any]:
    ordered = Name("collections", "OrderedDict")
    return [
        {"a.weight": FLOATS, "half": FLOATS.astype("<f2"), "epoch": 3, "lr": 0.5, "names": ["x"], "none": None},
        {"model": module("ultralytics.nn.tasks.DetectionModel", {"a": FLOATS}, {"m": module("torch.nn.Conv2d", {"w": FLOATS})},
                         names={0: "x", 1: "y"}), "train_args": {"imgsz": 640}},
        {"ema": None, "state_dict": Call(ordered, [("a", FLOATS), ("b", FLOATS)])},
        {"a": Call(Name("torch._utils", "_rebuild_parameter"), FLOATS, True, Call(ordered)), "b": Call(Name("torch", "Size"), [1, 2])},
        {"n": Call(Name("numpy._core.multiarray", "scalar"), Call(Name("numpy", "dtype"), "f8"),
                   Call(Name("_codecs", "encode"), "\0" * 8, "latin1")), "a": FLOATS},
    ]  # fmt: skip


def torch_seeds() -> Iterator[bytes]:
    for value in saved_values():
        yield torch_zip(value)
        yield torch_legacy(value)


def onnx_seeds() -> Iterator[bytes]:
    tensors = [onnx_tensor("w", FLOATS), onnx_tensor("h", FLOATS.astype("<f2")), onnx_tensor("s", np.array([1, 2], "<i8"))]
    nodes = [onnx_node("Conv", ["images", "w"], ["y"], "conv", support.field(5, support.field(1, "k") + support.field(3, 3)))]
    constant = support.field(5, support.field(1, "value") + support.field(5, onnx_tensor("", FLOATS)))
    yield onnx_model(nodes, tensors, names="{0: 'x', 1: 'y'}", license="MIT")
    yield onnx_model(nodes + [onnx_node("Constant", [], ["c"], "", constant)], [])
    yield onnx_model(nodes, [support.field(1, 2) + support.field(2, 1) + support.field(8, "t") + support.field(4, b"\0" * 8)])


def safetensors_seeds() -> Iterator[bytes]:
    for header, body in (
        ('{"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}', FLOATS.tobytes()),
        ('{"__metadata__":{"libdetect":"{}","x":"y"},"b":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},'
         '"c":{"dtype":"I64","shape":[1],"data_offsets":[2,10]}}', bytes(10)),
        ('{"e":{"dtype":"F16","shape":[0,5],"data_offsets":[0,0]}}', b""),
    ):  # fmt: skip
        yield len(header).to_bytes(8, "little") + header.encode() + body


def pickle_words() -> List[bytes]:
    """Whole instructions, and the values that they take."""
    names = [f"c{path.rpartition('.')[0]}\n{path.rpartition('.')[2]}\n".encode() for path in torch_file._HANDLERS]
    values = [b"N", b"\x88", b"K\x01", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"]", b"}", b")", b"\x8f",
              b"X\x01\x00\x00\x000", b"X\x07\x00\x00\x00storage", b"X\x03\x00\x00\x00cpu", b"G\x7f\xf8" + b"\0" * 6, b"C\x01x"]  # fmt: skip
    storages = [f"ctorch\n{kind}\n".encode() for kind in torch_file._STORAGE_KINDS]
    actions = [b"(", b"0", b"1", b"2", b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"R", b"\x81", b"\x92", b"b", b"a", b"e", b"s", b"u", b"\x90",
               b"\x91", b"Q", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"\x94", b"\x93", b"."]  # fmt: skip
    states = [b"X\x08\x00\x00\x00_modules", b"X\x0b\x00\x00\x00_parameters", b"X\x05\x00\x00\x00names", b"X\x0a\x00\x00\x00state_dict"]
    return names + values + storages + 2 * actions + states


class Target:
    """How to try an input, where to start, and the words of its language."""

    def __init__(self, attempt: Callable[[bytes], Any], seeds: Callable[[], Iterator[bytes]], words: List[bytes]) -> None:
        self.attempt, self.seeds, self.words = attempt, seeds, words


JSON_WORDS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"-1", b"0", b"1e9", b"null", b"true", b'"dtype"', b'"shape"', b'"data_offsets"', b'"F64"', b'"BOOL"',
              b'"__metadata__"', b'"libdetect"', b"99999999999999999999", b"\\ud800", b"NaN"]  # fmt: skip
ZIP_WORDS = [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"archive/data.pkl", b"data/0", b"\x01\x00\x10\x00"]
TARGETS: Dict[str, Target] = {
    "pickle": Target(try_pickle, pickle_seeds, pickle_words()),
    "torch": Target(checkpoint._decode, torch_seeds, ZIP_WORDS + pickle_words()),
    "onnx": Target(lambda data: checkpoint._from_onnx(onnx_reader.decode(data)), onnx_seeds,
                   [bytes([n << 3 | k]) for n in (1, 2, 3, 4, 5, 7, 8, 9, 11, 14) for k in (0, 2)] + [b"{0: 'x'}", b"((((", b"-" * 64]),
    "safetensors": Target(checkpoint._from_safetensors, safetensors_seeds, JSON_WORDS),
}  # fmt: skip

# --------------------------------------------------------------------------------------------------------- coverage

TRACED = {str(Path(m.__file__ or "").resolve()) for m in (checkpoint, onnx_reader, pickle_reader, safetensors, torch_file)}


class Coverage:
    """The pairs of lines that followed one another in the readers."""

    def __init__(self) -> None:
        self.seen: Set[Tuple[Any, int, int]] = set()
        self.fresh: Set[Tuple[Any, int, int]] = set()

    def _enter(self, frame: Any, _event: str, _argument: Any) -> Optional[Callable[..., Any]]:
        code = frame.f_code
        if code.co_filename not in TRACED:
            return None
        last = code.co_firstlineno
        seen, fresh = self.seen, self.fresh

        def step(frame: Any, _event: str, _argument: Any) -> Any:
            nonlocal last
            pair = (code, last, frame.f_lineno)
            last = frame.f_lineno
            if pair not in seen:
                fresh.add(pair)
            return step

        return step

    def run(self, action: Callable[[], None]) -> bool:
        """Does it; whether it went where nothing went before."""
        self.fresh = set()
        sys.settrace(self._enter)
        try:
            action()
        finally:
            sys.settrace(None)
        self.seen |= self.fresh
        return bool(self.fresh)


# --------------------------------------------------------------------------------------------------------- mutation

NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 4095, 4096, 65535, 65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def mutate(data: bytes, others: List[bytes], words: List[bytes], r: random.Random) -> bytes:
    copy = bytearray(data)
    for _ in range(1 << r.randrange(4)):
        at, n = r.randrange(len(copy) + 1), 1 + r.randrange(1 << r.randrange(1, 7))
        kind = r.randrange(9)
        if kind == 0 and at < len(copy):
            copy[at] ^= 1 << r.randrange(8)
        elif kind == 1 and at < len(copy):
            copy[at] = r.randrange(256)
        elif kind == 2:
            del copy[at : at + n]
        elif kind == 3:
            copy[at:at] = copy[at : at + n]
        elif kind == 4:
            copy[at:at] = r.choice(words)
        elif kind == 5:
            word = r.choice(words)
            copy[at : at + len(word)] = word
        elif kind == 6:
            size = r.choice((1, 2, 4, 8))
            copy[at : at + size] = (r.choice(NUMBERS) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        elif kind == 7:
            other = r.choice(others)
            begin = r.randrange(len(other) + 1)
            copy[at : at + r.choice((0, n))] = other[begin : begin + n]
        else:
            found = list(re.finditer(rb"\d+", bytes(copy)))
            if found:
                where = r.choice(found)
                copy[where.start() : where.end()] = str(r.choice(NUMBERS)).encode()
    return bytes(copy[:MAX_BYTES])


# ------------------------------------------------------------------------------------------------------------- loop


class TookTooLong(Exception):
    pass


def on_alarm(_signal: int, _frame: Any) -> None:
    raise TookTooLong(f"more than {SECONDS_A_TRY} s of CPU")


def judge(target: Target, data: bytes) -> Optional[str]:
    """What is wrong with how the input was taken; None when nothing is."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TRY)  # CPU time: other work is not the reader's fault
    try:
        target.attempt(data)
    except ConvertError as error:
        text = str(error)
        return None if text and text.isprintable() else f"a message that is no printable line: {text!r}"
    except BaseException as error:  # the point of all this
        if isinstance(error, KeyboardInterrupt):
            raise
        at = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if f.filename in TRACED]
        return f"{type(error).__name__} in {at[-1] if at else '?'}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


class Fuzzer:
    def __init__(self, name: str, corpus: Optional[Path], found: Path) -> None:
        self.name, self.target, self.grown, self.found = name, TARGETS[name], corpus, found
        self.coverage = Coverage()
        self.inputs: List[bytes] = []
        self.executions = 0
        self.faults: Set[str] = set()

    def attempt(self, data: bytes) -> bool:
        """Tries an input; whether it is worth keeping."""
        verdict: List[Optional[str]] = []
        new = self.coverage.run(lambda: verdict.append(judge(self.target, data)))
        self.executions += 1
        fault = verdict[0]
        if fault and fault.rpartition(": ")[0] not in self.faults:
            self.faults.add(fault.rpartition(": ")[0])
            self.found.mkdir(parents=True, exist_ok=True)
            path = self.found / f"{self.name}-{len(self.faults)}"
            path.write_bytes(data)
            print(f"{path}: {fault}", file=sys.stderr, flush=True)
        return new

    def start(self) -> None:
        """Seeds, the committed corpus, and what earlier runs kept."""
        seeds = list(self.target.seeds())
        for folder in (HERE / "corpus" / self.name, self.grown):
            if folder and folder.is_dir():
                seeds += [path.read_bytes() for path in sorted(folder.iterdir()) if path.name[0] != "."]
        for data in seeds:
            self.attempt(data)
        self.inputs = seeds

    def run(self, seed: int, seconds: float, executions: int) -> None:
        r = random.Random(seed)
        deadline = time.monotonic() + seconds if seconds else float("inf")
        while (not executions or self.executions < executions) and time.monotonic() < deadline:
            # Half of the time one of the newest.
            parent = r.choice(self.inputs[-16:] if r.randrange(2) else self.inputs)
            data = mutate(parent, self.inputs, self.target.words, r)
            if self.attempt(data):
                self.inputs.append(data)
                if self.grown:
                    self.grown.mkdir(parents=True, exist_ok=True)
                    (self.grown / f"{len(self.inputs):06d}").write_bytes(data)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--executions", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="where inputs that reach something new are kept")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz/found"))
    parser.add_argument("--replay", action="store_true")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, on_alarm)
    fuzzer = Fuzzer(given.target, given.corpus, given.found)
    fuzzer.start()
    if not given.replay:
        fuzzer.run(given.seed, given.seconds, given.executions)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{given.target}: {fuzzer.executions} executions, {len(fuzzer.coverage.seen)} pairs of lines, {len(fuzzer.inputs)} inputs,"
          f" {len(fuzzer.faults)} kinds of fault, {used.ru_utime + used.ru_stime:.0f} s of CPU")  # fmt: skip
    return 1 if fuzzer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
