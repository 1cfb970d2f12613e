"""python -m libdetect: finds faces or objects in pictures, with the options and the output of the tool `detect`."""

import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import cli_output, picture_files
from .cli_info import print_info, print_models
from .cli_options import parse
from .cli_streams import OutputError, complain, write
from .picture_files import PictureError

DONE, PICTURES, USAGE, MODEL = 0, 1, 2, 3

#: A picture's path, its pixels, and the milliseconds that reading it took.
_Loaded = Tuple[str, Any, float]


class _Failure(Exception):
    """Ends the program with a status, after a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Drawings:
    """Pictures with boxes, each in a file of its own: no source, none of this run's, and none that is no drawing."""

    def __init__(self, folder: str, sources: Sequence[str]) -> None:
        self._folder = folder
        self._kept = {self._identity(path) for path in sources}
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise _Failure(PICTURES, f"{folder}: cannot create directory: {error.strerror}") from None

    @staticmethod
    def _identity(path: str) -> Optional[Tuple[int, int]]:
        try:
            status = os.stat(path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _may_replace(self, path: str) -> bool:
        return self._identity(path) not in self._kept and os.path.isfile(path) and picture_files.is_marked(path)

    def path_for(self, source: str) -> str:
        """Where the next drawing of a picture goes."""
        name, number = os.path.splitext(os.path.basename(source))[0], 1
        path = os.path.join(self._folder, f"{name}.png")
        while os.path.exists(path) and not self._may_replace(path):
            number += 1
            path = os.path.join(self._folder, f"{name}-{number}.png")
        return path

    def save(self, path: str, picture: Any) -> None:
        picture_files.write_png(path, picture)
        self._kept.add(self._identity(path))


def _open(given: Any) -> Tuple[Any, Any]:
    """The model and the context."""
    try:
        return _open_both(given)
    except MemoryError:
        raise _Failure(MODEL, "out of memory") from None


def _open_both(given: Any) -> Tuple[Any, Any]:
    from . import LOG_INFO, Context, Error, Model, default_model, set_log

    try:
        path = getattr(given, "path", None) or given.model or default_model()
    except FileNotFoundError as error:
        raise _Failure(MODEL, f"no model: {error}") from None
    if given.verbose:
        set_log(lambda level, message: complain(f"{('error', 'warning', 'info', 'debug')[level]}: {message}"), LOG_INFO)
    try:
        model = Model(path)
    except Error as error:
        raise _Failure(MODEL, error.message) from None  # it names the file
    try:
        return model, Context(
            model,
            device=given.device,
            precision=given.precision,
            input_size=given.size,
            max_batch=given.batch,
            n_threads=given.threads,
            profile_layers=getattr(given, "layers", False),
        )
    except Error as error:
        is_the_model = error.status == Error.BAD_MODEL  # not the device, nor the options
        raise _Failure(MODEL, f"{path}: {error.message}" if is_the_model else error.message) from None


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"its only one is 0 '{names[0]}'"
    return f"its {len(names)} classes are 0 '{names[0]}' to {len(names) - 1} '{names[-1]}' ('info' lists them)"


def _enabled_classes(text: str, names: Sequence[str]) -> List[bool]:
    enabled = [False] * len(names)
    for word in text.split(","):
        index = int(word) if word.isascii() and word.isdigit() else names.index(word) if word in names else len(names)
        if index >= len(names):
            raise _Failure(USAGE, f"--classes: the model has no class '{word}'; {_listed(names)}")
        enabled[index] = True
    return enabled


def _thresholds(given: Any, info: Any) -> Dict[str, Any]:
    return dict(
        score=given.score,
        iou=given.iou,
        class_enabled=_enabled_classes(given.classes, info.class_names) if given.classes is not None else None,
        class_agnostic=given.agnostic,
        multi_label=True if given.multi_label else None,
        max_objects=given.max_objects,
    )


class _Run:
    """Pictures in, results out, a batch at a time."""

    def __init__(self, given: Any) -> None:
        self.given, self.failed = given, False
        self.model, self.context = _open(given)
        self.info = self.model.info
        self.thresholds = _thresholds(given, self.info)

    def _fail(self, path: str, message: object) -> None:
        complain(f"{path}: {message}")
        self.failed = True

    def _fail_all(self, batch: Sequence[_Loaded], message: str) -> None:
        for path, _, _ in batch:
            self._fail(path, message)

    def _find(self) -> List[str]:
        paths: List[str] = []
        for argument in self.given.pictures:
            try:
                paths += picture_files.find(argument)
            except PictureError as error:
                self._fail(argument, error)
        return paths

    def _read(self, path: str) -> Optional[_Loaded]:
        begin = time.perf_counter()
        try:
            picture = picture_files.read(path, self.given.max_side, self.given.max_bytes)
        except PictureError as error:
            self._fail(path, error)
            return None
        return path, picture, 1e3 * (time.perf_counter() - begin)

    def _report(self, batch: List[_Loaded], drawings: Optional[_Drawings]) -> None:
        from . import Error, draw

        try:
            found = self.context.detect([picture for _, picture, _ in batch], **self.thresholds)
        except Error as error:
            if error.status in (Error.NO_DEVICE, Error.DEVICE):  # it would only repeat itself
                raise _Failure(MODEL, error.message) from None
            self._fail_all(batch, error.message)
            return
        except MemoryError:
            self._fail_all(batch, "out of memory")
            return
        self._complain_of_cuts(batch)
        profile, share = self.context.profile(), 1.0 / len(batch)
        for (path, picture, decode_ms), objects in zip(batch, found):
            times = {
                "decode": decode_ms,
                "preprocess": profile.preprocess_ms * share,
                "network": profile.network_ms * share,
                "decode_boxes": profile.decode_ms * share,
                "nms": profile.nms_ms * share,
                "total": decode_ms + profile.total_ms * share,
            }
            result = cli_output.Result(path, picture.shape[1], picture.shape[0], objects, times)
            self._print(result)
            if drawings:
                drawing = drawings.path_for(path)
                try:
                    drawings.save(drawing, draw(picture, objects, self.info))
                except PictureError as error:
                    self._fail(drawing, error)
                except MemoryError:
                    self._fail(drawing, "out of memory")

    def _complain_of_cuts(self, batch: Sequence[_Loaded]) -> None:
        from . import CUT_CANDIDATES, CUT_OBJECTS

        if not self.given.verbose:
            return
        most = self.given.max_objects or self.info.max_objects
        for (path, _, _), cuts in zip(batch, self.context.cuts):
            if cuts & CUT_OBJECTS:
                complain(f"{path}: only the best {most} of more objects are kept")
            if cuts & CUT_CANDIDATES:
                complain(f"{path}: only the best of very many candidates entered NMS")

    def _print(self, result: cli_output.Result) -> None:
        if self.given.format == "json":
            write([cli_output.as_json(result, self.info)])
        else:
            write_rows = cli_output.as_csv if self.given.format == "csv" else cli_output.as_table
            write(write_rows(result, self.info))

    def run(self) -> int:
        paths = self._find()
        drawings = _Drawings(self.given.draw, paths) if self.given.draw is not None else None
        if self.given.format == "csv":
            write([cli_output.csv_header(self.info)])
        batch: List[_Loaded] = []
        for i, path in enumerate(paths):
            read = self._read(path)
            if read:
                batch.append(read)
            if batch and (len(batch) == self.given.batch or i + 1 == len(paths)):
                self._report(batch, drawings)
                batch = []
        return PICTURES if self.failed else DONE


def _command(given: Any) -> int:
    if given.version:
        from . import build_info, version

        write([f"libdetect {version()}", build_info()])
    elif given.command == "models":
        write(print_models())
    elif given.command == "info":
        model, context = _open(given)
        write(print_info(model.info, context, given))
    else:
        return _Run(given).run()
    return DONE


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status; what is wrong with the arguments raises SystemExit."""
    try:
        return _command(parse(sys.argv[1:] if arguments is None else arguments))
    except _Failure as failure:
        complain(failure)
        return failure.status
    except ImportError as error:
        complain(error)
        return MODEL
    except OutputError as error:
        complain(f"standard output: {error}")
        return PICTURES
    except MemoryError:
        complain("out of memory")
        return PICTURES
