"""Labelled sets of pictures: YOLO's text files, COCO's JSON, WIDER FACE's list and its .mat files."""

import importlib
import json
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from ._types import Array
from .average_precision import Labels, box_areas

PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}

WIDER_LIST = "wider_face_val_bbx_gt.txt"
WIDER_BOXES = "wider_face_val.mat"
WIDER_SPLITS = ("easy", "medium", "hard")
WIDER_MIN_HEIGHT = 10  # pixels


class EvaluateError(Exception):
    """An evaluation cannot be done; the message is one line that says why."""


@dataclass(frozen=True)
class Dataset:
    """Pictures and what is to be found in them."""

    pictures: List[Path]
    labels: Labels  #: Labels.pictures are indices into `pictures`
    relative: bool = False  #: the boxes are in fractions of their picture's width and height, not in pixels
    subsets: Dict[str, Array] = field(default_factory=dict)  #: WIDER FACE: see average_precision.wider

    def in_pixels(self, sizes: Array) -> Labels:
        """The labels in pixels.

        sizes  [pictures, 2] width and height of each picture
        """
        if not self.relative:
            return self.labels
        boxes = self.labels.boxes * np.tile(sizes[self.labels.pictures], 2)
        return replace(self.labels, boxes=boxes, areas=box_areas(boxes))


def optional(name: str) -> Any:
    """A module that not everyone has, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def picture_reader() -> Callable[[Path], Array]:
    """A function that reads a picture, uint8 [height, width, 3], RGB, turned as its EXIF says: OpenCV's or Pillow's."""
    if cv2 := optional("cv2"):
        return partial(_read_with_opencv, cv2)
    if pillow := optional("PIL.ImageOps"):
        return partial(_read_with_pillow, pillow)
    raise EvaluateError("reading pictures needs Pillow or OpenCV: pip install pillow")


def _read_with_opencv(cv2: Any, path: Path) -> Array:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise EvaluateError(f"{path} is not a picture that can be read")
    return np.ascontiguousarray(picture[:, :, ::-1])


def _read_with_pillow(pillow: Any, path: Path) -> Array:
    try:
        with pillow.Image.open(path) as picture:
            return np.asarray(pillow.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, pillow.Image.DecompressionBombError):
        raise EvaluateError(f"{path} is not a picture that can be read") from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluateError(f"{path} cannot be read: {error}") from None


def _existing(pictures: List[Path]) -> List[Path]:
    """The same pictures, all of which are files."""
    missing = [path for path in pictures if not path.is_file()]
    if missing:
        raise EvaluateError(
            f"{len(missing)} of {len(pictures)} labelled pictures are missing, the first is {missing[0]}"
        )
    return pictures


# ------------------------------------------------------------------------------------------------------------- YOLO


def read_yolo(images: Path, labels: Path, n_classes: int) -> Dataset:
    """All pictures under a folder, with labels/<same name>.txt: a line `class x y width height` for each object, from
    the box's centre, in fractions of the picture. A picture without a file has no objects."""
    pictures = sorted(path for path in images.rglob("*") if path.suffix.lower() in PICTURES)
    if not pictures:
        raise EvaluateError(f"there are no pictures in {images}")
    rows = [_yolo_rows(labels / path.relative_to(images).with_suffix(".txt"), n_classes) for path in pictures]
    values = np.concatenate(rows)
    if not len(values):
        raise EvaluateError(f"{labels} has no labels for the pictures in {images}")
    centres, sizes = values[:, 1:3], values[:, 3:]
    return Dataset(
        pictures,
        Labels(
            pictures=np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
            classes=values[:, 0].astype(int),
            boxes=np.hstack([centres - sizes / 2, centres + sizes / 2]),
            areas=sizes.prod(axis=1),
            crowd=np.zeros(len(values), bool),
        ),
        relative=True,
    )


def _yolo_rows(path: Path, n_classes: int) -> Array:
    """A file's lines: [n, 5]."""
    if not path.exists():
        return np.zeros((0, 5))
    rows = [line.split() for line in _read_text(path).splitlines() if line.strip()]
    try:
        values = np.array(rows, float).reshape(len(rows), 5)
    except ValueError:
        raise EvaluateError(f"{path}: a line is not `class x y width height`") from None
    if not ((values >= 0).all() and (values[:, 1:] <= 1).all()):
        raise EvaluateError(f"{path}: a box is not in fractions of the picture, 0 to 1")
    if not (values[:, 0] < n_classes).all():
        raise EvaluateError(f"{path}: class {values[:, 0].max():g}, but the model's are 0 to {n_classes - 1}")
    return values


# ------------------------------------------------------------------------------------------------------------- COCO


def read_coco(images: Path, labels: Path, class_names: Sequence[str]) -> Dataset:
    """The pictures of a COCO instances file.

    class_names  of the model: its classes are the categories of those names, or, where the names differ, the
                 categories in the order of their ids, as COCO's 80 of 91 are
    """
    try:
        content = json.loads(_read_text(labels))
        classes = _category_classes(content["categories"], class_names)
        entries = sorted(content["images"], key=lambda entry: entry["id"])
        index = {entry["id"]: i for i, entry in enumerate(entries)}
        annotations = [entry for entry in content["annotations"] if entry["image_id"] in index]
        corners = np.array([entry["bbox"] for entry in annotations], float).reshape(-1, 4)
        found = Labels(
            pictures=np.array([index[entry["image_id"]] for entry in annotations], int),
            classes=np.array([classes[entry["category_id"]] for entry in annotations], int),
            boxes=np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:]]),
            areas=np.array([entry.get("area", entry["bbox"][2] * entry["bbox"][3]) for entry in annotations], float),
            crowd=np.array([entry.get("iscrowd", 0) for entry in annotations], bool),
        )
        pictures = [images / entry["file_name"] for entry in entries]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise EvaluateError(f"{labels} is not a COCO instances file: {type(error).__name__} {error}") from None
    if not pictures:
        raise EvaluateError(f"{labels} lists no pictures")
    return Dataset(_existing(pictures), found)


