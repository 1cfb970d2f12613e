"""Geometry and light: moving pictures together with their boxes and keypoints, and changing how they look.

Boxes [n, 4] x1 y1 x2 y2 and keypoints [n, 5, 2], pixels, continuous coordinates: pixel (i, j) covers [j, j + 1) x [i, i + 1).
Pictures are RGB bytes [h, w, 3].  `rng` is a numpy Generator.
"""
import cv2
import numpy as np

SMALLEST = 7.0        # faces below this many pixels count for nothing
VISIBLE = 0.5         # a face with less of it inside the picture counts for nothing
MIRRORED = [1, 0, 2, 4, 3]
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


class Faces:
    """What is known of the faces in a picture; `ignore` regions are neither face nor background."""

    def __init__(self, boxes=None, keypoints=None, weights=None, ignore=None):
        self.boxes = np.zeros((0, 4), np.float32) if boxes is None else boxes
        n = len(self.boxes)
        self.keypoints = np.full((n, 5, 2), np.nan, np.float32) if keypoints is None else keypoints
        self.weights = np.ones(n, np.float32) if weights is None else weights
        self.ignore = np.zeros((0, 4), np.float32) if ignore is None else ignore

    @staticmethod
    def join(parts):
        return Faces(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("boxes", "keypoints", "weights", "ignore")))

    def only(self, keep, ignored=None):
        """The faces where `keep` holds; the boxes where `ignored` holds become regions to ignore."""
        ignore = self.ignore if ignored is None else np.concatenate([self.ignore, self.boxes[ignored]])
        return Faces(self.boxes[keep], self.keypoints[keep], self.weights[keep], ignore)


def log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def transform_points(m, points):
    """m 3x3; points [..., 2]."""
    p = points @ m[:2, :2].T + m[:2, 2]
    return p / (points @ m[2, :2] + m[2, 2])[..., None]


def transform_boxes(m, boxes):
    """The bounding box of the moved ellipse inside each box: a turned face stays tight, unlike the box of four corners."""
    if not len(boxes):
        return boxes.astype(np.float32)
    centre, half = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2, (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    p = transform_points(m, centre + half * _CIRCLE)
    return np.concatenate([p.min(1), p.max(1)], 1).astype(np.float32)


def transform_faces(m, faces, mirrored=False):
    keypoints = transform_points(m, faces.keypoints) if len(faces.keypoints) else faces.keypoints
    if mirrored:
        keypoints = keypoints[:, MIRRORED]
    return Faces(transform_boxes(m, faces.boxes), keypoints.astype(np.float32), faces.weights, transform_boxes(m, faces.ignore))


def clip_faces(faces, width, height):
    """Boxes cut at the picture's edge; faces mostly outside or too small are ignored, those wholly outside dropped."""
    def clip(boxes):
        return np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)

    def area(boxes):
        return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), 1)

    cut = clip(faces.boxes)
    share = area(cut) / np.maximum(area(faces.boxes), 1e-6)
    keep = (share >= VISIBLE) & (np.sqrt(area(cut)) >= SMALLEST)
    some = area(cut) > 0
    out = Faces(cut, faces.keypoints, faces.weights, clip(faces.ignore)).only(keep, some & ~keep)
    out.ignore = out.ignore[area(out.ignore) > 0]
    return out


def affine(scale=1.0, degrees=0.0, source=(0.0, 0.0), target=(0.0, 0.0), mirror=False, stretch=1.0, shear=0.0, keystone=(0.0, 0.0)):
    """3x3 that moves `source` to `target`, having scaled, stretched, sheared, mirrored, turned and keystoned around it."""
    a = np.radians(degrees)
    m = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.array([[1, shear], [0, 1]]) \
        @ np.diag([scale * stretch * (-1 if mirror else 1), scale / stretch])
    to = np.eye(3)
    to[:2, 2] = -np.asarray(source)
    mid = np.eye(3)
    mid[:2, :2] = m
    mid[2, :2] = keystone
    back = np.eye(3)
    back[:2, 2] = target
    return back @ mid @ to


_CENTRES = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
_CORNERS = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])


