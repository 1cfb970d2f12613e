"""Files that appear under their names only when they are complete."""

import contextlib
import os
import secrets
from typing import Sequence, Union


def write(path: str, pieces: Sequence[Union[bytes, memoryview]]) -> None:
    """Writes a file, or replaces it. What is written lies beside it until then, under a name that is nobody's."""
    part = os.path.join(os.path.dirname(path), f".libdetect-{secrets.token_hex(8)}.part")
    file = open(part, "xb")
    try:
        with file:
            for piece in pieces:
                file.write(piece)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
