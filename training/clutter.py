"""Drawn pictures of no face: overlapping shapes in the colours of real pictures, rows of keys, words, balls, fruit; faces and
skulls drawn with a few strokes; and faces whose parts have changed places.  Pictures without faces are few, and what looks a
little like a face is rarer still."""
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


class _Pen:
    """Draws in the units of a face: its middle is 0, 0, its height 2."""

    def __init__(self, image, rng, centre, size):
        self.image, self.centre, self.half = image, centre, size / 2
        self.turn = float(rng.normal(0, 12))
        self.cosine, self.sine = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        self.width = max(1, int(size * rng.uniform(0.01, 0.05)))

    def at(self, x, y):
        return (int(self.centre[0] + self.half * (self.cosine * x - self.sine * y)),
                int(self.centre[1] + self.half * (self.sine * x + self.cosine * y)))

    def arc(self, x, y, a, b, paint, begin=0, end=360, filled=False):
        axes = max(1, int(a * self.half)), max(1, int(b * self.half))
        cv2.ellipse(self.image, self.at(x, y), axes, self.turn, begin, end, paint, -1 if filled else self.width, cv2.LINE_AA)

    def area(self, paint, *corners):
        cv2.fillPoly(self.image, [np.int32([self.at(*corner) for corner in corners])], paint, cv2.LINE_AA)

    def line(self, paint, *corners):
        cv2.polylines(self.image, [np.int32([self.at(*corner) for corner in corners])], False, paint, self.width, cv2.LINE_AA)


def _inks(rng, colour):
    """A drawing's paint and ink; None: nothing is painted below the ink."""
    paint = (255, 255, 255) if rng.random() < 0.4 else colour() if rng.random() < 0.7 else None
    return paint, (0, 0, 0) if rng.random() < 0.7 else colour()


def _teeth(pen, rng, ink, a, top, bottom):
    """A row of them, 2 a wide."""
    pen.area((255, 255, 255), (-a, top), (a, top), (a, bottom), (-a, bottom))
    for x in np.linspace(-a, a, int(rng.integers(4, 9))):
        pen.line(ink, (x, top), (x, bottom))
    pen.line(ink, (-a, (top + bottom) / 2), (a, (top + bottom) / 2))


def _drawn_face(image, rng, colour, centre, size):
    """A smiley or a mask: flat paint and ink, as on mugs and signs."""
    pen, (paint, ink), wide = _Pen(image, rng, centre, size), _inks(rng, colour), rng.uniform(0.65, 1)
    if rng.random() < 0.8:
        if paint is not None:
            pen.arc(0, 0, wide, 1, paint, filled=True)
        pen.arc(0, 0, wide, 1, ink)
    eye, eye_y = rng.uniform(0.08, 0.3), rng.uniform(-0.35, 0)
    for side in (-1, 1):
        if rng.random() < 0.3:
            pen.arc(side * 0.42 * wide, eye_y, eye * 1.4, eye * 1.4, (255, 255, 255), filled=True)
        pen.arc(side * 0.42 * wide, eye_y, eye, eye * rng.uniform(0.6, 1.5), ink, filled=True)
    if rng.random() < 0.5:
        pen.area(ink, (0, 0.05), (-0.1, 0.3), (0.1, 0.3))
    low, a = rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.5) * wide
    if rng.random() < 0.3:
        _teeth(pen, rng, ink, a, low, low + 0.2)
    else:                                   # a mouth that smiles, or does not
        up = 0 if rng.random() < 0.7 else 180
        pen.arc(0, low, a, rng.uniform(0.05, 0.35), ink, up, up + 180, rng.random() < 0.3)


