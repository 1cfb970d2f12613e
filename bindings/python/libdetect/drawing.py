"""Boxes, labels and landmarks painted onto a picture, pixel for pixel as the tool `detect --draw` does."""

import math
from typing import TYPE_CHECKING, Any, Tuple, Union

import numpy as np

from . import font
from ._types import Detections, Picture, Pixels
from .pictures import as_rgb

if TYPE_CHECKING:
    from ._native import Model, ModelInfo

_Colour = Tuple[int, int, int]
_MAX_SIDE = 16384
_MAX_NAME = 40


def draw(picture: Picture, objects: Detections, info: "Union[Model, ModelInfo]") -> Pixels:
    """A copy of a picture with boxes, landmarks, and labels with scores, sized to suit the picture.

    picture  uint8, height x width x 3 (RGB), x 4 or grey; or one of Pillow's
    objects  what detect found in it: an array of OBJECT_DTYPE
    info     the model's ModelInfo, or the Model: for names of classes, left out where there is one class alone

    Returns uint8, height x width x 3, RGB. Each class has its colour. What lies outside is cut off.
    """
    canvas = as_rgb(picture)
    described: Any = getattr(info, "info", info)
    longest = max(canvas.shape[:2])
    thickness, scale = _clamp(longest // 400, 2, 64), _clamp((longest + 250) // 550, 1, 64)
    for found in objects[::-1]:  # labels go over boxes, and the sure ones, which come first, over the unsure
        colour = _class_colour(int(found["class_id"]))
        _draw_box(canvas, found, thickness, colour)
        _draw_landmarks(canvas, found, described.n_landmarks, thickness, colour)
    for found in objects[::-1]:
        _draw_label(canvas, found, described, scale, _class_colour(int(found["class_id"])))
    return canvas


def _clamp(value: int, low: int, high: int) -> int:
    return low if value < low else min(value, high)


def _to_pixel(position: float) -> int:
    """The nearest pixel border, halves away from zero; 0 for what is no number."""
    position = float(position)
    if math.isnan(position):
        return 0
    position = min(max(position, -2.0 * _MAX_SIDE), 2.0 * _MAX_SIDE)
    return int(math.copysign(math.floor(abs(position) + 0.5), position))


def _box(found: Any) -> Tuple[int, int, int, int]:
    x1, y1, x2, y2 = (_to_pixel(found[name]) for name in ("x1", "y1", "x2", "y2"))
    return x1, y1, x2, y2


def _fill(canvas: Any, x1: int, y1: int, x2: int, y2: int, colour: _Colour) -> None:
    height, width = canvas.shape[:2]
    canvas[_clamp(y1, 0, height) : _clamp(y2, 0, height), _clamp(x1, 0, width) : _clamp(x2, 0, width)] = colour


def _fill_disc(canvas: Any, centre_x: int, centre_y: int, radius: int, colour: _Colour) -> None:
    for y in range(-radius, radius + 1):
        half = math.isqrt(radius * radius + radius - y * y)  # + radius: rounder at small sizes
        _fill(canvas, centre_x - half, centre_y + y, centre_x + half + 1, centre_y + y + 1, colour)


def _class_colour(class_id: int) -> _Colour:
    """A golden-ratio walk around the colour circle: neighbours differ strongly."""
    circle, step, start = 1536, 949, 560
    part, rising = divmod((start + class_id * step) % circle, 256)
    falling = 255 - rising
    return (
        (255, rising, 0),
        (falling, 255, 0),
        (0, 255, rising),
        (0, falling, 255),
        (rising, 0, 255),
        (255, 0, falling),
    )[part]


def _draw_box(canvas: Any, found: Any, thickness: int, colour: _Colour) -> None:
    """A frame around the box, thinner around the small, and within the picture."""
    height, width = canvas.shape[:2]
    left, top, right, bottom = _box(found)
    shorter = min(right - left, bottom - top)
    t = _clamp(int(shorter / 12), 2, thickness)
    x1, x2 = _clamp(left - t, 0, width - t), _clamp(right + t, t, width)
    y1, y2 = _clamp(top - t, 0, height - t), _clamp(bottom + t, t, height)
    _fill(canvas, x1, y1, x2, y1 + t, colour)
    _fill(canvas, x1, y2 - t, x2, y2, colour)
    _fill(canvas, x1, y1, x1 + t, y2, colour)
    _fill(canvas, x2 - t, y1, x2, y2, colour)


def _draw_landmarks(canvas: Any, found: Any, n_landmarks: int, thickness: int, colour: _Colour) -> None:
    left, _, right, _ = _box(found)
    radius = _clamp(int((right - left) / 32), 1, thickness * 2)
    for x, y in found["landmarks"][:n_landmarks]:
        if radius > 1:  # a dark rim, to be seen on any skin
            _fill_disc(canvas, _to_pixel(x), _to_pixel(y), radius + 1, (0, 0, 0))
        _fill_disc(canvas, _to_pixel(x), _to_pixel(y), radius, colour)


def _draw_label(canvas: Any, found: Any, info: Any, scale: int, colour: _Colour) -> None:
    """Above the box where there is room, else inside its top; always within the picture."""
    height, width = canvas.shape[:2]
    label = f"{float(found['score']):.2f}"
    if len(info.class_names) > 1:
        label = f"{info.class_names[int(found['class_id'])][:_MAX_NAME]} {label}"
    x1, y1, _, _ = _box(found)
    padding = scale + 1
    label_width = (len(label) * font.WIDTH - 1) * scale + 2 * padding
    label_height = font.HEIGHT * scale + padding
    left = _clamp(x1 - 2, 0, width - label_width if width > label_width else 0)
    top = y1 - 2 - label_height if y1 - 2 >= label_height else _clamp(y1, 0, height)
    top = _clamp(top, 0, height - label_height if height > label_height else 0)
    _fill(canvas, left, top, left + label_width, top + label_height, colour)
    luma = (299 * colour[0] + 587 * colour[1] + 114 * colour[2]) // 1000
    _draw_text(canvas, label, left + padding, top + padding, scale, (0, 0, 0) if luma > 110 else (255, 255, 255))


def _draw_text(canvas: Any, label: str, left: int, top: int, scale: int, ink: _Colour) -> None:
    mask = np.hstack([font.glyph(character) for character in label]).repeat(scale, axis=0).repeat(scale, axis=1)
    area = canvas[top : top + mask.shape[0], left : left + mask.shape[1]]
    area[mask[: area.shape[0], : area.shape[1]]] = ink