def warp(image, m, width, height, border=0, sharp=False):
    """Resamples by m (continuous coordinates); shrinks by area first where m makes the picture much smaller, unless
    `sharp`: plain bilinear, as pictures are resized in use, leaves the jagged look of what it skips."""
    s = np.sqrt(abs(np.linalg.det(m[:2, :2])))
    if s < 0.7 and not sharp:
        h, w = image.shape[:2]
        size = (max(1, round(w * s)), max(1, round(h * s)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        m = m @ np.diag([w / size[0], h / size[1], 1.0])
    value = (border,) * 4 if np.isscalar(border) else border
    return cv2.warpPerspective(image, _CORNERS @ m @ _CENTRES, (width, height), flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_CONSTANT, borderValue=value)


def tone_curve(rng, strength=1.0):
    """A table of 256 levels: gamma, contrast about a pivot, an S-curve, brightness."""
    x = np.linspace(0, 1, 256)
    x = x ** np.exp(rng.normal(0, 0.3 * strength))
    if rng.random() < 0.3 * strength:                    # hard light: highlights and shadows near their ends
        k, pivot = rng.uniform(3, 9), rng.uniform(0.3, 0.6)
        s = 1 / (1 + np.exp(-k * (x - pivot)))
        x = (s - s[0]) / (s[-1] - s[0])
    pivot = rng.uniform(0.3, 0.7)
    x = (x - pivot) * np.exp(rng.normal(0, 0.2 * strength)) + pivot + rng.normal(0, 0.08 * strength)
    return (np.clip(x, 0, 1) * 255).astype(np.uint8)


def colour_shift(image, rng):
    """White balance and saturation."""
    gains = np.exp(rng.normal(0, 0.12, 3))
    x = image.astype(np.float32) * gains.astype(np.float32)
    grey = x @ np.float32([0.299, 0.587, 0.114])
    x = grey[..., None] + (x - grey[..., None]) * np.float32(rng.uniform(0.3, 1.5))
    return np.clip(x, 0, 255).astype(np.uint8)


def light_gradient(image, rng, strength):
    """One side darker than the other, as under a window or the sun."""
    h, w = image.shape[:2]
    a = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None] * np.float32(np.sin(a))
    x = np.linspace(-1, 1, w, dtype=np.float32)[None] * np.float32(np.cos(a))
    gain = 1 + np.float32(strength) * np.tanh((x + y) * np.float32(rng.uniform(0.7, 3)) + np.float32(rng.uniform(-0.5, 0.5)))
    return np.clip(image * gain[..., None], 0, 255).astype(np.uint8)


def washed_out(image, rng):
    """One picture in four much too bright, as product photographs on white are."""
    if rng.random() > 0.25:
        return image
    return (255 - (255 - image.astype(np.float32)) * np.float32(rng.uniform(0.15, 0.6))).astype(np.uint8)


def resample(image, rng):
    """Smaller and back again, as pictures on the web have been."""
    h, w = image.shape[:2]
    s = rng.uniform(0.4, 0.9)
    ways = [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC]
    small = cv2.resize(image, (max(1, int(w * s)), max(1, int(h * s))), interpolation=ways[rng.integers(3)])
    return cv2.resize(small, (w, h), interpolation=[cv2.INTER_LINEAR, cv2.INTER_CUBIC][rng.integers(2)])


def photograph(image, rng, grey=0.4):
    """What film, lens, sensor and compression do to a picture: colour or grey, tone, blur, sharpening, grain, JPEG."""
    h, w = image.shape[:2]
    if rng.random() < grey:
        mix = rng.dirichlet([3, 5, 2]).astype(np.float32)      # film and filters weigh the colours differently
        image = np.repeat((image @ mix)[..., None].astype(np.uint8), 3, 2)
        if rng.random() < 0.15:                                # sepia
            image = np.clip(image * np.float32([1.05, 1.0, rng.uniform(0.75, 1.0)]), 0, 255).astype(np.uint8)
    elif rng.random() < 0.5:
        image = colour_shift(image, rng)
    if rng.random() < 0.8:
        image = cv2.LUT(image, tone_curve(rng))
    if rng.random() < 0.2:
        image = light_gradient(image, rng, rng.uniform(0.1, 0.5))
    if rng.random() < 0.15:
        image = resample(image, rng)
    kind = rng.random()
    if kind < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), log_uniform(rng, 0.3, 1.6))
    elif kind < 0.25:
        k = int(rng.integers(3, 8))
        kernel = np.zeros((k, k), np.float32)
        cv2.line(kernel, (0, int(rng.integers(k))), (k - 1, int(rng.integers(k))), 1.0)
        kernel = kernel if rng.random() < 0.5 else kernel.T
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    elif kind < 0.5:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 1.5))
        amount = rng.uniform(0.2, 1.2)
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    if rng.random() < 0.3:
        one = rng.random() < 0.6
        noise = rng.standard_normal((h, w, 1 if one else 3), np.float32) * np.float32(log_uniform(rng, 1.5, 14))
        if rng.random() < 0.3:
            noise = cv2.GaussianBlur(noise, (0, 0), 0.8).reshape(noise.shape) * 1.8
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 92))])
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return image
