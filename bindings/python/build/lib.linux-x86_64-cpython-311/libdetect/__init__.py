"""libdetect for Python: pictures in, boxes out. Arrays are numpy's; the work is done by the C library.

    import libdetect

    with libdetect.Model("faces.safetensors") as model:
        faces = model.detect(picture)           # picture: height x width x 3, uint8, RGB
        print(faces["score"], faces["landmarks"])

`python3 -m libdetect.convert` turns published checkpoints into model files; it does not need the C library, which is
loaded when one of the names below is first used.
"""

from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from ._native import (
        CUT_CANDIDATES,
        CUT_OBJECTS,
        LOG_DEBUG,
        LOG_ERROR,
        LOG_INFO,
        LOG_WARNING,
        OBJECT_DTYPE,
        Context,
        ContextInfo,
        Error,
        LayerTime,
        Model,
        ModelInfo,
        Profile,
        build_info,
        set_log,
        version,
    )
    from .drawing import draw

__version__ = "0.1.0"
__all__ = [
    "CUT_CANDIDATES",
    "CUT_OBJECTS",
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_INFO",
    "LOG_WARNING",
    "OBJECT_DTYPE",
    "Context",
    "ContextInfo",
    "Error",
    "LayerTime",
    "Model",
    "ModelInfo",
    "Profile",
    "build_info",
    "draw",
    "set_log",
    "version",
]


def __getattr__(name: str) -> Any:
    if name == "draw":
        from . import drawing

        return drawing.draw
    if name in __all__:
        from . import _native

        return getattr(_native, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
