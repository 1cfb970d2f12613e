"""The convolutions of YOLOv5, YOLOv8 and YOLO11, module by module; module i is `model.<i>`."""

import re
from typing import Dict, Sequence, Tuple, Union

import numpy as np

from .layout import Layout, Tensors

# family -> variant -> depth, width, most channels before the width applies
PUBLISHED: Dict[str, Dict[str, Tuple[float, float, int]]] = {
    "yolov5": {
        "n": (0.33, 0.25, 1024),
        "s": (0.33, 0.50, 1024),
        "m": (0.67, 0.75, 1024),
        "l": (1.0, 1.0, 1024),
        "x": (1.33, 1.25, 1024),
    },
    "yolov8": {
        "n": (0.33, 0.25, 1024),
        "s": (0.33, 0.50, 1024),
        "m": (0.67, 0.75, 768),
        "l": (1.0, 1.0, 512),
        "x": (1.0, 1.25, 512),
    },
    "yolo11": {
        "n": (0.50, 0.25, 1024),
        "s": (0.50, 0.50, 1024),
        "m": (0.50, 1.0, 512),
        "l": (1.0, 1.0, 512),
        "x": (1.0, 1.5, 512),
    },
}

_WIDTHS = (64, 128, 256, 512, 1024)
_BINS = 16  # of the distribution of a box side


class Published:
    """The size of a published variant.

    stacked  YOLO11 l and x as some releases of ultralytics build them: the attention module is a list of two
             modules with one block each, not one with two
    """

    def __init__(self, family: str, variant: str, stacked: bool = False) -> None:
        self.depth, width, most = PUBLISHED[family][variant]
        self.stack = 2 if stacked else 0
        self.widths = [int(np.ceil(min(c, most) * width / 8)) * 8 for c in _WIDTHS]
        self.large = variant in "mlx"

    def blocks(self, _module: int, count: int) -> int:
        """Inner blocks of a module that has `count` at depth 1."""
        return max(round(count * self.depth), 1)

    def nested(self, _module: int, always: bool) -> bool:
        """Whether the blocks of a C3k2 module are small C3s: in some modules always, in the rest from m on."""
        return always or self.large


class Counted:
    """The size that a checkpoint's names tell. Its widths are not told by names, and any will do."""

    widths = list(_WIDTHS)

    def __init__(self, folded: Tensors) -> None:
        self._names = list(folded)
        self.stack = sum(f"model.10.{i}.cv1.weight" in folded for i in range(100))

    def blocks(self, module: int, _count: int) -> int:
        """Inner blocks of a module."""
        pattern = re.compile(rf"model\.{module}\.m\.(\d{{1,3}})\.")
        found = [int(match[1]) for match in map(pattern.match, self._names) if match]
        return max(found, default=0) + 1

    def nested(self, module: int, _always: bool) -> bool:
        """Whether the blocks of a C3k2 module are small C3s."""
        return f"model.{module}.m.0.cv3.weight" in self._names


Size = Union[Published, Counted]


def yolov5(net: Layout, size: Size, n_classes: int) -> Layout:
    """Adds YOLOv5 6.0 to 7.0."""
    c1, c2, c3, c4, c5 = size.widths
    net.conv("model.0", 3, c1, 6)
    for module, (c_in, c_out, count) in zip((1, 3, 5, 7), ((c1, c2, 3), (c2, c3, 6), (c3, c4, 9), (c4, c5, 3))):
        net.conv(f"model.{module}", c_in, c_out, 3)
        _c3(net, f"model.{module + 1}", c_out, c_out, size.blocks(module + 1, count))
    _sppf(net, "model.9", c5)
    net.conv("model.10", c5, c4)
    _c3(net, "model.13", 2 * c4, c4, size.blocks(13, 3))
    net.conv("model.14", c4, c3)
    _c3(net, "model.17", 2 * c3, c3, size.blocks(17, 3))
    net.conv("model.18", c3, c3, 3)
    _c3(net, "model.20", 2 * c3, c4, size.blocks(20, 3))
    net.conv("model.21", c4, c4, 3)
    _c3(net, "model.23", 2 * c4, c5, size.blocks(23, 3))
    for level, c in enumerate((c3, c4, c5)):
        net.conv(f"model.24.m.{level}", c, 3 * (5 + n_classes))
    net.shapes["model.24.anchors"] = (3, 3, 2)
    return net


def yolov8(net: Layout, size: Size, n_classes: int) -> Layout:
    """Adds YOLOv8."""
    c1, c2, c3, c4, c5 = size.widths
    net.conv("model.0", 3, c1, 3)
    for module, (c_in, c_out, count) in zip((1, 3, 5, 7), ((c1, c2, 3), (c2, c3, 6), (c3, c4, 6), (c4, c5, 3))):
        net.conv(f"model.{module}", c_in, c_out, 3)
        _c2f(net, f"model.{module + 1}", c_out, c_out, size.blocks(module + 1, count))
    _sppf(net, "model.9", c5)
    _c2f(net, "model.12", c5 + c4, c4, size.blocks(12, 3))
    _c2f(net, "model.15", c4 + c3, c3, size.blocks(15, 3))
    net.conv("model.16", c3, c3, 3)
    _c2f(net, "model.18", c3 + c4, c4, size.blocks(18, 3))
    net.conv("model.19", c4, c4, 3)
    _c2f(net, "model.21", c4 + c5, c5, size.blocks(21, 3))
    _head(net, "model.22", (c3, c4, c5), n_classes, depthwise=False)
    return net


