"""Cutting people out of portraits and giving them other light, hair and rotation, to be pasted into crowds.

A portrait is a picture of one face before a plain background.  `portrait_store` finds the person's outline once with
GrabCut and keeps RGBA pictures in a few sizes; `figure` makes one changed copy of one person.
"""
import os

import cv2
import numpy as np

from augment import MIRRORED, Faces, affine, light_gradient, log_uniform, tone_curve, transform_faces, warp
from clutter import scramble
from data import PORTRAIT_SETS, ByteStore, sizes

LEVELS = (160, 80, 40, 20)     # face sizes kept, pixels


def outline(image, box):
    """The person's mask [h, w], 0..255: GrabCut from the face box and where shoulders must be."""
    h, w = image.shape[:2]
    x1, y1, x2, y2 = box
    cx, cy, fw, fh = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    mask = np.full((h, w), cv2.GC_BGD, np.uint8)

    def ellipse(a, b, dy, value):
        cv2.ellipse(mask, (int(cx), int(cy + dy * fh)), (int(a * fw), int(b * fh)), 0, 0, 360, int(value), -1)

    def body(top, bottom, value):
        points = [(cx - top * fw, y2), (cx + top * fw, y2), (cx + bottom * fw, h), (cx - bottom * fw, h)]
        cv2.fillPoly(mask, [np.int32(points)], int(value))

    ellipse(1.1, 1.15, -0.1, cv2.GC_PR_BGD)
    body(1.0, 2.6, cv2.GC_PR_BGD)
    ellipse(0.66, 0.8, -0.1, cv2.GC_PR_FGD)
    body(0.5, 1.5, cv2.GC_PR_FGD)
    ellipse(0.46, 0.52, 0.0, cv2.GC_FGD)
    body(0.2, 0.9, cv2.GC_FGD)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image, mask, None, models[0], models[1], 4, cv2.GC_INIT_WITH_MASK)
    alpha = np.where((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD), 255, 0).astype(np.uint8)
    return cv2.GaussianBlur(cv2.morphologyEx(alpha, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), (0, 0), 1.0)


def _cut(image, faces):
    """RGBA pictures of one person, one per level, with the factor from the portrait's pixels to theirs."""
    s = min(1.0, LEVELS[0] / sizes(faces.boxes)[0])
    small = cv2.resize(image, None, fx=s, fy=s, interpolation=cv2.INTER_AREA)
    rgba = np.dstack([small, outline(small, faces.boxes[0] * s)])
    first = sizes(faces.boxes)[0] * s
    for level in LEVELS:
        if level <= first * 1.01:
            f = level / first
            yield level, cv2.resize(rgba, None, fx=f, fy=f, interpolation=cv2.INTER_AREA)


def portrait_store(cache, portraits, pixels):
    """The cut-out people, made on first use: keys 'name|level'."""
    path = os.path.join(cache, "portraits")
    names = {p.name for p in portraits}
    if os.path.exists(path + ".json"):
        store = ByteStore(path)
        if {k.split("|")[0] for k in store.index} == names:
            return store

    def arrays():
        for p in portraits:
            for level, rgba in _cut(np.asarray(pixels[p.name]), p):
                yield "%s|%d" % (p.name, level), rgba
    ByteStore.write(path, arrays())
    return ByteStore(path)


def _blob(shape, centre, radii, soft=1.0):
    """A soft elliptical spot, 0..1 [h, w]."""
    y, x = np.ogrid[:shape[0], :shape[1]]
    r = ((x + 0.5 - centre[0]) / radii[0]) ** 2 + ((y + 0.5 - centre[1]) / radii[1]) ** 2
    return np.clip((1.3 - r) / (0.6 * soft), 0, 1).astype(np.float32)


