"""Average precision of a model on labelled pictures: python3 -m libdetect.evaluate; docs/evaluate.md.

--onnx evaluates an exported YOLO with ONNX Runtime, pre- and post-processed as its authors do, for comparison.
"""

import argparse
import ast
import json
import math
import re
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple

import numpy as np

import libdetect

from . import average_precision, datasets
from ._types import Array
from .average_precision import CocoScores, Detections, Objects, box_areas, shared_areas
from .datasets import Dataset, EvaluateError, optional
from .families import coco

MAX_CANDIDATES = 30000  # boxes of a picture that enter NMS, as in YOLO's own evaluation
ONNX_IOU = 0.7
DEFAULT_SCORE = {"yolo": 0.001, "coco": 0.001, "wider": 0.02}
DEFAULT_MAX_OBJECTS = {"yolo": 300, "coco": 300, "wider": 1000}
SUBSETS = {
    "easy": "WIDER FACE's easy faces",
    "medium": "WIDER FACE's medium faces",
    "hard": "WIDER FACE's hard faces",
    "all": "faces of at least 10 pixels' height, but those marked invalid; not WIDER FACE's own split",
}
UNUSABLE = 3  # exit code


@dataclass(frozen=True)
class Settings:
    """What is kept of a network's output."""

    score: float  #: boxes need a score above this
    iou: Optional[float]  #: NMS drops the lower of two boxes that overlap by more than this; None: the model's
    max_objects: int  #: per picture
    multi_label: Optional[bool]  #: every class above `score` is a candidate, not only a prior's best; None: the model's

    def completed(self, iou: float, multi_label: bool) -> "Settings":
        """The same with a model's own values where there are none."""
        return replace(
            self,
            iou=iou if self.iou is None else self.iou,
            multi_label=multi_label if self.multi_label is None else self.multi_label,
        )


class Detector(Protocol):
    """What is evaluated."""

    description: str  #: the network, its input size and what it runs on
    settings: Settings  #: complete
    class_names: Sequence[str]

    def detect(self, pictures: Sequence[Array]) -> List[Objects]:
        """The objects in each of some pictures, uint8 [height, width, 3], RGB."""


# ------------------------------------------------------------------------------------------------------ the library


class LibraryDetector:
    """A model file in libdetect.

    options  of libdetect.Context
    """

    def __init__(self, path: str, settings: Settings, **options: Any) -> None:
        try:
            model = libdetect.Model(path)
            self._context = libdetect.Context(model, max_candidates=MAX_CANDIDATES, **options)
        except ImportError as error:
            raise EvaluateError(str(error)) from None
        except libdetect.Error as error:
            raise EvaluateError(f"{path}: {error}") from None
        info, running = model.info, self._context.info
        self.class_names: Sequence[str] = info.class_names
        self.settings = settings.completed(round(info.iou_threshold, 6), info.multi_label)  # it comes as float32
        width, height = running.input_size
        self.description = (
            f"{info.family} {info.variant} {width}x{height}, libdetect {libdetect.version()},"
            f" {running.precision} on {running.device}"
        )

    def detect(self, pictures: Sequence[Array]) -> List[Objects]:
        """See Detector."""
        try:
            results = self._context.detect(list(pictures), **asdict(self.settings))
        except libdetect.Error as error:
            raise EvaluateError(str(error)) from None
        sides = ("x1", "y1", "x2", "y2")
        return [
            Objects(np.stack([found[side] for side in sides], axis=1), found["score"], found["class_id"])
            for found in results
        ]


# ----------------------------------------------------------------------------------------------------- ONNX Runtime


