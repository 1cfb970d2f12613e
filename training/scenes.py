"""What the network is shown: crops of the labelled pictures, mosaics of them, and crowds pasted together from portraits."""
import cv2
import numpy as np

from augment import Faces, affine, clip_faces, log_uniform, photograph, transform_faces, warp, washed_out
from clutter import clutter, palette, scribble
from data import PORTRAIT_SETS, sizes
from portraits import figure, paste
from things import strew

KINDS = (("crop", 0.48), ("crowd", 0.14), ("scatter", 0.15), ("mosaic", 0.07), ("nobody", 0.16))
# How often a set is drawn for a crop, set beside its number of pictures to the power of one half.
SET_WEIGHTS = {"maskon": 1.3, "mik1i": 2.0, "maskwearing_gray": 1.4, "congress": 1.0, "webcam_pwa1t": 0.5, "faces_0lzot": 0.6}
HIDDEN, GONE = 0.35, 0.8      # share of a face covered by others from which it is ignored, and from which it is not there


class Scenes:
    """sample(rng, side) -> picture [side, side, 3] RGB bytes and its Faces."""

    def __init__(self, pictures, pixels, portraits_store=None, kinds=KINDS, narrow=0.0, set_weights=(), things=None, heads=None, turned=0.3):
        """heads: turned heads and their store (heads.py), which stand in for a share `turned` of the people that are pasted."""
        unknown = set(k for k, _ in kinds) - set(k for k, _ in KINDS)
        if unknown:
            raise ValueError("%s: not a kind of scene; there are %s" % (unknown.pop(), ", ".join(k for k, _ in KINDS)))
        self.pixels, self.store, self.narrow, self.things = pixels, portraits_store, narrow, things
        self.heads, self.turned = heads, turned
        sets = {}
        for p in pictures:
            sets.setdefault(p.set, []).append(p)
        self.sets = [sets[k] for k in sorted(sets)]
        drawn = dict(SET_WEIGHTS, **dict(set_weights))
        weights = np.array([len(sets[k]) ** 0.5 * drawn.get(k, 1.0) for k in sorted(sets)])
        self.set_chances = weights / weights.sum()
        self.empty = [p for p in pictures if not len(p.boxes) and not len(p.ignore)]
        self.portraits = [p for p in pictures if p.set in PORTRAIT_SETS and len(p.boxes) == 1] if portraits_store else []
        if not self.portraits:
            kinds = [(k, c) for k, c in kinds if k not in ("crowd", "scatter")]
        self.kinds = [k for k, _ in kinds]
        self.chances = np.array([c for _, c in kinds]) / sum(c for _, c in kinds)

    def sample(self, rng, side):
        kind = self.kinds[rng.choice(len(self.kinds), p=self.chances)]
        image, faces, inside = getattr(self, kind)(rng, side)
        image = photograph(image, rng, 0.55 if kind == "crowd" else 0.35)
        if inside is not None:               # what lies outside the picture is exactly black in use
            x1, y1, x2, y2 = inside
            image[:max(0, y1)], image[max(0, y2):] = 0, 0
            image[:, :max(0, x1)], image[:, max(0, x2):] = 0, 0
        return image, clip_faces(faces, side, side)

    def stretch(self, rng, spread):
        """Width over height, its root: about 1, or squeezed as a head looks that turns away."""
        factor = np.exp(rng.normal(0, spread))
        return factor * rng.uniform(0.78, 0.95) if self.narrow and rng.random() < self.narrow else factor

    def pick(self, rng):
        part = self.sets[rng.choice(len(self.sets), p=self.set_chances)]
        return part[rng.integers(len(part))]

    def look(self, rng, picture):
        """The picture's pixels; one without a face may lie on its side or head, for more of what is no face."""
        image = np.asarray(self.pixels[picture.name])
        if len(picture.boxes) or len(picture.ignore) or rng.random() < 0.5:
            return image
        return np.ascontiguousarray(np.rot90(image, rng.integers(1, 4)))

    def crop(self, rng, side):
        """A square of a labelled picture, around one of its faces or anywhere, 0.3 to 2.6 of its shorter side."""
        p = self.pick(rng)
        image = self.look(rng, p)
        h, w = image.shape[:2]
        if len(p.boxes) and rng.random() < 0.6:
            box = p.boxes[rng.integers(len(p.boxes))]
            wanted = log_uniform(rng, 9, 0.85 * side) if rng.random() < 0.4 else rng.uniform(0.1, 1.1) * side
            scale = min(wanted / max(sizes(box[None])[0], 1.0), 2.5)
            scale = max(scale, side / (2.6 * min(h, w)))
            away = 0.42 * (1 - 0.6 * min(1.0, wanted / side))    # a large face stays near the middle
            source, target = (box[:2] + box[2:]) / 2, (0.5 + rng.uniform(-away, away, 2)) * side
        else:
            scale = side / (min(h, w) * rng.uniform(0.3, 2.6))
            source = np.array([w, h]) / 2
            slack = np.array([w, h]) * scale - side          # > 0: the picture overhangs
            target = side / 2 + slack / 2 * rng.uniform(-1, 1, 2)
        turn = rng.normal(0, 13) if rng.random() < 0.3 else 0.0
        mirror = rng.random() < 0.5
        m = affine(scale, turn, source, target, mirror, self.stretch(rng, 0.06))
        black = rng.random() < 0.7
        border = 0 if black else [int(v) for v in rng.integers(0, 256, 3)]
        faces = transform_faces(m, Faces(p.boxes, p.keypoints, p.box_weights, p.ignore), mirror)
        inside = None
        if turn == 0.0 and black:
            x = sorted(m[0, 0] * v + m[0, 2] for v in (0, w))
            y = sorted(m[1, 1] * v + m[1, 2] for v in (0, h))
            inside = (int(x[0]), int(y[0]), int(np.ceil(x[1])), int(np.ceil(y[1])))
        return warp(image, m, side, side, border, rng.random() < 0.5), faces, inside

    def mosaic(self, rng, side):
        """Four crops side by side."""
        image, parts, half = np.zeros((side, side, 3), np.uint8), [], side // 2
        for i in range(4):
            x, y = half * (i % 2), half * (i // 2)
            tile, faces, _ = self.crop(rng, half)
            image[y:y + half, x:x + half] = tile
            parts.append(transform_faces(affine(target=(x, y)), clip_faces(faces, half, half)))
        return image, Faces.join(parts), None

    def ground(self, rng, side):
        """A picture to paste onto: mostly without a face, sometimes with its own, sometimes a plain gradient."""
        kind = rng.random()
        if kind < 0.07 and self.empty:
            return clutter(rng, side, self.pixels[self.empty[rng.integers(len(self.empty))].name]), Faces()
        if kind < 0.12 or not self.empty:
            corners = rng.integers(0, 256, (2, 2, 3)).astype(np.float32)
            if rng.random() < 0.5:
                corners[:] = corners[:1, :1] + rng.normal(0, 20, (2, 2, 3))
            return np.clip(cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR), 0, 255).astype(np.uint8), Faces()
        p = self.pick(rng) if kind < 0.27 else self.empty[rng.integers(len(self.empty))]
        if p.set in PORTRAIT_SETS:
            p = self.empty[rng.integers(len(self.empty))]
        image = self.look(rng, p)
        h, w = image.shape[:2]
        scale = side / min(h, w) * log_uniform(rng, 1.0, 2.0)
        room = np.array([w, h]) - side / scale
        mirror = rng.random() < 0.5
        m = affine(scale, 0, rng.uniform(0, 1, 2) * room + side / scale / 2, (side / 2, side / 2), mirror)
        faces = transform_faces(m, Faces(p.boxes, p.keypoints, p.box_weights, p.ignore), mirror)
        return warp(image, m, side, side), clip_faces(faces, side, side)

    def decoy(self, rng):
        """Something that is no face, to show through a person's outline."""
        if rng.random() < 0.3:
            return "scramble"
        if rng.random() < 0.3 or not self.empty:
            corners = np.clip(rng.uniform(20, 235, 3) + rng.normal(0, 40, (3, 3, 3)), 0, 255).astype(np.float32)
            return cv2.resize(corners, (64, 64), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        image = self.pixels[self.empty[rng.integers(len(self.empty))].name]
        h, w = image.shape[:2]
        size = int(min(h, w) * rng.uniform(0.15, 0.6))
        y, x = rng.integers(h - size + 1), rng.integers(w - size + 1)
        return np.asarray(image[y:y + size, x:x + size])

    def people(self, rng, image, faces, places, decoys):
        """Pastes a figure at each (x, y, face size) of `places`, back to front; hidden faces are ignored or dropped."""
        parts, covered = [faces], np.zeros(len(faces.boxes))
        for x, y, size in places:
            people, store = self.heads if self.heads and rng.random() < self.turned else (self.portraits, self.store)
            portrait = people[rng.integers(len(people))]
            decoy = self.decoy(rng) if rng.random() < decoys else None
            if isinstance(decoy, str) and size < 16:          # too small to tell
                decoy = None
            rgba, new, centre = figure(rng, portrait, store, size, decoy, self.stretch)
            corner = (int(x - centre[0]), int(y - centre[1]))
            pasted = paste(image, rgba, corner)
            if pasted is None:
                continue
            alpha, (x1, y1, x2, y2) = pasted
            boxes = np.concatenate([f.boxes for f in parts])
            for i in np.flatnonzero((boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)):
                b = np.clip(np.round(boxes[i]).astype(int) - [x1, y1, x1, y1], 0, [x2 - x1, y2 - y1] * 2)
                area = max(float(np.prod(boxes[i][2:] - boxes[i][:2])), 1.0)
                covered[i] += alpha[b[1]:b[3], b[0]:b[2]].sum() / area
            parts.append(transform_faces(affine(target=corner), new))
            covered = np.append(covered, np.zeros(len(new.boxes)))
        everyone = Faces.join(parts)
        return everyone.only(covered < HIDDEN, (covered >= HIDDEN) & (covered < GONE))

    def nobody(self, rng, side):
        """Things alone: pasted ones, drawn ones, or a picture with drawn things and scrambled people before it."""
        image, faces = self.ground(rng, side)
        if self.things and not len(faces.boxes) and rng.random() < 0.6:
            strew(image, rng, int(log_uniform(rng, 1, 12)), self.things)
            if rng.random() < 0.4:
                scribble(image, rng, int(log_uniform(rng, 1, 8)), palette(rng))
            return washed_out(image, rng), faces, None
        like = self.pixels[self.empty[rng.integers(len(self.empty))].name] if self.empty else None
        if rng.random() < 0.5:
            image, faces = clutter(rng, side, like), Faces()
        elif not len(faces.boxes):
            scribble(image, rng, int(log_uniform(rng, 1, 20)), palette(rng, like))
        image = washed_out(image, rng)
        places = [(*rng.uniform(0, side, 2), log_uniform(rng, 16, 0.6 * side)) for _ in range(rng.integers(0, 4))]
        return image, self.people(rng, image, faces, places, 1.0) if self.portraits else faces, None

    def crowd(self, rng, side):
        """Rows of people, as for a group photograph."""
        image, faces = self.ground(rng, side)
        size = log_uniform(rng, 9, side / 5.5)
        step = size * rng.uniform(1.15, 2.3)
        rows = int(min(rng.integers(1, 5), max(1, side / step)))
        y = rng.uniform(0.5 * size, max(side - rows * step, size))
        spacing = rng.uniform(1.1, 2.4)
        places = []
        for row in range(rows):
            row_size = size * (1 + 0.07 * row)
            x = rng.uniform(-0.5, 1.0) * size
            while x < side + 0.3 * size and len(places) < 40:
                if rng.random() < 0.92:
                    places.append((x, y + rng.normal(0, 0.25) * size, max(row_size * np.exp(rng.normal(0, 0.07)), 7.5)))
                x += row_size * spacing * np.exp(rng.normal(0, 0.2))
            y += step
        return image, self.people(rng, image, faces, places, 0.0 if rng.random() < 0.5 else 0.25), None

    def scatter(self, rng, side):
        """A few people of any size anywhere, the larger in front."""
        image, faces = self.ground(rng, side)
        if self.things and not len(faces.boxes) and rng.random() < 0.4:
            strew(image, rng, int(log_uniform(rng, 1, 8)), self.things)
        places = sorted(((*rng.uniform(0, side, 2), log_uniform(rng, 9, 0.5 * side)) for _ in range(rng.integers(1, 7))),
                        key=lambda place: place[2])
        return image, self.people(rng, image, faces, places, 0.0 if rng.random() < 0.4 else 0.35), None