def _category_classes(categories: List[Dict[str, Any]], class_names: Sequence[str]) -> Dict[int, int]:
    """Category id -> class of the model."""
    categories = sorted(categories, key=lambda category: category["id"])
    if all(category["name"] in class_names for category in categories):
        return {category["id"]: class_names.index(category["name"]) for category in categories}
    if len(categories) != len(class_names):
        raise EvaluateError(f"the labels have {len(categories)} categories, the model {len(class_names)} other classes")
    return {category["id"]: i for i, category in enumerate(categories)}


# ------------------------------------------------------------------------------------------------------- WIDER FACE


def read_wider(images: Path, labels: Path) -> Dataset:
    """WIDER FACE's validation set.

    images  the folder of the events' folders
    labels  wider_face_val_bbx_gt.txt, or a folder with it, or a folder with the official evaluation's
            wider_face_val.mat and wider_{easy,medium,hard}_val.mat, which need scipy

    The subsets are easy, medium and hard from .mat files; else "all": faces of at least 10 pixels' height that are not
    marked invalid.
    """
    if labels.is_dir():
        if _has_mat_files(labels):
            return _read_wider_mat(images, labels)
        labels = labels / WIDER_LIST
    entries = list(_wider_entries(labels))
    if not entries:
        raise EvaluateError(f"{labels} lists no pictures")
    values = np.concatenate([rows for _, rows in entries])
    wanted = (values[:, 7] == 0) & (values[:, 3] >= WIDER_MIN_HEIGHT)
    return Dataset(
        pictures=_existing([images / name for name, _ in entries]),
        labels=_faces([rows for _, rows in entries]),
        subsets={"all": wanted},
    )


def _has_mat_files(folder: Path) -> bool:
    """Whether the official evaluation's files are there and scipy can read them."""
    names = [WIDER_BOXES, *(f"wider_{split}_val.mat" for split in WIDER_SPLITS)]
    return all((folder / name).is_file() for name in names) and optional("scipy.io") is not None


def _wider_entries(path: Path) -> Iterator[Tuple[str, Array]]:
    """Each picture's name and faces [n, 10]: x y width height blur expression illumination invalid occlusion pose."""
    lines = _read_text(path).splitlines()
    at = 0
    try:
        while at < len(lines):
            name, count = lines[at].strip(), int(lines[at + 1])
            listed = max(count, 1)  # where there is no face, one line of zeros stands
            rows = np.array([line.split() for line in lines[at + 2 : at + 2 + listed]], float).reshape(listed, 10)
            yield name, rows[:count]
            at += 2 + listed
    except (ValueError, IndexError):
        raise EvaluateError(f"{path}: at line {at + 1} no picture and its faces begin in WIDER FACE's format") from None


def _faces(boxes: Sequence[Array]) -> Labels:
    """Labels from each picture's boxes [n, 4 or more]: x y width height."""
    values = np.concatenate([np.zeros((0, 4)), *(rows[:, :4] for rows in boxes)])
    return Labels(
        pictures=np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes]),
        classes=np.zeros(len(values), int),
        boxes=np.hstack([values[:, :2], values[:, :2] + values[:, 2:]]),
        areas=values[:, 2:].prod(axis=1),
        crowd=np.zeros(len(values), bool),
    )


def _read_wider_mat(images: Path, folder: Path) -> Dataset:
    try:
        content = _load_mat(folder / WIDER_BOXES)
        events = [str(event[0]) for event in content["event_list"][:, 0]]
        names = _cells(content["file_list"])
        pictures = [images / event / f"{name[0]}.jpg" for event, files in zip(events, names) for name in files]
        boxes = [rows.reshape(-1, 4) for event in _cells(content["face_bbx_list"]) for rows in event]
        subsets = {split: _wanted(_load_mat(folder / f"wider_{split}_val.mat"), boxes) for split in WIDER_SPLITS}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise EvaluateError(f"{folder}: not WIDER FACE's .mat files: {type(error).__name__} {error}") from None
    return Dataset(_existing(pictures), _faces(boxes), subsets=subsets)


def _load_mat(path: Path) -> Mapping[str, Array]:
    try:
        content: Mapping[str, Array] = importlib.import_module("scipy.io").loadmat(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise EvaluateError(f"{path} cannot be read: {error}") from None
    return content


def _wanted(split: Mapping[str, Array], boxes: Sequence[Array]) -> Array:
    """Whether each face belongs to a split, which lists each picture's faces by numbers from 1: bool [faces]."""
    numbers = [cell.ravel().astype(int) for event in _cells(split["gt_list"]) for cell in event]
    first = np.cumsum([0, *(len(rows) for rows in boxes)])
    wanted = np.zeros(first[-1], bool)
    for start, listed in zip(first, numbers):
        wanted[start + listed - 1] = True
    return wanted


def _cells(nested: Array) -> List[List[Array]]:
    """What MATLAB's cells of cells hold, an event's pictures in each."""
    return [[cell[0] for cell in event[0]] for event in nested]
