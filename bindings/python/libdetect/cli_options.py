"""The command line of python -m libdetect: the options of the tool `detect`."""

import argparse
import re
from typing import Any, Callable, List, NoReturn, Optional, Sequence

from .cli_streams import complain, write

_DEVICES, _PRECISIONS = ("auto", "cpu", "cuda"), ("auto", "fp32", "tf32", "fp16", "bf16")


class _Parser(argparse.ArgumentParser):
    """Speaks through the command's own streams."""

    def print_help(self, file: Any = None) -> None:
        write(self.format_help().splitlines())

    def error(self, message: str) -> NoReturn:
        complain(message)
        complain(f"see '{self.prog} --help'")
        self.exit(2)


def _integer(low: int, high: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"'{text}': give {low} to {high}")
        return int(text)

    return convert


def _fraction(text: str) -> float:
    try:
        value = float(text) if re.fullmatch("[0-9.eE+-]+", text) else -1.0
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}': give 0 to 1")
    return value


def _size(text: str) -> Any:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    size = tuple(map(int, match.groups())) if match else (0, 0)
    if not all(32 <= side <= 8192 and side % 32 == 0 for side in size):
        raise argparse.ArgumentTypeError(f"'{text}': give WxH, multiples of 32 from 32 to 8192, such as 640x480")
    return size


def _device(text: str) -> Any:
    if not re.fullmatch(r"auto|cpu|cuda|cuda:[0-9]{1,9}|cuda:(GPU|MIG)-.+", text):
        raise argparse.ArgumentTypeError(f"'{text}': give auto, cpu, cuda, cuda:N or cuda:UUID")
    return text


def _folder(text: str) -> str:
    if text in ("", "-"):  # - is the C tool's, with --video
        raise argparse.ArgumentTypeError(f"'{text}': give a directory, such as ./-")
    return text


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,14})([kmgKMG]?)", text)
    value = int(match[1]) << 10 * " kmg".index(match[2].lower() or " ") if match else 0
    if not 1 <= value <= 1 << 30:
        raise argparse.ArgumentTypeError(f"'{text}': give 1 to 1g, such as 500000 or 64m")
    return value


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and device")
    group.add_argument("--model", metavar="FILE|NAME",
                       help="model file, or the name of a model that comes with libdetect, such as damofd-0.5g-kps;"
                       " default: the environment's LIBDETECT_MODEL, else damofd-2.5g-kps, which finds faces")
    group.add_argument("--device", metavar="NAME", type=_device, default="auto",
                       help="auto, cpu, cuda, cuda:N, cuda:GPU-8a3f... or cuda:MIG-8a3f... (a UUID); auto takes a GPU"
                       " that works, else the CPU  [auto]")
    group.add_argument("--precision", metavar="NAME", choices=_PRECISIONS, default="auto",
                       help="auto, fp32, tf32, fp16 or bf16; auto: fp16 on a GPU, fp32 on the CPU  [auto]")
    group.add_argument("--size", metavar="WxH", type=_size,
                       help="network's input, multiples of 32: larger finds smaller things  [the model's]")
    group.add_argument("--threads", metavar="N", type=_integer(1, 256), default=0,
                       help="CPU threads, 1 to 256  [one per core]")
    group.add_argument("--batch", metavar="N", type=_integer(1, 256), default=1,
                       help="pictures per run, 1 to 256  [1]")
    parser.add_argument("--verbose", action="store_true", help="show what the library has to say")


def _add_format_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    texts = {"table": "for people", "json": "a line of JSON", "csv": "a header line, then a line per object"}
    group = parser.add_mutually_exclusive_group()
    for name in names:
        group.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="table",
                           help=texts[name])


def _add_detect_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what counts (defaults are the model's own)")
    group.add_argument("--score", metavar="S", type=_fraction, help="lowest score, 0 to 1")
    group.add_argument("--iou", metavar="I", type=_fraction,
                       help="of two boxes that overlap by more than this (0 to 1), the better one stays")
    group.add_argument("--classes", metavar="LIST",
                       help="only these: names or numbers with commas between, such as person,2,dog")
    group.add_argument("--multi-label", action="store_true", help="a box may be of several classes")
    group.add_argument("--agnostic", action="store_true", help="overlapping boxes of different classes compete too")
    group.add_argument("--max-objects", metavar="N", type=_integer(1, 65536), help="most objects in a picture")
    parser.add_argument("--draw", metavar="DIR", type=_folder,
                        help="save pictures with boxes as DIR/NAME.png, or NAME-2.png where a file lies that is no"
                        " earlier drawing")
    parser.add_argument("--max-side", metavar="N", type=_integer(1, 16384), default=16384,
                        help="longest side of a picture, in pixels  [16384]")
    parser.add_argument("--max-bytes", metavar="N", type=_bytes, default=256 << 20,
                        help="largest file, and largest decoded picture; k, m, g may follow  [256m]")
    parser.add_argument("pictures", metavar="PICTURE|DIRECTORY", nargs="+")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; ends the program with status 2 when it is wrong. `command` is detect, info or models."""
    words: List[str] = list(arguments)
    command: Optional[str] = words.pop(0) if words and words[0] in ("info", "models") else None
    parser = _Parser(
        prog="python -m libdetect" + (f" {command}" if command else ""),
        description="Finds faces or objects in pictures. `info` describes a model, `models` lists the networks.",
        epilog="Exit status: 0 all went well; 1 some pictures failed, or output could not be written; 2 wrong usage;"
        " 3 the model or the device cannot be used.",
    )
    parser.set_defaults(command=command or "detect")
    parser.add_argument("--version", action="store_true", help="print the version and what it was built with")
    if command != "models" and "--version" not in words:
        _add_run_options(parser)
        if command == "info":
            parser.add_argument("--layers", action="store_true", help="show the time of every layer")
            _add_format_options(parser, ("table", "json"))
            parser.add_argument("path", metavar="MODEL", nargs="?")
        else:
            _add_format_options(parser, ("table", "json", "csv"))
            _add_detect_options(parser)
    given = parser.parse_args(words)
    if given.command == "info" and not given.version and given.path and given.model:
        parser.error(f"give the model once, as '{given.path}' or with --model")
    return given
