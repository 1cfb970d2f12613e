"""DamoFD faces: eight variants, each backbone a row of super-blocks in the authors' own notation."""

import re
from typing import Iterable, List, Optional, Sequence, Set, Tuple

from .base import FACE, Defaults, Family
from .layout import Layout, Tensors

# (kind, kernel, in, out, bottleneck, repeats) of a super-block. All have stride 2, in their first repeat.
SuperBlock = Tuple[str, int, int, int, int, int]

STEM, RES_KK, RES_1K1, RES_DEPTHWISE = "SuperConvK3", "SuperResKxKx", "SuperResK1KxK1", "SuperResIDWE1Kx"

# variant: (super-blocks, neck channels, head convolutions, head channels, head separable)
VARIANTS = {
    "0.5g": (
        [
            (STEM, 3, 3, 32, 0, 1),
            (RES_DEPTHWISE, 3, 32, 32, 8, 1),
            (RES_DEPTHWISE, 7, 32, 64, 40, 1),
            (RES_DEPTHWISE, 7, 64, 120, 40, 2),
            (RES_DEPTHWISE, 5, 120, 160, 120, 1),
        ],
        (16, 2, 64, True),
    ),
    "2.5g": (
        [
            (STEM, 3, 3, 24, 0, 2),
            (RES_KK, 3, 24, 32, 24, 4),
            (RES_KK, 3, 32, 56, 16, 4),
            (RES_KK, 5, 56, 88, 8, 5),
            (RES_1K1, 5, 88, 128, 8, 4),
        ],
        (24, 2, 64, False),
    ),
    "10g": (
        [
            (STEM, 3, 3, 56, 0, 2),
            (RES_1K1, 3, 56, 80, 40, 5),
            (RES_1K1, 5, 80, 112, 32, 5),
            (RES_1K1, 3, 112, 168, 16, 4),
            (RES_KK, 7, 168, 256, 8, 1),
        ],
        (56, 3, 80, False),
    ),
    "34g": (
        [
            (STEM, 3, 3, 56, 0, 2),
            (RES_1K1, 3, 56, 224, 80, 5),
            (RES_1K1, 3, 224, 488, 40, 6),
            (RES_1K1, 3, 488, 624, 72, 4),
            (RES_1K1, 7, 624, 816, 24, 3),
        ],
        (128, 2, 256, False),
    ),
}


def _super_block(layout: Layout, name: str, block: SuperBlock) -> None:
    """Adds a super-block. Every second entry of its list is a ReLU, hence the step of two."""
    kind, k, c_in, c_out, c_mid, repeats = block
    at = 0
    for repeat in range(repeats):
        if kind == STEM:
            c_in = layout.conv(f"{name}.{3 * at}", c_in, c_out, k)
            at += 1
            continue
        halves = [c_out] if kind == RES_KK else [c_out, c_out] if kind == RES_1K1 else [c_mid, c_out]
        for i, c in enumerate(halves):
            strided = repeat == 0 and i == 0
            _residual(layout, f"{name}.{2 * at}", kind, k, c_in, c_mid, c, strided)
            c_in = c
            at += 1


def _residual(layout: Layout, name: str, kind: str, k: int, c_in: int, c_mid: int, c_out: int, strided: bool) -> None:
    """Adds one residual block; within it a convolution, its BatchNorm and a ReLU take three entries of a list."""
    if kind == RES_KK:
        layout.conv(f"{name}.0", c_in, c_mid, k)
        layout.conv(f"{name}.3", c_mid, c_out, k)
    elif kind == RES_1K1:
        layout.conv(f"{name}.0", c_in, c_mid)
        layout.conv(f"{name}.3", c_mid, c_mid, k)
        layout.conv(f"{name}.6", c_mid, c_out)
    else:
        layout.conv(f"{name}.0", c_in, c_out)
        layout.conv(f"{name}.3", c_out, c_out, k, groups=c_out)
        layout.conv(f"{name}.6", c_out, c_out)
    if strided or c_in != c_out:
        layout.conv(f"{name}.proj", c_in, c_out)


def add_neck(layout: Layout, widths: Sequence[int], c: int) -> None:
    """Adds the PAFPN neck over three levels of the given widths, all of c channels. SCRFD's is the same."""
    for i, width in enumerate(widths):
        layout.conv(f"neck.lateral_convs.{i}", width, c)
    for part, count in (("fpn_convs", 3), ("downsample_convs", 2), ("pafpn_convs", 2)):
        for i in range(count):
            layout.conv(f"neck.{part}.{i}", c, c, 3)


def _add_head(layout: Layout, c_in: int, n_convs: int, c: int, separable: bool, landmarks: bool) -> None:
    """Adds the head that the three levels share."""
    for i in range(n_convs):
        name = f"bbox_head.cls_stride_convs.0.{i}"
        steps = [(f"{name}.depthwise_conv", c_in, 3, c_in), (f"{name}.pointwise_conv", c, 1, 1)]
        for step, c_step, k, groups in steps if separable else [(name, c, 3, 1)]:
            layout.conv(step, c_in, c_step, k, groups, bias=False)
            layout.group_norm(f"{step}.gn", c_step)
            c_in = c_step
    layout.conv("bbox_head.stride_cls.0", c, 2, 3)
    layout.conv("bbox_head.stride_reg.0", c, 8, 3)
    if landmarks:
        layout.conv("bbox_head.stride_kps.0", c, 20, 3)
    for level in range(3):
        layout.scale(f"bbox_head.scales.{level}.scale", "bbox_head.stride_reg.0")


class DamoFD(Family):
    """Published as `detector.backbone.module_list...`, under `state_dict`."""

    name = "damofd"

    def claims(self, names: Set[str]) -> bool:
        return "backbone.module_list.0.module_list.0.netblock.weight" in names and any(
            name.startswith("bbox_head.") for name in names
        )

    def norm_of(self, layer: str) -> Optional[str]:
        if layer.endswith(".proj.0"):
            return layer[:-1] + "1"
        match = re.fullmatch(r"(.*\.module_list\.)(\d+)\.netblock", layer)
        return f"{match[1]}{int(match[2]) + 1}.netblock" if match else None

    def rename(self, layer: str) -> str:
        layer = layer.replace("module_list.", "")
        return re.sub(r"\.(netblock|conv)$|(?<=\.proj)\.0$", "", layer)

    def n_classes(self, folded: Tensors) -> Optional[int]:
        return 1

    def n_classes_of_last(self, c_out: int) -> int:
        return 1

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        for variant, (blocks, (c_neck, n_convs, c_head, separable)) in VARIANTS.items():
            for landmarks in (False, True):
                layout = Layout(self.name, variant + "-kps" * landmarks)
                for i, block in enumerate(blocks):
                    _super_block(layout, f"backbone.{i}", block)
                add_neck(layout, [block[3] for block in blocks[2:]], c_neck)
                _add_head(layout, c_neck, n_convs, c_head, separable, landmarks)
                yield layout

    def defaults(self, variant: str) -> Defaults:
        return Defaults("letterbox-top", 0, 127.5, 1 / 128, 0.5, 0.45, 1000, False)

    def n_landmarks(self, variant: str) -> int:
        return 5 if variant.endswith("-kps") else 0

    def default_classes(self, n_classes: int) -> List[str]:
        return list(FACE)
