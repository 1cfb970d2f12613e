"""Names of types that several modules speak of."""

from typing import Any, Optional, Protocol, Sequence, Tuple, TypedDict, Union

import numpy as np

#: Any array; numpy 1's own name, bare, is none that a strict type checker takes.
Array = np.ndarray[Any, np.dtype[Any]]
#: Grey levels: height x width, or height x width x channels.
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
#: What was found in one picture: an array of OBJECT_DTYPE.
Detections = np.ndarray[Any, np.dtype[np.void]]


class _HostArray(Protocol):
    """numpy's arrays, Pillow's pictures."""

    @property
    def __array_interface__(self) -> Any: ...


class _CudaArray(Protocol):
    """What lies in a GPU's memory."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


class _DlpackArray(Protocol):
    """What lies in any memory."""

    def __dlpack__(self) -> Any: ...

    def __dlpack_device__(self) -> Tuple[Any, int]: ...


#: One picture. Elements must be uint8, which no protocol can say.
Picture = Union[_HostArray, _CudaArray, _DlpackArray]


class DetectOptions(TypedDict, total=False):
    """What Context.detect takes beside the pictures."""

    score: Optional[float]
    iou: Optional[float]
    class_scores: Optional[Sequence[float]]
    class_enabled: Optional[Sequence[bool]]
    class_agnostic: bool
    multi_label: Optional[bool]
    max_objects: Optional[int]
    format: str


class SubmitOptions(DetectOptions, total=False):
    """What Pool.submit takes beside the picture."""

    priority: int
    deadline: Optional[float]
