"""Average precision as COCO and as WIDER FACE define it, in numpy alone.

Both take every label and every detection of a set of pictures at once, as flat arrays. Boxes are x1, y1, x2, y2 in
pixels of their picture.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ._types import Array

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
#: COCO's ranges of area in square pixels, both ends included.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
#: COCO counts the best detections of a class in a picture, this many.
MAX_PER_CLASS = 100

WIDER_IOU = 0.5
WIDER_THRESHOLDS = 1 - np.arange(1, 1001) / 1000


@dataclass(frozen=True)
class Labels:
    """The n labelled objects of a set of pictures."""

    pictures: Array  #: [n] index of the picture
    classes: Array  #: [n] from 0
    boxes: Array  #: [n, 4] float64
    areas: Array  #: [n] square pixels; COCO's are of the outline, not of the box
    crowd: Array  #: [n] bool: a region of many objects, where detections are neither right nor wrong


class Objects(NamedTuple):
    """The n detections of one picture."""

    boxes: Array  #: [n, 4]
    scores: Array  #: [n]
    classes: Array  #: [n] from 0


@dataclass(frozen=True)
class Detections:
    """The n detections of a set of pictures."""

    pictures: Array  #: [n] index of the picture
    classes: Array  #: [n] from 0
    boxes: Array  #: [n, 4] float64
    scores: Array  #: [n] float64

    def __getitem__(self, rows: Array) -> "Detections":
        """Some of them, by indices or flags."""
        return Detections(self.pictures[rows], self.classes[rows], self.boxes[rows], self.scores[rows])

    @classmethod
    def gather(cls, found: Sequence[Objects]) -> "Detections":
        """The detections of all pictures, given those of each."""
        return cls(
            pictures=np.repeat(np.arange(len(found)), [len(objects.scores) for objects in found]),
            classes=np.concatenate([np.zeros(0, int), *(objects.classes for objects in found)]),
            boxes=np.concatenate([np.zeros((0, 4)), *(objects.boxes for objects in found)]),
            scores=np.concatenate([np.zeros(0), *(objects.scores for objects in found)]),
        )


class ClassScore(NamedTuple):
    """COCO's figures of one class."""

    ap: float
    ap50: float
    n_labels: int  #: without crowds


@dataclass(frozen=True)
class CocoScores:
    """COCO's figures: averages over the classes that are labelled; nan where there is no such label."""

    ap: float  #: IoU 0.50 to 0.95
    ap50: float
    ap75: float
    small: float  #: AP of the objects of up to 32 x 32 pixels
    medium: float
    large: float  #: of 96 x 96 pixels and more
    classes: Dict[int, ClassScore]


def shared_areas(boxes: Array, others: Array, inclusive: int = 0) -> Array:
    """The areas that each of n boxes [n, 4] shares with each of m others [m, 4]: [n, m].

    inclusive  1 where the corners are the first and last pixel inside, so that widths are x2 - x1 + 1
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas: Array = np.maximum(high - low + inclusive, 0).prod(axis=2)
    return areas


def box_areas(boxes: Array, inclusive: int = 0) -> Array:
    """Areas [n] of boxes [n, 4]; see shared_areas."""
    areas: Array = (boxes[:, 2:] - boxes[:, :2] + inclusive).prod(axis=1)
    return areas


def shared_groups(keys: Array, others: Array) -> Iterator[Tuple[Array, Array]]:
    """Rising indices into [n] and [m] integers, for each value that occurs in both."""
    order, other_order = (np.argsort(values, kind="stable") for values in (keys, others))
    common = np.intersect1d(keys, others)
    firsts, other_firsts = np.searchsorted(keys[order], common), np.searchsorted(others[other_order], common)
    ends = np.searchsorted(keys[order], common, side="right")
    other_ends = np.searchsorted(others[other_order], common, side="right")
    for first, end, other_first, other_end in zip(firsts, ends, other_firsts, other_ends):
        yield order[first:end], other_order[other_first:other_end]


# ------------------------------------------------------------------------------------------------------------- COCO


def coco(labels: Labels, found: Detections) -> CocoScores:
    """COCO's average precision: 10 IoU thresholds, 101 recalls, crowds ignored, 100 detections a class and picture."""
    counted = labels.classes[~labels.crowd]
    classes = np.unique(counted)
    precision = _precision(labels, _best_per_class(found), classes)
    every, small, medium, large = (precision[:, index] for index in range(len(AREAS)))
    return CocoScores(
        ap=_mean(every),
        ap50=_mean(every[:, 0]),
        ap75=_mean(every[:, 5]),
        small=_mean(small),
        medium=_mean(medium),
        large=_mean(large),
        classes={
            int(index): ClassScore(_mean(values), _mean(values[0]), int(np.count_nonzero(counted == index)))
            for index, values in zip(classes, every)
        },
    )


