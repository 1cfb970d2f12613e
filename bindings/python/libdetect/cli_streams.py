"""Standard streams, which may be closed, full, or gone."""

import errno
import os
import re
import sys
from typing import Sequence

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class OutputError(Exception):
    """Standard output cannot be written; the message is one line that says why."""


def fill_closed_streams() -> None:
    """Puts something in the place of closed standard streams that can only be used in the wrong direction. Their
    numbers would go to the next files opened, and results end up in a picture."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 0 else os.O_RDONLY)


def clean(text: str) -> str:
    """A text that a terminal does not obey."""
    return _UNSAFE.sub("?", text)


def cause(error: BaseException) -> str:
    """Why a command cannot be loaded, in one line: numpy's own message is a page."""
    while error.__cause__ is not None:
        error = error.__cause__
    return "out of memory" if isinstance(error, MemoryError) else f"numpy cannot be loaded: {error}"


def complain(message: object) -> None:
    """One line on standard error, as far as anybody listens."""
    if sys.stderr is None:  # print would take standard output
        return
    try:
        print("libdetect:", clean(str(message)), file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = open(os.devnull, "w")  # the old one's flush at the end would fail once more


def write(lines: Sequence[str]) -> None:
    """Lines of output. Names of files are bytes, which need not be UTF-8. Flushed: a reader need not wait for the next
    picture."""
    text = "".join(line + "\n" for line in lines)
    if sys.stdout is None:
        raise OutputError(os.strerror(errno.EBADF))
    try:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.buffer.flush()
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # as above
        raise OutputError(error.strerror) from None
