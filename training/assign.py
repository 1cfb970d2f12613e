"""Which prior answers for which face: adaptive training sample selection (ATSS) over the two anchors of each cell.

For each face the nearest priors of every level are candidates; those whose anchor overlaps the face by more than the
candidates' mean plus their standard deviation, and that lie in the face, are positive.
"""
import numpy as np

STRIDES = (8, 16, 32)
ANCHORS = ((16, 32), (64, 128), (256, 512))     # sides of a cell's two anchors at each stride, pixels
CANDIDATES = 9              # per level
BACKGROUND, IGNORED = -1, -2
_cache = {}


def anchors(height, width):
    """Priors as the network orders them: points [a, 2], sides [a] in pixels, strides [a], and each level's slice."""
    key = (height, width)
    if key not in _cache:
        points, sides, strides, levels, start = [], [], [], [], 0
        for s, pair in zip(STRIDES, ANCHORS):
            y, x = np.mgrid[:height // s, :width // s]
            p = np.stack([x, y], -1).reshape(-1, 2).repeat(2, 0).astype(np.float32) * s
            points.append(p)
            sides.append(np.tile(np.float32(pair), len(p) // 2))
            strides.append(np.full(len(p), s, np.float32))
            levels.append(slice(start, start + len(p)))
            start += len(p)
        _cache[key] = np.concatenate(points), np.concatenate(sides), np.concatenate(strides), levels
    return _cache[key]


def assign(boxes, ignore, height, width):
    """boxes [n, 4] and ignore [m, 4] in pixels of a height x width input -> [a] int64: the index of the box each prior
    answers for, BACKGROUND or IGNORED."""
    points, sides, strides, levels = anchors(height, width)
    out = np.full(len(points), BACKGROUND, np.int64)
    for x1, y1, x2, y2 in ignore:
        margin = strides / 2
        out[(points[:, 0] > x1 - margin) & (points[:, 0] < x2 + margin) & (points[:, 1] > y1 - margin) & (points[:, 1] < y2 + margin)] = IGNORED
    if not len(boxes):
        return out
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    picked = []
    for level in levels:
        p = points[level]
        k = min(CANDIDATES, len(p))
        distance = ((p[None] - centre[:, None]) ** 2).sum(2)
        picked.append(np.argpartition(distance, k - 1, 1)[:, :k] + level.start)
    index = np.concatenate(picked, 1)                                            # [n, c]
    p, half = points[index], sides[index][..., None] / 2
    low, high = np.maximum(p - half, boxes[:, None, :2]), np.minimum(p + half, boxes[:, None, 2:])
    inter = np.prod(np.maximum(high - low, 0), 2)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3), 1)
    iou = inter / (area[:, None] + (2 * half[..., 0]) ** 2 - inter)              # [n, c]
    margin = strides[index][..., None] * 0.25
    inside = ((p > boxes[:, None, :2] - margin) & (p < boxes[:, None, 2:] + margin)).all(2)
    positive = (iou >= (iou.mean(1) + iou.std(1))[:, None]) & inside
    best = np.argmax(np.where(inside, iou, iou - 2), 1)                          # every face keeps at least one
    positive[np.arange(len(boxes)), best] = True
    quality = np.full(len(points), -1.0)
    for i in np.argsort(-area):                                                  # where two faces want a prior, the better overlap wins
        for a, q in zip(index[i][positive[i]], iou[i][positive[i]]):
            if q > quality[a]:
                quality[a], out[a] = q, i
    return out
