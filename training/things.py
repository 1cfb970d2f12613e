"""Pictures of single things on nothing, such as clip art of fruit, tools and skulls: strewn about as what is no face."""
import os

import cv2
import numpy as np

from augment import affine, log_uniform, tone_curve, warp
from data import ByteStore
from portraits import paste

LONGEST = 128        # pixels that are kept


def _read(path):
    """RGBA bytes, shrunk; None for what has no transparent part, or is no picture."""
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4 or image[..., 3].min() > 0:
        return None
    image[..., :3][image[..., 3] == 0] = 255
    s = LONGEST / max(image.shape[:2])
    image = cv2.resize(image, None, fx=s, fy=s, interpolation=cv2.INTER_AREA) if s < 1 else image
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)


def thing_store(cache, folder):
    """The things below a folder of .png files, shrunk; made on first use, keyed by their paths in it."""
    names = sorted(os.path.relpath(os.path.join(where, name), folder)
                   for where, _, files in os.walk(folder, followlinks=True) for name in files if name.lower().endswith(".png"))
    path = os.path.join(cache, "things")
    if not os.path.exists(path + ".json"):
        os.makedirs(cache, exist_ok=True)
        read = ((name, _read(os.path.join(folder, name))) for name in names)
        ByteStore.write(path, ((name, image) for name, image in read if image is not None))
    return ByteStore(path)


def strew(image, rng, count, store):
    """Pastes `count` things of many sizes over the picture [h, w, 3], in place."""
    side, names = min(image.shape[:2]), store.names
    for _ in range(count):
        rgba = np.array(store[names[rng.integers(len(names))]])
        if rng.random() < 0.5:
            rgba[..., :3] = cv2.LUT(np.ascontiguousarray(rgba[..., :3]), tone_curve(rng, 0.6))
        h, w = rgba.shape[:2]
        size = log_uniform(rng, 12, 0.7 * side)
        reach = int(np.ceil(size * 1.5))
        m = affine(size / max(h, w), rng.normal(0, 15), (w / 2, h / 2), (reach / 2, reach / 2), rng.random() < 0.5,
                   np.exp(rng.normal(0, 0.1)))
        corner = rng.uniform(0, [image.shape[1], image.shape[0]]) - reach / 2
        paste(image, warp(rgba, m, reach, reach), tuple(int(v) for v in corner))
