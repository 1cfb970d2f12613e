"""Merges BatchNorm and RepConv branches into convolutions, in double precision."""

from typing import Callable, Dict, Optional, Set, Tuple

import numpy as np

from ._types import Array
from .errors import ConvertError

Tensors = Dict[str, Array]

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def batch_norm(
    weight: Array, bias: Optional[Array], norm: Tuple[Array, ...], eps: float
) -> Tuple[Array, Array]:
    """The convolution that equals `weight`, `bias` followed by a BatchNorm (gamma, beta, mean, variance); float64."""
    gamma, beta, mean, variance = (part.astype(np.float64) for part in norm)
    factor = gamma / np.sqrt(variance + eps)
    shift = -mean if bias is None else bias.astype(np.float64) - mean
    return weight.astype(np.float64) * factor[:, None, None, None], beta + shift * factor


class Folder:
    """Takes the layers of a checkpoint one by one and remembers which tensors are used up."""

    def __init__(self, tensors: Tensors, eps: float) -> None:
        self.tensors = tensors
        self.eps = eps
        self.used: Set[str] = set()

    def conv(self, layer: str, norm: Optional[str]) -> Tuple[Array, Optional[Array]]:
        """Weight and bias of a convolution, with the BatchNorm `norm` merged in where the checkpoint has one."""
        weight = self._take(f"{layer}.weight")
        bias = self._take(f"{layer}.bias") if f"{layer}.bias" in self.tensors else None
        if norm is None or f"{norm}.running_var" not in self.tensors:
            return weight, bias
        parts = tuple(self._take(f"{norm}.{part}") for part in _NORM_PARTS)
        if any(part.shape != weight.shape[:1] for part in parts):
            raise ConvertError(f"BatchNorm '{norm}' does not have the {weight.shape[0]} channels of '{layer}'")
        if (parts[3] < 0).any():
            raise ConvertError(f"BatchNorm '{norm}' has a negative variance")
        return batch_norm(weight, bias, parts, self.eps)

    def rep_conv(self, layer: str) -> Tuple[Array, Array]:
        """The 3x3 convolution that equals a RepConv's two branches, a 3x3 and a 1x1 whose outputs are added."""
        weight, bias = self.conv(f"{layer}.rbr_dense.conv", f"{layer}.rbr_dense.bn")
        point, point_bias = self.conv(f"{layer}.rbr_1x1.conv", f"{layer}.rbr_1x1.bn")
        if bias is None or point_bias is None or weight.shape[2:] != (3, 3) or point.shape != weight.shape[:2] + (1, 1):
            raise ConvertError(f"RepConv '{layer}' is not a 3x3 and a 1x1 convolution, each with a BatchNorm")
        weight = weight.astype(np.float64)
        weight[:, :, 1, 1] += point[:, :, 0, 0]
        return weight, bias + point_bias

    def _take(self, name: str) -> Array:
        if name not in self.tensors:
            raise ConvertError(f"tensor '{name}' is missing")
        self.used.add(name)
        return self.tensors[name]

    def rest(self) -> Tensors:
        """The tensors that no layer used."""
        return {name: tensor for name, tensor in self.tensors.items() if name not in self.used}


def fold(
    tensors: Tensors, norm_of: Callable[[str], Optional[str]], rename: Callable[[str], str], eps: float
) -> Tensors:
    """A checkpoint's tensors with BatchNorm and RepConv merged, float32, under the names of the model file.

    norm_of  the name of the BatchNorm that follows a convolution, or None
    rename   a layer's published name -> its name in the model file
    """
    folder = Folder(tensors, eps)
    folded: Tensors = {}

    def put(name: str, tensor: Array) -> None:
        if name in folded:
            raise ConvertError(f"two tensors of the checkpoint stand for '{name}'")
        folded[name] = tensor.astype(np.float32)

    def put_layer(layer: str, weight: Array, bias: Optional[Array]) -> None:
        put(f"{layer}.weight", weight)
        if bias is not None:
            put(f"{layer}.bias", bias)

    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        if part != "weight" or tensor.ndim != 4 or name in folder.used:
            continue
        block, branch, _ = layer.partition(".rbr_dense.")
        if branch:
            put_layer(rename(block), *folder.rep_conv(block))
        elif ".rbr_1x1." not in layer:
            put_layer(rename(layer), *folder.conv(layer, norm_of(layer)))
    for name, tensor in folder.rest().items():
        layer, dot, part = name.rpartition(".")
        scalar = part == "scale" and tensor.size == 1  # some writers know no scalars and give them as [1]
        put(f"{rename(layer)}{dot}{part}", tensor.reshape(()) if scalar else tensor)
    return folded