def yolo11(net: Layout, size: Size, n_classes: int) -> Layout:
    """Adds YOLO11."""
    c1, c2, c3, c4, c5 = size.widths
    net.conv("model.0", 3, c1, 3)
    net.conv("model.1", c1, c2, 3)
    _c3k2(net, 2, c2, c3, size, nested=False, ratio=0.25)
    net.conv("model.3", c3, c3, 3)
    _c3k2(net, 4, c3, c4, size, nested=False, ratio=0.25)
    net.conv("model.5", c4, c4, 3)
    _c3k2(net, 6, c4, c4, size, nested=True)
    net.conv("model.7", c4, c5, 3)
    _c3k2(net, 8, c5, c5, size, nested=True)
    _sppf(net, "model.9", c5)
    for i in range(size.stack):
        _c2psa(net, f"model.10.{i}", c5, 1)
    if not size.stack:
        _c2psa(net, "model.10", c5, size.blocks(10, 2))
    _c3k2(net, 13, c5 + c4, c4, size, nested=False)
    _c3k2(net, 16, c4 + c4, c3, size, nested=False)
    net.conv("model.17", c3, c3, 3)
    _c3k2(net, 19, c3 + c4, c4, size, nested=False)
    net.conv("model.20", c4, c4, 3)
    _c3k2(net, 22, c4 + c5, c5, size, nested=True)
    _head(net, "model.23", (c3, c4, c5), n_classes, depthwise=True)
    return net


def _bottleneck(net: Layout, name: str, c: int, c_mid: int, k: int) -> None:
    """Two convolutions, kxk and 3x3."""
    net.conv(f"{name}.cv1", c, c_mid, k)
    net.conv(f"{name}.cv2", c_mid, c, 3)


def _c3(net: Layout, name: str, c_in: int, c_out: int, n: int, k: int = 1) -> None:
    """Two branches of half width, one of them through n bottlenecks, joined by a third convolution."""
    c = c_out // 2
    net.conv(f"{name}.cv1", c_in, c)
    for i in range(n):
        _bottleneck(net, f"{name}.m.{i}", c, c, k)
    net.conv(f"{name}.cv2", c_in, c)
    net.conv(f"{name}.cv3", 2 * c, c_out)


def _c2f(net: Layout, name: str, c_in: int, c_out: int, n: int) -> None:
    """One half runs through n bottlenecks; both halves and every block's output are joined."""
    c = c_out // 2
    net.conv(f"{name}.cv1", c_in, 2 * c)
    for i in range(n):
        _bottleneck(net, f"{name}.m.{i}", c, c, 3)
    net.conv(f"{name}.cv2", (2 + n) * c, c_out)


def _c3k2(net: Layout, module: int, c_in: int, c_out: int, size: Size, nested: bool, ratio: float = 0.5) -> None:
    """C2f whose blocks are small C3s, or bottlenecks that narrow to half."""
    name, n, c = f"model.{module}", size.blocks(module, 2), int(c_out * ratio)
    net.conv(f"{name}.cv1", c_in, 2 * c)
    for i in range(n):
        if size.nested(module, nested):
            _c3(net, f"{name}.m.{i}", c, c, 2, k=3)
        else:
            _bottleneck(net, f"{name}.m.{i}", c, c // 2, 3)
    net.conv(f"{name}.cv2", (2 + n) * c, c_out)


def _c2psa(net: Layout, name: str, c_out: int, n: int) -> None:
    """One half runs through n blocks of attention and feed-forward."""
    c = c_out // 2
    net.conv(f"{name}.cv1", c_out, 2 * c)
    for block in (f"{name}.m.{i}" for i in range(n)):
        net.conv(f"{block}.attn.qkv", c, 2 * c)
        net.conv(f"{block}.attn.pe", c, c, 3, groups=c)
        net.conv(f"{block}.attn.proj", c, c)
        net.conv(f"{block}.ffn.0", c, 2 * c)
        net.conv(f"{block}.ffn.1", 2 * c, c)
    net.conv(f"{name}.cv2", 2 * c, c_out)


def _sppf(net: Layout, name: str, c: int) -> None:
    """A map of half width and three poolings of it."""
    net.conv(f"{name}.cv1", c, c // 2)
    net.conv(f"{name}.cv2", c // 2 * 4, c)


def _head(net: Layout, name: str, widths: Sequence[int], n_classes: int, depthwise: bool) -> None:
    """For each level a branch for boxes (cv2) and one for classes (cv3)."""
    c_box = max(16, widths[0] // 4, 4 * _BINS)
    c_class = max(widths[0], min(n_classes, 100))
    for level, c in enumerate(widths):
        box, classes = f"{name}.cv2.{level}", f"{name}.cv3.{level}"
        net.conv(f"{box}.0", c, c_box, 3)
        net.conv(f"{box}.1", c_box, c_box, 3)
        net.conv(f"{box}.2", c_box, 4 * _BINS)
        for i, c_in in enumerate((c, c_class)):
            if depthwise:
                net.conv(f"{classes}.{i}.0", c_in, c_in, 3, groups=c_in)
                net.conv(f"{classes}.{i}.1", c_in, c_class)
            else:
                net.conv(f"{classes}.{i}", c_in, c_class, 3)
        net.conv(f"{classes}.2", c_class, n_classes)