def _skull(image, rng, colour, centre, size):
    """As on flags, bottles and mugs, often before crossed bones, sometimes with a patch on one eye."""
    pen, (paint, ink), wide = _Pen(image, rng, centre, size), _inks(rng, colour), rng.uniform(0.65, 0.9)
    cheek, jaw = rng.uniform(0.75, 0.95) * wide, rng.uniform(0.35, 0.65) * wide
    if rng.random() < 0.6:
        for side in (-1, 1):
            for end in ((1.2 * side, 1.35), (-1.2 * side, 0.55)):
                pen.arc(*end, 0.14, 0.14, ink)
            for d in (-0.07, 0.07):
                pen.line(ink, (1.15 * side, 1.3 + d), (-1.15 * side, 0.6 + d))
    low = rng.uniform(0.75, 1.0)
    side = [(cheek, 0.1), (0.95 * cheek, 0.35), (1.1 * jaw, 0.45), (jaw, 0.9 * low), (0.6 * jaw, low)]
    outline = side + [(-x, y) for x, y in side[::-1]]
    if paint is not None:
        pen.area(paint, *outline)
        pen.arc(0, -0.2, wide, 0.8, paint, filled=True)
    pen.arc(0, -0.2, wide, 0.8, ink, 150, 390)
    pen.line(ink, *outline)
    eye, eye_y, apart = rng.uniform(0.18, 0.3), rng.uniform(-0.1, 0.1), rng.uniform(0.4, 0.5) * wide
    patch = rng.choice([-1, 1]) if rng.random() < 0.4 else 0
    for k in (-1, 1):
        pen.arc(k * apart, eye_y, eye * (1.15 if k == patch else 1), eye * rng.uniform(0.7, 1.1), ink, filled=True)
    if patch:
        pen.line(ink, (-patch * 0.7 * wide, -0.8), (patch * apart, eye_y - 0.2), (patch * wide, eye_y - 0.1))
    pen.area(ink, (0, 0.18), (-0.1, 0.42), (0, 0.36), (0.1, 0.42))
    _teeth(pen, rng, ink, 0.8 * jaw, 0.55, rng.uniform(0.65, 0.75))


def scribble(image, rng, count, colour):
    """Draws `count` shapes of many sizes over the picture, in place, each with light of its own."""
    side = min(image.shape[:2])
    for _ in range(count):
        size = log_uniform(rng, 6, 0.9 * side)
        x, y = rng.uniform(0, image.shape[1]), rng.uniform(0, image.shape[0])
        kind = rng.random() if size > 20 else 1.0
        draw = _drawn_face if kind < 0.12 else _skull if kind < 0.24 else _ball if kind < 0.4 else _shape
        if draw is _ball and rng.random() < 0.5:
            size = rng.uniform(0.2, 0.8) * side
        draw(image, rng, colour, np.float64([x, y]), size)
        if rng.random() < 0.4:
            x1, y1 = max(0, int(x - size / 2)), max(0, int(y - size / 2))
            part = image[y1:int(y + size / 2) + 1, x1:int(x + size / 2) + 1]
            if part.size:
                part[:] = light_gradient(part, rng, rng.uniform(0.1, 0.6))


def still_life(rng, side, colour):
    """Fruit and nuts before a plain, often white ground: balls of a few sizes that lie on one another."""
    out = np.empty((side, side, 3), np.uint8)
    out[:] = 255 if rng.random() < 0.4 else colour()
    heap, spread = rng.uniform(0.3, 0.7, 2) * side, rng.uniform(0.1, 0.35, 2) * side
    for size in log_uniform(rng, 0.15, 0.7) * side * np.sort(rng.uniform(0.5, 1.2, rng.integers(1, 6)))[::-1]:
        _ball(out, rng, colour, rng.normal(heap, spread), size)
    grains, size = palette(rng) if rng.random() < 0.5 else colour, log_uniform(rng, 0.03, 0.2) * side
    for _ in range(rng.integers(0, 30)):
        _ball(out, rng, grains, rng.normal(heap + [0, rng.uniform(-0.1, 0.3) * side], spread * 1.5), size * rng.uniform(0.7, 1.3))
    return light_gradient(out, rng, rng.uniform(0, 0.5))


def clutter(rng, side, image=None):
    """A whole picture of shapes, in the colours of `image` (RGB bytes) if given."""
    colour = palette(rng, image)
    if rng.random() < 0.4:
        return still_life(rng, side, colour)
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
