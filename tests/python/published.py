"""Checkpoints as their authors publish them, made from the layouts, for networks without a golden manifest."""

import re
from typing import Dict, List, Sequence, Tuple

import numpy as np
import support  # puts libdetect on the path
from libdetect import families
from libdetect.families.layout import Layout

Tensors = Dict[str, np.ndarray]


def layout(arch: str, n_classes: int = 80) -> Layout:
    """The layout of a published variant."""
    return next(net for family in families.FAMILIES for net in family.layouts(n_classes) if net.arch == arch)


def random_tensors(shapes: Dict[str, Tuple[int, ...]], seed: int) -> Tensors:
    """Small random float32 tensors."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape, dtype=np.float32) * np.float32(0.1) for name, shape in shapes.items()}


def damo_yolo(net: Layout, deployed: bool) -> Tensors:
    """An unfolded DAMO-YOLO, by the rules of the authors' modules; the values are random."""
    wanted: Dict[str, Tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            wanted[f"{name}.{part}"] = (channels,)
        wanted[f"{name}.num_batches_tracked"] = ()

    for name in net.convs:
        shape = net.shapes[f"{name}.weight"]
        if name.startswith("head."):
            wanted[f"{name}.weight"], wanted[f"{name}.bias"] = shape, shape[:1]
        elif re.search(r"(block_list\.\d+\.block_list\.\d+|convstem\.\d+|convs\.\d+)\.conv2$", name) and shape[2] == 3:
            if deployed:
                wanted[f"{name}.rbr_reparam.weight"], wanted[f"{name}.rbr_reparam.bias"] = shape, shape[:1]
                continue
            wanted[f"{name}.rbr_dense.conv.weight"] = shape
            norm(f"{name}.rbr_dense.bn", shape[0])
            wanted[f"{name}.rbr_1x1.conv.weight"] = shape[:2] + (1, 1)
            norm(f"{name}.rbr_1x1.bn", shape[0])
        else:
            conv, bn = _pair(name, shape[1])
            wanted[f"{conv}.weight"] = shape
            norm(bn, shape[0])
    for level in range(3):
        wanted[f"head.scales.{level}.scale"] = ()
    wanted["head.integral.project"] = (8,)
    tensors = random_tensors(wanted, seed=5)
    for name in tensors:
        if name.endswith("running_var"):
            tensors[name] = np.abs(tensors[name]) + 1
    return tensors


def _pair(name: str, c_in: int) -> Tuple[str, str]:
    """Published names of a convolution and its BatchNorm."""
    block, _, last = name.rpartition(".")
    if last in ("depthwise", "pointwise"):
        return name, f"{block}.{'dw' if last == 'depthwise' else 'pw'}norm"
    if block.endswith(".conv") and last.isdigit():
        return name, f"{block}.{int(last) + 1}"
    inside_backbone = name.startswith("backbone.")
    focus = re.match(r"backbone\.(block_list|csp_stage)\.0\.conv$", name) and c_in == 12
    spp = re.search(r"(block_list\.\d+\.block_list\.1|spp)\.conv[12]$", name)
    if inside_backbone and not focus and not spp:
        return f"{name}.conv1", f"{name}.bn1"
    return f"{name}.conv", f"{name}.bn"


def onnx_export(
    net: Layout,
    tensors: Tensors,
    convs: List[str],
    weights: Dict[str, str],
    factors: Tensors,
    expanded: bool = False,
    node_name: str = "Conv_{}",
    siblings: Sequence[str] = (),
    **metadata: str,
) -> bytes:
    """An .onnx file that computes one convolution after another.

    convs    the order of the convolutions
    weights  convolution -> the name of its weight in the file
    factors  further constants, each of which multiplies something
    expanded whether they are repeated first, as in graphs for any input size
    siblings convolutions that read what the one before them reads
    """
    nodes: List[bytes] = []
    stored = [support.onnx_tensor(name, np.asarray(tensors[name])) for name in net.scales]
    for i, conv in enumerate(convs):
        source = f"v{i - 1}" if conv in siblings else f"v{i}"
        number = node_name.format(net.convs.index(conv))
        nodes.append(support.onnx_node("Conv", [source, weights[conv], f"b{i}"], [f"v{i + 1}"], number))
        stored += [
            support.onnx_tensor(weights[conv], tensors[f"{conv}.weight"]),
            support.onnx_tensor(f"b{i}", tensors[f"{conv}.bias"]),
        ]
        nodes += [
            support.onnx_node("Mul", [f"v{i + 1}", scale], [f"s{i}"])
            for scale, scaled in net.scales.items()
            if scaled == conv
        ]
    for name, tensor in factors.items():
        if expanded:
            nodes.append(support.onnx_node("Expand", [name, "shape"], [f"{name}_expanded"]))
        factor = f"{name}_expanded" if expanded else name
        nodes.append(support.onnx_node("Mul", ["other", factor], [f"{name}_out"]))
        stored.append(support.onnx_tensor(name, tensor))
    return support.onnx_model(nodes, stored, **metadata)


def folded(arch: str, n_classes: int = 80) -> Tensors:
    """A YOLO whose BatchNorms are merged already, as deployed checkpoints have it; random."""
    net = layout(arch, n_classes)
    tensors = random_tensors(net.shapes, seed=1)
    return {published_name(name): tensor for name, tensor in tensors.items()}


def published_name(name: str) -> str:
    """A YOLO tensor's published name: layers hold a `conv`, but for the last ones of the detection layer."""
    layer, _, part = name.rpartition(".")
    last = re.search(r"\.cv[23]\.[012]\.2$", layer) or layer.startswith("model.24")
    return name if last else f"{layer}.conv.{part}"
