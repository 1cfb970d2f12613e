"""Pictures of every origin, drawing, and work in the background. Needs the built library."""

import asyncio
import ctypes
import threading
import unittest
from typing import Any, Tuple
from unittest import mock

import numpy as np
from test_binding import MISSING, model_file

if not MISSING:
    import libdetect
    from libdetect import _library, pictures

try:
    from PIL import Image
except ImportError:
    Image = None  # type: ignore[assignment]


class Cuda:
    """What PyTorch's and CuPy's arrays say of themselves; the memory is the host's."""

    def __init__(self, array: Any, strides: Any = None, stream: Any = None, typestr: str = "|u1") -> None:
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": typestr, "data": (array.ctypes.data, True), "version": 3,
            "strides": strides, "stream": stream,
        }  # fmt: skip


class Dlpack:
    """An array that claims to lie on a device of DLPack's."""

    def __init__(self, array: Any, kind: int = 2) -> None:
        self.array, self.kind, self.streams = array, kind, []  # type: Any, int, Any

    def __dlpack_device__(self) -> Tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, stream: Any = None, **_: Any) -> Any:
        self.streams.append(stream)
        return self.array.__dlpack__()


@unittest.skipIf(MISSING, MISSING)
class Device(unittest.TestCase):
    def setUp(self) -> None:
        self.array = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)

    def only(self, source: Any, **options: Any) -> Any:
        prepared, single = pictures.prepare_all(source, options.get("format", "rgb"), "cuda")
        self.assertTrue(single)
        return prepared[0]

    def test_cuda_arrays_are_not_copied(self) -> None:
        for strides, stride in ((None, 18), ((32, 3, 1), 32)):
            source = Cuda(self.array, strides)
            image, owner = self.only(source, format="bgr")
            self.assertEqual(image.planes[0], self.array.ctypes.data)
            self.assertEqual((image.strides[0], image.width, image.height), (stride, 6, 4))
            self.assertEqual((image.format, image.memory), (_library.BGR8, _library.MEMORY_DEVICE))
            self.assertIs(owner, source)

    def test_cuda_arrays_of_four_and_two_dimensions(self) -> None:
        batch = np.zeros((3, 4, 6, 3), np.uint8)
        prepared, single = pictures.prepare_all(Cuda(batch), "rgb", "cuda")
        self.assertFalse(single)
        self.assertEqual([image.planes[0] - batch.ctypes.data for image, _ in prepared], [0, 72, 144])
        image, _ = self.only(Cuda(np.zeros((4, 6), np.uint8)))
        self.assertEqual((image.format, image.strides[0]), (_library.GRAY8, 6))

    def driver(self) -> Any:
        """A stand-in for CUDA's driver that succeeds."""
        driver = mock.MagicMock()
        for name in ("DeviceGet", "DevicePrimaryCtxRetain", "CtxPushCurrent_v2", "StreamSynchronize",
                     "CtxPopCurrent_v2", "DevicePrimaryCtxRelease_v2"):  # fmt: skip
            getattr(driver, f"cu{name}").return_value = 0
        patch = mock.patch.object(ctypes, "CDLL", return_value=driver)
        patch.start()
        self.addCleanup(patch.stop)
        return driver

    def test_dlpack_is_not_copied_and_waits(self) -> None:
        driver = self.driver()
        source = Dlpack(self.array[:, :5])
        image, capsule = self.only(source)
        self.assertEqual(source.streams, [1])
        self.assertEqual(image.planes[0], self.array.ctypes.data)
        self.assertEqual((image.strides[0], image.width, image.memory), (18, 5, _library.MEMORY_DEVICE))
        self.assertEqual(type(capsule).__name__, "PyCapsule")
        # The default stream is that of a context which is this thread's for as long as the waiting takes.
        self.assertEqual([name for name, _, _ in driver.method_calls], [
            "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuStreamSynchronize",
            "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2",
        ])  # fmt: skip
        self.assertEqual(driver.cuStreamSynchronize.call_args[0][0].value, 1)

    def test_dlpack_comes_first(self) -> None:
        """As with PyTorch's tensors, which have both, and name no stream in the second."""

        class Both(Dlpack, Cuda):
            def __init__(self, array: Any) -> None:
                Cuda.__init__(self, array)
                Dlpack.__init__(self, array)

        driver = self.driver()
        for source in (Both(self.array), [Both(self.array)]):
            driver.reset_mock()
            (image, kept), = pictures.prepare_all(source, "rgb", "cuda")[0]
            self.assertEqual(image.planes[0], self.array.ctypes.data)
            self.assertEqual(type(kept).__name__, "PyCapsule")
            driver.cuStreamSynchronize.assert_called_once()

    def test_waiting_that_fails(self) -> None:
        driver = self.driver()
        driver.cuStreamSynchronize.return_value = 700
        with self.assertRaisesRegex(RuntimeError, "cuStreamSynchronize failed with 700"):
            self.only(Dlpack(self.array))
        driver.cuCtxPopCurrent_v2.assert_called_once()
        driver.cuDevicePrimaryCtxRelease_v2.assert_called_once()

    def test_a_stream_is_waited_for(self) -> None:
        driver = self.driver()
        self.only(Cuda(self.array, stream=7))
        self.assertEqual(driver.cuStreamSynchronize.call_args[0][0].value, 7)
        driver.cuStreamSynchronize.return_value = 201
        with self.assertRaisesRegex(RuntimeError, "201"):
            self.only(Cuda(self.array, stream=7))

    def test_what_cannot_be_read_there(self) -> None:
        with self.assertRaisesRegex(ValueError, "side by side"):
            self.only(Cuda(self.array, (1, 4, 24)))
        with self.assertRaisesRegex(TypeError, "uint8"):
            self.only(Cuda(self.array, typestr="<f4"))
        self.driver()
        with self.assertRaisesRegex(TypeError, "32 bits"):
            self.only(Dlpack(self.array.astype(np.float32)))
        with self.assertRaisesRegex(ValueError, "type 8"):
            self.only(Dlpack(self.array, kind=8))

    def test_a_context_on_the_cpu_says_so(self) -> None:
        with libdetect.Model(model_file()) as model:
            with libdetect.Context(model, device="cpu", input_size=(64, 64)) as context:
                for source in (Cuda(self.array), Dlpack(self.array), [Cuda(self.array)]):
                    with self.assertRaisesRegex(ValueError, "memory of a GPU, and this context runs on the CPU"):
                        context.detect(source)


