"""Turned heads: portraits laid over MakeHuman's head (CC0) and seen from the side, up to full profile.

Freely licensed pictures of unmasked people from the side are rare.  A portrait gives the face's skin, eyes and mouth; the
mesh gives what shows when a head turns: nose, ears, jaw, neck.  What the portrait does not show is made up: the cheeks'
skin goes on to the ears, hair is strands, often as dark as the portrait's own.
"""
import gzip
import os

import cv2
import numpy as np

from augment import log_uniform
from data import ByteStore, Picture, sizes
from portraits import LEVELS

PER_PORTRAIT = 6
TURNED = "turned"                # the set that turned heads belong to
SEEN_FROM = (25, 100)            # degrees that heads are turned by, either way
PARTS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-tongue")
MACRO = "mpfb2/targets/macrodetails/%s.target.gz"
UNIT = "faceunits01/targets/faceunits/%s.target"
SIDES = ("Left", "Right")
# Changes of a face beside an open mouth: name, sides, how often they are seen, and how often in those who shout.
MOODS = (("mouthFunnel", ("",), 0.15, 0.15), ("mouthPucker", ("",), 0.1, 0.0), ("browInnerUp", ("",), 0.2, 0.1), ("cheekPuff", ("",), 0.1, 0.0),
         ("mouthSmile", SIDES, 0.25, 0.1), ("mouthFrown", SIDES, 0.2, 0.2), ("eyeBlink", SIDES, 0.2, 0.2), ("browDown", SIDES, 0.2, 0.6),
         ("noseSneer", SIDES, 0.1, 0.6), ("mouthStretch", SIDES, 0.1, 0.6), ("mouthUpperUp", SIDES, 0.1, 0.6), ("cheekSquint", SIDES, 0.1, 0.6))
MOUTH_LEFT = 7182                # the mesh's point at the left corner of the mouth
# Lengths of the mesh, in its own units (decimetres); those of the head count from the eyes.
NECK, WAIST = -1.05, -3.2        # heights where clothes begin and where the figure ends
EAR = -1.05                      # depth of the ears


def _read_mesh(path):
    """Points [n, 3] and triangles [m, 3] of the parts that are seen, with each point's part [n]."""
    points, triangles, part = [], [], None
    with open(path, encoding="utf-8") as f:
        for line in f:
            kind, _, rest = line.partition(" ")
            if kind == "v":
                points.append([float(v) for v in rest.split()])
            elif kind == "g":
                part = rest.strip()
            elif kind == "f" and part in PARTS:
                i = [int(v.split("/")[0]) - 1 for v in rest.split()]
                triangles += [(PARTS.index(part), *i[:3])] + ([(PARTS.index(part), i[0], *i[2:])] if len(i) == 4 else [])
    triangles = np.array(triangles)
    parts = np.full(len(points), -1)
    for k in range(len(PARTS)):
        parts[triangles[triangles[:, 0] == k, 1:]] = k
    return np.float32(points), triangles[:, 1:], parts


