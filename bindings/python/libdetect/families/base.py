"""What every family of networks tells the converter."""

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from .. import folding
from ..onnx_reader import Graph
from .layout import Layout, Tensors

FACE = ("face",)


@dataclass(frozen=True)
class Defaults:
    """Pre-processing and thresholds as the authors publish them (docs/model_file.md)."""

    resize: str
    pad: float
    mean: float
    scale: float
    score: float
    iou: float
    max_objects: int
    multi_label: bool
    input_size: Tuple[int, int] = (640, 640)

    def metadata(self) -> Dict[str, Any]:
        """The entries of the model file's description that these are."""
        return {
            "input": list(self.input_size),
            "resize": self.resize,
            "pad": self.pad,
            "mean": self.mean,
            "scale": self.scale,
            "score": self.score,
            "iou": self.iou,
            "multi_label": self.multi_label,
            "max_objects": self.max_objects,
        }


class Family:
    """Networks that share their structure and the names of their tensors."""

    name = ""
    eps = 1e-3  # of every BatchNorm
    #: Tensors that a checkpoint may hold and the network does not need.
    needless = re.compile(r"(^|\.)(num_batches_tracked|integral\.project)$")

    def claims(self, names: Set[str]) -> bool:
        """Whether a checkpoint with tensors of these names looks like one of this family."""
        raise NotImplementedError

    def norm_of(self, layer: str) -> Optional[str]:
        """The BatchNorm that follows a convolution, by their published names."""
        raise NotImplementedError

    def rename(self, layer: str) -> str:
        """A layer's published name -> its name in the model file."""
        raise NotImplementedError

    def fold(self, tensors: Tensors) -> Tensors:
        """A checkpoint's tensors as the model file has them."""
        needed = {name: tensor for name, tensor in tensors.items() if not self.needless.search(name)}
        return folding.fold(needed, self.norm_of, self.rename, self.eps)

    def n_classes(self, folded: Tensors) -> Optional[int]:
        """Classes of a folded checkpoint, or None when it lacks the tensor that tells."""
        raise NotImplementedError

    def n_classes_of_last(self, c_out: int) -> int:
        """Classes of a network whose last convolution has so many output channels."""
        raise NotImplementedError

    def layouts(self, n_classes: int) -> Iterable[Layout]:
        """The published variants."""
        raise NotImplementedError

    def orders(self, layout: Layout) -> Iterable[List[str]]:
        """The orders in which exported graphs compute a layout's convolutions."""
        return [layout.convs]

    def custom_layout(self, folded: Tensors) -> Optional[Layout]:
        """The layout of a checkpoint that is none of the published variants but keeps their structure."""
        return None

    def graph_extras(self, graph: Graph) -> Tensors:
        """Tensors of an exported graph that belong to no convolution."""
        return {}

    def check_modules(self, classes: Set[str]) -> None:
        """Raises ConvertError when a pickled model has modules that the network does not."""

    def defaults(self, variant: str) -> Defaults:
        """How the variant is used."""
        raise NotImplementedError

    def n_landmarks(self, variant: str) -> int:
        """Points per object."""
        return 0

    def default_classes(self, n_classes: int) -> List[str]:
        """Class names when the checkpoint has none."""
        raise NotImplementedError
