"""The families of networks that the library knows, and how a checkpoint finds its own."""

from typing import Iterator, List, Optional, Set, Tuple

from ..checkpoint import Checkpoint
from ..errors import ConvertError
from ..onnx_reader import Graph
from . import graph as graphs
from .base import Family
from .damofd import DamoFD
from .damoyolo import DamoYolo
from .layout import Layout, Tensors, listed
from .scrfd import Scrfd
from .ultralytics import Yolo11, Yolov5, Yolov8

FAMILIES: Tuple[Family, ...] = (DamoFD(), Scrfd(), DamoYolo(), Yolov5(), Yolov8(), Yolo11())

# Words that training code puts before every name of a state_dict.
_PREFIXES = ("detector", "module", "model", "ema", "student", "teacher")


class Network:
    """A checkpoint that was recognised: its family, its layout and its folded tensors."""

    def __init__(self, family: Family, layout: Layout, tensors: Tensors, n_classes: int) -> None:
        self.family = family
        self.layout = layout
        self.tensors = {name: tensors[name] for name in layout.shapes}  # in the layout's order
        self.n_classes = n_classes


def recognise(checkpoint: Checkpoint, arch: Optional[str] = None) -> Network:
    """Finds out which network a checkpoint is, by names and shapes alone.

    arch  the network that it must be, such as `yolov8n`; None for any
    """
    if arch is not None and arch not in known_archs():
        raise ConvertError(f"--arch {arch} is not one of {', '.join(known_archs())}")
    if checkpoint.graph is not None:
        return _from_graph(checkpoint.graph, arch)
    network = _from_tensors(checkpoint.tensors, arch)
    network.family.check_modules(checkpoint.module_classes)
    return network


def known_archs() -> List[str]:
    """Every published variant, as --arch takes it."""
    return list(dict.fromkeys(layout.arch for family in FAMILIES for layout in family.layouts(1)))


def _from_tensors(tensors: Tensors, arch: Optional[str], graph: Optional[Graph] = None) -> Network:
    for names in _without_prefixes(list(tensors)):
        candidate = dict(zip(names, tensors.values()))
        for family in FAMILIES:
            if family.claims(set(candidate)):
                folded = family.fold(candidate)
                folded.update(family.graph_extras(graph) if graph else {})
                return match(family, folded, arch)
    names = list(tensors)
    raise ConvertError(f"not a network that this converter knows: {len(names)} tensors, {listed(names)}")


def _without_prefixes(names: List[str]) -> Iterator[List[str]]:
    """The names as they are, then with one after another of the common prefixes taken off."""
    yield names
    while True:
        first: Set[str] = {name.partition(".")[0] for name in names}
        if len(first) != 1 or not first <= set(_PREFIXES):
            return
        names = [name.partition(".")[2] for name in names]
        yield names


def match(family: Family, folded: Tensors, arch: Optional[str] = None) -> Network:
    """The variant whose tensors, names and shapes, are those of a folded checkpoint."""
    n_classes = family.n_classes(folded)
    nearest: Optional[Layout] = None
    for layout in family.layouts(n_classes or 1):
        if arch not in (None, layout.arch):
            continue
        if not layout.difference(folded):
            return Network(family, layout, folded, n_classes or 1)
        if nearest is None or len(layout.difference(folded)) < len(nearest.difference(folded)):
            nearest = layout
    custom = family.custom_layout(folded) if arch is None else None
    if custom is not None and n_classes and not custom.difference(folded):
        return Network(family, custom, folded, n_classes)
    if nearest is None:
        raise ConvertError(f"--arch {arch}: the checkpoint is of family {family.name}")
    raise ConvertError(f"{len(folded)} tensors, nearest to {nearest.arch}, but {nearest.difference(folded)}")


def _names(family: Family, convs: List[graphs.Conv]) -> List[str]:
    """The convolutions' names as the family's model files have them, as far as the graph kept them."""
    known = {name for layout in family.layouts(1) for name in layout.convs}
    prefixed = _without_prefixes([conv.name for conv in convs])
    candidates = ([family.rename(name) for name in names] for names in prefixed)
    return max(candidates, key=lambda names: len(known.intersection(names)))


def _from_graph(graph: Graph, arch: Optional[str]) -> Network:
    convs = graphs.convolutions(graph)
    if not convs:
        raise ConvertError("the ONNX graph has no convolutions in floating point (a quantised model?)")
    for family in FAMILIES:
        names = _names(family, convs)
        weights = {f"{name}.weight": conv.weight for name, conv in zip(names, convs)}
        n_classes = family.n_classes(weights) or family.n_classes_of_last(convs[-1].weight.shape[0])
        for layout in family.layouts(n_classes) if n_classes > 0 else ():
            tensors = graphs.published(graph, convs, names, family, layout) if arch in (None, layout.arch) else None
            if tensors is not None:
                return match(family, tensors, layout.arch)
    named = graphs.by_name(convs)
    if named:
        return _from_tensors(named, arch, graph)
    lost = sum(not conv.name for conv in convs)
    raise ConvertError(
        f"{len(convs)} convolutions, {lost} without a name, in an order and of shapes that no known network has;"
        " export it again with the names kept, or convert the checkpoint that it was exported from"
    )
