"""python -m libdetect: the tool `detect` in Python."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
