"""Pictures as the library takes them: numpy's, Pillow's, and arrays in a GPU's memory, none of them copied if it need
not be."""

import contextlib
import ctypes
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np

from . import _library
from ._types import Pixels

_FORMATS = {"rgb": _library.RGB8, "bgr": _library.BGR8}
_HOST, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_LEGACY_STREAM = 1  # in DLPack as in CUDA


@dataclass(frozen=True)
class DeviceArray:
    """uint8 elements in a GPU's memory. `owner` keeps them alive."""

    pointer: int
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]  #: bytes
    owner: Any

    def rows(self) -> List["DeviceArray"]:
        """The arrays of one dimension less."""
        return [
            DeviceArray(self.pointer + i * self.strides[0], self.shape[1:], self.strides[1:], self.owner)
            for i in range(self.shape[0])
        ]


#: A picture as the library takes it, and what must live as long.
Prepared = Tuple[_library.Image, Any]


def prepare_all(images: Any, format: str, device: str) -> Tuple[List[Prepared], bool]:
    """The pictures of a detect call, and whether it was a single one. `device`: where the context runs."""
    if format not in _FORMATS:
        raise ValueError(f"format is {format!r}, not rgb or bgr")
    array = _array(images, device)
    if array is None:
        may_iterate = hasattr(images, "__iter__") or hasattr(images, "__getitem__")
        if not may_iterate or isinstance(images, (str, bytes, Mapping, Set)):
            raise TypeError(f"pictures are an array of uint8 or a list of such, not {type(images).__name__}")
        pictures = [_array(image, device, must=True) for image in images]
        return [_prepare(picture, format) for picture in pictures], False
    if len(array.shape) == 4:
        pictures = array.rows() if isinstance(array, DeviceArray) else list(array)
        return [_prepare(picture, format) for picture in pictures], False
    return [_prepare(array, format)], True


def _array(source: Any, device: str, must: bool = False) -> Any:
    """The array that an object is: a DeviceArray, or one of numpy's; None for what is neither, such as a list.

    DLPack comes first: its producer waits for its own work. PyTorch's __cuda_array_interface__ names no stream to wait
    for."""
    if hasattr(source, "__dlpack_device__") and not isinstance(source, np.ndarray):
        kind = source.__dlpack_device__()[0]
        if kind in (_CUDA, _CUDA_MANAGED):
            _refuse_on_cpu(device)
            return _from_dlpack(source)
        if kind not in (_HOST, _CUDA_HOST):
            raise ValueError(f"a picture lies on a device of DLPack's type {kind}: only the CPU's and CUDA's are read")
        return np.from_dlpack(source)
    if hasattr(source, "__cuda_array_interface__"):
        _refuse_on_cpu(device)
        return _from_cuda(source)
    if hasattr(source, "convert") and getattr(source, "mode", None) not in (None, "RGB", "RGBA", "L"):
        source = source.convert("RGB")  # one of Pillow's: palettes, CMYK, ...
    return np.asarray(source) if must or hasattr(source, "__array_interface__") else None


def _refuse_on_cpu(device: str) -> None:
    if device != "cuda":
        raise ValueError(
            f"a picture lies in the memory of a GPU, and this context runs on the {device.upper()}:"
            " make it with device='cuda', or copy the picture to the host"
        )


def _from_cuda(source: Any) -> DeviceArray:
    """By https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html"""
    interface = source.__cuda_array_interface__
    shape = tuple(interface["shape"])
    if interface["typestr"] not in ("|u1", "<u1"):
        raise TypeError(f"a picture is an array of uint8, not of {interface['typestr']}")
    strides = interface.get("strides") or _dense(shape)
    if interface.get("stream") is not None:
        wait_for_stream(interface["stream"])
    return DeviceArray(interface["data"][0], shape, tuple(strides), source)


def _dense(shape: Tuple[int, ...]) -> Tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides)


class _Tensor(ctypes.Structure):
    """DLTensor, which a DLManagedTensor begins with."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _from_dlpack(source: Any) -> DeviceArray:
    """The capsule is kept and never taken over: it gives the tensor back when it is collected."""
    capsule = source.__dlpack__(stream=_LEGACY_STREAM)
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    tensor = _Tensor.from_address(get_pointer(capsule, b"dltensor"))
    with _primary_context(tensor.device_id):
        wait_for_stream(_LEGACY_STREAM)
    unsigned = 1
    if (tensor.code, tensor.bits, tensor.lanes) != (unsigned, 8, 1):
        raise TypeError(f"a picture is an array of uint8, not of {tensor.bits} bits of DLPack's type {tensor.code}")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else _dense(shape)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, strides, capsule)


def wait_for_stream(stream: int) -> None:
    """Waits until a CUDA stream has done what it was given. The context's own stream knows nothing of it."""
    _drive("cuStreamSynchronize", ctypes.c_void_p(stream))


@contextlib.contextmanager
def _primary_context(index: int) -> Iterator[None]:
    """A GPU's context that all share, made this thread's: a default stream is one of the thread's context, and a thread
    that has not yet used CUDA, as detect_async's, has none."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    _drive("cuDeviceGet", ctypes.byref(device), index)
    _drive("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _drive("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            _drive("cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        _drive("cuDevicePrimaryCtxRelease_v2", device)


def _drive(name: str, *arguments: Any) -> None:
    """A call of CUDA's driver."""
    status = getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments)
    if status != 0:
        raise RuntimeError(f"{name} failed with {status}")


def _prepare(array: Any, format: str) -> Prepared:
    """An array of two or three dimensions."""
    on_device = isinstance(array, DeviceArray)
    if not on_device and array.dtype != np.uint8:
        raise TypeError(f"a picture is an array of uint8, not of {array.dtype}")
    shape, strides = tuple(array.shape), tuple(array.strides)
    if len(shape) == 2:
        shape, strides = shape + (1,), strides + (1,) if strides[1] == 1 else strides + (0,)
    if len(shape) != 3 or shape[2] not in (1, 3, 4) or 0 in shape:
        raise ValueError(f"a picture is height x width x 1, 3 or 4, not {tuple(array.shape)}")
    height, width, channels = shape
    if channels == 4 and format != "rgb":
        raise ValueError("a picture of four channels is RGBA")
    if strides[1:] != (channels, 1) or strides[0] < width * channels:
        if on_device:
            raise ValueError(f"pixels must lie side by side in the GPU's memory; strides are {tuple(array.strides)}")
        array = np.ascontiguousarray(array)
        strides = (width * channels, channels, 1)
    image = _library.Image()
    image.planes[0] = array.pointer if on_device else array.ctypes.data
    image.strides[0] = strides[0] if height > 1 else width * channels
    image.width, image.height = width, height
    image.format = {1: _library.GRAY8, 3: _FORMATS[format], 4: _library.RGBA8}[channels]
    image.memory = _library.MEMORY_DEVICE if on_device else _library.MEMORY_HOST
    return image, array.owner if on_device else array


def as_rgb(picture: Any) -> Pixels:
    """A copy of a picture in the host's memory as height x width x 3."""
    array: Optional[Any] = _array(picture, "cpu", must=True)
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"a picture is uint8, height x width x 1, 3 or 4, not {array.dtype} {array.shape}")
    if array.ndim == 2:
        array = array[:, :, None]
    channels = array[:, :, :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)
    return np.array(channels, np.uint8, order="C")
