"""Drawn pictures of no face: overlapping shapes in the colours of real pictures, rows of keys, words, balls; faces drawn
with a few strokes; and faces whose parts have changed places.  Pictures without faces are few, and what looks a little like
a face is rarer still."""
import string

import cv2
import numpy as np

from augment import light_gradient, log_uniform


def palette(rng, image=None):
    """A function that returns colours: of a real picture's pixels, or of any."""
    if image is None or rng.random() < 0.3:
        base, spread = rng.uniform(0, 255, 3), rng.uniform(20, 120)
        return lambda: [int(v) for v in np.clip(base + rng.normal(0, spread, 3), 0, 255)]
    return lambda: [int(v) for v in image[rng.integers(image.shape[0]), rng.integers(image.shape[1])]]


def _shape(image, rng, colour, centre, size):
    """One filled or drawn shape of about `size` pixels."""
    x, y = (int(v) for v in centre)
    a, b = max(1, int(size * rng.uniform(0.4, 1) / 2)), max(1, int(size / 2))
    width = -1 if rng.random() < 0.7 else max(1, int(size * rng.uniform(0.03, 0.2)))
    kind, turn = rng.integers(6), float(rng.uniform(0, 180))
    if kind < 2:
        cv2.ellipse(image, (x, y), (a, b), turn, 0, 360, colour(), width, cv2.LINE_AA)
        if rng.random() < 0.5:              # a plate, an eye, a wheel, a cup
            cv2.ellipse(image, (x, y), (int(a * 0.7), int(b * 0.7)), turn, 0, 360, colour(), width, cv2.LINE_AA)
    elif kind == 2:
        corners = cv2.boxPoints(((x, y), (2 * a, 2 * b), turn if rng.random() < 0.5 else 0.0)).astype(np.int32)
        cv2.fillPoly(image, [corners], colour(), cv2.LINE_AA)
    elif kind == 3:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        corners = np.stack([x + b * np.cos(angles), y + a * np.sin(angles)], 1).astype(np.int32)
        cv2.fillPoly(image, [corners], colour(), cv2.LINE_AA)
    elif kind == 4:
        word = "".join(rng.choice(list(string.ascii_letters + string.digits + "?!&.:"), rng.integers(1, 9)))
        cv2.putText(image, word, (x - b, y + b // 2), int(rng.integers(0, 8)), max(0.2, size / 40), colour(),
                    max(1, int(size / rng.uniform(8, 30))), cv2.LINE_AA)
    else:                                   # keys, windows, books, eggs in a box
        step, paint, round_ones = max(3, int(size * rng.uniform(0.15, 0.5))), colour(), rng.random() < 0.5
        for j in range(-int(rng.integers(0, 4)), int(rng.integers(1, 5))):
            for i in range(-int(rng.integers(0, 4)), int(rng.integers(1, 5))):
                at, r = (x + i * step, y + j * step), max(1, int(step * 0.35))
                if round_ones:
                    cv2.circle(image, at, r, paint, -1, cv2.LINE_AA)
                else:
                    cv2.rectangle(image, (at[0] - r, at[1] - r), (at[0] + r, at[1] + r), paint, -1)


def _ball(image, rng, colour, centre, size):
    """A fruit, a ball, a lamp: lit from one side, with a stalk or a flaw somewhere."""
    r = max(3.0, size / 2)
    low = np.clip(centre - 1.3 * r, 0, None).astype(int)
    part = image[low[1]:int(centre[1] + 1.3 * r) + 1, low[0]:int(centre[0] + 1.3 * r) + 1]
    if not part.size:
        return
    centre = centre - low
    y, x = np.mgrid[:part.shape[0], :part.shape[1]].astype(np.float32)
    x, y = (x - centre[0]) / np.float32(r * rng.uniform(0.8, 1.25)), (y - centre[1]) / np.float32(r)
    depth = 1 - x * x - y * y
    light = rng.normal(0, 1, 3) + [0, -0.7, 1.2]
    light /= np.linalg.norm(light)
    lit = np.clip(x * light[0] + y * light[1] + np.sqrt(np.clip(depth, 0, 1)) * light[2], 0, 1).astype(np.float32)[..., None]
    grain = cv2.GaussianBlur(rng.standard_normal(part.shape[:2], np.float32), (0, 0), log_uniform(rng, 0.5, 0.1 * r + 0.6))[..., None]
    skin = np.float32(colour()) * (rng.uniform(0.2, 1) + lit * rng.uniform(0.2, 1.2)) + 90 * rng.uniform(0, 1) * lit ** 12
    skin *= 1 + grain * np.float32(rng.uniform(0, 0.15) / max(grain.std(), 1e-3))
    ball = np.clip(skin, 0, 255).astype(np.uint8)
    spot = centre + rng.normal(0, 0.35, 2) * r
    axes = [max(1, int(r * rng.uniform(0.03, 0.15))) for _ in range(2)]
    cv2.ellipse(ball, tuple(int(v) for v in spot), axes, float(rng.uniform(0, 180)), 0, 360, colour(), -1, cv2.LINE_AA)
    inside = np.clip(depth * np.float32(r / 2), 0, 1)[..., None]
    part[:] = part + (ball - part.astype(np.float32)) * inside


def _drawn_face(image, rng, colour, centre, size):
    """A smiley, a skull, a mask: flat paint and ink, as on mugs and signs."""
    turn, half = float(rng.normal(0, 12)), size / 2
    paint, ink = (255, 255, 255) if rng.random() < 0.4 else colour(), (0, 0, 0) if rng.random() < 0.7 else colour()
    line = max(1, int(size * rng.uniform(0.01, 0.05)))
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))

    def at(x, y):
        return int(centre[0] + half * (c * x - s * y)), int(centre[1] + half * (s * x + c * y))

    def oval(x, y, a, b, paint, width=-1):
        cv2.ellipse(image, at(x, y), (max(1, int(a * half)), max(1, int(b * half))), turn, 0, 360, paint, width, cv2.LINE_AA)

    def area(paint, *corners):
        cv2.fillPoly(image, [np.int32([at(*corner) for corner in corners])], paint, cv2.LINE_AA)

    wide, skull = rng.uniform(0.65, 1), rng.random() < 0.4
    if rng.random() < 0.8:
        head = (0, -0.15, wide, 0.8) if skull else (0, 0, wide, 1)
        oval(*head, paint)
        if skull:                           # the jaw
            area(paint, (-0.5 * wide, 0.3), (0.5 * wide, 0.3), (0.4 * wide, 0.95), (-0.4 * wide, 0.95))
        oval(*head, ink, line)
    eye, eye_y = rng.uniform(0.08, 0.3), rng.uniform(-0.35, 0)
    for side in (-1, 1):
        if rng.random() < 0.3:
            oval(side * 0.42 * wide, eye_y, eye * 1.4, eye * 1.4, (255, 255, 255))
        oval(side * 0.42 * wide, eye_y, eye, eye * rng.uniform(0.6, 1.5), ink)
    if rng.random() < 0.5:
        area(ink, (0, 0.05), (-0.1, 0.3), (0.1, 0.3))
    low, a = rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.5) * wide
    if rng.random() < 0.4:                  # teeth
        area((255, 255, 255), (-a, low), (a, low), (a, low + 0.2), (-a, low + 0.2))
        for x in np.linspace(-a, a, int(rng.integers(4, 9))):
            cv2.line(image, at(x, low), at(x, low + 0.2), ink, line, cv2.LINE_AA)
        cv2.line(image, at(-a, low + 0.1), at(a, low + 0.1), ink, line, cv2.LINE_AA)
    else:                                   # a mouth that smiles, or does not
        up = 0 if rng.random() < 0.7 else 180
        cv2.ellipse(image, at(0, low), (max(1, int(a * half)), max(1, int(rng.uniform(0.05, 0.35) * half))), turn, up, up + 180, ink,
                    -1 if rng.random() < 0.3 else line, cv2.LINE_AA)


