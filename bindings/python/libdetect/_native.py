"""Models and contexts: the Python face of detect.h."""

import ctypes
import os
import re
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from ctypes import byref, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterator,
    List,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    overload,
)

import numpy as np

from . import _library
from ._types import Array, DetectOptions, Detections, Picture
from ._models import default_model, find_model
from ._library import OBJECT_DTYPE, Error, check, lib, text
from .pictures import Prepared, prepare_all

if TYPE_CHECKING:
    from typing_extensions import Unpack

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
    "set_log",
    "version",
]

#: Bits of Context.cuts.
CUT_OBJECTS, CUT_CANDIDATES = 1, 2
LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG = range(4)

_log: Any = None

_PROFILE_TIMES = [item[0] for item in _library.Profile._fields_ if item[0].endswith("_ms")]


def version() -> str:
    """The C library's version, such as "0.1.0"."""
    return text(lib.det_version())


def build_info() -> str:
    """One line for a bug report: what the C library was built from and with."""
    return text(lib.det_build_info())


def set_log(function: Optional[Callable[[int, str], None]], level: int = LOG_WARNING) -> None:
    """Gives lines of log to a function of (level, message); None is silence. Call it before other threads use the
    library.

    level  the most talkative level wanted: LOG_ERROR (0), LOG_WARNING (1), LOG_INFO (2), LOG_DEBUG (3)
    """
    global _log
    if function is None:
        lib.det_set_log(None, level, None)
        _log = None
        return
    called = function
    callback = _library.LOG_FUNCTION(lambda _, at, message: called(at, text(message)))
    lib.det_set_log(ctypes.cast(callback, c_void_p), level, None)
    _log = callback  # the library holds a bare pointer


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself."""

    family: str
    variant: str
    licence: str  #: of the weights; "" when the file does not say
    source: str  #: name of the file that the weights came from
    source_sha256: str
    class_names: Tuple[str, ...]
    n_landmarks: int  #: per object: 0 or 5
    input_size: Tuple[int, int]  #: width, height of the native input, pixels
    resize: str  #: "stretch", "letterbox-top" or "letterbox-centre"
    pad_value: float  #: grey level around a letterboxed picture
    mean: float  #: network input = (grey level - mean) * scale
    scale: float
    score_threshold: float
    iou_threshold: float
    multi_label: bool
    max_objects: int
    n_parameters: int


@dataclass(frozen=True)
class ContextInfo:
    """What a context runs on and what it takes."""

    device: str  #: "cpu" or "cuda"
    device_index: int
    device_name: str
    precision: str  #: "fp32", "tf32", "fp16" or "bf16"
    input_size: Tuple[int, int]  #: width, height, pixels
    max_batch: int
    n_threads: int
    n_layers: int
    macs: int  #: multiply-accumulates of one picture
    weights_bytes: int
    arena_bytes: int
    workspace_bytes: int


@dataclass(frozen=True)
class LayerTime:
    """One layer of a run."""

    name: str
    op: str
    impl: str  #: what runs it
    shape: Tuple[int, ...]  #: of its output: n, h, w, c
    macs: int  #: of the whole batch
    ms: float  #: 0 unless the context was made with profile_layers
    bytes: int  #: read and written, parameters included, of the whole batch, if each tensor moved once


@dataclass(frozen=True)
class Profile:
    """Times of a context's last run, in milliseconds; zeros before the first."""

    upload_ms: float
    preprocess_ms: float
    network_ms: float
    decode_ms: float
    nms_ms: float
    download_ms: float
    total_ms: float
    layers: Tuple[LayerTime, ...]


_Self = TypeVar("_Self", bound="_Handle")


class _Handle:
    """An object of the library, given back once: by close(), at the end of a `with`, or with the last reference."""

    def __init__(self, handle: c_void_p, release: Callable[[c_void_p], None]) -> None:
        self._pointer = handle
        self._release = weakref.finalize(self, release, handle)
        self._calls = threading.Condition()
        self._n_calls = 0
        self._closed = False

    @contextmanager
    def _call(self) -> Iterator[c_void_p]:
        """The library's object for as long as the `with` lasts: another thread's close() waits for its end."""
        with self._calls:
            self._check_open()
            self._n_calls += 1
        try:
            yield self._pointer
        finally:
            with self._calls:
                self._n_calls -= 1
                self._calls.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"this {type(self).__name__} is closed")

    def close(self) -> None:
        """Waits for what other threads have under way and gives the memory back; using the object afterwards raises
        ValueError. Closing twice is allowed."""
        with self._calls:
            self._closed = True
            self._calls.wait_for(lambda: self._n_calls == 0)
        self._release()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: make another")

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


