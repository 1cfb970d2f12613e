#!/usr/bin/env python3
"""Measures a checkpoint on labelled folders, with the pre-processing and NMS that the library uses.

For the folder a network was trained on, only the held-out pictures are read (--everything reads all).  Any other
labelled folder (see data.py) does too: a group photograph with its faces, or pictures with none.
"""
import argparse
import os

import cv2
import numpy as np
import torch

from data import HELD_OUT, fit_box_from_keypoints, read_labels, read_rgb, sizes, split, tighten
from network import MEAN, SCALE, DamoFD, decode, load_checkpoint, priors

NMS_IOU, MATCH_IOU = 0.45, 0.5


def letterbox(image, side):
    """Picture [h, w, 3] in the top-left corner of a black square, ratio kept, plain bilinear; and the factor applied."""
    h, w = image.shape[:2]
    s = min(side / w, side / h)
    out = np.zeros((side, side, 3), np.uint8)
    small = cv2.resize(image, (max(1, int(w * s)), max(1, int(h * s))), interpolation=cv2.INTER_LINEAR)
    out[:small.shape[0], :small.shape[1]] = small
    return out, s


def ious(a, b):
    """IoU of every box of a with every box of b: [n, 4], [m, 4] -> [n, m]."""
    wh = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = np.prod(np.maximum(wh, 0), 2)
    return inter / np.maximum(sizes(a)[:, None] ** 2 + sizes(b)[None] ** 2 - inter, 1e-6)


def nms(boxes, scores, iou):
    """Indices kept, best first; ties keep the lower index."""
    order, kept = np.argsort(-scores, kind="stable"), []
    while len(order):
        kept.append(order[0])
        order = order[1:][ious(boxes[order[:1]], boxes[order[1:]])[0] <= iou]
    return np.array(kept, int)


@torch.no_grad()
def detect(model, image, side=640, score=0.02, device="cpu"):
    """RGB bytes [h, w, 3] -> boxes [n, 4], scores [n], keypoints [n, 5, 2] or None: pixels of the picture, best first."""
    square, s = letterbox(image, side)
    x = torch.from_numpy(square).to(device).permute(2, 0, 1)[None].float().sub(MEAN).mul(SCALE)
    logits, distances, offsets = model(x)
    points, strides = (t.to(device) for t in priors(side, side))
    boxes, keypoints = decode(points, strides, distances[0], None if offsets is None else offsets[0])
    scores = torch.sigmoid(logits[0])
    some = scores > score
    scores, boxes = scores[some].cpu().numpy(), boxes[some].cpu().numpy()
    kept = nms(boxes, scores, NMS_IOU)
    return boxes[kept] / s, scores[kept], None if keypoints is None else keypoints[some].cpu().numpy()[kept] / s


def match(boxes, truth):
    """Greedy: each found box, best first, takes the free true box it overlaps most: [n] indices, -1 for none."""
    out, free = np.full(len(boxes), -1), np.ones(len(truth), bool)
    if len(boxes) and len(truth):
        table = ious(boxes, truth)
        for i in range(len(boxes)):
            overlaps = np.where(free, table[i], 0)
            j = int(np.argmax(overlaps))
            if overlaps[j] >= MATCH_IOU:
                out[i], free[j] = j, False
    return out


def excused(boxes, regions):
    """Found boxes mostly inside a region that counts for nothing: [n] bool."""
    if not len(boxes) or not len(regions):
        return np.zeros(len(boxes), bool)
    wh = np.minimum(boxes[:, None, 2:], regions[None, :, 2:]) - np.maximum(boxes[:, None, :2], regions[None, :, :2])
    return (np.prod(np.maximum(wh, 0), 2) > 0.5 * sizes(boxes)[:, None] ** 2).any(1)


def average_precision(scores, right, n_true):
    """Area under the precision-recall curve, precision made monotonic (all points)."""
    if not n_true or not len(scores):
        return 0.0
    right = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = np.concatenate([[0], hits / n_true])
    return float(np.sum(np.diff(recall) * precision))


def best_score(scores, right, n_true):
    """The score at which the harmonic mean of precision and recall is largest, and that mean."""
    if not n_true or not len(scores):
        return 1.0, 0.0
    order = np.argsort(-scores, kind="stable")
    f = 2 * np.cumsum(right[order]) / (np.arange(1, len(order) + 1) + n_true)
    best = int(np.argmax(f))
    return float(scores[order[best]]), float(f[best])


