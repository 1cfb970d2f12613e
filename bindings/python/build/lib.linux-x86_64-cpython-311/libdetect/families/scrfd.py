"""SCRFD faces with keypoints, from the .onnx files of InsightFace: names come from the order of the graph."""

import re
from typing import Iterable, List, Optional, Set

from .base import FACE, Defaults, Family
from .damofd import add_neck
from .layout import Layout, Tensors

# Levels by the stride that the published names carry.
_LEVELS = {"8": 0, "16": 1, "32": 2}


def _mobilenet(layout: Layout) -> List[int]:
    """Adds 500M's backbone, depthwise separable blocks; returns the widths of strides 8, 16 and 32."""
    c = layout.conv("backbone.0", 3, 16, 3)
    widths = [16] + [40] * 2 + [72] * 3 + [152] * 2 + [288] * 6
    for i, width in enumerate(widths, start=1):
        layout.conv(f"backbone.{i}.depthwise", c, c, 3, groups=c)
        c = layout.conv(f"backbone.{i}.pointwise", c, width)
    return [72, 152, 288]


def _resnet(layout: Layout) -> List[int]:
    """Adds 2.5G's backbone, ResNet-V1e; returns the widths of strides 8, 16 and 32."""
    c = layout.conv("backbone.stem.0", 3, 12, 3)
    c = layout.conv("backbone.stem.1", c, 12, 3)
    c = layout.conv("backbone.stem.2", c, 24, 3)
    for stage, (width, blocks) in enumerate(((24, 3), (48, 5), (48, 3), (80, 2)), start=1):
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            layout.conv(f"{name}.conv1", c, width, 3)
            layout.conv(f"{name}.conv2", width, width, 3)
            if stage > 1 and block == 0:
                layout.conv(f"{name}.downsample", c, width)
            c = width
    return [48, 48, 80]


def _add_head(layout: Layout, c_in: int, separable: bool, scaled: bool) -> None:
    """Adds the head, which has weights of its own at every level: two convolutions of 64 channels, three outputs."""
    for level in range(3):
        c = c_in
        for i in range(2):
            name = f"bbox_head.cls_stride_convs.{level}.{i}"
            if separable:
                layout.conv(f"{name}.depthwise_conv", c, c, 3, groups=c)
                c = layout.conv(f"{name}.pointwise_conv", c, 64)
            else:
                c = layout.conv(name, c, 64, 3)
        for part, c_out in (("cls", 2), ("reg", 8), ("kps", 20)):
            layout.conv(f"bbox_head.stride_{part}.{level}", c, c_out, 3)
        if scaled:
            layout.scale(f"bbox_head.scales.{level}.scale", f"bbox_head.stride_reg.{level}")


class Scrfd(Family):
    """The two networks that InsightFace's packs of models hold under 500m and 2.5g."""

    name = "scrfd"

    def claims(self, names: Set[str]) -> bool:
        # A pickled checkpoint of the training code has other names; only the .onnx files are published as models.
        return False

    def norm_of(self, layer: str) -> Optional[str]:
        return None

    def rename(self, layer: str) -> str:
        layer = re.sub(r"\.\((\d+), \d+\)$", lambda match: f".{_LEVELS.get(match[1], match[0])}", layer)
        return layer[: -len(".conv")] if layer.startswith("neck.") and layer.endswith(".conv") else layer

    def n_classes(self, folded: Tensors) -> Optional[int]:
        return 1

    def n_classes_of_last(self, c_out: int) -> int:
        return 1

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        layout = Layout(self.name, "500m-kps")
        add_neck(layout, _mobilenet(layout), 16)
        _add_head(layout, 16, separable=True, scaled=False)
        yield layout
        layout = Layout(self.name, "2.5g-kps")
        add_neck(layout, _resnet(layout), 24)
        _add_head(layout, 24, separable=False, scaled=True)
        yield layout

    def defaults(self, variant: str) -> Defaults:
        return Defaults("letterbox-top", 0, 127.5, 1 / 128, 0.5, 0.4, 1000, False)

    def n_landmarks(self, variant: str) -> int:
        return 5

    def default_classes(self, n_classes: int) -> List[str]:
        return list(FACE)
