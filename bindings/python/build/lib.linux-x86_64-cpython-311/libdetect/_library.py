"""detect.h in ctypes: finds the library, declares its functions and structs, and checks that the two agree."""

import ctypes
import os
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Any, Callable, Iterator, Type, TypeVar

import numpy as np

#: One detection, as `det_object`: corners and landmarks in pixels of the picture, score 0..1.
OBJECT_DTYPE = np.dtype(
    [
        ("x1", "<f4"),
        ("y1", "<f4"),
        ("x2", "<f4"),
        ("y2", "<f4"),
        ("score", "<f4"),
        ("class_id", "<i4"),
        ("landmarks", "<f4", (5, 2)),
    ]
)

RESIZE = ("stretch", "letterbox-top", "letterbox-centre")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "tf32", "fp16", "bf16")
RGB8, BGR8, RGBA8, GRAY8 = range(4)
MEMORY_HOST, MEMORY_DEVICE = range(2)
PROFILE_LAYERS = 1


class ModelInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("family", c_char_p),
        ("variant", c_char_p),
        ("licence", c_char_p),
        ("source", c_char_p),
        ("source_sha256", c_char_p),
        ("class_names", POINTER(c_char_p)),
        ("n_classes", c_int32),
        ("n_landmarks", c_int32),
        ("input_width", c_int32),
        ("input_height", c_int32),
        ("resize", c_int32),
        ("pad_value", c_float),
        ("mean", c_float),
        ("scale", c_float),
        ("score_threshold", c_float),
        ("iou_threshold", c_float),
        ("multi_label", c_int32),
        ("max_objects", c_int32),
        ("n_parameters", c_int64),
    ]


class ContextOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_int32),
        ("device_index", c_int32),
        ("precision", c_int32),
        ("width", c_int32),
        ("height", c_int32),
        ("max_batch", c_int32),
        ("n_threads", c_int32),
        ("max_candidates", c_int32),
        ("flags", c_uint32),
    ]


class ContextInfo(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_int32),
        ("device_index", c_int32),
        ("precision", c_int32),
        ("width", c_int32),
        ("height", c_int32),
        ("max_batch", c_int32),
        ("n_threads", c_int32),
        ("n_layers", c_int32),
        ("macs", c_int64),
        ("weights_bytes", c_int64),
        ("arena_bytes", c_int64),
        ("workspace_bytes", c_int64),
        ("device_name", c_char_p),
    ]


class Thresholds(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("score", c_float),
        ("iou", c_float),
        ("class_scores", c_void_p),
        ("class_enabled", c_void_p),
        ("n_classes", c_int32),
        ("class_agnostic", c_int32),
        ("multi_label", c_int32),
        ("max_objects", c_int32),
    ]


class Image(Structure):
    _fields_ = [
        ("planes", c_void_p * 2),
        ("strides", c_int64 * 2),
        ("width", c_int32),
        ("height", c_int32),
        ("format", c_int32),
        ("memory", c_int32),
        ("reserved", c_uint64 * 2),
    ]


class Output(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("objects", c_void_p),
        ("counts", c_void_p),
        ("max_objects", c_int32),
        ("memory", c_int32),
        ("cuts", c_void_p),
    ]


class LayerTime(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("op", c_char_p),
        ("impl", c_char_p),
        ("shape", c_int32 * 4),
        ("macs", c_int64),
        ("ms", c_float),
        ("reserved", c_uint32 * 3),
    ]


class Profile(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("upload_ms", c_float),
        ("preprocess_ms", c_float),
        ("network_ms", c_float),
        ("decode_ms", c_float),
        ("nms_ms", c_float),
        ("download_ms", c_float),
        ("total_ms", c_float),
        ("n_layers", c_int32),
        ("layers", POINTER(LayerTime)),
    ]


#: det_log_fn
LOG_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p, ctypes.c_int, c_char_p)