def _mean(values: Array) -> float:
    """The mean of what is not nan; nan when nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _best_per_class(found: Detections) -> Detections:
    """The MAX_PER_CLASS best of each class in each picture, by class, then picture, then falling score."""
    found = found[np.lexsort((-found.scores, found.pictures, found.classes))]
    starts = np.flatnonzero(np.diff(found.classes, prepend=-1) | np.diff(found.pictures, prepend=-1))
    sizes = np.diff(starts, append=len(found.scores))
    place = np.arange(len(found.scores)) - np.repeat(starts, sizes)
    return found[place < MAX_PER_CLASS]


def _precision(labels: Labels, found: Detections, classes: Array) -> Array:
    """Precision at each of RECALLS: [classes, areas, IoU thresholds, recalls]; nan where nothing is labelled.

    found  as _best_per_class leaves them
    """
    ranges = np.array(list(AREAS.values()))
    label_ignored = _outside(labels.areas, ranges) | labels.crowd[:, None]
    hit, ignored = _match(labels, label_ignored, found)
    ignored |= ~hit & _outside(box_areas(found.boxes), ranges)[:, :, None]
    precision = np.full((len(classes), len(AREAS), len(IOU_THRESHOLDS), len(RECALLS)), np.nan)
    for row, index in enumerate(classes):
        n_labels = np.count_nonzero(~label_ignored[labels.classes == index], axis=0)
        begin, end = np.searchsorted(found.classes, [index, index + 1])
        order = begin + np.argsort(-found.scores[begin:end], kind="stable")
        for area in np.flatnonzero(n_labels):
            precision[row, area] = _curves(hit[order, area], ignored[order, area], n_labels[area])
    return precision


def _outside(areas: Array, ranges: Array) -> Array:
    """Whether each of n areas lies outside each of the ranges [a, 2]: [n, a]."""
    return (areas[:, None] < ranges[:, 0]) | (areas[:, None] > ranges[:, 1])


def _curves(hit: Array, ignored: Array, n_labels: int) -> Array:
    """The best precision at each of RECALLS or beyond, for each IoU threshold: [thresholds, recalls].

    hit, ignored  [n, thresholds] by falling score
    """
    curves = np.zeros((len(IOU_THRESHOLDS), len(RECALLS)))
    right = np.cumsum(hit & ~ignored, axis=0, dtype=float)
    wrong = np.cumsum(~hit & ~ignored, axis=0, dtype=float)
    precision = right / np.maximum(right + wrong, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    for curve, recall, values in zip(curves, (right / n_labels).T, precision.T):
        reached = np.searchsorted(recall, RECALLS)
        n_reached = np.count_nonzero(reached < len(recall))
        curve[:n_reached] = values[reached[:n_reached]]
    return curves


def _match(labels: Labels, label_ignored: Array, found: Detections) -> Tuple[Array, Array]:
    """Which detections find a label, and which of those find an ignored one: two times bool [n, areas, thresholds].

    label_ignored  [labels, areas]
    """
    hit = np.zeros((len(found.scores), len(AREAS), len(IOU_THRESHOLDS)), bool)
    ignored = np.zeros_like(hit)
    n_pictures = 1 + max(found.pictures.max(initial=0), labels.pictures.max(initial=0))
    groups = shared_groups(found.classes * n_pictures + found.pictures, labels.classes * n_pictures + labels.pictures)
    for rows, theirs in groups:
        hit[rows], ignored[rows] = _match_group(
            found.boxes[rows], labels.boxes[theirs], labels.crowd[theirs], label_ignored[theirs].T
        )
    return hit, ignored


def _match_group(
    boxes: Array, label_boxes: Array, crowd: Array, label_ignored: Array
) -> Tuple[Array, Array]:
    """_match for one class in one picture: n detections by falling score, m labels.

    Each detection takes the label that it overlaps most of those still free, the later of two alike, and an ignored
    one only where no other is in reach. A crowd is never used up.

    boxes          [n, 4]
    label_boxes    [m, 4]
    crowd          [m]
    label_ignored  [areas, m]
    """
    shared = shared_areas(boxes, label_boxes)
    union = box_areas(boxes)[:, None] + np.where(crowd, 0, box_areas(label_boxes) - shared)
    iou = shared / np.maximum(union, np.finfo(float).tiny)
    in_reach = iou[:, None, :] >= IOU_THRESHOLDS[:, None]  # [n, thresholds, m]
    place = iou.argsort(axis=1, kind="stable").argsort(axis=1)
    preference = place[:, None, :] + np.where(label_ignored, 0, len(crowd))  # [n, areas, m], all different
    hit = np.zeros((len(boxes), len(AREAS), len(IOU_THRESHOLDS)), bool)
    ignored = np.zeros_like(hit)
    free = np.ones((len(AREAS), len(IOU_THRESHOLDS), len(crowd)), bool)
    for row in np.flatnonzero(in_reach[:, 0].any(axis=1)):
        wanted = np.where(in_reach[row] & free, preference[row][:, None], -1)
        best = wanted.argmax(axis=2)[..., None]
        taken = np.take_along_axis(wanted, best, axis=2) >= 0
        hit[row] = taken[..., 0]
        ignored[row] = hit[row] & np.take_along_axis(label_ignored, best[..., 0], axis=1)
        np.put_along_axis(free, best, np.take_along_axis(free, best, axis=2) & (~taken | crowd[best]), axis=2)
    return hit, ignored


# ------------------------------------------------------------------------------------------------------- WIDER FACE


def wider(labels: Labels, subsets: Mapping[str, Array], found: Detections) -> Dict[str, float]:
    """WIDER FACE's average precision in each of some subsets of the faces; nan for one without faces.

    subsets  name -> bool [labels]: the faces to be found. The others are neither hit nor miss

    As its authors do: a detection belongs to the face that it overlaps most, the first of two alike; of several
    detections of one face the best counts as right and the others as wrong; widths are x2 - x1 + 1; detections in
    pictures without labelled faces do not count.
    """
    found = found[np.argsort(-found.scores, kind="stable")]
    face = _nearest_face(labels, found)
    n_shown = np.searchsorted(-_spread(found.scores), -WIDER_THRESHOLDS, side="right")
    in_labelled = np.isin(found.pictures, labels.pictures)
    result = {}
    for name, wanted in subsets.items():
        on_wanted = np.append(wanted, False)[face]
        counted = in_labelled & (on_wanted | (face < 0))
        right = np.zeros(len(face), bool)
        rows = np.flatnonzero(on_wanted)
        right[rows[np.unique(face[rows], return_index=True)[1]]] = True
        n_right = np.append(0, np.cumsum(right))[n_shown]
        n_counted = np.append(0, np.cumsum(counted))[n_shown]
        result[name] = _area_under(n_right, n_counted, int(np.count_nonzero(wanted)))
    return result


def _spread(scores: Array) -> Array:
    """Scores by falling value, scaled so that the best is 1 and the worst 0; all 1 when they are alike."""
    if scores.size == 0 or scores[0] == scores[-1]:
        return np.ones_like(scores)
    spread: Array = (scores - scores[-1]) / (scores[0] - scores[-1])
    return spread


def _nearest_face(labels: Labels, found: Detections) -> Array:
    """For each detection the index of the label that it overlaps most, -1 where that is less than WIDER_IOU: [n]."""
    nearest = np.full(len(found.scores), -1)
    label_areas = box_areas(labels.boxes, inclusive=1)
    for rows, theirs in shared_groups(found.pictures, labels.pictures):
        boxes = found.boxes[rows]
        shared = shared_areas(boxes, labels.boxes[theirs], inclusive=1)
        iou = shared / (box_areas(boxes, inclusive=1)[:, None] + label_areas[theirs] - shared)
        nearest[rows] = np.where(iou.max(axis=1) >= WIDER_IOU, theirs[iou.argmax(axis=1)], -1)
    return nearest


def _area_under(n_right: Array, n_counted: Array, n_wanted: int) -> float:
    """The area under the best precision at each recall or beyond, at thresholds from strict to lax.

    n_right    faces found
    n_counted  detections that are right or wrong
    """
    if n_wanted == 0:
        return float("nan")
    precision = n_right / np.maximum(n_counted, 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(n_right, prepend=0) * precision) / n_wanted)
