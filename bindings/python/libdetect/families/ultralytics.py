"""YOLOv5 6.0 to 7.0, YOLOv8 and YOLO11: five published variants each, or any other width, depth and class count."""

import re
from typing import Iterable, List, Optional, Set

import numpy as np

from ..errors import ConvertError
from ..onnx_reader import Graph
from . import coco
from .base import Defaults, Family
from .graph import Constants, is_bin_mean
from .layout import Layout, Tensors, channels_of
from .yolo_layouts import PUBLISHED, Counted, Published, Size, yolo11, yolov5, yolov8

_OTHER_TASKS = {
    "a segmentation model": re.compile(r"model\.\d+\.proto\."),
    "a pose or oriented-box model": re.compile(r"model\.\d+\.cv4\."),
    "a classification model": re.compile(r"model\.\d+\.linear\."),
    "a YOLOv10 model": re.compile(r"model\.\d+\.one2one_"),
}
_ACTIVATIONS = "torch.nn.modules.activation."
_HEAD = re.compile(r"model\.\d+\.(cv[23]\.\d\.2|m\.\d)\.(weight|bias)$")


def _generation(names: Set[str]) -> Optional[str]:
    """The family whose detection layer a checkpoint has; None when it is not of Ultralytics' making at all."""
    if not any(name.startswith("model.0.") for name in names):
        return None
    for task, pattern in _OTHER_TASKS.items():
        if any(pattern.match(name) for name in names):
            raise ConvertError(f"{task}; only detection models can be converted")
    for family, mark in (("yolov5", "24.m.0"), ("yolov8", "22.cv3.0.2"), ("yolo11", "23.cv3.0.2")):
        if f"model.{mark}.weight" in names:
            return family
    raise ConvertError("a YOLO, but without the detection layer of YOLOv5 6.0 to 7.0, YOLOv8 or YOLO11")


class Ultralytics(Family):
    """What the three generations share: a list of modules, each convolution with its BatchNorm as .conv and .bn."""

    def claims(self, names: Set[str]) -> bool:
        return _generation(names) == self.name

    def norm_of(self, layer: str) -> Optional[str]:
        return f"{layer[:-5]}.bn" if layer.endswith(".conv") else None

    def rename(self, layer: str) -> str:
        return layer[:-5] if layer.endswith(".conv") else layer

    def custom_layout(self, folded: Tensors) -> Optional[Layout]:
        """Any widths and depths: names and kernels are checked here, channels by the library when it builds."""
        layout = self.build("custom", Counted(folded), self.n_classes(folded) or 1)
        for name, shape in layout.shapes.items():
            actual = folded[name].shape if name in folded else ()
            fixed = 1 if _HEAD.match(name) else 0  # what it puts out is told by classes and bins
            known = shape[:fixed] + shape[2:]
            if len(shape) in (1, 4) and len(actual) == len(shape) and actual[:fixed] + actual[2:] == known:
                layout.shapes[name] = actual
        return layout

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        for variant in PUBLISHED[self.name]:
            yield self.build(variant, Published(self.name, variant), n_classes)

    def build(self, variant: str, size: Size, n_classes: int) -> Layout:
        """The layout of one size."""
        raise NotImplementedError

    def default_classes(self, n_classes: int) -> List[str]:
        return coco.default_names(n_classes)

    def check_modules(self, classes: Set[str]) -> None:
        other = sorted(name for name in classes if name.startswith(_ACTIVATIONS) and name != f"{_ACTIVATIONS}SiLU")
        if other:
            raise ConvertError(f"its activation is {other[0][len(_ACTIVATIONS) :]}, not SiLU")


class Yolov5(Ultralytics):
    """Three anchors a level; box, objectness and classes in one convolution."""

    name = "yolov5"
    needless = re.compile(r"num_batches_tracked$|^model\.24\.anchor_grid$")

    def n_classes(self, folded: Tensors) -> Optional[int]:
        c_out = channels_of(folded, "model.24.m.0.weight")
        return c_out and self.n_classes_of_last(c_out)

    def n_classes_of_last(self, c_out: int) -> int:
        return c_out // 3 - 5 if c_out % 3 == 0 else 0

    def build(self, variant: str, size: Size, n_classes: int) -> Layout:
        return yolov5(Layout(self.name, variant), size, n_classes)

    def defaults(self, variant: str) -> Defaults:
        return Defaults("letterbox-centre", 114, 0, 1 / 255, 0.25, 0.45, 300, False)

    def graph_extras(self, graph: Graph) -> Tensors:
        """The anchors, which an exported graph multiplies sizes by: in pixels, and repeated for every cell.

        A graph for any input size repeats them when it runs, by Expand.
        """
        constants = Constants(graph, through=("Identity", "Expand"))
        found = []
        for node in graph.nodes:
            for name in node.inputs if node.op == "Mul" else ():
                array = constants.find(name)
                if array is not None and array.ndim == 5 and array.shape[:2] == (1, 3) and array.shape[4] == 2:
                    found.append(np.asarray(array, np.float64))
        if len(found) != 3 or any((array != array[:, :, :1, :1]).any() or array.min() <= 0 for array in found):
            raise ConvertError("the graph does not hold three levels of constant anchors; convert the .pt instead")
        found.sort(key=lambda array: float(array.prod(axis=4).mean()))
        anchors = [array[0, :, 0, 0] / stride for array, stride in zip(found, (8, 16, 32))]
        return {"model.24.anchors": np.stack(anchors).astype(np.float32)}


class _Distributional(Ultralytics):
    """YOLOv8 and YOLO11: no anchors; a distribution over 16 bins for each side of a box."""

    head = 0  # the detection layer's module

    def fold(self, tensors: Tensors) -> Tensors:
        name = f"model.{self.head}.dfl.conv.weight"
        if name in tensors and is_bin_mean(tensors[name]):
            tensors = {key: tensor for key, tensor in tensors.items() if key != name}
        return super().fold(tensors)

    def orders(self, layout: Layout) -> Iterable[List[str]]:
        """Level by level, or, by later releases of ultralytics, the boxes of every level before the classes of any."""
        classes = f"model.{self.head}.cv3."
        return [layout.convs, sorted(layout.convs, key=lambda name: name.startswith(classes))]

    def n_classes(self, folded: Tensors) -> Optional[int]:
        return channels_of(folded, f"model.{self.head}.cv3.0.2.weight")

    def n_classes_of_last(self, c_out: int) -> int:
        return c_out

    def defaults(self, variant: str) -> Defaults:
        return Defaults("letterbox-centre", 114, 0, 1 / 255, 0.25, 0.7, 300, False)


class Yolov8(_Distributional):
    """C2f blocks."""

    name, head = "yolov8", 22

    def build(self, variant: str, size: Size, n_classes: int) -> Layout:
        return yolov8(Layout(self.name, variant), size, n_classes)


class Yolo11(_Distributional):
    """C3k2 blocks, attention, a depthwise class branch."""

    name, head = "yolo11", 23

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        yield from super().layouts(n_classes)
        for variant in "lx":
            yield self.build(variant, Published(self.name, variant, stacked=True), n_classes)

    def build(self, variant: str, size: Size, n_classes: int) -> Layout:
        return yolo11(Layout(self.name, variant), size, n_classes)
