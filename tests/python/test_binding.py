"""The ctypes binding: layouts of structs, every kind of picture, errors, threads. Needs the built library."""

import copy
import ctypes
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List
from unittest import mock

import numpy as np
import published
import support
from libdetect import convert, families
from libdetect.checkpoint import Checkpoint

try:
    if os.environ.get("DET_SANITIZE"):
        raise ImportError("a sanitized library cannot be loaded into a plain interpreter")
    import libdetect
    from libdetect import _library, _models, _native, pictures

    MISSING = ""
except ImportError as error:
    if os.environ.get("LIBDETECT_LIBRARY"):  # the build has made it: left out unseen, all of this would prove nothing
        raise
    MISSING = str(error)


def model_file(**description: Any) -> bytes:
    """A DamoFD with random weights: it finds faces everywhere, the same ones every time."""
    net = next(net for net in families.FAMILIES[0].layouts(1) if net.variant == "0.5g-kps")
    tensors = published.random_tensors(net.shapes, seed=4)
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            tensor *= 10 * np.sqrt(2 / tensor[0].size)
        elif name.endswith((".gn.weight", ".scale")):
            tensor += 1
    tensors["bbox_head.stride_reg.0.bias"] += 2  # boxes that overlap
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        convert.convert(Checkpoint(tensors, description={"family": "damofd", "licence": "none", **description}), path)
        with open(path, "rb") as file:
            return file.read()