def _smooth(x, low, high):
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Mesh:
    """MakeHuman's body from the shoulders up, and the changes of shape that it knows."""

    def __init__(self, folder):
        self.folder = folder
        self.points, triangles, self.parts = _read_mesh(os.path.join(folder, "mpfb2/3dobjs/base.obj"))
        self.targets = {}
        self.eye_height = self.points[(self.parts == 1) | (self.parts == 2), 1].mean()
        at = self.points[triangles].mean(1)
        self.triangles = triangles[(at[:, 1] > self.eye_height + WAIST) & (np.abs(at[:, 0]) < 2.6)]
        corner = self.points[MOUTH_LEFT] * [-1, 1, 1]
        self.mouth = np.array([np.argmin(((self.points - corner) ** 2).sum(1)), MOUTH_LEFT])
        middle = (np.abs(self.points[:, 0]) < 0.1) & (self.parts == 0) & (self.points[:, 1] < self.eye_height) \
            & (self.points[:, 1] > corner[1])
        self.nose = np.argmax(np.where(middle, self.points[:, 2], -9))

    def target(self, name):
        """How a change of shape moves every point: [n, 3]."""
        if name not in self.targets:
            moved = np.zeros_like(self.points)
            path = os.path.join(self.folder, name)
            with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
                for line in f:
                    if line.strip() and line[0] != "#":
                        i, *by = line.split()
                        moved[int(i)] = [float(v) for v in by[:3]]
            self.targets[name] = moved
        return self.targets[name]

    def person(self, rng):
        """One head at rest, of a sex, an age and an origin of its own: points [n, 3]."""
        sex, age = rng.choice(["male", "female"], p=[0.65, 0.35]), rng.choice(["young", "old"])
        points = self.points.copy()
        for origin, share in zip(("caucasian", "african", "asian"), rng.dirichlet([0.7, 0.5, 0.5])):
            points += np.float32(share) * self.target(MACRO % ("%s-%s-%s" % (origin, sex, age)))
        weight = rng.choice(["min", "average", "max"], p=[0.2, 0.5, 0.3])
        return points + self.target(MACRO % ("universal-%s-%s-averagemuscle-%sweight" % (sex, age, weight)))

    def expression(self, rng):
        """How a face's mood moves its points; every other mouth is open, one in five shouts."""
        moved, mood = np.zeros_like(self.points), rng.random()
        if mood < 0.5:
            moved += self.target(UNIT % "jawOpen") * np.float32(rng.uniform(0.7, 1.0) if mood < 0.2 else rng.uniform(0.15, 0.95))
        for name, sides, chance, shouting in MOODS:
            if rng.random() < (shouting if mood < 0.2 else chance):
                moved += sum(self.target(UNIT % (name + side)) for side in sides) * np.float32(rng.uniform(0.2, 0.9))
        return moved

    def landmarks(self, points):
        """Eyes, nose, mouth corners in the picture's order, for a head that looks at the camera: [5, 3]."""
        eyes = [points[self.parts == k] for k in (2, 1)]                     # the person's right eye is the picture's left
        eyes = [np.append(e.mean(0)[:2], e[:, 2].max()) for e in eyes]
        return np.stack(eyes + [points[self.nose], *points[self.mouth]])


class Fit:
    """Where the portrait shows a point of the head at rest: a plane map through five points, exact at each of them."""

    def __init__(self, landmarks, keypoints):
        self.centres = landmarks[:, :2]
        ones = np.c_[self.centres, np.ones(5)]
        self.plane = np.linalg.lstsq(ones, keypoints, rcond=None)[0]
        self.weights = np.linalg.solve(self._near(self.centres), keypoints - ones @ self.plane)

    def _near(self, xy):
        return np.exp(-((xy[:, None] - self.centres[None]) ** 2).sum(2) / (2 * 0.3 ** 2))

    def __call__(self, xy):
        """xy [n, 2] of the mesh -> pixels of the portrait [n, 2]."""
        return np.c_[xy, np.ones(len(xy))] @ self.plane + self._near(xy) @ self.weights

    def back(self, uv):
        """Pixels of the portrait [n, 2] -> xy of the mesh, by the plane map alone."""
        return (uv - self.plane[2]) @ np.linalg.inv(self.plane[:2])


def _cross(a, b):
    """Twice the signed area between vectors of the plane: [n, 2], [n, 2] -> [n]."""
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _cover(xy, depth, triangles, height, width):
    """The triangle in front at each pixel, -1 for none: [h, w]."""
    a, b, c = (xy[triangles[:, i]] for i in range(3))
    seen = np.flatnonzero(_cross(b - a, c - a) < 0)              # the rest turn their backs
    seen = seen[np.argsort(depth[triangles[seen]].mean(1))]
    front = np.full((height, width), -1, np.int32)
    corners = np.round((xy[triangles] - 0.5) * 16).astype(np.int32)
    for t in seen:
        cv2.fillConvexPoly(front, corners[t], int(t), shift=4)
    return front