def dress(rgb, faces, rng):
    """Moustaches, beards, spectacles, hats, sunken eyes: drawn from the keypoints onto the face, RGB in and out."""
    eye_l, eye_r, nose, mouth_l, mouth_r = faces.keypoints[0]
    d = max(float(np.hypot(*(eye_r - eye_l))), 1.0)
    x = rgb.astype(np.float32)
    mouth = (mouth_l + mouth_r) / 2

    def paint(centre, radii, colour, strength, soft=1.0):
        """Blends a spot of `colour` in; colour None darkens instead."""
        x1, y1 = (int(max(0, centre[i] - 1.3 * radii[i])) for i in (0, 1))
        part = x[y1:max(0, int(centre[1] + 1.3 * radii[1]) + 1), x1:max(0, int(centre[0] + 1.3 * radii[0]) + 1)]
        a = _blob(part.shape, (centre[0] - x1, centre[1] - y1), radii, soft)[..., None] * np.float32(strength)
        part[:] = part * (1 - a) + (0 if colour is None else np.float32(colour) * a)

    hair = np.float32([0.9, 0.8, 0.7]) * np.float32(rng.choice([rng.uniform(10, 60), rng.uniform(60, 130), rng.uniform(150, 230)]))
    if rng.random() < 0.35:                          # sun from above: eye sockets and under the nose in shadow
        k = rng.uniform(0.25, 0.75)
        for eye in (eye_l, eye_r):
            paint(eye + [0, -0.05 * d], (0.32 * d, 0.2 * d), None, k, 2)
        paint(nose + [0, 0.12 * d], (0.25 * d, 0.12 * d), None, 0.7 * k, 2)
    if rng.random() < 0.28:                          # moustache
        paint(nose * 0.42 + mouth * 0.58, (rng.uniform(0.28, 0.55) * d, rng.uniform(0.09, 0.2) * d), hair, rng.uniform(0.35, 0.85), 2)
    if rng.random() < 0.15:                          # beard
        chin = mouth + (mouth - nose) * rng.uniform(0.7, 1.1)
        paint(chin, (rng.uniform(0.4, 0.8) * d, rng.uniform(0.35, 0.6) * d), hair, rng.uniform(0.35, 0.85), 2)
    out = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.18:                          # spectacles
        colour = [int(v) for v in rng.integers(0, 110, 3)]
        width = max(1, int(round(d * rng.uniform(0.03, 0.09))))
        r = int(d * rng.uniform(0.28, 0.4))
        for eye in (eye_l, eye_r):
            cv2.circle(out, (int(eye[0]), int(eye[1])), r, colour, width, cv2.LINE_AA)
    if rng.random() < 0.08:                          # a hat or a fringe down to the brows
        x1, y1, x2, _ = faces.boxes[0]
        low = (eye_l + eye_r)[1] / 2 - d * rng.uniform(0.35, 0.7)
        colour = [int(v) for v in rng.integers(0, 200) + rng.integers(-20, 20, 3)]
        cv2.ellipse(out, (int((x1 + x2) / 2), int(low)), (int((x2 - x1) * rng.uniform(0.55, 0.8)), int(d * rng.uniform(0.9, 1.4))),
                    0, 180, 360, colour, -1, cv2.LINE_AA)
    return out


