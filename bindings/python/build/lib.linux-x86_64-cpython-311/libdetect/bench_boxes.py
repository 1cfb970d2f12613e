"""The benchmark's pictures, and what stands around a peer's network: pre-processing, decoding and NMS."""

from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

import numpy as np

Size = Tuple[int, int]
Array = Any

PICTURE = (720, 1280)  # height, width
STRIDES = (8, 16, 32)


def pictures(count: int, seed: int = 0) -> List[Array]:
    """Random pictures, RGB: coloured patches of all sizes, from 80 pixels down to grain."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        total = np.zeros(PICTURE + (3,), np.float32)
        for patch in (80, 40, 20, 8, 4, 1):
            coarse = random.standard_normal((PICTURE[0] // patch, PICTURE[1] // patch, 3), dtype=np.float32)
            total += coarse.repeat(patch, 0).repeat(patch, 1)
        made.append(np.clip(128 + 28 * total, 0, 255).astype(np.uint8))
    return made


def prepare(
    picture: Array, size: Size, resize: str, pad: float, mean: float, scale: float
) -> Tuple[Array, Tuple[float, float, float, float]]:
    """The published pre-processing with OpenCV.

    Returns the network's input, 1 x 3 x h x w, and a, b, c, d of x_picture = x * a + b, y_picture = y * c + d.
    """
    import cv2

    height, width = picture.shape[:2]
    if resize == "stretch":
        canvas = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        back = (width / size[0], 0.0, height / size[1], 0.0)
    else:
        ratio = min(size[0] / width, size[1] / height)
        inner = (round(width * ratio), round(height * ratio))
        resized = cv2.resize(picture, inner, interpolation=cv2.INTER_LINEAR) if inner != (width, height) else picture
        free = (size[0] - inner[0], size[1] - inner[1])
        left, top = (free[0] // 2, free[1] // 2) if resize == "letterbox-centre" else (0, 0)
        canvas = cv2.copyMakeBorder(
            resized, top, free[1] - top, left, free[0] - left, cv2.BORDER_CONSTANT, value=(pad, pad, pad)
        )
        back = (1 / ratio, -left / ratio, 1 / ratio, -top / ratio)
    return cv2.dnn.blobFromImage(canvas, scale, mean=(mean, mean, mean)), back


@dataclass(frozen=True)
class Found:
    """Detections, by falling score."""

    boxes: Array  #: n x 4: x1, y1, x2, y2 in pixels of the picture
    scores: Array
    classes: Array


def logit(score: float) -> float:
    """The inverse of the sigmoid."""
    return float(np.log(score / (1 - score)))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


#: Boxes n x 4, scores and classes of each level.
Candidates = List[Tuple[Array, Array, Array]]


def decode(heads: Sequence[Array], info: Any, size: Size) -> Tuple[Array, Array, Array]:
    """Boxes in pixels of the input, scores and classes of what passes the threshold; nothing else is decoded."""
    family = {"damofd": _decode_faces, "scrfd": _decode_flat_faces, "yolov5": _decode_anchors}.get(
        info.family, _decode_distributions
    )
    parts = family(heads, info, size)
    boxes, scores, classes = (np.concatenate(column) for column in zip(*parts))
    return boxes, scores, classes


def _from_distances(x: Array, y: Array, distances: Array, stride: int) -> Array:
    """distances: 4 x n, in strides."""
    left, top, right, bottom = distances * stride
    return np.stack([x - left, y - top, x + right, y + bottom], 1)


def _decode_faces(heads: Sequence[Array], info: Any, _: Size) -> Candidates:
    result = []
    per_level = len(heads) // 3
    for level, stride in enumerate(STRIDES):
        logits, distances = heads[per_level * level], heads[per_level * level + 1]
        anchor, row, column = np.nonzero(logits > logit(info.score_threshold))
        chosen = distances.reshape((2, 4) + distances.shape[1:])[anchor, :, row, column]
        boxes = _from_distances(column * stride, row * stride, chosen.T, stride)
        result.append((boxes, sigmoid(logits[anchor, row, column]), np.zeros(anchor.size, np.int32)))
    return result


def _decode_flat_faces(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    """SCRFD's published graph ends in scores, n x 1, and distances, n x 4."""
    flat = [head.reshape(-1, head.shape[-1]) for head in heads]
    flat.sort(key=lambda head: -head.shape[0])
    result = []
    for level, stride in enumerate(STRIDES):
        scores, distances = sorted(flat[len(flat) // 3 * level :][: len(flat) // 3], key=lambda head: head.shape[1])[:2]
        prior = np.nonzero(scores[:, 0] > info.score_threshold)[0]
        row, column = np.divmod(prior // 2, size[0] // stride)
        boxes = _from_distances(column * stride, row * stride, distances[prior].T, stride)
        result.append((boxes, scores[prior, 0], np.zeros(prior.size, np.int32)))
    return result


def _passing(logits: Array, info: Any) -> Tuple[Array, Array]:
    """logits: classes x priors. The priors and classes above the threshold: all of them, or the best of each prior."""
    least = logit(info.score_threshold)
    prior = np.nonzero(logits.max(0) > least)[0]
    if not info.multi_label:
        return prior, logits[:, prior].argmax(0)
    which, classes = np.nonzero(logits.T[prior] > least)
    return prior[which], classes


def _decode_distributions(heads: Sequence[Array], info: Any, size: Size) -> Candidates:
    """YOLOv8, YOLO11 and DAMO-YOLO: a distribution for each side."""
    result = []
    offset = 0.0 if info.family == "damo-yolo" else 0.5
    for level, stride in enumerate(STRIDES):
        sides, logits = (head.reshape(head.shape[0], -1) for head in heads[2 * level : 2 * level + 2])
        prior, classes = _passing(logits, info)
        bins = sides[:, prior].reshape(4, sides.shape[0] // 4, prior.size)
        weights = np.exp(bins - bins.max(1, keepdims=True))
        steps = np.arange(bins.shape[1], dtype=np.float32)
        distances = np.einsum("sbn,b->sn", weights, steps) / weights.sum(1)
        row, column = np.divmod(prior, size[0] // stride)
        boxes = _from_distances((column + offset) * stride, (row + offset) * stride, distances, stride)
        result.append((boxes, sigmoid(logits[classes, prior]), classes))
    return result


#: Width, height in pixels, as published.
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))


def _decode_anchors(heads: Sequence[Array], info: Any, _: Size) -> Candidates:
    result = []
    for level, stride in enumerate(STRIDES):
        maps = heads[level].reshape((3, -1) + heads[level].shape[1:])
        anchor, row, column = np.nonzero(maps[:, 4] > logit(info.score_threshold))
        chosen = sigmoid(maps[anchor, :, row, column])
        classes = chosen[:, 5:].argmax(1)
        scores = chosen[:, 4] * chosen[np.arange(classes.size), 5 + classes]
        x, y = (2 * chosen[:, 0] - 0.5 + column) * stride, (2 * chosen[:, 1] - 0.5 + row) * stride
        half = 2 * chosen[:, 2:4] ** 2 * np.asarray(ANCHORS[level])[anchor]
        boxes = np.stack([x - half[:, 0], y - half[:, 1], x + half[:, 0], y + half[:, 1]], 1)
        kept = scores > info.score_threshold
        result.append((boxes[kept], scores[kept], classes[kept]))
    return result


def finish(heads: Sequence[Array], info: Any, shape: Tuple[int, ...], back: Tuple[float, float, float, float]) -> Found:
    """Decoding and NMS: raw maps to boxes of a picture of this shape, height x width x 3."""
    import cv2

    boxes, scores, classes = decode(heads, info, info.input_size)
    # OpenCV keeps classes apart by moving them by the largest coordinate, so none may be negative
    low = boxes.min(initial=0.0)
    sides = np.concatenate([boxes[:, :2] - low, boxes[:, 2:] - boxes[:, :2]], 1)
    passed: Any = cv2.dnn.NMSBoxesBatched(
        sides.tolist(), scores.astype(np.float32), classes.astype(np.int32), 0.0, info.iou_threshold
    )
    kept = np.asarray(passed, np.int64).reshape(-1)
    kept = kept[np.argsort(-scores[kept], kind="stable")][: info.max_objects]
    placed = boxes[kept] * np.array(back[::2] * 2) + np.array(back[1::2] * 2)
    if info.family.startswith("yolo"):  # theirs are cut off at the picture's edges
        placed = placed.clip(0, [shape[1], shape[0]] * 2)
    return Found(placed, scores[kept], classes[kept])
