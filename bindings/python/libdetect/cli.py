"""python -m libdetect: finds faces or objects in pictures, with the options and the output of the tool `detect`."""

import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple

from . import cli_output, picture_files
from .cli_info import print_info, print_models
from .cli_options import parse
from .picture_files import PictureError

DONE, PICTURES, USAGE, MODEL = 0, 1, 2, 3


class _Failure(Exception):
    """Ends the program with a status, after a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _complain(message: object) -> None:
    print("libdetect:", cli_output.clean(str(message)), file=sys.stderr)


class _Drawings:
    """Pictures with boxes, each in a file of its own that is neither a source nor an earlier drawing."""

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

    def save(self, source: str, picture: Any) -> None:
        name, number = os.path.splitext(os.path.basename(source))[0], 1
        path = os.path.join(self._folder, f"{name}.png")
        while os.path.exists(path) and (self._identity(path) in self._kept or not os.path.isfile(path)):
            number += 1
            path = os.path.join(self._folder, f"{name}-{number}.png")
        picture_files.write_png(path, picture)
        self._kept.add(self._identity(path))


def _open(given: Any) -> Tuple[Any, Any]:
    """The model and the context."""
    from . import LOG_INFO, Context, Error, Model, default_model, set_log

    try:
        path = getattr(given, "path", None) or given.model or default_model()
    except FileNotFoundError as error:
        raise _Failure(MODEL, f"no model: {error}") from None
    if given.verbose:
        set_log(lambda level, message: _complain(f"{('error', 'warning', 'info', 'debug')[level]}: {message}"), LOG_INFO)
    try:
        model = Model(path)
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
        raise _Failure(MODEL, error.message) from None


def _enabled_classes(text: str, names: Sequence[str]) -> List[bool]:
    enabled = [False] * len(names)
    for word in text.split(","):
        index = int(word) if word.isascii() and word.isdigit() else names.index(word) if word in names else len(names)
        if index >= len(names):
            raise _Failure(USAGE, f"--classes: the model has no class '{word}'; its {len(names)} classes are"
                           f" {', '.join(f'{i} {name}' for i, name in enumerate(names[:3]))}, ...")
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
        _complain(f"{path}: {message}")
        self.failed = True

    def _find(self) -> List[str]:
        paths: List[str] = []
        for argument in self.given.pictures:
            try:
                paths += picture_files.find(argument)
            except PictureError as error:
                self._fail(argument, error)
        return paths

    def _read(self, path: str) -> Optional[Tuple[str, Any, float]]:
        begin = time.perf_counter()
        try:
            picture = picture_files.read(path, self.given.max_side, self.given.max_bytes)
        except PictureError as error:
            self._fail(path, error)
            return None
        return path, picture, 1e3 * (time.perf_counter() - begin)

    def _report(self, batch: List[Tuple[str, Any, float]], drawings: Optional[_Drawings]) -> None:
        from . import Error, draw

        try:
            found = self.context.detect([picture for _, picture, _ in batch], **self.thresholds)
        except Error as error:
            if error.status in (Error.NO_DEVICE, Error.DEVICE):  # it would only repeat itself
                raise _Failure(MODEL, error.message) from None
            for path, _, _ in batch:
                self._fail(path, error.message)
            return
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
                try:
                    drawings.save(path, draw(picture, objects, self.info))
                except PictureError as error:
                    self._fail(path, error)

    def _print(self, result: cli_output.Result) -> None:
        if self.given.format == "json":
            _write([cli_output.as_json(result, self.info)])
        else:
            write_rows = cli_output.as_csv if self.given.format == "csv" else cli_output.as_table
            _write(write_rows(result, self.info))

    def run(self) -> int:
        paths = self._find()
        drawings = _Drawings(self.given.draw, paths) if self.given.draw is not None else None
        if self.given.format == "csv":
            _write([cli_output.csv_header(self.info)])
        batch: List[Tuple[str, Any, float]] = []
        for i, path in enumerate(paths):
            read = self._read(path)
            if read:
                batch.append(read)
            if batch and (len(batch) == self.given.batch or i + 1 == len(paths)):
                self._report(batch, drawings)
                batch = []
        return PICTURES if self.failed else DONE


def _write(lines: Sequence[str]) -> None:
    """Names of files are bytes, which need not be UTF-8. Flushed: a reader need not wait for the next picture."""
    text = "".join(line + "\n" for line in lines)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command. Returns its exit status."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if given.version:
            from . import build_info, version

            _write([f"libdetect {version()}", build_info()])
        elif given.command == "models":
            _write(print_models())
        elif given.command == "info":
            model, context = _open(given)
            _write(print_info(model.info, context, given))
        else:
            return _Run(given).run()
    except _Failure as failure:
        _complain(failure)
        return failure.status
    except ImportError as error:
        _complain(error)
        return MODEL
    except OSError as error:  # of standard output: every other is caught where its file is named
        sys.stdout = open(os.devnull, "w")  # whose flush at the end would fail once more
        _complain(f"standard output: {error.strerror}")
        return PICTURES
    return DONE
