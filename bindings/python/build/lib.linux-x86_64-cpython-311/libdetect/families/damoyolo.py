"""DAMO-YOLO: three kinds of searched backbone, one neck and one head; trained (RepConv) or deployed."""

import math
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import coco
from .base import Defaults, Family
from .layout import Layout, Tensors, channels_of

MOBILE, RESIDUAL, CSP = "mob", "res", "csp"

# (in, out, bottleneck, stride, repeats); mobile blocks choose their own bottleneck.
Stage = Tuple[int, int, int, int, int]


class Variant(NamedTuple):
    """A row of the authors' configurations."""

    kind: str
    c_stem: int
    stages: Sequence[Stage]
    depth: float  # of the neck
    hidden: float  # of its blocks, relative to their width
    neck_in: Tuple[int, int, int]
    neck_out: Tuple[int, int, int]
    reg_max: int
    k_head: int


VARIANTS: Dict[str, Variant] = {
    "ns": Variant(
        MOBILE, 16,
        [(16, 24, 0, 2, 1), (24, 40, 0, 2, 2), (40, 64, 0, 2, 2), (64, 80, 0, 1, 2), (80, 160, 0, 2, 2)],
        0.5, 0.5, (40, 80, 160), (40, 80, 160), 7, 1,
    ),
    "nm": Variant(
        MOBILE, 16,
        [(16, 40, 0, 2, 2), (40, 64, 0, 2, 2), (64, 112, 0, 2, 2), (112, 128, 0, 1, 2), (128, 256, 0, 2, 1)],
        0.5, 0.5, (64, 128, 256), (64, 128, 256), 7, 1,
    ),
    "nl": Variant(
        MOBILE, 24,
        [(24, 48, 0, 2, 1), (48, 80, 0, 2, 2), (80, 160, 0, 2, 2), (160, 160, 0, 1, 3), (160, 320, 0, 2, 2)],
        0.5, 0.5, (80, 160, 320), (80, 160, 320), 7, 1,
    ),
    "t": Variant(
        RESIDUAL, 24,
        [(24, 64, 24, 2, 2), (64, 96, 64, 2, 2), (96, 192, 96, 2, 2), (192, 192, 152, 1, 2), (192, 384, 192, 2, 1)],
        1.0, 1.0, (96, 192, 384), (64, 128, 256), 16, 3,
    ),
    "s": Variant(
        RESIDUAL, 32,
        [(32, 128, 24, 2, 1), (128, 128, 88, 2, 5), (128, 256, 128, 2, 3), (256, 256, 120, 1, 2),
         (256, 512, 144, 2, 1)],
        1.0, 0.75, (128, 256, 512), (128, 256, 512), 16, 3,
    ),
    "m": Variant(
        CSP, 32,
        [(32, 128, 64, 2, 2), (128, 128, 64, 2, 4), (128, 256, 256, 2, 4), (256, 256, 256, 1, 4),
         (256, 512, 256, 2, 3)],
        1.5, 1.0, (128, 256, 512), (128, 256, 512), 16, 3,
    ),
    "l": Variant(
        CSP, 32,
        [(32, 128, 96, 2, 3), (128, 128, 96, 2, 5), (128, 256, 384, 2, 5), (256, 256, 384, 1, 5),
         (256, 512, 384, 2, 4)],
        2.0, 1.0, (128, 256, 512), (128, 256, 512), 16, 3,
    ),
}  # fmt: skip