def figure(rng, portrait, store, face_size, decoy=None, stretch=lambda rng, spread: np.exp(rng.normal(0, spread))):
    """One person with a face of `face_size` pixels, changed.  Returns RGBA [h, w, 4] and its Faces (none for a decoy).

    decoy: RGB bytes to show through the same outline instead of the person, so that outlines alone are no sign of a face;
    or "scramble": the person with a face whose parts have changed places."""
    have = [level for level in LEVELS if "%s|%d" % (portrait.name, level) in store]
    sharp = rng.random() < 0.4
    level = min([v for v in have if v >= face_size * (3.0 if sharp else 0.95)] or [max(have)])
    rgba = np.array(store["%s|%d" % (portrait.name, level)])
    s = level / sizes(portrait.boxes)[0]
    faces = Faces(portrait.boxes * s, portrait.keypoints * s, portrait.box_weights)
    x1, y1, x2, y2 = faces.boxes[0]
    fw, fh, h, w = x2 - x1, y2 - y1, rgba.shape[0], rgba.shape[1]
    kind = rng.random()
    if kind < 0.12:                                   # a framed photograph: the portrait with its background
        margins = x1 - rng.uniform(0.15, 1.2) * fw, y1 - rng.uniform(0.2, 0.7) * fh, w - x2 - rng.uniform(0.15, 1.2) * fw
        left, top, right = (int(max(0, v)) for v in margins)
        rgba[..., 3] = 0
        rgba[top:int(min(h, y2 + rng.uniform(0.1, 1.2) * fh)), left:w - right, 3] = 255
    elif kind < 0.22:                                 # the head alone
        head = _blob((h, w), ((x1 + x2) / 2, y1 + fh * 0.42), (fw * rng.uniform(0.55, 0.8), fh * rng.uniform(0.6, 0.85)), rng.uniform(0.3, 1.2))
        rgba[..., 3] = np.maximum(rgba[..., 3] * (rng.random() < 0.5), 255) * head
    if isinstance(decoy, str):
        scramble(rgba, faces.boxes[0], rng)
    elif decoy is not None:
        rgba[..., :3] = cv2.resize(decoy, (w, h), interpolation=cv2.INTER_AREA)
    elif portrait.set in PORTRAIT_SETS and np.isfinite(faces.keypoints).all():       # drawn for faces seen from the front
        rgba[..., :3] = dress(rgba[..., :3], faces, rng)
    if rng.random() < 0.7:
        rgba[..., :3] = cv2.LUT(np.ascontiguousarray(rgba[..., :3]), tone_curve(rng, 0.6))
    if rng.random() < 0.35:
        rgba[..., :3] = light_gradient(rgba[..., :3], rng, rng.uniform(0.15, 0.7))
    if kind >= 0.22:                                  # the coat goes on below the portrait's edge
        rgba = cv2.copyMakeBorder(rgba, 0, int(fh * rng.uniform(0.0, 2.0)), 0, 0, cv2.BORDER_REPLICATE)
    lean = 12 if portrait.set in PORTRAIT_SETS else 24        # who looks aside seldom stands straight
    turn = rng.normal(0, lean) if rng.random() < 0.85 else rng.uniform(-50, 50)
    bend = rng.normal(0, 0.12, 2) / level
    m = affine(face_size / level, turn, ((x1 + x2) / 2, (y1 + y2) / 2), (0, 0), rng.random() < 0.5,
               stretch(rng, 0.07), rng.normal(0, 0.06), np.clip(bend, -0.25 / level, 0.25 / level) * [1, 0.4])
    h, w = rgba.shape[:2]
    reach = 2.4 * face_size                           # nothing further from the face than this is kept
    corners = transform_faces(m, Faces(np.float32([[0, 0, w, h]]))).boxes[0]
    lo = np.floor(np.maximum(corners[:2], -reach)).astype(int)
    hi = np.ceil(np.minimum(corners[2:], reach * 1.3)).astype(int)
    shift = np.eye(3)
    shift[:2, 2] = -lo
    m = shift @ m
    out = warp(rgba, m, int(hi[0] - lo[0]), int(hi[1] - lo[1]), sharp=sharp)
    mirrored = np.linalg.det(m[:2, :2]) < 0
    return out, (Faces() if decoy is not None else transform_faces(m, faces, mirrored)), -lo


def paste(canvas, rgba, corner):
    """Blends RGBA over the canvas (in place) with its top-left pixel at `corner` (x, y).  Returns the covered share per
    pixel [h, w], 0..1, and the rectangle x1, y1, x2, y2 of the canvas it belongs to; None if outside."""
    h, w = canvas.shape[:2]
    x1, y1 = max(0, corner[0]), max(0, corner[1])
    x2, y2 = min(w, corner[0] + rgba.shape[1]), min(h, corner[1] + rgba.shape[0])
    if x1 >= x2 or y1 >= y2:
        return None
    part = rgba[y1 - corner[1]:y2 - corner[1], x1 - corner[0]:x2 - corner[0]]
    a = part[..., 3:].astype(np.float32) / 255
    under = canvas[y1:y2, x1:x2]
    under[:] = (under + (part[..., :3] - under.astype(np.float32)) * a).astype(np.uint8)
    return a[..., 0], (x1, y1, x2, y2)
