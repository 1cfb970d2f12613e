"""detect.h in ctypes: finds the library, declares its functions and structs."""

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
TUNE = 2


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


class Given(Structure):
    """A struct of the caller's numbers: ctypes alone would take them modulo 2^32."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = next((kind for kind in (c_int32, c_uint32, c_int64) if (name, kind) in self._fields_), None)
        if kind is not None and kind(value).value != value:
            raise ValueError(f"{name} is {value}, which does not fit into {8 * ctypes.sizeof(kind)} bits")
        super().__setattr__(name, value)


class ContextOptions(Given):
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
        ("device_uuid", c_char_p),
        ("max_image_bytes", c_int64),
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


class Thresholds(Given):
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
        ("reserved", c_uint32),
        ("bytes", c_int64),
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


class PoolDevice(Given):
    _fields_ = [("options", POINTER(ContextOptions)), ("n_contexts", c_int32), ("reserved", c_uint32)]


class PoolOptions(Given):
    _fields_ = [
        ("struct_size", c_size_t),
        ("devices", POINTER(PoolDevice)),
        ("n_devices", c_int32),
        ("max_batch", c_int32),
        ("max_delay_us", c_int32),
        ("capacity", c_int32),
        ("max_objects", c_int32),
        ("max_attempts", c_int32),
        ("staging_bytes", c_int64),
    ]


class Request(Given):
    _fields_ = [
        ("struct_size", c_size_t),
        ("objects", c_void_p),
        ("max_objects", c_int32),
        ("priority", c_int32),
        ("deadline_us", c_int64),
        ("thresholds", POINTER(Thresholds)),
        ("pixels", c_int32),
        ("reserved", c_uint32),
    ]


class Answer(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("ticket", c_uint64),
        ("objects", c_void_p),
        ("n_objects", c_int32),
        ("cuts", c_int32),
        ("status", c_int32),
        ("context", c_int32),
        ("batch", c_int32),
        ("n_attempts", c_int32),
        ("wait_us", c_int64),
        ("run_us", c_int64),
        ("message", c_char_p),
    ]


class PoolStats(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("n_contexts", c_int32),
        ("n_in_service", c_int32),
        ("capacity", c_int32),
        ("n_held", c_int32),
        ("n_waiting", c_int32),
        ("n_running", c_int32),
        ("max_waiting", c_int32),
        ("draining", c_int32),
        ("n_submitted", c_int64),
        ("n_rejected", c_int64),
        ("n_succeeded", c_int64),
        ("n_failed", c_int64),
        ("n_cancelled", c_int64),
        ("n_expired", c_int64),
        ("n_retried", c_int64),
        ("n_runs", c_int64),
        ("wait_us", c_int64),
        ("max_wait_us", c_int64),
        ("run_us", c_int64),
        ("max_run_us", c_int64),
        ("staging_bytes", c_int64),
        ("batches", c_int64 * 257),
        ("waits", c_int64 * 32),
        ("runs", c_int64 * 32),
    ]


class PoolContextStats(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("device", c_int32),
        ("device_index", c_int32),
        ("max_batch", c_int32),
        ("in_service", c_int32),
        ("n_running", c_int32),
        ("last_error", c_int32),
        ("n_runs", c_int64),
        ("n_pictures", c_int64),
        ("n_failures", c_int64),
        ("run_us", c_int64),
        ("device_name", c_char_p),
    ]


#: det_answer_fn; the user pointer arrives as a number.
ANSWER_FUNCTION = ctypes.CFUNCTYPE(None, c_size_t, POINTER(Answer))

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
    "det_context_options_init_sized": (None, [c_void_p, c_size_t]),
    "det_context_create": (c_int32, [c_void_p, POINTER(ContextOptions), POINTER(c_void_p)]),
    "det_context_destroy": (None, [c_void_p]),
    "det_context_get_info": (c_int32, [c_void_p, POINTER(ContextInfo)]),
    "det_thresholds_init_sized": (None, [c_void_p, c_size_t]),
    "det_context_set_thresholds": (c_int32, [c_void_p, POINTER(Thresholds)]),
    "det_run": (c_int32, [c_void_p, POINTER(Image), c_int32, POINTER(Output)]),
    "det_context_get_profile": (c_int32, [c_void_p, POINTER(Profile)]),
    "det_pool_options_init_sized": (None, [c_void_p, c_size_t]),
    "det_pool_create": (c_int32, [c_void_p, POINTER(PoolOptions), POINTER(c_void_p)]),
    "det_request_init_sized": (None, [c_void_p, c_size_t]),
    "det_pool_submit": (
        c_int32,
        [c_void_p, POINTER(Image), POINTER(Request), ANSWER_FUNCTION, c_size_t, POINTER(c_uint64)],
    ),
    "det_pool_wait": (c_int32, [c_void_p, c_uint64, c_int64, POINTER(Answer)]),
    "det_pool_cancel": (c_int32, [c_void_p, c_uint64]),
    "det_pool_drain": (c_int32, [c_void_p, c_int64]),
    "det_pool_destroy": (None, [c_void_p]),
    "det_pool_get_stats": (c_int32, [c_void_p, POINTER(PoolStats)]),
    "det_pool_get_context_stats": (c_int32, [c_void_p, c_int32, POINTER(PoolContextStats)]),
}


class Error(Exception):
    """A libdetect call failed. `status` is its det_status, a negative number that never changes its meaning, `message`
    the line that says what went wrong."""

    INVALID_ARGUMENT, OUT_OF_MEMORY, IO, BAD_MODEL, UNSUPPORTED, NO_DEVICE, DEVICE, BUSY, INTERNAL = range(-1, -10, -1)
    QUEUE_FULL, TIMEOUT, DEADLINE, CANCELLED, CLOSED = range(-10, -15, -1)

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.status, self.message = status, message


class QueueFullError(Error):
    """The pool holds as many requests as it may: try again later."""


class DeadlineError(Error):
    """The request's deadline passed before it could run."""


class ClosedError(Error):
    """The pool is being drained and takes no more requests."""


_ERRORS = {Error.QUEUE_FULL: QueueFullError, Error.DEADLINE: DeadlineError, Error.CLOSED: ClosedError}


def error_of(status: int, message: str) -> Error:
    """The exception that a status stands for."""
    return _ERRORS.get(status, Error)(status, lib.det_status_name(status).decode("ascii"), message)


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


def defaults(struct: Type[_Struct], init: Callable[[Any, int], None]) -> _Struct:
    """A struct as the library's init function fills it in, as far as this package knows it."""
    result = struct()
    init(byref(result), ctypes.sizeof(struct))
    return result


lib = _load()
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function = getattr(lib, _name)
    _function.restype = _result
    _function.argtypes = _arguments

# Elements of arrays never change their size.
for _size, _what in ((ctypes.sizeof(Image), "det_image"), (OBJECT_DTYPE.itemsize, "det_object")):
    if _size != 64:
        raise ImportError(f"{_what} takes {_size} bytes on this machine, not 64")


def check(status: int) -> None:
    """Raises the Error that a status stands for."""
    if status != 0:
        raise error_of(status, text(lib.det_last_error()))


def text(value: bytes) -> str:
    """A text of the library; files' texts are UTF-8."""
    return value.decode("utf-8", "replace")


def filled(struct: Type[_Struct], get: Callable[[Any, Any], int], handle: c_void_p) -> _Struct:
    """A struct that the library's get function fills in."""
    result = sized(struct)
    check(get(handle, byref(result)))
    return result