def _make_divisible(value: float) -> int:
    """The nearest multiple of 8, unless that takes away more than a tenth."""
    nearest = max(8, int(value + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * value else nearest


def _mobile_block(net: Layout, name: str, c_in: int, c_out: int, ratio: float, last: int) -> int:
    """Expand, 5x5 depthwise, project; named by their places in a list, the projection at `last`."""
    c = _make_divisible(math.ceil(c_out * ratio))
    net.conv(f"{name}.0", c_in, c)
    net.conv(f"{name}.3", c, c, 5, groups=c)
    return net.conv(f"{name}.{last}", c, c_out)


def _spp(net: Layout, name: str, c: int) -> None:
    """A map of half width and three poolings of it."""
    net.conv(f"{name}.conv1", c, c // 2)
    net.conv(f"{name}.conv2", c // 2 * 4, c)


def _residual_block(net: Layout, name: str, c_in: int, c_mid: int, c_out: int, stride: int) -> int:
    """1x1, then a RepConv 3x3; the sum's other side is projected when the channels change and the stride does not."""
    if c_in != c_out and stride != 2:
        net.conv(f"{name}.residual_proj", c_in, c_out)
    net.conv(f"{name}.conv1", c_in, c_mid)
    return net.conv(f"{name}.conv2", c_mid, c_out, 3)


def _block_list(net: Layout, variant: Variant) -> None:
    """The backbone of mobile or residual blocks."""
    net.conv("backbone.block_list.0.conv", 3 if variant.kind == MOBILE else 12, variant.c_stem, 3)
    for i, (c, c_out, c_mid, stride, repeats) in enumerate(variant.stages, start=1):
        last = i == len(variant.stages)
        for block in range(repeats):
            # In the last stage SPP is the second entry of the list.
            name = f"backbone.block_list.{i}.block_list.{block + (last and block > 0)}"
            if variant.kind == MOBILE:
                c = _mobile_block(net, f"{name}.conv", c, c_out, 3.5 + 0.5 * (i - 1), last=7)
            else:
                c = _residual_block(net, name, c, c_mid, c_out, stride if block == 0 else 1)
            if last and block == 0:
                _spp(net, f"backbone.block_list.{i}.block_list.1", c)


def _csp_stages(net: Layout, variant: Variant) -> None:
    """Stages 3 and 4 share a wrapper; a stage of stride 2 has its first block replaced by the downsampler."""
    net.conv("backbone.csp_stage.0.conv", 12, variant.c_stem, 3)
    first, second, third, fourth, fifth = variant.stages
    for i, stages in enumerate(([first], [second], [third, fourth], [fifth]), start=1):
        name = f"backbone.csp_stage.{i}"
        c = stages[0][1]
        half = c // 2
        net.conv(f"{name}.downsampler.conv", stages[0][0], c, 3)
        if i == 4:
            _spp(net, f"{name}.spp", c)
        net.conv(f"{name}.conv_shortcut.conv", c, half)
        net.conv(f"{name}.conv_start.conv", c, half)
        block = 0
        for _, _, c_mid, stride, repeats in stages:
            for _ in range(repeats - (stride == 2)):
                net.conv(f"{name}.convstem.{block}.conv1", half, c_mid, 3)
                net.conv(f"{name}.convstem.{block}.conv2", c_mid, half, 3)
                block += 1
        net.conv(f"{name}.conv_fuse.conv", c, c)


def _merge(net: Layout, name: str, c_in: int, c_out: int, variant: Variant) -> None:
    """A CSPStage of the neck: two halves, blocks on the second, every block's output kept."""
    half = c_out // 2
    n = round(3 * variant.depth)  # to even: 1.5 -> 2 and 4.5 -> 4
    net.conv(f"{name}.conv1", c_in, half)
    net.conv(f"{name}.conv2", c_in, half)
    for block in (f"{name}.convs.{i}" for i in range(n)):
        if variant.kind == MOBILE:
            _mobile_block(net, f"{block}.conv.conv", half, half, 3.0, last=6)
        else:
            hidden = int(half * variant.hidden)
            net.conv(f"{block}.conv2", half, hidden, 3)
            net.conv(f"{block}.conv1", hidden, half, 3)
    net.conv(f"{name}.conv3", half * (n + 1), c_out)


def _neck(net: Layout, variant: Variant) -> None:
    in3, in4, in5 = variant.neck_in
    out3, out4, out5 = variant.neck_out

    def down(name: str, c: int) -> None:
        if variant.kind == MOBILE:
            net.conv(f"neck.{name}.depthwise", c, c, 3, groups=c)
            net.conv(f"neck.{name}.pointwise", c, c)
        else:
            net.conv(f"neck.{name}", c, c, 3)

    down("bu_conv13", in4)
    _merge(net, "neck.merge_3", in4 + in5, in5, variant)
    down("bu_conv24", in3)
    _merge(net, "neck.merge_4", in3 + in4 + in5, in4, variant)
    _merge(net, "neck.merge_5", in4 + in3, out3, variant)
    down("bu_conv57", out3)
    _merge(net, "neck.merge_7", out3 + in4, out4, variant)
    down("bu_conv46", in4)
    down("bu_conv76", out4)
    _merge(net, "neck.merge_6", in4 + out4 + in5, out5, variant)


def _head(net: Layout, variant: Variant, n_classes: int) -> None:
    for level, c in enumerate(variant.neck_out):
        net.conv(f"head.gfl_reg.{level}", c, 4 * (variant.reg_max + 1), variant.k_head)
        net.scale(f"head.scales.{level}.scale", f"head.gfl_reg.{level}")
        net.conv(f"head.gfl_cls.{level}", c, n_classes, variant.k_head)


class DamoYolo(Family):
    """Published as a state_dict under `model`."""

    name = "damo-yolo"
    _norms = {"conv": "bn", "conv1": "bn1", "depthwise": "dwnorm", "pointwise": "pwnorm"}

    def claims(self, names: Set[str]) -> bool:
        return "head.gfl_cls.0.weight" in names and any(name.startswith("neck.merge_3.") for name in names)

    def norm_of(self, layer: str) -> Optional[str]:
        block, _, part = layer.rpartition(".")
        if part in self._norms:
            return f"{block}.{self._norms[part]}"
        # The places of a mobile block's list: a convolution, then its BatchNorm.
        return f"{block}.{int(part) + 1}" if block.endswith(".conv") and part in ("0", "3", "6", "7") else None

    def rename(self, layer: str) -> str:
        return re.sub(r"\.(conv1?|rbr_reparam)$", "", layer)

    def n_classes(self, folded: Tensors) -> Optional[int]:
        return channels_of(folded, "head.gfl_cls.0.weight")

    def n_classes_of_last(self, c_out: int) -> int:
        return c_out

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        for name, variant in VARIANTS.items():
            net = Layout(self.name, name)
            (_csp_stages if variant.kind == CSP else _block_list)(net, variant)
            _neck(net, variant)
            _head(net, variant, n_classes)
            yield net

    def defaults(self, variant: str) -> Defaults:
        if variant.startswith("n"):
            return Defaults("stretch", 0, 0, 1, 0.03, 0.65, 100, True, input_size=(416, 416))
        return Defaults("stretch", 0, 0, 1, 0.05, 0.7, 100, True)

    def default_classes(self, n_classes: int) -> List[str]:
        return coco.default_names(n_classes)
