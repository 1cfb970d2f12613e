"""python -m libdetect: the tool `detect` in Python."""

import os
import signal
import sys

from .cli_streams import cause, complain, fill_closed_streams

_MODEL = 3  # cli.MODEL, where cli itself cannot be loaded


def main() -> int:
    """The command as a process of its own. Returns its exit status."""
    fill_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is not ignored, as nohup wants it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, in the middle of a run, too
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's: of no use here, and each takes memory
    try:
        from . import cli
    except (ImportError, MemoryError) as error:
        complain(cause(error))
        return _MODEL
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
