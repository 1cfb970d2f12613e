"""Names of types that several modules speak of."""

from typing import Any

import numpy as np

#: Any array; numpy 1's own name, bare, is none that a strict type checker takes.
Array = np.ndarray[Any, np.dtype[Any]]
#: Grey levels: height x width, or height x width x channels.
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
