"""Reading a folder of labelled faces.

The folder holds `labels.jsonl`, one JSON object a line:
  image      path below the folder
  width, height   of the picture, pixels (optional: read from the picture)
  boxes      [[x1, y1, x2, y2], ...] pixels; empty for a picture without a face
  keypoints  per box five [x, y] (left eye, right eye, nose, left and right mouth corner as seen in the picture) or null (optional)
  ignore     boxes that count for nothing, neither face nor background (optional)
  set        name of the collection the picture comes from (optional)
Pictures are decoded once into one file of bytes that worker processes share.
"""
import json
import os

import cv2
import numpy as np

HELD_OUT = 0.12      # of every set, its last file names: neighbours in a video stay on one side
# Sets whose boxes hold more than the face: area of the box over that of a tight one.
LOOSE = {"mik1i": 1.37, "maskwearing_gray": 1.48, "webcam_pwa1t": 1.91}
PORTRAIT_SETS = ("congress",)    # one unmasked face before a plain background: cut out and pasted
LOOSE_WEIGHT = 0.3   # of the box loss where a loose box could not be refitted


class Picture:
    """One line of labels.  boxes [n, 4], keypoints [n, 5, 2] (NaN where unknown), ignore [m, 4]: pixels; box_weights [n]."""

    def __init__(self, line):
        self.name = line["image"]
        self.set = line.get("set", "")
        self.boxes = np.asarray(line["boxes"], np.float32).reshape(-1, 4)
        self.ignore = np.asarray(line.get("ignore", []), np.float32).reshape(-1, 4)
        none = np.full((5, 2), np.nan, np.float32)
        points = line.get("keypoints") or [None] * len(self.boxes)
        self.keypoints = np.asarray([none if p is None else p for p in points], np.float32).reshape(-1, 5, 2)
        self.box_weights = np.ones(len(self.boxes), np.float32)


def read_labels(folder):
    with open(os.path.join(folder, "labels.jsonl"), encoding="utf-8") as f:
        return [Picture(json.loads(line)) for line in f if line.strip()]


def split(pictures, held_out=HELD_OUT):
    """Training and validation pictures: of each set, the last file names are held out."""
    sets = {}
    for p in pictures:
        sets.setdefault(p.set, []).append(p)
    train, validation = [], []
    for name in sorted(sets):
        part = sorted(sets[name], key=lambda p: p.name)
        cut = len(part) - int(len(part) * held_out)
        train += part[:cut]
        validation += part[cut:]
    return train, validation


def sizes(boxes):
    """Side of the square of a box's area, pixels: [n, 4] -> [n]."""
    wh = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.sqrt(wh[:, 0] * wh[:, 1])


def iou_of_pairs(a, b):
    """IoU of row i of a with row i of b: [n, 4], [n, 4] -> [n]."""
    wh = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    inter = wh[:, 0] * wh[:, 1]
    return inter / np.maximum(sizes(a) ** 2 + sizes(b) ** 2 - inter, 1e-6)


def _frame(keypoints):
    """Five points in their own frame: centroid [n, 1, 2], spread [n, 1, 1], features [n, 11]."""
    centre = keypoints.mean(1, keepdims=True)
    spread = np.sqrt(((keypoints - centre) ** 2).sum(2).mean(1))[:, None, None]
    local = (keypoints - centre) / np.maximum(spread, 1e-3)
    return centre, spread, np.concatenate([local.reshape(-1, 10), np.ones((len(local), 1), np.float32)], 1)


def fit_box_from_keypoints(pictures):
    """Ridge regression from five points to a tight box, learnt where boxes are tight: a matrix [11, 4]."""
    tight = [p for p in pictures if p.set not in LOOSE and len(p.boxes)]
    if not tight:
        return None
    boxes = np.concatenate([p.boxes for p in tight])
    points = np.concatenate([p.keypoints for p in tight])
    good = np.isfinite(points).all((1, 2)) & (sizes(boxes) >= 20)
    if good.sum() < 50:
        return None
    centre, spread, x = _frame(points[good])
    y = ((boxes[good].reshape(-1, 2, 2) - centre) / spread).reshape(-1, 4)
    keep = np.abs(y).max(1) < 6
    x, y = x[keep], y[keep]
    return np.linalg.solve(x.T @ x + np.eye(11) * 0.01 * len(x), x.T @ y).astype(np.float32)


def tighten(pictures, matrix):
    """Replaces the boxes of loose sets by what their keypoints say; shrinks, and weighs less, those without keypoints."""
    for p in pictures:
        if p.set not in LOOSE or not len(p.boxes):
            continue
        centre = (p.boxes[:, :2] + p.boxes[:, 2:]) / 2
        half = (p.boxes[:, 2:] - p.boxes[:, :2]) / 2 / np.sqrt(LOOSE[p.set])
        out = np.concatenate([centre - half, centre + half], 1)
        weights = np.full(len(out), LOOSE_WEIGHT, np.float32)
        known = np.isfinite(p.keypoints).all((1, 2))
        if matrix is not None and known.any():
            mid, spread, x = _frame(p.keypoints[known])
            fitted = ((x @ matrix).reshape(-1, 2, 2) * spread + mid).reshape(-1, 4)
            agrees = iou_of_pairs(fitted, p.boxes[known]) > 0.35
            where = np.flatnonzero(known)[agrees]
            out[where] = fitted[agrees]
            weights[where] = 1.0
        p.boxes, p.box_weights = out.astype(np.float32), weights


def load(folder, held_out=HELD_OUT):
    """Training and validation pictures with tightened boxes; the refit is learnt on the training part."""
    train, validation = split(read_labels(folder), held_out)
    matrix = fit_box_from_keypoints(train)
    tighten(train, matrix)
    tighten(validation, matrix)
    return train, validation


class ByteStore:
    """Arrays of bytes in one file, memory-mapped: `name.bin` and its index `name.json`."""

    def __init__(self, path):
        with open(path + ".json", encoding="utf-8") as f:
            self.index = json.load(f)
        self.names = list(self.index)
        self.bytes = np.memmap(path + ".bin", np.uint8, "r")

    def __getitem__(self, key):
        offset, shape = self.index[key]
        return self.bytes[offset:offset + int(np.prod(shape))].reshape(shape)

    def __contains__(self, key):
        return key in self.index

    @staticmethod
    def write(path, arrays):
        """arrays: pairs (key, uint8 array).  The index is written last, so that a half-written store is not taken for one."""
        index, offset = {}, 0
        with open(path + ".bin", "wb") as f:
            for key, array in arrays:
                f.write(np.ascontiguousarray(array).tobytes())
                index[key] = [offset, list(array.shape)]
                offset += array.size
        with open(path + ".json.part", "w", encoding="utf-8") as f:
            json.dump(index, f)
        os.replace(path + ".json.part", path + ".json")


def read_rgb(path, longest=None):
    """A picture as RGB bytes [h, w, 3], shrunk to `longest` pixels on its longer side; ValueError if it is none."""
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("'%s': not a picture that can be read" % path)
    if longest and max(image.shape[:2]) > longest:
        s = longest / max(image.shape[:2])
        image = cv2.resize(image, None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pixel_store(folder, cache, pictures):
    """Every picture decoded, keyed by its name; made on first use.  Pictures keep their size: labels are in their pixels."""
    os.makedirs(cache, exist_ok=True)
    path = os.path.join(cache, "pixels")
    if os.path.exists(path + ".json"):
        store = ByteStore(path)
        if all(p.name in store for p in pictures):
            return store
    ByteStore.write(path, ((p.name, read_rgb(os.path.join(folder, p.name))) for p in pictures))
    return ByteStore(path)