def scribble(image, rng, count, colour):
    """Draws `count` shapes of many sizes over the picture, in place, each with light of its own."""
    side = min(image.shape[:2])
    for _ in range(count):
        size = log_uniform(rng, 6, 0.9 * side)
        x, y = rng.uniform(0, image.shape[1]), rng.uniform(0, image.shape[0])
        kind = rng.random() if size > 20 else 1.0
        draw = _drawn_face if kind < 0.2 else _ball if kind < 0.4 else _shape
        if draw is _ball and rng.random() < 0.5:
            size = rng.uniform(0.2, 0.8) * side
        draw(image, rng, colour, np.float64([x, y]), size)
        if rng.random() < 0.4:
            x1, y1 = max(0, int(x - size / 2)), max(0, int(y - size / 2))
            part = image[y1:int(y + size / 2) + 1, x1:int(x + size / 2) + 1]
            if part.size:
                part[:] = light_gradient(part, rng, rng.uniform(0.1, 0.6))


def clutter(rng, side, image=None):
    """A whole picture of shapes, in the colours of `image` (RGB bytes) if given."""
    colour = palette(rng, image)
    out = np.empty((side, side, 3), np.uint8)
    out[:] = colour()
    scribble(out, rng, int(log_uniform(rng, 8, 90)), colour)
    return out


def scramble(rgb, box, rng):
    """The cells of a 3 x 3 grid over the box exchanged, in place: a face's colours and parts, but no face."""
    x1, y1, x2, y2 = (int(v) for v in box)
    h, w = (y2 - y1) // 3, (x2 - x1) // 3
    if h < 1 or w < 1:
        return
    order = rng.permutation(9)
    while (order == np.arange(9)).sum() > 1:
        order = rng.permutation(9)
    cells = [rgb[y1 + h * (k // 3):y1 + h * (k // 3 + 1), x1 + w * (k % 3):x1 + w * (k % 3 + 1)].copy() for k in range(9)]
    for k, cell in zip(order, cells):
        rgb[y1 + h * (k // 3):y1 + h * (k // 3 + 1), x1 + w * (k % 3):x1 + w * (k % 3 + 1)] = cell