def score_for_precision(scores, right, precision):
    """The lowest score from which on at least this share of the boxes is right; 1 if there is none."""
    order = np.argsort(-scores, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= precision)
    return float(scores[order[good[-1]]]) if len(good) else 1.0


class Tally:
    """Results over pictures: what was found, right or wrong, and how far keypoints are off."""

    def __init__(self, least, threshold=0.5):
        self.least = least                                        # faces below this size, pixels, count for nothing
        self.threshold = threshold                                # scores from here on count as found
        self.scores, self.right, self.n_true, self.gaps = [], [], 0, []

    def add(self, found, picture):
        boxes, scores, keypoints = found
        big = sizes(picture.boxes) >= self.least
        taken = match(boxes, picture.boxes)
        counts = np.where(taken >= 0, big[taken] if len(big) else False,
                          ~excused(boxes, picture.ignore) & (sizes(boxes) >= self.least))
        self.scores.append(scores[counts])
        self.right.append(taken[counts] >= 0)
        self.n_true += int(big.sum())
        for i in np.flatnonzero((taken >= 0) & counts & (scores >= self.threshold)):
            if keypoints is not None and np.isfinite(picture.keypoints[taken[i]]).all():
                gap = np.linalg.norm(keypoints[i] - picture.keypoints[taken[i]], axis=1).mean()
                self.gaps.append(gap / sizes(picture.boxes[taken[i]][None])[0])

    def joined(self):
        """Scores of all boxes that count, and whether each is right."""
        return np.concatenate(self.scores or [np.zeros(0)]), np.concatenate(self.right or [np.zeros(0, bool)])

    def figures(self):
        """AP50; faces found, boxes that are none, at the threshold; keypoints' mean distance in face sizes (NaN: none)."""
        scores, right = self.joined()
        sure = scores >= self.threshold
        return (average_precision(scores, right, self.n_true), int((sure & right).sum()), int((sure & ~right).sum()),
                float(np.mean(self.gaps)) if self.gaps else float("nan"))

    def report(self, name):
        ap, found, false, gap = self.figures()
        print("%-18s %4d faces: AP50 %.3f; at score %.2f found %d, false %d%s"
              % (name, self.n_true, ap, self.threshold, found, false,
                 "" if np.isnan(gap) else ", keypoints off by %.1f %% of the face's size" % (100 * gap)), flush=True)


def load_model(path, variant, device="cpu"):
    model = DamoFD(variant)
    model.load_state_dict(load_checkpoint(path), strict=False)
    return model.to(device).eval()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("checkpoint")
    p.add_argument("folders", nargs="+", help="folders with labels.jsonl")
    p.add_argument("--images", help="where the pictures lie, if not beside their labels.jsonl")
    p.add_argument("--everything", action="store_true", help="all pictures, not the held-out ones alone, boxes as labelled")
    p.add_argument("--variant", default="2.5g-kps")
    p.add_argument("--side", type=int, default=640, help="network input, pixels [640]")
    p.add_argument("--score", type=float, default=0.5)
    p.add_argument("--least", type=float, default=16, help="faces smaller than this, pixels of the picture, count for nothing [16]")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.checkpoint, args.variant, args.device)
    for folder in args.folders:
        pictures = read_labels(folder)
        if not args.everything:
            train, pictures = split(pictures, HELD_OUT)
            tighten(pictures, fit_box_from_keypoints(train))
        total, sets, empty, struck = Tally(args.least, args.score), {}, 0, []
        for picture in pictures:
            found = detect(model, read_rgb(os.path.join(args.images or folder, picture.name)), args.side, device=args.device)
            for tally in (total, sets.setdefault(picture.set, Tally(args.least, args.score))):
                tally.add(found, picture)
            if not len(picture.boxes) and not len(picture.ignore):
                empty += 1
                if (found[1] >= args.score).any():
                    struck.append("%s %.2f" % (picture.name, found[1].max()))
        if len(sets) > 1:
            for name in sorted(sets):
                sets[name].report(name)
        total.report(os.path.basename(os.path.normpath(folder)))
        print("precision and recall balance at score %.2f (F1 %.3f)"
              % best_score(*total.joined(), total.n_true))
        print("; ".join("%g %% of the boxes are right from score %.2f on" % (100 * p, score_for_precision(*total.joined(), p))
                        for p in (0.95, 0.96, 0.97, 0.98)))
        if empty:
            print("%d of %d pictures without a face have a box: %s" % (len(struck), empty, "; ".join(struck) or "none"))


if __name__ == "__main__":
    main()
