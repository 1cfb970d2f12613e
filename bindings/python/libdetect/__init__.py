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
        OBJECT_DTYPE,
        Context,
        ContextInfo,
        Error,
        LayerTime,
        Model,
        ModelInfo,
        Profile,
        version,
    )

__version__ = "0.1.0"
__all__ = [
    "CUT_CANDIDATES",
    "CUT_OBJECTS",
    "OBJECT_DTYPE",
    "Context",
    "ContextInfo",
    "Error",
    "LayerTime",
    "Model",
    "ModelInfo",
    "Profile",
    "default_model",
    "version",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import _native

        return getattr(_native, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