@unittest.skipIf(MISSING, MISSING)
class Binding(unittest.TestCase):
    data: bytes

    @classmethod
    def setUpClass(cls) -> None:
        cls.data = model_file()

    def setUp(self) -> None:
        self.model = libdetect.Model(self.data)
        self.addCleanup(self.model.close)
        self.context = libdetect.Context(self.model, device="cpu", input_size=(96, 64), max_batch=2, n_threads=1)
        self.addCleanup(self.context.close)
        self.picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)

    def detect(self, images: Any, **options: Any) -> Any:
        return self.context.detect(images, **{"score": 0.3, **options})

    def test_version(self) -> None:
        self.assertRegex(libdetect.version(), r"^\d+\.\d+\.\d+$")
        self.assertIn("Model", dir(libdetect))
        with self.assertRaises(AttributeError):
            libdetect.nothing

    def test_model_from_a_path_says_the_same(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "\u00e9.safetensors")
            with open(path, "wb") as file:
                file.write(self.data)
            with libdetect.Model(path) as model:
                self.assertEqual(model.info, self.model.info)
        info = self.model.info
        self.assertEqual(
            (info.family, info.variant, info.class_names, info.n_landmarks), ("damofd", "0.5g-kps", ("face",), 5)
        )
        self.assertEqual((info.input_size, info.resize, info.licence), ((640, 640), "letterbox-top", "none"))
        self.assertEqual((info.mean, info.scale, info.max_objects, info.multi_label), (127.5, 1 / 128, 1000, False))
        self.assertEqual(info.n_parameters, 265_977)

    def test_default_model(self) -> None:
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ):
            named = os.path.join(folder, "named.safetensors")
            with open(named, "wb") as file:
                file.write(self.data)
            os.environ["LIBDETECT_MODEL"] = named
            self.assertEqual(libdetect.default_model(), named)
            with libdetect.Model() as model:
                self.assertEqual(model.info, self.model.info)
            os.environ["LIBDETECT_MODEL"] = ""
            places = [Path(folder, "none"), Path(folder)]
            with mock.patch.object(_models, "_places", lambda: iter(places)):
                with self.assertRaisesRegex(FileNotFoundError, "none.*LIBDETECT_MODEL"):
                    libdetect.Model()
                bundled = os.path.join(folder, _models.DEFAULT + ".safetensors")
                os.rename(named, bundled)
                self.assertEqual(libdetect.default_model(), bundled)
                for name in (None, _models.DEFAULT, bundled):
                    with libdetect.Model(name) as model:
                        self.assertEqual(model.info, self.model.info)
                os.environ["LIBDETECT_MODEL"] = _models.DEFAULT
                self.assertEqual(libdetect.default_model(), bundled)
                for name in ("other", "other.safetensors", "./" + _models.DEFAULT, Path(_models.DEFAULT)):
                    with self.assertRaisesRegex(libdetect.Error, "No such file"):
                        libdetect.Model(name)

    def test_context_info(self) -> None:
        info = self.context.info
        self.assertEqual((info.device, info.precision, info.input_size), ("cpu", "fp32", (96, 64)))
        self.assertEqual((info.max_batch, info.n_threads), (2, 1))
        self.assertGreater(min(info.n_layers, info.macs, info.weights_bytes, info.arena_bytes), 0)

    def test_objects(self) -> None:
        found = self.detect(self.picture)
        self.assertEqual(found.dtype, libdetect.OBJECT_DTYPE)
        self.assertEqual(found.dtype.itemsize, 64)
        self.assertGreater(len(found), 3)
        self.assertTrue((np.diff(found["score"]) <= 0).all())
        self.assertTrue((found["score"] > 0.3).all() and (found["score"] <= 1).all())
        self.assertTrue((found["class_id"] == 0).all())
        self.assertEqual(found["landmarks"].shape, (len(found), 5, 2))
        self.assertTrue(found["landmarks"].any())
        again = self.detect(self.picture)
        np.testing.assert_array_equal(found, again)
        self.assertFalse(np.shares_memory(found, again))

    def test_layouts_of_pictures(self) -> None:
        expected = self.detect(self.picture)
        wide = np.zeros((50, 90, 3), np.uint8)
        wide[:, 11:81] = self.picture
        tall = np.zeros((100, 70, 3), np.uint8)
        tall[::2] = self.picture
        for what, picture in {
            "rows apart": wide[:, 11:81],
            "every second row": tall[::2],
            "upside down": self.picture[::-1].copy()[::-1],
            "mirrored": self.picture[:, ::-1].copy()[:, ::-1],
            "columns first": np.asfortranarray(self.picture),
            "planes": np.ascontiguousarray(self.picture.transpose(2, 0, 1)).transpose(1, 2, 0),
            "read-only": np.frombuffer(self.picture.tobytes(), np.uint8).reshape(self.picture.shape),
        }.items():
            with self.subTest(what):
                np.testing.assert_array_equal(self.detect(picture), expected)
        self.assertFalse(np.array_equal(self.detect(self.picture[::-1]), expected))

    def test_rows_apart_are_not_copied(self) -> None:
        wide = np.zeros((50, 90, 3), np.uint8)
        ((image, kept),), _ = pictures.prepare_all(wide[:, 11:81], "rgb", "cpu")
        self.assertTrue(np.shares_memory(kept, wide))
        self.assertEqual((image.planes[0], image.strides[0]), (wide.ctypes.data + 33, 270))
        ((_, kept),), _ = pictures.prepare_all(wide[:, ::2], "rgb", "cpu")
        self.assertFalse(np.shares_memory(kept, wide))

    def test_formats(self) -> None:
        expected = self.detect(self.picture)
        np.testing.assert_array_equal(self.detect(self.picture[:, :, ::-1], format="bgr"), expected)
        self.assertFalse(np.array_equal(self.detect(self.picture, format="bgr"), expected))
        alpha = np.concatenate([self.picture, self.picture[:, :, :1]], axis=2)
        np.testing.assert_array_equal(self.detect(alpha), expected)
        grey = self.picture[:, :, 0]
        expected = self.detect(np.repeat(grey[:, :, None], 3, axis=2))
        np.testing.assert_array_equal(self.detect(np.ascontiguousarray(grey)), expected)
        np.testing.assert_array_equal(self.detect(self.picture[:, :, :1]), expected)

    def test_lists(self) -> None:
        pictures = [
            self.picture,
            self.picture[:31, :17],
            self.picture[::-1],
            self.picture[:, :, 1],
            self.picture[:1, :1],
        ]
        found = self.detect(pictures)
        self.assertEqual(len(found), len(pictures))
        self.assertEqual(len(self.context.cuts), len(pictures))
        for picture, objects in zip(pictures, found):
            np.testing.assert_allclose(_flat(objects), _flat(self.detect(picture)), rtol=1e-4, atol=1e-3)
        stack = np.stack([self.picture, self.picture[::-1]])
        for objects, expected in zip(self.detect(stack), (found[0], found[2])):
            np.testing.assert_allclose(_flat(objects), _flat(expected), rtol=1e-4, atol=1e-3)
        self.assertEqual(self.detect([]), [])

    def test_default_context(self) -> None:
        with libdetect.Model(self.data) as model:
            small = np.zeros((8, 8, 3), np.uint8)
            with libdetect.Context(model) as context:
                np.testing.assert_array_equal(model.detect(small, max_objects=5), context.detect(small, max_objects=5))

    def test_thresholds(self) -> None:
        every = self.detect(self.picture, iou=1.0)
        middle = float(np.median(every["score"]))
        fewer = self.detect(self.picture, iou=1.0, score=middle)
        np.testing.assert_array_equal(fewer, every[every["score"] > middle])
        self.assertLess(len(self.detect(self.picture, iou=0.1)), len(every))
        np.testing.assert_array_equal(self.detect(self.picture, iou=1.0, class_scores=[middle]), fewer)
        self.assertEqual(len(self.detect(self.picture, class_enabled=[False])), 0)
        self.assertEqual(self.context.cuts, (0,))
        np.testing.assert_array_equal(self.detect(self.picture, iou=1.0, max_objects=2), every[:2])
        self.assertEqual(self.context.cuts, (libdetect.CUT_OBJECTS,))
        np.testing.assert_array_equal(self.detect(self.picture, iou=1.0), every)  # nothing is remembered

    def test_more_objects_than_the_model_asks_for(self) -> None:
        with (
            libdetect.Model(model_file(max_objects=3)) as model,
            libdetect.Context(model, input_size=(96, 64)) as context,
        ):
            self.assertEqual(len(context.detect(self.picture, score=0.3, iou=1.0)), 3)
            self.assertEqual(len(context.detect(self.picture, score=0.3, iou=1.0, max_objects=9)), 9)

    def test_profile(self) -> None:
        self.assertEqual(self.context.profile().total_ms, 0)
        with libdetect.Context(
            self.model, device="cpu", input_size=(64, 64), n_threads=1, profile_layers=True
        ) as context:
            context.detect(self.picture)
            profile = context.profile()
            self.assertGreater(profile.total_ms, 0)
            self.assertEqual(len(profile.layers), context.info.n_layers)
            self.assertGreater(sum(layer.ms for layer in profile.layers), 0)
            self.assertIn("conv2d", {layer.op for layer in profile.layers})
            self.assertEqual({len(layer.shape) for layer in profile.layers}, {4})

    def test_library_errors(self) -> None:
        for status, call in (
            (-3, lambda: libdetect.Model("/none")),
            (-4, lambda: libdetect.Model(b"no model")),
            (-4, lambda: libdetect.Model(self.data[:-1])),
            (-1, lambda: libdetect.Context(self.model, input_size=(33, 64))),
            (-1, lambda: libdetect.Context(self.model, max_batch=-1)),
            (-1, lambda: self.detect(self.picture, score=2.0)),
            (-1, lambda: self.detect(self.picture, class_scores=[0.5, 0.5])),
            (-1, lambda: self.detect(np.zeros((1, 20000, 3), np.uint8))),
        ):
            with self.assertRaises(libdetect.Error) as caught:
                call()
            self.assertEqual(caught.exception.status, status)
            self.assertRegex(str(caught.exception), r"^DET_ERROR_\w+: .+")
        with self.assertRaisesRegex(ValueError, "zero byte"):  # where C's name would end
            libdetect.Model("a\0b")
        for field, call in (  # where C would see 1, or 64
            ("max_batch", lambda: libdetect.Context(self.model, max_batch=2**32 + 1)),
            ("width", lambda: libdetect.Context(self.model, input_size=(2**32 + 64, 64))),
            ("max_image_bytes", lambda: libdetect.Context(self.model, max_image_bytes=2**64)),
            ("max_objects", lambda: self.detect(self.picture, max_objects=2**32 + 1)),
            ("capacity", lambda: libdetect.Pool(self.model, capacity=2**32 + 1)),
        ):
            with self.assertRaisesRegex(ValueError, f"{field} is .* does not fit"):
                call()
        self.assertGreater(len(self.detect(self.picture)), 0)

    def test_wrong_arguments(self) -> None:
        for error, call in (
            (TypeError, lambda: self.detect(self.picture.astype(np.float32))),
            (TypeError, lambda: self.detect(self.picture, threshold=0.5)),
            (ValueError, lambda: self.detect(np.zeros((4, 4, 2), np.uint8))),
            (ValueError, lambda: self.detect(np.zeros((0, 4, 3), np.uint8))),
            (ValueError, lambda: self.detect(np.zeros(4, np.uint8))),
            (ValueError, lambda: self.detect(self.picture, format="hsv")),
            (ValueError, lambda: self.detect(np.zeros((4, 4, 4), np.uint8), format="bgr")),
            (ValueError, lambda: libdetect.Context(self.model, device="abacus")),
            (ValueError, lambda: libdetect.Context(self.model, device=None)),
            (TypeError, lambda: libdetect.Context("faces.safetensors")),
            (ValueError, lambda: libdetect.Context(self.model, precision="fp8")),
            (ValueError, lambda: self.detect(self.picture, class_scores=[[0.5]])),
        ):
            with self.assertRaises(error):
                call()

    def test_what_is_wrong_is_said(self) -> None:
        for text, call in (
            ("max_objects is -1; 1 or more is allowed", lambda: self.detect(self.picture, max_objects=-1)),
            ("max_delay is -1 seconds", lambda: libdetect.Pool(self.model, max_delay=-1)),
            ("not NoneType", lambda: self.detect(None)),
            ("not dict", lambda: self.detect({})),
            ("not str", lambda: self.detect("")),
            ("not bytes", lambda: self.detect(b"")),
            ("not set", lambda: self.detect(set())),
            ("score is -0.1", lambda: self.detect(self.picture, score=-0.1)),
            ("iou is -1", lambda: self.detect(self.picture, iou=-1)),
            ("score", lambda: self.detect(self.picture, score=1.5)),
            ("iou", lambda: self.detect(self.picture, iou=1.5)),
            ("score", lambda: self.detect(self.picture, score=float("nan"))),
            ("device is 'cpu:'", lambda: libdetect.Context(self.model, device="cpu:")),
            ("device is 'cpu:1'", lambda: libdetect.Context(self.model, device="cpu:1")),
            ("device is 'auto:0'", lambda: libdetect.Context(self.model, device="auto:0")),
            ("device is 'cuda:'", lambda: libdetect.Context(self.model, device="cuda:")),
            ("device is 'cuda:\u00b2'", lambda: libdetect.Context(self.model, device="cuda:\u00b2")),
            ("device is 'cuda:x'", lambda: libdetect.Context(self.model, device="cuda:x")),
            ("does not fit", lambda: libdetect.Context(self.model, device="cuda:4294967296")),
            ("device is None", lambda: libdetect.Context(self.model, device=None)),
            ("its precision is fp32 or auto", lambda: libdetect.Context(self.model, device="cpu", precision="fp16")),
        ):
            with self.subTest(text), self.assertRaisesRegex((TypeError, ValueError, libdetect.Error), text):
                call()

    def test_long_name_of_a_model(self) -> None:
        with self.assertRaisesRegex(libdetect.Error, "DET_ERROR_IO: 'nnn"):
            libdetect.Model(300 * "n")

    def test_statuses(self) -> None:
        names = {value: name for name, value in vars(libdetect.Error).items() if name.isupper()}
        self.assertEqual(sorted(names), list(range(-14, 0)))
        for status, name in names.items():
            self.assertTrue(str(_library.error_of(status, "")).startswith(f"DET_ERROR_{name}: "), name)

    def test_closing(self) -> None:
        model = libdetect.Model(self.data)
        context = libdetect.Context(model, device="cpu", input_size=(32, 32))
        model.close()
        model.close()
        with self.assertRaisesRegex(ValueError, "closed"):
            model.info
        with self.assertRaisesRegex(ValueError, "closed"):
            libdetect.Context(model)
        model = libdetect.Model(self.data)
        model.detect(self.picture[:8, :8])
        model.close()
        for call in (model.detect, model.detect_async):
            with self.assertRaisesRegex(ValueError, "this Model is closed"):
                call(self.picture)
        context.detect(self.picture)  # a context outlives its model
        with context:
            pass
        for call in (context.detect, context.detect_async):
            with self.assertRaisesRegex(ValueError, "this Context is closed"):
                call(self.picture)

    def test_threads_take_turns(self) -> None:
        expected = self.detect(self.picture)
        failures: List[str] = []

        def work() -> None:
            try:
                for _ in range(20):
                    if not np.array_equal(self.detect(self.picture), expected):
                        failures.append("different")
            except libdetect.Error as error:
                failures.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_closing_waits_for_other_threads(self) -> None:
        """What they have under way ends, whatever comes after it is refused, and nothing is used that is gone."""
        for _ in range(3):
            context = libdetect.Context(self.model, device="cpu", input_size=(640, 640), n_threads=1)
            refusals: List[str] = []
            begun = threading.Barrier(3)

            def work() -> None:
                begun.wait()
                with self.assertRaises(ValueError) as caught:
                    while True:
                        context.detect(self.picture)
                        context.info, context.profile()
                refusals.append(str(caught.exception))

            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            begun.wait()
            time.sleep(0.05)
            context.close()
            for thread in threads:
                thread.join()
            self.assertEqual(refusals, ["this Context is closed"] * 2)

    def test_no_copies(self) -> None:
        """A second object for the same memory would outlive it."""
        for handle in (self.model, self.context):
            for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
                with self.assertRaisesRegex(TypeError, "cannot be copied or pickled"):
                    attempt(handle)

    def test_a_model_is_closed_while_contexts_are_made(self) -> None:
        for _ in range(3):
            model = libdetect.Model(self.data)
            with ThreadPoolExecutor() as executor:
                made = executor.submit(libdetect.Context, model, device="cpu", n_threads=1)
                while not (model._n_calls or made.done()):
                    time.sleep(0.001)
                model.close()
                if made.exception() is None:
                    with made.result() as context:
                        context.detect(self.picture)
                else:  # it had not begun to make one
                    self.assertEqual(str(made.exception()), "this Model is closed")