class OnnxDetector:
    """An exported YOLOv5, YOLOv8 or YOLO11 in ONNX Runtime, with the published pre- and post-processing."""

    def __init__(self, path: str, settings: Settings, size: Optional[Tuple[int, int]] = None, threads: int = 0) -> None:
        runtime, self._cv2 = optional("onnxruntime"), optional("cv2")
        if runtime is None or self._cv2 is None:
            raise EvaluateError("--onnx needs ONNX Runtime and OpenCV: pip install onnxruntime opencv-python-headless")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise EvaluateError(f"{path}: {str(error).splitlines()[0]}") from None
        self._input = self._session.get_inputs()[0]
        self._dtype = np.float16 if self._input.type == "tensor(float16)" else np.float32
        self._size = _input_size(self._input.shape, size)
        self.settings = settings.completed(ONNX_IOU, multi_label=False)
        _, scores = self._run(np.zeros((1, 1, 3), np.uint8))
        self.class_names: Sequence[str] = exported_names(
            self._session.get_modelmeta().custom_metadata_map, scores.shape[1]
        )
        width, height = self._size
        self.description = f"{Path(path).name} {width}x{height}, ONNX Runtime {runtime.__version__} on cpu"

    def detect(self, pictures: Sequence[Array]) -> List[Objects]:
        """See Detector."""
        return [self._detect(picture) for picture in pictures]

    def _detect(self, picture: Array) -> Objects:
        boxes, scores = self._run(picture)
        found = suppress(candidates(boxes, scores, self.settings), self.settings)
        height, width = picture.shape[:2]
        gain, _, left, top = letterbox_place(width, height, self._size)
        corners = (found.boxes - [left, top, left, top]) / gain
        return found._replace(boxes=np.clip(corners, 0, [width, height, width, height]))

    def _run(self, picture: Array) -> Tuple[Array, Array]:
        """Boxes [n, 4] in pixels of the network's input, and scores [n, classes]."""
        pixels = letterbox(self._cv2, picture, self._size).transpose(2, 0, 1)[None]
        output = self._session.run(None, {self._input.name: (pixels / np.float32(255)).astype(self._dtype)})[0]
        return decode(output.astype(np.float32), self._size)


def _input_size(shape: Sequence[Any], wanted: Optional[Tuple[int, int]]) -> Tuple[int, int]:
    """Width and height of an exported network's input [n, 3, height, width], where names stand for sizes left open."""
    height, width = shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return wanted or (640, 640)
    if wanted and wanted != (width, height):
        raise EvaluateError(f"the exported network's input is {width}x{height}, not {wanted[0]}x{wanted[1]}")
    return width, height


def exported_names(metadata: Dict[str, str], n_classes: int) -> List[str]:
    """The class names that the exporter wrote down, else COCO's or numbers."""
    try:
        names = dict(ast.literal_eval(metadata["names"]))
        return [str(names[index]) for index in range(n_classes)]
    except (KeyError, ValueError, SyntaxError, TypeError):
        return coco.default_names(n_classes)


def letterbox_place(width: int, height: int, size: Tuple[int, int]) -> Tuple[float, Tuple[int, int], int, int]:
    """Where a picture lies in an input of `size`: the factor, its width and height there, left and top."""
    gain = min(size[0] / width, size[1] / height)
    inner = round(width * gain), round(height * gain)
    left, top = (round((whole - part) / 2 - 0.1) for whole, part in zip(size, inner))
    return gain, inner, left, top


def letterbox(cv2: Any, picture: Array, size: Tuple[int, int]) -> Array:
    """A picture [h, w, 3] scaled to fit into the middle of a grey one of `size`: uint8 [height, width, 3]."""
    _, inner, left, top = letterbox_place(picture.shape[1], picture.shape[0], size)
    canvas = np.full((size[1], size[0], 3), 114, np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR)
    return canvas


def decode(output: Array, size: Tuple[int, int]) -> Tuple[Array, Array]:
    """Boxes [n, 4] and scores [n, classes] of an exported network's output for one picture.

    output  YOLOv8, YOLO11: [1, 4 + classes, n]; YOLOv5: [1, n, 5 + classes], objectness fifth. Boxes are their
            centre, width and height
    """
    n_cells = size[0] * size[1] * 21 // 1024  # of strides 8, 16 and 32
    if output.ndim == 3 and output.shape[2] == n_cells:
        values = output[0].T
        places, scores = values[:, :4], values[:, 4:]
    elif output.ndim == 3 and output.shape[1] == 3 * n_cells:
        values = output[0]
        places, scores = values[:, :4], values[:, 4:5] * values[:, 5:]
    else:
        raise EvaluateError(f"an output of shape {list(output.shape)} is not YOLOv5's, YOLOv8's or YOLO11's")
    half = places[:, 2:] / 2
    return np.hstack([places[:, :2] - half, places[:, :2] + half]), scores


