"""Drawn pictures of no face: overlapping shapes in the colours of real pictures, rows of keys, words; and faces whose
parts have changed places.  Pictures without faces are few, and what looks a little like a face is rarer still."""
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


def scribble(image, rng, count, colour):
    """Draws `count` shapes of many sizes over the picture, in place, each with light of its own."""
    side = min(image.shape[:2])
    for _ in range(count):
        size = log_uniform(rng, 6, 0.9 * side)
        x, y = rng.uniform(0, image.shape[1]), rng.uniform(0, image.shape[0])
        _shape(image, rng, colour, (x, y), size)
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