class Model(_Handle):
    """Weights and their description: immutable, shared by any number of threads and contexts.

    source  a model file's path, or its bytes; or, where there is no such file, the name of a model that comes with
            libdetect: "damofd-2.5g-kps"; None: what default_model() finds
    """

    def __init__(self, source: Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, None] = None) -> None:
        handle = c_void_p()
        if source is None:
            source = default_model()
        if isinstance(source, str):
            source = find_model(source)
        if isinstance(source, (bytes, bytearray, memoryview)):
            data = bytes(source)
            check(lib.det_model_open_memory(data, len(data), byref(handle)))
        else:
            path = os.fsencode(source)
            if b"\0" in path:
                raise ValueError("the file's name has a zero byte in it")
            check(lib.det_model_open(path, byref(handle)))
        super().__init__(handle, lib.det_model_close)
        self._default: Optional[Context] = None
        self._default_lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """The model's description."""
        with self._call() as model:
            raw = _library.filled(_library.ModelInfo, lib.det_model_get_info, model)
            return ModelInfo(
                family=text(raw.family),
                variant=text(raw.variant),
                licence=text(raw.licence),
                source=text(raw.source),
                source_sha256=text(raw.source_sha256),
                class_names=tuple(text(raw.class_names[i]) for i in range(raw.n_classes)),
                n_landmarks=raw.n_landmarks,
                input_size=(raw.input_width, raw.input_height),
                resize=_library.RESIZE[raw.resize],
                pad_value=raw.pad_value,
                mean=raw.mean,
                scale=raw.scale,
                score_threshold=raw.score_threshold,
                iou_threshold=raw.iou_threshold,
                multi_label=bool(raw.multi_label),
                max_objects=raw.max_objects,
                n_parameters=raw.n_parameters,
            )

    @overload
    def detect(self, images: Picture, **options: "Unpack[DetectOptions]") -> Detections: ...
    @overload
    def detect(self, images: Sequence[Picture], **options: "Unpack[DetectOptions]") -> List[Detections]: ...
    def detect(
        self, images: Union[Picture, Sequence[Picture]], **options: "Unpack[DetectOptions]"
    ) -> Union[Detections, List[Detections]]:
        """Detects with a context of default options, made at the first call; see Context.detect."""
        return self._context().detect(images, **options)

    @overload
    def detect_async(self, images: Picture, **options: "Unpack[DetectOptions]") -> "Future[Detections]": ...
    @overload
    def detect_async(
        self, images: Sequence[Picture], **options: "Unpack[DetectOptions]"
    ) -> "Future[List[Detections]]": ...
    def detect_async(self, images: Any, **options: Any) -> "Future[Any]":
        """The same in the background; see Context.detect_async."""
        return self._context().detect_async(images, **options)

    def _context(self) -> "Context":
        self._check_open()
        with self._default_lock:
            if self._default is None:
                self._default = Context(self)
            return self._default

    def close(self) -> None:
        """Gives the model and its default context back. Other contexts live on."""
        if self._default is not None:
            self._default.close()
        super().close()