def _flat(objects: np.ndarray) -> np.ndarray:
    return np.column_stack(
        [objects[name].reshape(len(objects), 10 if name == "landmarks" else 1) for name in objects.dtype.names]
    )


@unittest.skipIf(MISSING, MISSING)
class Structs(unittest.TestCase):
    def test_the_library_may_be_older_or_newer(self) -> None:
        class Older(ctypes.Structure):
            _fields_ = _library.Thresholds._fields_[:3]

        class Newer(_library.Thresholds):
            _fields_ = [("added", ctypes.c_int64)]

        for struct in (Older, Newer):
            found = _library.defaults(struct, _library.lib.det_thresholds_init_sized)
            self.assertEqual((found.struct_size, found.score, found.iou), (ctypes.sizeof(struct), -1, -1))
        self.assertEqual((found.max_objects, found.added), (-1, 0))

    def test_fields_lie_where_the_header_says(self) -> None:
        offsets = {
            _library.Image: {"strides": 16, "width": 32, "format": 40, "memory": 44, "reserved": 48},
            _library.Output: {"objects": 8, "counts": 16, "max_objects": 24, "memory": 28, "cuts": 32},
            _library.Thresholds: {"score": 8, "iou": 12, "class_scores": 16, "n_classes": 32, "max_objects": 44},
            _library.ModelInfo: {"class_names": 48, "n_classes": 56, "pad_value": 76, "n_parameters": 104},
            _library.ContextInfo: {"device": 8, "macs": 40, "device_name": 72},
            _library.LayerTime: {"shape": 24, "macs": 40, "ms": 48, "reserved": 52},
            _library.Profile: {"total_ms": 32, "n_layers": 36, "layers": 40},
        }
        for struct, fields in offsets.items():
            for name, offset in fields.items():
                self.assertEqual(getattr(struct, name).offset, offset, f"{struct.__name__}.{name}")
        self.assertEqual((ctypes.sizeof(_library.Image), ctypes.sizeof(_library.LayerTime)), (64, 64))


class Loading(unittest.TestCase):
    def test_a_library_that_is_not_there(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(support.ROOT / "bindings" / "python"),
            "LIBDETECT_LIBRARY": "/none.so",
        }
        program = "import libdetect; libdetect.Model"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("LIBDETECT_LIBRARY", done.stderr)
        self.assertIn("/none.so", done.stderr)


if __name__ == "__main__":
    unittest.main()