def candidates(boxes: Array, scores: Array, settings: Settings) -> Objects:
    """What enters NMS, by falling score.

    boxes   [priors, 4]
    scores  [priors, classes]
    """
    if settings.multi_label:
        priors, classes = np.nonzero(scores > settings.score)
    else:
        classes = scores.argmax(axis=1)
        priors = np.flatnonzero(scores.max(axis=1) > settings.score)
        classes = classes[priors]
    values = scores[priors, classes]
    order = np.argsort(-values, kind="stable")[:MAX_CANDIDATES]
    return Objects(boxes[priors[order]], values[order], classes[order])


def suppress(found: Objects, settings: Settings) -> Objects:
    """Greedy non-maximum suppression, class by class, of candidates by falling score."""
    kept = []
    for index in np.unique(found.classes):
        rows = np.flatnonzero(found.classes == index)
        while rows.size:
            kept.append(rows[0])
            boxes = found.boxes[rows]
            shared = shared_areas(boxes[:1], boxes[1:])[0]
            areas = box_areas(boxes)
            rows = rows[1:][shared <= settings.iou * (areas[0] + areas[1:] - shared)]
    best = np.sort(np.array(kept, int))[: settings.max_objects]
    return Objects(*(values[best] for values in found))


# ------------------------------------------------------------------------------------------------------- evaluating


def detect_all(detector: Detector, pictures: Sequence[Path], batch: int) -> Tuple[Detections, Array]:
    """The detections in all pictures, and their widths and heights [pictures, 2]."""
    read = datasets.picture_reader()
    found: List[Objects] = []
    sizes: List[Tuple[int, int]] = []
    for start in range(0, len(pictures), batch):
        pixels = [read(path) for path in pictures[start : start + batch]]
        found += detector.detect(pixels)
        sizes += [(picture.shape[1], picture.shape[0]) for picture in pixels]
        if sys.stderr.isatty():
            end = "\n" if len(found) == len(pictures) else ""
            print(f"\r{len(found)} of {len(pictures)} pictures", end=end, file=sys.stderr, flush=True)
    return Detections.gather(found), np.array(sizes).reshape(-1, 2)


def evaluate(detector: Detector, dataset: Dataset, batch: int = 1) -> Dict[str, Any]:
    """The figures of a detector on labelled pictures, ready for JSON: None where there is no label of a kind.

    batch  pictures in memory at a time
    """
    face = face_class(detector.class_names) if dataset.subsets else None
    found, sizes = detect_all(detector, dataset.pictures, batch)
    labels = dataset.in_pixels(sizes)
    if dataset.subsets:
        scores = average_precision.wider(labels, dataset.subsets, found[found.classes == face])
        figures = wider_figures(scores, dataset.subsets)
    else:
        figures = coco_figures(average_precision.coco(labels, found), detector.class_names)
    return {
        "model": detector.description,
        "settings": asdict(detector.settings),
        "pictures": len(dataset.pictures),
        "labels": len(labels.classes),
        **figures,
    }


def face_class(class_names: Sequence[str]) -> int:
    """The class that WIDER FACE is about."""
    if "face" not in class_names and len(class_names) > 1:
        raise EvaluateError(f"none of the model's {len(class_names)} classes is 'face'")
    return list(class_names).index("face") if "face" in class_names else 0


def coco_figures(scores: CocoScores, class_names: Sequence[str]) -> Dict[str, Any]:
    """COCO's figures by name."""
    return {
        "AP": _figure(scores.ap),
        "AP50": _figure(scores.ap50),
        "AP75": _figure(scores.ap75),
        "AP small": _figure(scores.small),
        "AP medium": _figure(scores.medium),
        "AP large": _figure(scores.large),
        "classes": [
            {"name": class_names[index], "AP": _figure(each.ap), "AP50": _figure(each.ap50), "labels": each.n_labels}
            for index, each in scores.classes.items()
        ],
    }


def wider_figures(scores: Mapping[str, float], subsets: Mapping[str, Array]) -> Dict[str, Any]:
    """WIDER FACE's figures by subset."""
    return {
        "subsets": {
            name: {"AP": _figure(value), "labels": int(np.count_nonzero(subsets[name]))}
            for name, value in scores.items()
        }
    }


def _figure(value: float) -> Optional[float]:
    return None if math.isnan(value) else round(value, 6)


# ----------------------------------------------------------------------------------------------------- command line