class Context(_Handle):
    """A plan for one model on one device at one precision and input size. Calls from several threads take turns.

    device          "auto" (CUDA where it works, else the CPU), "cpu", "cuda", "cuda:1", "cuda:GPU-8a3f..." or "cuda:MIG-..."
                    (a UUID)
    device_index    of the CUDA device, when `device` does not say
    precision       "auto" (fp32 on the CPU, fp16 on CUDA), "fp32", "tf32", "fp16" or "bf16"
    input_size      width, height of the network's input, multiples of 32; None: the model's own
    max_batch       most pictures in one run; longer lists are run in parts
    n_threads       CPU threads; 0: one per core. On CUDA they compile while the context is made
    max_candidates  boxes per picture that enter NMS; 0: 4096
    profile_layers  time every layer of every run
    tune            CUDA: try the best few implementations of every convolution; creation takes seconds more
    max_image_bytes CUDA: room on the device for each picture from host memory; 0: 1920 x 1088 x 3
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "auto",
        device_index: int = 0,
        precision: str = "auto",
        input_size: Optional[Tuple[int, int]] = None,
        max_batch: int = 1,
        n_threads: int = 0,
        max_candidates: int = 0,
        profile_layers: bool = False,
        tune: bool = False,
        max_image_bytes: int = 0,
    ) -> None:
        options = _context_options(
            device, device_index, precision, input_size, max_batch, n_threads, max_candidates, profile_layers, tune,
            max_image_bytes,
        )
        if not isinstance(model, Model):
            raise TypeError(f"a context is made of a Model, not of {model!r:.80}")
        handle = c_void_p()
        self._max_objects = model.info.max_objects
        with model._call() as opened:
            check(lib.det_context_create(opened, byref(options), byref(handle)))
        super().__init__(handle, lib.det_context_destroy)
        self._lock = threading.Lock()
        info = self.info
        self._max_batch, self._device = info.max_batch, info.device
        self._cuts: List[int] = []
        self._worker: Optional[ThreadPoolExecutor] = None
        self._worker_threads: List[int] = []

    @property
    def info(self) -> ContextInfo:
        """What the context runs on; the figures of memory are complete before the first run."""
        with self._call() as context:
            raw = _library.filled(_library.ContextInfo, lib.det_context_get_info, context)
            return ContextInfo(
                device=_library.DEVICES[raw.device],
                device_index=raw.device_index,
                device_name=text(raw.device_name),
                precision=_library.PRECISIONS[raw.precision],
                input_size=(raw.width, raw.height),
                max_batch=raw.max_batch,
                n_threads=raw.n_threads,
                n_layers=raw.n_layers,
                macs=raw.macs,
                weights_bytes=raw.weights_bytes,
                arena_bytes=raw.arena_bytes,
                workspace_bytes=raw.workspace_bytes,
            )

    @property
    def cuts(self) -> Tuple[int, ...]:
        """For each picture of the last detect, what was left out: CUT_OBJECTS (1) more objects than max_objects,
        CUT_CANDIDATES (2) more boxes than max_candidates; 0 when nothing was."""
        return tuple(self._cuts)

    @overload
    def detect(self, images: Picture, **options: "Unpack[DetectOptions]") -> Detections: ...
    @overload
    def detect(self, images: Sequence[Picture], **options: "Unpack[DetectOptions]") -> List[Detections]: ...
    def detect(
        self,
        images: Union[Picture, Sequence[Picture]],
        *,
        score: Optional[float] = None,
        iou: Optional[float] = None,
        class_scores: Optional[Sequence[float]] = None,
        class_enabled: Optional[Sequence[bool]] = None,
        class_agnostic: bool = False,
        multi_label: Optional[bool] = None,
        max_objects: Optional[int] = None,
        format: str = "rgb",
    ) -> Union[Detections, List[Detections]]:
        """Detects in one picture or in several.

        images         uint8 array, height x width x 3, height x width (grey) or height x width x 4 (RGBA); or a list
                       of such, of any sizes; or n x height x width x c, which type checkers, blind to the number of
                       dimensions, take for one picture: list(images) says the same to them. Rows may be apart; other
                       strides are copied.
                       numpy's; Pillow's pictures; on a CUDA context whatever has __cuda_array_interface__ or DLPack's
                       methods and lies in a GPU's memory (PyTorch's, CuPy's, ...), which is read there
        score, iou     thresholds, 0 to 1; None: the model's
        class_scores   a score threshold for each class, negative for `score`
        class_enabled  a flag for each class; False drops it
        class_agnostic boxes of different classes suppress each other
        multi_label    every class above its threshold counts, not only a box's best; None: the model's
        max_objects    most objects per picture; None: the model's
        format         order of three channels: "rgb" or "bgr"

        Returns an array of OBJECT_DTYPE, sorted by falling score: x1, y1, x2, y2 and landmarks in pixels of the
        picture, where (0, 0) is the top-left corner of the first pixel; for a list of pictures, a list of arrays.
        """
        prepared, single = prepare_all(images, format, self._device)
        room = room_for(max_objects, self._max_objects)
        thresholds, kept = _thresholds(score, iou, class_scores, class_enabled, multi_label, room)
        thresholds.class_agnostic = int(class_agnostic)
        results: List[Detections] = []
        with self._lock, self._call() as context:
            check(lib.det_context_set_thresholds(context, byref(thresholds)))
            del kept  # the library has copied them
            self._cuts = []
            for start in range(0, len(prepared), self._max_batch):
                results += self._run(context, prepared[start : start + self._max_batch], room)
        return results[0] if single else results

    @overload
    def detect_async(self, images: Picture, **options: "Unpack[DetectOptions]") -> "Future[Detections]": ...
    @overload
    def detect_async(
        self, images: Sequence[Picture], **options: "Unpack[DetectOptions]"
    ) -> "Future[List[Detections]]": ...
    def detect_async(self, images: Any, **options: Any) -> "Future[Any]":
        """Begins detect(images, **options) in a thread of this context and returns at once.

        Returns a Future: result() waits for what detect returns, or raises what it raises; with asyncio,
        `await asyncio.wrap_future(future)`. Calls are worked off in their order. The pictures must not change until
        then. Closing the context waits for all of them.
        """
        self._check_open()
        with self._lock:
            if self._worker is None:
                self._worker = ThreadPoolExecutor(
                    max_workers=1,
                    thread_name_prefix="libdetect",
                    initializer=lambda threads: threads.append(threading.get_ident()),
                    initargs=(self._worker_threads,),
                )
        return self._worker.submit(lambda: self.detect(images, **options))

    def close(self) -> None:
        """Waits for what detect_async began, and for what other threads have under way, and gives the memory back;
        using the context afterwards raises ValueError. Closing twice is allowed. In a callback of detect_async's Future
        nothing can wait for what was begun after it, which then raises ValueError."""
        if self._worker is not None:
            self._worker.shutdown(wait=threading.get_ident() not in self._worker_threads)
        super().close()

    def _run(self, context: c_void_p, batch: List[Prepared], room: int) -> List[Detections]:
        n = len(batch)
        images = (_library.Image * n)(*(image for image, _ in batch))
        objects = np.zeros((n, room), OBJECT_DTYPE)
        counts = np.zeros(n, np.int32)
        cuts = np.zeros(n, np.int32)
        output = _library.sized(_library.Output)
        output.objects = objects.ctypes.data
        output.counts = counts.ctypes.data
        output.cuts = cuts.ctypes.data
        output.max_objects = room
        check(lib.det_run(context, images, n, byref(output)))
        self._cuts += cuts.tolist()
        return [objects[i, : counts[i]].copy() for i in range(n)]

    def profile(self) -> Profile:
        """The times of the last run."""
        with self._lock, self._call() as context:
            raw = _library.filled(_library.Profile, lib.det_context_get_profile, context)
            layers = tuple(_layer_time(raw.layers[i]) for i in range(raw.n_layers))
        times = {name: getattr(raw, name) for name in _PROFILE_TIMES}
        return Profile(layers=layers, **times)


_DEVICE = re.compile("(?P<kind>auto|cpu|cuda)|cuda:((?P<index>[0-9]+)|(?P<uuid>(GPU|MIG)-.+))")


def _context_options(
    device: str,
    device_index: int,
    precision: str,
    input_size: Optional[Tuple[int, int]],
    max_batch: int,
    n_threads: int,
    max_candidates: int,
    profile_layers: bool = False,
    tune: bool = False,
    max_image_bytes: int = 0,
) -> _library.ContextOptions:
    options = _library.defaults(_library.ContextOptions, lib.det_context_options_init_sized)
    match = _DEVICE.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise ValueError(f"device is {device!r}, not one of auto, cpu, cuda, cuda:N, cuda:GPU-... and cuda:MIG-...")
    options.device = _library.DEVICES.index(match["kind"] or "cuda")
    options.device_index = int(match["index"] or device_index)
    if match["uuid"]:
        options.device_uuid = match["uuid"].encode()
    options.precision = _choice(precision, _library.PRECISIONS, "precision")
    options.width, options.height = input_size or (0, 0)
    options.max_batch = max_batch
    options.n_threads = n_threads
    options.max_candidates = max_candidates
    options.flags = (_library.PROFILE_LAYERS if profile_layers else 0) | (_library.TUNE if tune else 0)
    options.max_image_bytes = max_image_bytes
    return options


def _layer_time(raw: _library.LayerTime) -> LayerTime:
    return LayerTime(text(raw.name), text(raw.op), text(raw.impl), tuple(raw.shape), raw.macs, raw.ms, raw.bytes)


def _choice(value: object, choices: Sequence[str], what: str) -> int:
    if value not in choices:
        raise ValueError(f"{what} is {value!r}, not one of {', '.join(choices)}")
    return choices.index(str(value))


def room_for(max_objects: Optional[int], default: int) -> int:
    """Most objects of a picture; the library, to which a negative number is the default, checks what is too many."""
    if max_objects is None:
        return default
    if max_objects < 0:
        raise ValueError(f"max_objects is {max_objects}; 1 or more is allowed, and None for the model's")
    return max_objects


def _thresholds(
    score: Optional[float],
    iou: Optional[float],
    class_scores: Optional[Sequence[float]],
    class_enabled: Optional[Sequence[bool]],
    multi_label: Optional[bool],
    max_objects: int,
) -> Tuple[_library.Thresholds, List[Array]]:
    """The struct, and the arrays that it points into."""
    result = _library.defaults(_library.Thresholds, lib.det_thresholds_init_sized)
    kept: List[Array] = []
    for name, value in (("score", score), ("iou", iou)):
        if value is None:
            continue
        if value < 0:  # to the library, which checks the rest, the model's
            raise ValueError(f"{name} is {value}; 0 to 1 is allowed, and None for the model's")
        setattr(result, name, value)
    if multi_label is not None:
        result.multi_label = int(multi_label)
    result.max_objects = max_objects
    for name, values, dtype in (("class_scores", class_scores, np.float32), ("class_enabled", class_enabled, np.uint8)):
        if values is not None:
            array = np.ascontiguousarray(values, dtype)
            if array.ndim != 1 or (kept and array.size != kept[0].size):
                raise ValueError("class_scores and class_enabled are not flat and of the same length")
            kept.append(array)
            setattr(result, name, array.ctypes.data)
            result.n_classes = array.size
    return result, kept
