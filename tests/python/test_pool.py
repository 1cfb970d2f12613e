"""libdetect.Pool: the same objects as without it, Futures, refusals, deadlines, ends. Needs the built library."""

import asyncio
import concurrent.futures
import gc
import threading
import time
import unittest
import weakref
from typing import Any, List

import numpy as np
import support  # noqa: F401  finds the package

try:
    import libdetect
    from libdetect import _library

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

SMALL = {"device": "cpu", "input_size": (96, 64), "n_threads": 1}
LONG = 120


@unittest.skipIf(MISSING, MISSING)
class Pools(unittest.TestCase):
    model: Any

    @classmethod
    def setUpClass(cls) -> None:
        from test_binding import model_file

        cls.model = libdetect.Model(model_file())
        cls.addClassCleanup(cls.model.close)
        random = np.random.default_rng(3)
        cls.pictures = [
            random.integers(0, 256, (int(h), int(w), 3), np.uint8) for h, w in random.integers(20, 120, (30, 2))
        ]
        with libdetect.Context(cls.model, **SMALL) as context:
            cls.expected = [context.detect(picture, score=0.3) for picture in cls.pictures]

    def pool(self, **options: Any) -> Any:
        pool = libdetect.Pool(self.model, **{**SMALL, **options})
        self.addCleanup(pool.close)
        return pool

    def stopped(self, **options: Any) -> Any:
        """A pool whose only context stands still in a callback until the event is set."""
        pool = self.pool(contexts=1, max_batch=2, **options)
        inside, event, ran_here = threading.Event(), threading.Event(), []
        self.addCleanup(event.set)

        def hold(_: Any) -> None:
            if threading.current_thread() is threading.main_thread():
                ran_here.append(True)  # the request was faster than add_done_callback
            else:
                inside.set()
                event.wait(LONG)

        pool.submit(self.pictures[0]).add_done_callback(hold)
        while ran_here:
            ran_here.clear()
            pool.submit(self.pictures[0]).add_done_callback(hold)
        self.assertTrue(inside.wait(LONG))
        return pool, event

    def test_the_same_objects(self) -> None:
        self.assertGreater(sum(map(len, self.expected)), 30)
        with self.pool(contexts=2, max_batch=4) as pool:
            requests = [pool.submit(picture, score=0.3) for picture in self.pictures]
            for request, expected in zip(requests, self.expected):
                np.testing.assert_array_equal(request.result(LONG), expected)
                self.assertTrue(request.done() and not request.cancel())
                self.assertEqual(request.answer.attempts, 1)
                self.assertIn(request.answer.context, (0, 1))
        self.assertEqual([request.answer.ticket for request in requests], list(range(1, 31)))

    def test_map(self) -> None:
        pool = self.pool(capacity=3, max_batch=2)
        found = list(pool.map(iter(self.pictures), score=0.3))
        self.assertEqual(len(found), len(self.expected))
        for objects, expected in zip(found, self.expected):
            np.testing.assert_array_equal(objects, expected)
        self.assertEqual(list(pool.map([])), [])
        with self.assertRaises(TypeError):
            list(pool.map([self.pictures[0], "no picture"]))
        some = pool.map(self.pictures, score=0.3)
        np.testing.assert_array_equal(next(some), self.expected[0])
        some.close()  # the rest is cancelled
        self.assertTrue(pool.drain(LONG))

    def test_threads(self) -> None:
        pool = self.pool(contexts=2, max_batch=4, max_delay=0.001)
        failures: List[int] = []

        def work(offset: int) -> None:
            for i in range(60):
                k = (i + offset) % len(self.pictures)
                if not np.array_equal(pool.submit(self.pictures[k], score=0.3).result(LONG), self.expected[k]):
                    failures.append(k)

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        stats = pool.stats
        self.assertEqual((stats.n_submitted, stats.n_succeeded), (360, 360))
        self.assertEqual(sum(n * count for n, count in stats.batches.items()), 360)
        self.assertEqual((sum(stats.batches.values()), sum(stats.runs), sum(stats.waits)), (stats.n_runs,) * 2 + (360,))

    def test_full(self) -> None:
        pool, event = self.stopped(capacity=2)
        requests = [pool.submit(self.pictures[i], score=0.3) for i in range(2)]
        with self.assertRaises(libdetect.QueueFullError) as caught:
            pool.submit(self.pictures[2])
        self.assertEqual(caught.exception.status, -10)
        self.assertEqual((pool.stats.n_rejected, pool.stats.n_waiting), (1, 2))
        with self.assertRaises(concurrent.futures.TimeoutError):
            requests[0].result(0.01)
        self.assertIsNone(requests[0].answer)
        event.set()
        np.testing.assert_array_equal(requests[1].result(LONG), self.expected[1])

    def test_cancel_and_deadline(self) -> None:
        pool, event = self.stopped()
        gone, late = pool.submit(self.pictures[1]), pool.submit(self.pictures[2], deadline=0.01)
        kept = pool.submit(self.pictures[3], score=0.3, deadline=LONG)
        self.assertTrue(gone.cancel() and gone.cancelled() and gone.cancel())
        with self.assertRaises(concurrent.futures.CancelledError):
            gone.result(LONG)
        with self.assertRaises(libdetect.DeadlineError) as caught:
            late.result(LONG)
        self.assertEqual(caught.exception.status, -12)
        event.set()
        np.testing.assert_array_equal(kept.result(LONG), self.expected[3])
        self.assertFalse(kept.cancel() or late.cancel())
        self.assertEqual((pool.stats.n_cancelled, pool.stats.n_expired), (1, 1))

    def test_priorities(self) -> None:
        pool, event = self.stopped()
        order: List[int] = []
        requests = [pool.submit(self.pictures[i], priority=priority) for i, priority in enumerate((0, -4, 4, 1))]
        for i, request in enumerate(requests):
            request.add_done_callback(lambda _, i=i: order.append(i))
        event.set()
        self.assertTrue(pool.drain(LONG))
        self.assertEqual(order, [2, 3, 0, 1])

    def test_asyncio(self) -> None:
        pool = self.pool(max_batch=4)

        async def detect(i: int) -> np.ndarray:
            return await asyncio.wrap_future(pool.submit(self.pictures[i], score=0.3))

        async def all_of_them() -> List[np.ndarray]:
            return await asyncio.gather(*(detect(i) for i in range(8)))

        for objects, expected in zip(asyncio.run(all_of_them()), self.expected):
            np.testing.assert_array_equal(objects, expected)

    def test_drain_and_close(self) -> None:
        pool, event = self.stopped()
        request = pool.submit(self.pictures[1], score=0.3)
        self.assertFalse(pool.drain(0.01))
        with self.assertRaises(libdetect.ClosedError):
            pool.submit(self.pictures[2])
        event.set()
        self.assertTrue(pool.drain())
        np.testing.assert_array_equal(request.result(0), self.expected[1])
        pool.close()
        pool.close()
        self.assertFalse(request.cancel())
        for call in (lambda: pool.stats, lambda: pool.submit(self.pictures[0]), pool.drain):
            with self.assertRaisesRegex(ValueError, "closed"):
                call()

    def test_close_ends_a_drain(self) -> None:
        pool, event = self.stopped()
        request = pool.submit(self.pictures[1])
        answers: List[bool] = []
        drainer = threading.Thread(target=lambda: answers.append(pool.drain()))
        drainer.start()
        while not pool.stats.draining:
            time.sleep(0.001)
        closer = threading.Thread(target=pool.close)
        closer.start()
        drainer.join(LONG)
        self.assertFalse(drainer.is_alive())  # although the context still stands
        event.set()
        closer.join(LONG)
        self.assertEqual((answers, request.done()), ([True], True))

    def test_with_after_an_exception(self) -> None:
        pool, event = self.stopped()
        threading.Timer(0.05, event.set).start()
        with self.assertRaises(KeyError), pool:
            requests = [pool.submit(self.pictures[i]) for i in range(4)]
            raise KeyError
        self.assertTrue(all(request.done() for request in requests))  # run, or cancelled

    def test_a_pool_that_is_forgotten(self) -> None:
        pool = libdetect.Pool(self.model, **SMALL)
        request, gone = pool.submit(self.pictures[0], score=0.3), weakref.ref(pool)
        del pool
        np.testing.assert_array_equal(request.result(LONG), self.expected[0])
        del request
        end = time.monotonic() + LONG
        while gone() is not None and time.monotonic() < end:
            time.sleep(0.01)
            gc.collect()
        self.assertIsNone(gone())

    def test_the_last_reference_goes_away_in_a_callback(self) -> None:
        """A pool cannot wait for the thread that ends it."""
        pool = libdetect.Pool(self.model, **SMALL)
        references, gone = [pool], weakref.ref(pool)
        before = threading.active_count()
        request = pool.submit(self.pictures[0], score=0.3)
        request.add_done_callback(lambda _: references.clear())
        del pool
        np.testing.assert_array_equal(request.result(LONG), self.expected[0])
        end = time.monotonic() + LONG
        while (gone() is not None or threading.active_count() > before) and time.monotonic() < end:
            time.sleep(0.01)
        self.assertIsNone(gone())
        self.assertLessEqual(threading.active_count(), before)

    def test_devices(self) -> None:
        one = libdetect.PoolDevice(device="cpu", input_size=(96, 64), n_threads=1)
        two = libdetect.PoolDevice(device="cpu", input_size=(96, 64), n_threads=1, max_batch=3, contexts=2)
        with libdetect.Pool(self.model, [one, two], max_batch=5) as pool:
            self.assertEqual([context.max_batch for context in pool.contexts], [5, 3, 3])
            self.assertEqual({(c.device, c.in_service, c.last_error) for c in pool.contexts}, {("cpu", True, 0)})
            self.assertEqual(pool.contexts[0].device_name, "CPU, 1 thread")
            pool.submit(self.pictures[0]).result(LONG)
            self.assertEqual(sum(context.n_pictures for context in pool.contexts), 1)
            self.assertEqual((pool.stats.n_in_service, pool.stats.capacity), (3, 64))

    def test_wrong_arguments(self) -> None:
        pool = self.pool()
        for error, call in (
            (ValueError, lambda: libdetect.Pool(self.model, [libdetect.PoolDevice()], n_threads=1)),
            (ValueError, lambda: libdetect.Pool(self.model, device="abacus")),
            (ValueError, lambda: libdetect.Pool(self.model, max_delay=-1)),
            (TypeError, lambda: libdetect.Pool(self.model, speed=9)),
            (libdetect.Error, lambda: libdetect.Pool(self.model, [])),
            (libdetect.Error, lambda: libdetect.Pool(self.model, max_batch=1000)),
            (libdetect.Error, lambda: pool.submit(self.pictures[0], priority=9)),
            (libdetect.Error, lambda: pool.submit(self.pictures[0], score=2.0)),
            (ValueError, lambda: pool.submit(self.pictures[0], deadline=-1)),
            (TypeError, lambda: pool.submit(self.pictures[0].astype(np.float32))),
        ):
            with self.assertRaises(error):
                call()
        self.assertEqual((pool.stats.n_submitted, pool._requests), (0, {}))

    def test_max_objects(self) -> None:
        pool = self.pool(max_batch=4)
        request = pool.submit(self.pictures[0], score=0.3, max_objects=1)
        np.testing.assert_array_equal(request.result(LONG), self.expected[0][:1])
        self.assertEqual(request.answer.cuts, libdetect.CUT_OBJECTS if len(self.expected[0]) > 1 else 0)


@unittest.skipIf(MISSING, MISSING)
class Structs(unittest.TestCase):
    def test_fields_lie_where_the_header_says(self) -> None:
        offsets = {
            _library.PoolDevice: {"n_contexts": 8, "reserved": 12},
            _library.PoolOptions: {"devices": 8, "n_devices": 16, "max_attempts": 36, "staging_bytes": 40},
            _library.Request: {"objects": 8, "deadline_us": 24, "thresholds": 32, "pixels": 40},
            _library.Answer: {"ticket": 8, "objects": 16, "n_objects": 24, "n_attempts": 44, "message": 64},
            _library.PoolStats: {"draining": 36, "n_submitted": 40, "staging_bytes": 136, "batches": 144, "runs": 2456},
            _library.PoolContextStats: {"last_error": 28, "n_runs": 32, "device_name": 64},
        }
        for struct, fields in offsets.items():
            for name, offset in fields.items():
                self.assertEqual(getattr(struct, name).offset, offset, f"{struct.__name__}.{name}")


if __name__ == "__main__":
    unittest.main()