@unittest.skipIf(MISSING, MISSING)
class Host(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.data = model_file()

    def setUp(self) -> None:
        self.model = libdetect.Model(self.data)
        self.addCleanup(self.model.close)
        self.context = libdetect.Context(self.model, device="cpu", input_size=(96, 64), n_threads=1)
        self.addCleanup(self.context.close)
        self.picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
        self.expected = self.context.detect(self.picture, score=0.3)
        self.assertGreater(len(self.expected), 0)

    def test_dlpack_of_the_host(self) -> None:
        found = self.context.detect(Dlpack(self.picture, kind=1), score=0.3)
        np.testing.assert_array_equal(found, self.expected)

    @unittest.skipIf(Image is None, "Pillow is not installed")
    def test_pillow(self) -> None:
        picture = Image.fromarray(self.picture)
        np.testing.assert_array_equal(self.context.detect(picture, score=0.3), self.expected)
        for mode in ("RGBA", "L", "P", "CMYK", "1", "LA"):
            converted = picture.convert(mode)
            array = np.asarray(converted if mode in ("RGBA", "L") else converted.convert("RGB"))
            found = self.context.detect([converted], score=0.3)[0]
            np.testing.assert_array_equal(found, self.context.detect(array, score=0.3), mode)

    def test_async(self) -> None:
        futures = [self.context.detect_async(self.picture, score=score) for score in (0.3, 0.9, 0.3)]
        np.testing.assert_array_equal(futures[0].result(), self.expected)
        self.assertLess(len(futures[1].result()), len(self.expected))
        np.testing.assert_array_equal(futures[2].result(), self.expected)
        with self.assertRaises(TypeError):
            self.context.detect_async(self.picture.astype(float)).result()

    def test_asyncio(self) -> None:
        async def both() -> Any:
            calls = [asyncio.wrap_future(self.context.detect_async(self.picture, score=0.3)) for _ in range(2)]
            return await asyncio.gather(*calls)

        for found in asyncio.run(both()):
            np.testing.assert_array_equal(found, self.expected)

    def test_closing_waits(self) -> None:
        context = libdetect.Context(self.model, device="cpu", input_size=(96, 64), n_threads=1)
        futures = [context.detect_async(self.picture, score=0.3) for _ in range(5)]
        context.close()
        context.close()
        for future in futures:
            np.testing.assert_array_equal(future.result(), self.expected)
        with self.assertRaisesRegex(ValueError, "this Context is closed"):
            context.detect_async(self.picture)

    def test_closing_in_a_callback(self) -> None:
        context = libdetect.Context(self.model, device="cpu", input_size=(96, 64), n_threads=1)
        begun, closed = threading.Event(), threading.Event()

        def close(_: Any) -> None:
            begun.wait(60)
            context.close()
            closed.set()

        first = context.detect_async([self.picture] * 8, score=0.3)
        first.add_done_callback(close)
        second = context.detect_async(self.picture)
        begun.set()
        self.assertTrue(closed.wait(60))
        self.assertEqual(len(first.result()), 8)
        with self.assertRaisesRegex(ValueError, "this Context is closed"):
            second.result()

    def test_draw(self) -> None:
        drawn = libdetect.draw(self.picture, self.expected, self.model)
        self.assertEqual((drawn.shape, drawn.dtype), (self.picture.shape, np.uint8))
        self.assertTrue((drawn != self.picture).any())
        np.testing.assert_array_equal(libdetect.draw(self.picture, self.expected[:0], self.model.info), self.picture)
        grey = libdetect.draw(self.picture[:, :, 0], self.expected[:0], self.model)
        np.testing.assert_array_equal(grey, np.repeat(self.picture[:, :, :1], 3, axis=2))
        strange = self.expected[:1].copy()
        strange["x1"], strange["y2"], strange["landmarks"] = np.nan, np.inf, -1e30
        libdetect.draw(self.picture[:3, :2], strange, self.model)  # no exception, nothing outside

    def test_log(self) -> None:
        lines = []
        libdetect.set_log(lambda level, message: lines.append((level, message)), libdetect.LOG_DEBUG)
        self.addCleanup(libdetect.set_log, None)
        libdetect.Context(self.model, device="cpu", input_size=(64, 64)).close()
        self.assertTrue(lines)
        n_lines = len(lines)
        libdetect.set_log(None)
        libdetect.Context(self.model, device="cpu", input_size=(64, 64)).close()
        self.assertEqual(len(lines), n_lines)

    def test_build(self) -> None:
        self.assertIn(libdetect.version(), libdetect.build_info())


if __name__ == "__main__":
    unittest.main()
