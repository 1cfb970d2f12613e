"""What the converter raises."""


class ConvertError(Exception):
    """A checkpoint cannot be used; the message is one line that says why."""
