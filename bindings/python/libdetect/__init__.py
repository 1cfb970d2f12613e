"""libdetect for Python: pictures in, boxes out. Arrays are numpy's; the work is done by the C library.

    import libdetect

    with libdetect.Model() as model:            # the face detector that comes with libdetect; or a model file's name
        faces = model.detect(picture)           # picture: height x width x 3, uint8, RGB
        print(faces["score"], faces["landmarks"])

`python3 -m libdetect.convert` turns published checkpoints into model files; it does not need the C library, which is
loaded when one of the names below is first used.
"""

from typing import TYPE_CHECKING, Any, List

from ._models import default_model

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
    from ._library import ClosedError, DeadlineError, QueueFullError
    from ._types import Detections, Picture
    from .drawing import draw
    from .pool import Answer, Pool, PoolContextStats, PoolDevice, PoolStats, Request

__version__ = "0.1.0"
__all__ = [
    "CUT_CANDIDATES",
    "CUT_OBJECTS",
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_INFO",
    "LOG_WARNING",
    "OBJECT_DTYPE",
    "Answer",
    "ClosedError",
    "Context",
    "ContextInfo",
    "DeadlineError",
    "Detections",
    "Error",
    "LayerTime",
    "Model",
    "ModelInfo",
    "Picture",
    "Pool",
    "PoolContextStats",
    "PoolDevice",
    "PoolStats",
    "Profile",
    "QueueFullError",
    "Request",
    "build_info",
    "default_model",
    "draw",
    "set_log",
    "version",
]
#: Names that are not _native's.
_ELSEWHERE = {
    **dict.fromkeys(("Answer", "Pool", "PoolContextStats", "PoolDevice", "PoolStats", "Request"), "pool"),
    **dict.fromkeys(("ClosedError", "DeadlineError", "QueueFullError"), "_library"),
    **dict.fromkeys(("Detections", "Picture"), "_types"),
    "draw": "drawing",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        import importlib

        return getattr(importlib.import_module(f".{_ELSEWHERE.get(name, '_native')}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
