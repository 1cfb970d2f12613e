"""Picture files: found, read and written. PPM and PGM need nothing but numpy, PNG and JPEG are read by Pillow."""

import os
import re
import stat
import struct
import zlib
from typing import Any, List

import numpy as np

from . import whole_file
from ._types import Pixels

_READ_BYTES = 1 << 20
_MARK = b"tEXtSoftware\0libdetect"
EXTENSIONS = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".pnm")


class PictureError(Exception):
    """A picture cannot be read or written; the message is one line that says why."""


def find(argument: str) -> List[str]:
    """What an argument of the command line stands for: itself, or a directory's pictures with those below it, in the
    order of their bytes and without hidden ones."""
    if not os.path.isdir(argument):
        return [argument]
    found = []
    for folder, folders, names in os.walk(argument):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS) and os.path.isfile(path):
                found.append(path)
    if not found:
        raise PictureError("no pictures in this directory")
    return sorted(found, key=os.fsencode)


def read(path: str, max_side: int, max_bytes: int) -> Pixels:
    """A picture as it is seen: uint8, height x width x 3, RGB. At most max_side pixels a side, max_bytes in the file
    and decoded."""
    try:
        return _decode(_read_bytes(path, max_bytes), max_side, max_bytes)
    except MemoryError:
        raise PictureError("out of memory") from None


def _read_bytes(path: str, max_bytes: int) -> bytearray:
    """A file's bytes. It may be a pipe, whose length shows as it is read."""
    data, piece = bytearray(), b"?"
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size > max_bytes:
                raise PictureError(f"the file has {status.st_size} bytes, the limit is {max_bytes}")
            while piece and len(data) <= max_bytes:
                piece = file.read(_READ_BYTES)
                data += piece
    except OSError as error:
        raise PictureError(f"cannot open: {error.strerror}") from None
    if len(data) > max_bytes:
        raise PictureError(f"the file is longer than the limit of {max_bytes} bytes")
    return data


def _decode(data: bytearray, max_side: int, max_bytes: int) -> Pixels:
    if not data:
        raise PictureError("empty file")
    if data.startswith((b"P5", b"P6")):
        return _read_pnm(data, max_side, max_bytes)
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return _read_with_pillow(data, max_side, max_bytes)
    raise PictureError("not a PNG, JPEG, binary PPM or binary PGM picture")


def _check_size(width: int, height: int, max_side: int, max_bytes: int) -> None:
    if width == 0 or height == 0:
        raise PictureError(f"{width}x{height} pixels: no picture at all")
    if max(width, height) > max_side:
        raise PictureError(f"{width}x{height} pixels, the limit is {max_side} a side")
    if 3 * width * height > max_bytes:
        raise PictureError(f"{width}x{height} pixels take {3 * width * height} bytes, the limit is {max_bytes}")


def _read_pnm(data: bytearray, max_side: int, max_bytes: int) -> Pixels:
    blank = rb"(?:[ \t-\r]|#[^\n\r]*[\n\r])+"
    header = re.match(rb"P[56]" + 3 * (blank + rb"(\d{1,10})") + rb"[ \t-\r]", data)
    if header is None:
        raise PictureError(f"P{data[1:2].decode()} header is damaged")
    width, height, largest = map(int, header.groups())
    if not 1 <= largest <= 255:
        raise PictureError(f"P{data[1:2].decode()} with samples up to {largest}: only 1 to 255 can be read")
    _check_size(width, height, max_side, max_bytes)
    channels = 3 if data[1:2] == b"6" else 1
    n_samples = width * height * channels
    if len(data) - header.end() < n_samples:
        raise PictureError(f"{width}x{height} pixels need {n_samples} bytes, the file ends after"
                           f" {len(data) - header.end()}")
    samples = np.frombuffer(data, np.uint8, n_samples, header.end())
    scaled = np.minimum((np.arange(256) * 255 + largest // 2) // largest, 255).astype(np.uint8)
    return np.array(np.broadcast_to(scaled[samples].reshape(height, width, channels), (height, width, 3)))


def _read_with_pillow(data: bytearray, max_side: int, max_bytes: int) -> Pixels:
    import io

    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise PictureError("PNG and JPEG are read by Pillow: pip install Pillow") from None
    except ImportError as error:
        raise PictureError(f"Pillow cannot be loaded: {error}") from None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            width, height = picture.size
            _check_size(width, height, max_side, max_bytes)
            if picture.mode in ("I", "I;16"):  # 16 bits of grey, which convert would cut off
                wide = np.asarray(picture).astype(np.int64)
                grey = ((wide * 255 + 32895) >> 16).astype(np.uint8)
                return np.repeat(grey[:, :, None], 3, axis=2)
            upright = ImageOps.exif_transpose(picture) if picture.format == "JPEG" else picture
            return np.array((upright or picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"damaged picture: {error}") from None


def is_marked(path: str) -> bool:
    """Whether a file is a PNG that this module or the tool `detect` has written, by the mark behind its header."""
    try:
        with open(path, "rb") as file:
            return file.read(37 + len(_MARK))[37:] == _MARK
    except OSError:
        return False


def write_png(path: str, picture: Pixels) -> None:
    """Writes height x width x 3 as a PNG, with the mark."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = picture.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # before each row, the number of its filter: none
    rows[:, 1:] = picture.reshape(height, 3 * width)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(_MARK[:4], _MARK[4:])
    body += chunk(b"IDAT", zlib.compress(rows.tobytes(), 3)) + chunk(b"IEND", b"")
    try:
        whole_file.write(path, [b"\x89PNG\r\n\x1a\n", body])
    except OSError as error:
        raise PictureError(f"cannot write: {error.strerror}") from None