def report(figures: Mapping[str, Any]) -> str:
    """The figures as lines of text."""
    settings = figures["settings"]
    lines = [
        figures["model"],
        f"{figures['pictures']} pictures, {figures['labels']} labels; score > {settings['score']:g},"
        f" NMS at IoU {settings['iou']:g}, at most {settings['max_objects']} boxes a picture,"
        f" {'every class' if settings['multi_label'] else 'best class'} of each prior",
    ]
    lines += [f"{name:<10} {_text(value)}" for name, value in figures.items() if name.startswith("AP")]
    if "subsets" in figures:
        lines += [f"{name:<10} {_text(each['AP'])}  {SUBSETS[name]}" for name, each in figures["subsets"].items()]
    if "classes" in figures:
        width = max(map(len, ["class", *(each["name"] for each in figures["classes"])]))
        lines += ["", f"{'class':<{width}}  AP      AP50    labels"]
        for each in figures["classes"]:
            lines.append(f"{each['name']:<{width}}  {_text(each['AP'])}  {_text(each['AP50'])}  {each['labels']:>6}")
    return "\n".join(lines)


def _text(value: Optional[float]) -> str:
    return "-     " if value is None else f"{value:.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m libdetect.evaluate",
        description="Average precision of a model on labelled pictures, as COCO and as WIDER FACE define it.",
        epilog="Exit status: 0 done, 2 wrong usage, 3 the model or the data cannot be used.",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--model", metavar="FILE", help="model file, run by libdetect")
    model.add_argument(
        "--onnx", metavar="FILE", help="exported YOLOv5, YOLOv8 or YOLO11, run by ONNX Runtime on the CPU"
    )
    parser.add_argument("--images", metavar="DIR", type=Path, required=True, help="the pictures")
    parser.add_argument(
        "--labels",
        metavar="PATH",
        type=Path,
        required=True,
        help="yolo: folder of text files; coco: JSON file; wider: text file, or folder of it or of .mat files",
    )
    parser.add_argument("--format", choices=sorted(DEFAULT_SCORE), default="yolo", help="of the labels; default: yolo")
    parser.add_argument("--score", type=fraction, help="least score; default: 0.001, wider 0.02")
    parser.add_argument("--iou", type=fraction, help=f"of NMS; default: the model's, --onnx {ONNX_IOU}")
    parser.add_argument("--max-objects", metavar="N", type=positive, help="per picture; default: 300, wider 1000")
    parser.add_argument(
        "--multi-label",
        action=argparse.BooleanOptionalAction,
        help="every class of a prior counts, or only its best; default: the model's, --onnx its best",
    )
    parser.add_argument(
        "--size", metavar="WxH", type=network_size, help="network input, multiples of 32; default: the model's"
    )
    parser.add_argument(
        "--batch", metavar="N", type=positive, default=1, help="pictures in one run; --onnx runs one by one"
    )
    parser.add_argument("--threads", metavar="N", type=positive, default=0, help="default: one per core")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="with --model")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "tf32", "fp16", "bf16"), default="auto", help="with --model"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def fraction(text: str) -> float:
    """A number from 0 to 1 on the command line."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """A number from 1 on the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def network_size(text: str) -> Tuple[int, int]:
    """A width and a height on the command line."""
    match = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", text)
    if not match or int(match[1]) % 32 or int(match[2]) % 32:
        raise argparse.ArgumentTypeError(f"'{text}' is not WxH, both multiples of 32")
    return int(match[1]), int(match[2])


def _detector(given: argparse.Namespace) -> Detector:
    settings = Settings(
        DEFAULT_SCORE[given.format] if given.score is None else given.score,
        given.iou,
        given.max_objects or DEFAULT_MAX_OBJECTS[given.format],
        given.multi_label,
    )
    if given.onnx:
        return OnnxDetector(given.onnx, settings, given.size, given.threads)
    return LibraryDetector(
        given.model,
        settings,
        input_size=given.size,
        max_batch=given.batch,
        n_threads=given.threads,
        device=given.device,
        precision=given.precision,
    )


def _dataset(given: argparse.Namespace, class_names: Sequence[str]) -> Dataset:
    if given.format == "coco":
        return datasets.read_coco(given.images, given.labels, class_names)
    if given.format == "wider":
        return datasets.read_wider(given.images, given.labels)
    return datasets.read_yolo(given.images, given.labels, len(class_names))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status."""
    given = _parser().parse_args(arguments)
    try:
        detector = _detector(given)
        figures = evaluate(detector, _dataset(given, detector.class_names), given.batch)
    except EvaluateError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(figures) if given.json else report(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
