"""The parameters of a network: what a checkpoint is compared with, and what it must hold in full."""

from typing import Dict, List, Mapping, Optional, Tuple

from .._types import Array

Shape = Tuple[int, ...]
Tensors = Dict[str, Array]

#: Tensors named in a message before the rest are only counted.
MAX_NAMED = 6


class Layout:
    """One network's tensors by name and shape, in the order in which the network computes its convolutions."""

    def __init__(self, family: str, variant: str) -> None:
        self.family = family
        self.variant = variant
        self.shapes: Dict[str, Shape] = {}
        self.convs: List[str] = []
        self.scales: Dict[str, str] = {}  # factor -> the convolution whose output it multiplies

    @property
    def arch(self) -> str:
        """Family and variant in one word, as --arch takes it: yolov8n, damofd-2.5g-kps."""
        dash = "" if self.family.startswith("yolo") and len(self.variant) == 1 else "-"
        return f"{self.family}{dash}{self.variant}"

    def conv(self, name: str, c_in: int, c_out: int, k: int = 1, groups: int = 1, bias: bool = True) -> int:
        """Adds a convolution; returns its output channels."""
        self.convs.append(name)
        self.shapes[f"{name}.weight"] = (c_out, c_in // groups, k, k)
        if bias:
            self.shapes[f"{name}.bias"] = (c_out,)
        return c_out

    def group_norm(self, name: str, channels: int) -> None:
        """Adds the two tensors of a GroupNorm."""
        self.shapes[f"{name}.weight"] = (channels,)
        self.shapes[f"{name}.bias"] = (channels,)

    def scale(self, name: str, conv: str) -> None:
        """Adds a single factor for a convolution's output."""
        self.shapes[name] = ()
        self.scales[name] = conv

    def difference(self, tensors: Mapping[str, Array]) -> "Difference":
        """What keeps a checkpoint from being this network."""
        return Difference(
            missing=[name for name in self.shapes if name not in tensors],
            surplus=[name for name in tensors if name not in self.shapes],
            reshaped=[
                f"{name} {list(tensors[name].shape)} not {list(shape)}"
                for name, shape in self.shapes.items()
                if name in tensors and tensors[name].shape != shape
            ],
        )


class Difference:
    """Tensors that a checkpoint lacks, has beyond a layout, or has in another shape."""

    def __init__(self, missing: List[str], surplus: List[str], reshaped: List[str]) -> None:
        self.missing = missing
        self.surplus = surplus
        self.reshaped = reshaped

    def __len__(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.reshaped)

    def __str__(self) -> str:
        parts = (("missing", self.missing), ("unexpected", self.surplus), ("of another shape", self.reshaped))
        return "; ".join(f"{label}: {listed(names)}" for label, names in parts if names)


def listed(names: List[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def channels_of(tensors: Mapping[str, Array], name: str) -> Optional[int]:
    """A weight's output channels, or None when there is no such weight."""
    tensor = tensors.get(name)
    return tensor.shape[0] if tensor is not None and tensor.ndim > 0 else None
