"""Quality focal loss for the score, DIoU for the box, smooth L1 normalised by the face's size for the keypoints; and the
same against a teacher's outputs."""
import torch
import torch.nn.functional as F

from network import decode

BOX_WEIGHT, KEYPOINT_WEIGHT = 2.0, 8.0
KEYPOINT_BETA = 0.05        # of the face's size: below it the keypoint loss is quadratic
SEEN = 0.3                  # score from which a teacher's box and keypoints are worth learning


def iou_and_diou(a, b):
    """IoU and DIoU of boxes [n, 4] with boxes [n, 4]; a box turned inside out has no area."""
    wh_a, wh_b = (a[:, 2:] - a[:, :2]).clamp(min=0), b[:, 2:] - b[:, :2]
    wh = (torch.min(a[:, 2:], b[:, 2:]) - torch.max(a[:, :2], b[:, :2])).clamp(min=0)
    inter = wh.prod(1)
    iou = inter / (wh_a.prod(1) + wh_b.prod(1) - inter).clamp(min=1e-6)
    hull = torch.max(a[:, 2:], b[:, 2:]) - torch.min(a[:, :2], b[:, :2])
    apart = (a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2
    return iou, iou - apart.pow(2).sum(1) / hull.pow(2).sum(1).clamp(min=1e-6)


def quality_focal(logits, quality, beta=2.0):
    """Cross entropy with the target `quality` in 0..1, weighted by how far the score is from it: elementwise."""
    gap = (torch.sigmoid(logits) - quality).abs()
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * gap.pow(beta)


def _keypoint_loss(gap, n):
    """Smooth L1 of keypoints' distances [m, 5, 2] in face sizes, a mean over n priors and ten numbers."""
    return F.smooth_l1_loss(gap, torch.zeros_like(gap), beta=KEYPOINT_BETA, reduction="sum") / 10 / n


def detection_loss(outputs, points, strides, targets, keypoint_weight=KEYPOINT_WEIGHT):
    """outputs: the network's logits [n, a], distances [n, a, 4], keypoints [n, a, 5, 2] or None.
    targets: index [n, a] (of the face, -1 background, -2 ignored), boxes [n, g, 4], keypoints [n, g, 5, 2] (NaN: unknown),
    weights [n, g].  Returns the three losses, each a mean over the positive priors."""
    logits, distances, offsets = outputs
    index, boxes, keypoints, weights = targets
    image, prior = torch.nonzero(index >= 0, as_tuple=True)
    face = index[image, prior]
    n = max(len(face), 1)
    p, s = points[prior], strides[prior]
    found, _ = decode(p, s, distances[image, prior])
    wanted = boxes[image, face]
    iou, diou = iou_and_diou(found, wanted)
    weight = weights[image, face]
    quality = torch.zeros_like(logits)
    quality[image, prior] = iou.detach().clamp(0, 1)
    score = (quality_focal(logits, quality) * (index != -2)).sum() / n
    box = ((1 - diou) * weight).sum() / n
    if offsets is None:
        return score, BOX_WEIGHT * box, box * 0
    target = keypoints[image, face]
    known = torch.isfinite(target).all(2).all(1)
    size = (wanted[:, 2:] - wanted[:, :2]).prod(1).clamp(min=1).sqrt()[known, None, None]
    point = p[known, None] + offsets[image[known], prior[known]] * s[known, None, None]
    gap = (point - target[known]) / size
    return score, BOX_WEIGHT * box, keypoint_weight * _keypoint_loss(gap, n)


def teacher_loss(outputs, taught, points, strides, index, keypoint_weight=KEYPOINT_WEIGHT):
    """Distillation: the losses of `outputs` with the outputs of a larger network for the same picture in place of labels.
    Its scores are the target at every prior that counts; its boxes and keypoints where a face is (index >= 0) and it saw one."""
    logits, distances, offsets = outputs
    scores = torch.sigmoid(taught[0])
    image, prior = torch.nonzero((index >= 0) & (scores > SEEN), as_tuple=True)
    n = max(len(prior), 1)
    score = (quality_focal(logits, scores) * (index != -2)).sum() / n
    p, s = points[prior], strides[prior]
    found, found_points = decode(p, s, distances[image, prior], None if offsets is None else offsets[image, prior])
    wanted, wanted_points = decode(p, s, taught[1][image, prior], None if offsets is None else taught[2][image, prior])
    box = (1 - iou_and_diou(found, wanted)[1]).sum() / n
    if offsets is None:
        return score, BOX_WEIGHT * box, box * 0
    gap = (found_points - wanted_points) / (wanted[:, 2:] - wanted[:, :2]).clamp(min=1).prod(1).sqrt()[:, None, None]
    return score, BOX_WEIGHT * box, keypoint_weight * _keypoint_loss(gap, n)