# function: (result, arguments)
_FUNCTIONS = {
    "det_status_name": (c_char_p, [c_int32]),
    "det_last_error": (c_char_p, []),
    "det_version": (c_char_p, []),
    "det_build_info": (c_char_p, []),
    "det_set_log": (None, [c_void_p, ctypes.c_int, c_void_p]),
    "det_model_open": (c_int32, [c_char_p, POINTER(c_void_p)]),
    "det_model_open_memory": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "det_model_get_info": (c_int32, [c_void_p, POINTER(ModelInfo)]),
    "det_model_close": (None, [c_void_p]),
    "det_context_options_init": (None, [c_void_p]),
    "det_context_create": (c_int32, [c_void_p, POINTER(ContextOptions), POINTER(c_void_p)]),
    "det_context_destroy": (None, [c_void_p]),
    "det_context_get_info": (c_int32, [c_void_p, POINTER(ContextInfo)]),
    "det_thresholds_init": (None, [c_void_p]),
    "det_context_set_thresholds": (c_int32, [c_void_p, POINTER(Thresholds)]),
    "det_run": (c_int32, [c_void_p, POINTER(Image), c_int32, POINTER(Output)]),
    "det_context_get_profile": (c_int32, [c_void_p, POINTER(Profile)]),
}


class Error(Exception):
    """A libdetect call failed. `status` is its det_status, a negative number that never changes its meaning, `message`
    the line that says what went wrong."""

    INVALID_ARGUMENT, OUT_OF_MEMORY, IO, BAD_MODEL, UNSUPPORTED, NO_DEVICE, DEVICE, BUSY, INTERNAL = range(-1, -10, -1)

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.status, self.message = status, message


def _places() -> Iterator[str]:
    """Where the library may be, in order."""
    here = Path(__file__).resolve().parent
    yield from (str(path) for path in sorted(here.glob("libdetect.so*")))
    if len(here.parents) > 2:  # a checkout: bindings/python/libdetect
        yield from (str(path) for path in (here.parents[2] / "build").glob("libdetect.so"))
    yield "libdetect.so.0"


def _load() -> ctypes.CDLL:
    chosen = os.environ.get("LIBDETECT_LIBRARY")
    tried = []
    for place in [chosen] if chosen else _places():
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            tried.append(f"{place} ({error})")
    raise ImportError("libdetect's library was not found; set LIBDETECT_LIBRARY to it. Tried " + "; ".join(tried))


_Struct = TypeVar("_Struct", bound=Structure)


def sized(struct: Type[_Struct]) -> _Struct:
    """A struct of zeros that says how large it is."""
    return struct(struct_size=ctypes.sizeof(struct))


def defaults(struct: Type[_Struct], init: Callable[[Any], None]) -> _Struct:
    """A struct as the library's init function fills it in.

    The library writes its own idea of the struct, which a later version may have made longer: into room to spare.
    """
    room = (c_uint64 * 128)()
    init(room)
    known = struct.from_buffer_copy(room)
    if known.struct_size < ctypes.sizeof(struct):
        raise ImportError(
            f"the library's {struct.__name__} has {known.struct_size} bytes, this package's {ctypes.sizeof(struct)}:"
            " the library is older than the package"
        )
    known.struct_size = ctypes.sizeof(struct)
    return known


lib = _load()
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function = getattr(lib, _name)
    _function.restype = _result
    _function.argtypes = _arguments

# Elements of arrays never change their size; options may only grow.
for _size, _what in ((ctypes.sizeof(Image), "det_image"), (OBJECT_DTYPE.itemsize, "det_object")):
    if _size != 64:
        raise ImportError(f"{_what} takes {_size} bytes on this machine, not 64")
defaults(ContextOptions, lib.det_context_options_init)
defaults(Thresholds, lib.det_thresholds_init)


def check(status: int) -> None:
    """Raises the Error that a status stands for."""
    if status != 0:
        name = lib.det_status_name(status).decode("ascii")
        raise Error(status, name, lib.det_last_error().decode("utf-8", "replace"))


def text(value: bytes) -> str:
    """A text of the library; files' texts are UTF-8."""
    return value.decode("utf-8", "replace")


def filled(struct: Type[_Struct], get: Callable[[Any, Any], int], handle: c_void_p) -> _Struct:
    """A struct that the library's get function fills in."""
    result = sized(struct)
    check(get(handle, byref(result)))
    return result
