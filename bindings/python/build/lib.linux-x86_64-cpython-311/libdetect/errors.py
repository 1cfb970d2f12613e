"""What the converter raises."""

MAX_CHARS = 1000


class ConvertError(Exception):
    """A checkpoint cannot be used; the message is one line that says why.

    Messages quote names from files that may mean harm: whatever is not printable becomes a question mark.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message[:MAX_CHARS]))
