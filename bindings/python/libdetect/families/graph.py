"""Finds a network's layers in an exported graph: by name where the exporter kept the names, else by order."""

import functools
import operator
import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from .. import folding
from .._types import Array
from ..errors import ConvertError
from ..onnx_reader import Graph, Node
from .base import Family
from .layout import Layout, Tensors


@dataclass
class Conv:
    """A convolution of the graph, its BatchNorm merged, by the exporter or here."""

    node: Node
    name: str  # published name of the layer; "" when the exporter dropped it
    weight: Array
    bias: Array


class Constants:
    """The graph's constants by the names of its values.

    through  operations that are looked through: of one that has a constant for its first input, that is found
    """

    def __init__(self, graph: Graph, through: Sequence[str] = ("Identity",)) -> None:
        self._values = graph.constants
        copies = [node for node in graph.nodes if node.op in through and node.inputs and node.outputs]
        self._same = {node.outputs[0]: node.inputs[0] for node in copies}

    def find(self, name: str) -> Optional[Array]:
        """The constant, or None when the value is computed."""
        for _ in range(8):  # exporters chain one or two
            if name in self._values or name not in self._same:
                break
            name = self._same[name]
        return self._values.get(name)


def convolutions(graph: Graph) -> List[Conv]:
    """The graph's convolutions, without those that only take the mean of a distribution's bins.

    They come in the order in which the exporter met them, where it numbered them, whatever a simplifier made of it;
    else in the graph's.
    """
    constants = Constants(graph)
    norms = {node.inputs[0]: node for node in graph.nodes if node.op == "BatchNormalization" and node.inputs}
    found = []
    for node in graph.nodes:
        if node.op != "Conv" or not node.outputs:
            continue
        weight = constants.find(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or weight.ndim != 4 or weight.dtype.kind != "f":
            raise ConvertError(
                f"convolution '{node.name}' has no constant weights in floating point (a quantised model?)"
            )
        bias = constants.find(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(len(weight))
        if bias is None or bias.shape != weight.shape[:1]:
            raise ConvertError(f"convolution '{node.name}' has no constant bias of {len(weight)} values")
        norm = norms.pop(node.outputs[0], None)
        if norm is not None:
            weight, bias = _with_norm(weight, bias, norm, constants)
        if not is_bin_mean(weight):
            found.append(Conv(node, _layer_name(node), weight, bias))
    if norms:
        raise ConvertError(f"BatchNorm '{next(iter(norms.values())).name}' follows no convolution")
    return sorted(found, key=lambda conv: int(conv.node.name[5:])) if _numbered(found) else found


def _numbered(convs: List[Conv]) -> bool:
    """Whether the exporter numbered the convolutions, in the order in which it met them."""
    return all(re.fullmatch(r"Conv_[0-9]{1,9}", conv.node.name) for conv in convs)


def _with_norm(
    weight: Array, bias: Array, norm: Node, constants: Constants
) -> Tuple[Array, Array]:
    """A convolution's weight and bias with the BatchNorm behind it merged in."""
    found = (constants.find(name) for name in norm.inputs[1:5])
    parts = tuple(part for part in found if part is not None and part.shape == weight.shape[:1])
    if len(parts) != 4 or len(norm.outputs) != 1 or norm.attributes.get("training_mode"):
        raise ConvertError(f"BatchNorm '{norm.name}' is one for training; export the model for inference")
    eps = norm.attributes.get("epsilon", 1e-5)
    if not isinstance(eps, float) or not eps > 0 or not (parts[3] >= 0).all():
        raise ConvertError(f"BatchNorm '{norm.name}' has a variance or an epsilon that is not positive")
    return folding.batch_norm(weight, bias, parts, eps)


def is_bin_mean(weight: Array) -> bool:
    """Whether a weight is the constant 0, 1, ... n - 1 that averages a distribution's bins."""
    return weight.shape[:1] + weight.shape[2:] == (1, 1, 1) and np.array_equal(weight.ravel(), np.arange(weight.size))


def _layer_name(node: Node) -> str:
    """The layer's name from its weight (model.0.conv.weight) or from the node's scope (/model.0/conv/Conv)."""
    weight = node.inputs[1]
    if weight.endswith(".weight"):
        return weight[: -len(".weight")]
    parts: List[str] = []
    for part in node.name.split("/")[1:-1]:
        # A list's item repeats the list's name: /model.22/cv2.0/cv2.0.1/conv/Conv
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def by_name(convs: List[Conv]) -> Tensors:
    """The graph's tensors as a state_dict has them; {} when a layer's name is lost."""
    if not all(conv.name for conv in convs) or len({conv.name for conv in convs}) != len(convs):
        return {}
    return _tensors({conv.name: conv for conv in convs})


def _tensors(convs: Dict[str, Conv]) -> Tensors:
    tensors: Tensors = {}
    for name, conv in convs.items():
        tensors[f"{name}.weight"] = conv.weight
        tensors[f"{name}.bias"] = conv.bias
    return tensors


def published(
    graph: Graph, convs: List[Conv], names: List[str], family: Family, layout: Layout
) -> Optional[Tensors]:
    """The layout's tensors when the graph computes just its convolutions; else None.

    names  those of the convolutions. They tell which is which when all are there; if not, the order of the graph does.
    """
    orders = [names] if sorted(names) == sorted(layout.convs) else family.orders(layout)
    shapes = [conv.weight.shape for conv in convs]
    for order in orders:
        # Right shapes where a name says otherwise: the order is another's.
        others = (named for named, name in zip(names, order) if named != name)
        if shapes == [layout.shapes[f"{name}.weight"] for name in order] and not set(others) & set(layout.convs):
            if not _numbered(convs):
                _check_order(graph, convs, [name in layout.convs for name in names])
            return _assigned(graph, dict(zip(order, convs)), family, layout)
    return None


def _check_order(graph: Graph, convs: List[Conv], known: List[bool]) -> None:
    """Raises ConvertError when of two neighbours either could come first, and nothing tells them apart.

    known  whether a convolution's name is
    """
    index = {conv.node.outputs[0]: i for i, conv in enumerate(convs)}
    behind: Dict[str, int] = {}  # value -> the convolutions that it depends on, a bit each
    for node in graph.nodes:
        bits = functools.reduce(operator.or_, (behind.get(name, 0) for name in node.inputs), 0)
        for name in node.outputs:
            behind[name] = bits | (1 << index[name] if name in index else 0)
    for i, (first, second) in enumerate(zip(convs, convs[1:])):
        dependent = behind[second.node.outputs[0]] >> i & 1
        if first.weight.shape == second.weight.shape and not dependent and not known[i] and not known[i + 1]:
            raise ConvertError(
                f"convolutions {i} and {i + 1} have one shape and no names, and nothing says which is which;"
                " export it again with the names kept, or convert the checkpoint that it was exported from"
            )


def _assigned(graph: Graph, convs: Dict[str, Conv], family: Family, layout: Layout) -> Tensors:
    """The layout's tensors, once it is known which convolution is which."""
    tensors = _tensors(convs)
    outputs = {name: conv.node.outputs[0] for name, conv in convs.items()}
    factors = _factors(graph)
    for scale, scaled in layout.scales.items():
        # A factor of one may have been optimised away.
        tensors[scale] = factors.get(outputs[scaled], np.ones(()))
    tensors.update(family.graph_extras(graph))
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def _factors(graph: Graph) -> Dict[str, Array]:
    """Single constants that values are multiplied by, by the name of the value."""
    constants = Constants(graph)
    factors: Dict[str, Array] = {}
    for node in graph.nodes:
        if node.op == "Mul" and len(node.inputs) == 2:
            for value, constant in (node.inputs, node.inputs[::-1]):
                array = constants.find(constant)
                if array is not None and array.size == 1:
                    factors[value] = array.reshape(())
    return factors