class Pixels:
    """What the covered pixels show of the triangles in front of them: `where`, rows and columns [p]."""

    def __init__(self, front, xy, triangles):
        self.shape, self.where = front.shape, np.nonzero(front >= 0)
        self.corners = triangles[front[self.where]]
        a, b, c = (xy[self.corners[:, i]] for i in range(3))
        p = np.stack([self.where[1], self.where[0]], 1) + 0.5
        area = _cross(b - a, c - a)
        area = np.where(np.abs(area) < 1e-6, 1e-6, area)
        v, w = _cross(p - a, c - a) / area, _cross(b - a, p - a) / area
        shares = np.clip(np.stack([1 - v - w, v, w]), 0, 1)      # a pixel's middle may lie just outside
        self.shares = shares / shares.sum(0)

    def values(self, of_points):
        """[n, k] of the mesh's points -> [p, k], interpolated."""
        return sum(of_points[self.corners[:, i]] * self.shares[i][:, None] for i in range(3))


def _normals(points, triangles):
    normals = np.zeros_like(points)
    across = np.cross(points[triangles[:, 1]] - points[triangles[:, 0]], points[triangles[:, 2]] - points[triangles[:, 0]])
    for i in range(3):
        np.add.at(normals, triangles[:, i], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _strands(rng, shape, along):
    """Noise drawn out along one direction: -1..1 [h, w]."""
    noise = rng.standard_normal(shape, np.float32)
    k = 2 * max(1, along // 2) + 1
    kernel = np.zeros((k, k), np.float32)
    turn = rng.uniform(0, np.pi)
    reach = np.float64([np.cos(turn), np.sin(turn)]) * k / 2
    cv2.line(kernel, tuple(int(v) for v in k / 2 - reach), tuple(int(v) for v in k / 2 + reach), 1.0)
    noise = cv2.filter2D(noise, -1, kernel / kernel.sum())
    return np.clip(noise / (2 * noise.std() + 1e-6), -1, 1)


class Sitter:
    """Somebody with a head of their own, whose face a portrait [h, w, 3] shows."""

    def __init__(self, mesh, rgb, box, keypoints, rng):
        self.mesh, self.rgb, self.rng = mesh, rgb, rng
        self.rest = mesh.person(rng)
        landmarks = mesh.landmarks(self.rest)
        self.fit = Fit(landmarks, keypoints)
        self.eye_y, self.eye_z = landmarks[:2, 1].mean(), landmarks[:2, 2].mean()
        self.mouth_x, self.mouth_y = np.abs(landmarks[3:, 0]).mean(), landmarks[3:, 1].mean()
        (left, self.bottom), (right, self.top) = self.fit.back(np.float64([box[[0, 3]], box[[2, 1]]]))
        self.half = (right - left) / 2                # of the face's width
        kind = rng.random()
        self.bald, self.shaved = kind < 0.18, 0.18 <= kind < 0.36

    def hair(self):
        """Hair's weight at every point, 0..1, and how far it stands: above a line from the forehead over the ears to the nape."""
        x, y, z = self.rest.T
        long_hair = self.rng.random() < 0.25
        heights = [0.7, 0.3, -0.9, -1.1, -1.2]
        if not long_hair:
            heights = [self.rng.uniform(0.55, 0.75), self.rng.uniform(0.1, 0.5), -0.15, -0.4, -0.7]
        line = self.eye_y + np.interp(-z, np.float64([0.05, 0.5, 0.85, 1.4, 1.9]) - self.eye_z, heights)
        hair = _smooth(y - line, -0.05, 0.12) * (self.mesh.parts == 0) * (not self.bald)
        if not long_hair:
            ears = (np.abs(z - self.eye_z - EAR) < 0.28) & (np.abs(y - self.eye_y + 0.15) < 0.42) & (np.abs(x) > 0.62)
            hair[ears] = 0
        if self.shaved:
            return hair * self.rng.uniform(0.1, 0.6), 0 * hair
        return hair, hair * self.rng.uniform(0.03, 0.28 if long_hair else 0.2)

    def region(self):
        """The points that the portrait's box holds and that lie before the ears."""
        x, y, z = self.rest.T
        return (self.mesh.parts == 0) & (np.abs(x) < self.half) & (y > self.bottom) & (y < self.top) & (z > self.eye_z + EAR + 0.2)

    def _portrait_at(self, xy, pixels):
        """The portrait's colours at points xy [p, 2] of the head at rest: [p, 3]."""
        where = np.zeros((*pixels.shape, 2), np.float32)
        where[pixels.where] = self.fit(xy) - 0.5
        return cv2.remap(self.rgb, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[pixels.where].astype(np.float32)

    def skin(self, at, pixels):
        """The portrait's colours; behind the cheeks, the cheeks' skin."""
        x, y, z = at.T
        side = np.abs(x)
        behind = np.maximum(_smooth(self.eye_z - z, 0.3, 0.7), _smooth(side, 0.7 * self.half, 0.9 * self.half))[:, None]
        highest = self.top - 0.2 if self.bald or self.shaved else None        # below the portrait's own hair
        seen = np.stack([np.minimum(side, 0.85 * self.half) * np.sign(x), np.clip(y, self.bottom + 0.05, highest)], 1)
        level = self.eye_y - 0.42
        cheek = np.stack([0.5 * self.half * np.sign(x), level + 0.2 * (y - level)], 1)
        colours = self._portrait_at(seen, pixels)
        return _blend(colours, self._portrait_at(cheek, pixels), behind)

    def hair_colour(self):
        """As dark as what the portrait shows above the face, or as any hair."""
        column, row = self.fit(np.float64([[0, self.top + 0.35]]))[0].astype(int)
        patch = self.rgb[max(0, row - 4):max(1, row + 5), max(0, column - 12):column + 13]
        grey = patch.mean() if self.rng.random() < 0.5 and patch.size else log_uniform(self.rng, 15, 190)
        return grey * (1 + np.float32([0.1, 0, -0.1]) * self.rng.uniform(-0.3, 2.5))

    def open_mouth(self, colours, at, parts):
        """Throat, teeth and tongue, in place."""
        x, y, z = at.T
        throat = (np.abs(x) < self.mouth_x * 1.1) & (np.abs(y - self.mouth_y) < 0.18) & (np.abs(z - self.eye_z + 0.47) < 0.28)
        colours[throat] = 60, 22, 20
        colours[parts[:, 0] > 0.5] = 205, 195, 175
        colours[parts[:, 1] > 0.5] = 140, 70, 65

    def clothes(self, colours, at, noise):
        """Cloth of one colour from the neck down, half the time with a white collar: the new colours."""
        x, y, z = at.T
        side = np.abs(x)
        collar = self.eye_y + NECK - 0.35 * _smooth(side, 0.3, 1.4) - 0.2 * (z > self.eye_z - 0.9) * _smooth(0.5 - side, 0, 0.4)
        cloth = self.rng.uniform(5, 235) + self.rng.normal(0, 18, 3)
        worn = _smooth(collar + self.rng.uniform(-0.1, 0.1) - y, 0, 0.03)[:, None]
        colours = _blend(colours, cloth * (1 + 0.1 * noise), worn)
        if self.rng.random() < 0.5:
            colours = _blend(colours, np.float32([225, 225, 228]), worn * _smooth(y - collar + 0.2, 0, 0.03)[:, None])
        return colours


def _blend(under, over, weight):
    return under + (over - under) * weight


def _look_aside(rng):
    """A turn to the left or right and a nod: a matrix to multiply points [n, 3] with from the right."""
    yaw, pitch = np.radians(rng.uniform(*SEEN_FROM) * rng.choice([-1, 1])), np.radians(rng.normal(0, 12))
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.float32([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ np.float32([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])


def turned(mesh, rgb, box, keypoints, rng, face=LEVELS[0]):
    """A portrait [h, w, 3] of one face -> the same person from the side: RGBA [h, w, 4], box [4], keypoints [5, 2].

    The face is `face` pixels in size; the background is a plain gradient of no weight (alpha 0)."""
    sitter = Sitter(mesh, rgb, box, keypoints, rng)
    shape = sitter.rest + mesh.expression(rng)
    hair, stands = sitter.hair()
    shape += _normals(sitter.rest, mesh.triangles) * stands[:, None].astype(np.float32)
    turn, middle = _look_aside(rng), np.float32([0, sitter.eye_y - 0.3, sitter.eye_z + EAR])
    points, marks = (shape - middle) @ turn, (mesh.landmarks(shape) - middle) @ turn
    region = points[sitter.region(), :2]
    scale = face / np.sqrt(np.prod(region.max(0) - region.min(0)))
    width, height = int(3.8 * scale), int(3.6 * scale)
    origin = np.float64([width / 2, 1.75 * scale])

    def pixel(p):
        return p[:, :2] * np.float64([scale, -scale]) + origin

    xy = pixel(points)
    pixels = Pixels(_cover(xy, points[:, 2], mesh.triangles, height, width), xy, mesh.triangles)
    at, normals = pixels.values(sitter.rest), pixels.values(_normals(points, mesh.triangles))
    colours = sitter.skin(at, pixels)
    strand = sitter.hair_colour()
    noise = _strands(rng, (height, width), int(0.16 * face))[pixels.where][:, None]
    colours = _blend(colours, strand * (1 + 0.45 * noise), pixels.values(hair[:, None]))
    sitter.open_mouth(colours, at, pixels.values(np.stack([mesh.parts == PARTS.index(part) for part in ("helper-upper-teeth", "helper-tongue")], 1)))
    colours = sitter.clothes(colours, at, noise)
    light = np.float32([rng.normal(0, 0.8), rng.uniform(-0.1, 1.0), rng.uniform(0.2, 1)])
    lit = normals @ (light / np.linalg.norm(light))
    depth = rng.uniform(0.15, 0.6)
    colours = colours * (1 - depth + depth * 1.5 * np.maximum(lit, 0))[:, None]
    corners = np.clip(rng.uniform(0, 255, 3) + rng.normal(0, 25, (2, 2, 3)), 0, 255).astype(np.float32)
    out = np.dstack([cv2.resize(corners, (width, height)), np.zeros((height, width), np.float32)])
    out[pixels.where] = np.c_[colours, np.full(len(colours), 255)]
    out = np.clip(cv2.GaussianBlur(out, (0, 0), 0.7), 0, 255).astype(np.uint8)
    ends = pixel(np.stack([region.min(0), region.max(0)]))
    return out, np.float32([*ends.min(0), *ends.max(0)]), pixel(marks).astype(np.float32)


def _spread(rgba):
    """A cut-out person's colours carried on over the background: RGBA -> RGB."""
    out = cv2.erode(rgba[..., 3], np.ones((5, 5), np.uint8)) < 200
    _, nearest = cv2.distanceTransformWithLabels(out.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros((nearest.max() + 1, 3), np.uint8)
    table[nearest[~out]] = rgba[~out, :3]
    return table[nearest]


def head_store(cache, folder, portraits, people):
    """PER_PORTRAIT turned heads of every portrait, made on first use from the cut-out `people`: their Pictures, and a store
    keyed 'name|level'."""
    path = os.path.join(cache, "heads")
    known = [p for p in portraits if np.isfinite(p.keypoints).all() and "%s|%d" % (p.name, LEVELS[0]) in people]

    def arrays():
        mesh = Mesh(folder)
        for i, portrait in enumerate(known):
            s = LEVELS[0] / sizes(portrait.boxes)[0]
            rgb = _spread(np.asarray(people["%s|%d" % (portrait.name, LEVELS[0])]))
            for k in range(PER_PORTRAIT):
                rgba, box, keypoints = turned(mesh, rgb, portrait.boxes[0] * s, portrait.keypoints[0] * s, np.random.default_rng([i, k]))
                name = "%s#%d" % (portrait.name, k)
                yield name, np.frombuffer(np.concatenate([box, keypoints.ravel()]).astype("<f4").tobytes(), np.uint8)
                for level in LEVELS:
                    f = level / LEVELS[0]
                    yield "%s|%d" % (name, level), cv2.resize(rgba, None, fx=f, fy=f, interpolation=cv2.INTER_AREA) if f < 1 else rgba

    store = ByteStore(path) if os.path.exists(path + ".json") else None
    wanted = {"%s#%d" % (p.name, k) for p in known for k in range(PER_PORTRAIT)}
    if store is None or {n for n in store.names if "|" not in n} != wanted:
        ByteStore.write(path, arrays())
        store = ByteStore(path)
    pictures = []
    for name in (n for n in store.names if "|" not in n):
        numbers = np.frombuffer(store[name].tobytes(), "<f4")
        pictures.append(Picture({"image": name, "set": TURNED, "boxes": [numbers[:4]], "keypoints": [numbers[4:].reshape(5, 2)]}))
    return pictures, store
