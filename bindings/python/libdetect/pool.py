"""Pools: pictures of many threads, run in batches on contexts of one or more devices. The Python face of det_pool.

    with libdetect.Pool(model, max_batch=8) as pool:
        requests = [pool.submit(picture) for picture in pictures]      # Futures
        for request in requests:
            print(request.result()["score"])
        for faces in pool.map(more_pictures):                          # in order, as many as fit at a time
            print(faces["score"])

docs/pool.md explains how batches come about, and the order in which requests run.
"""

import collections
import ctypes
import functools
import itertools
import threading
import time
from concurrent.futures import Future
from ctypes import byref, c_uint64, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Type

import numpy as np

from . import _library, _native
from ._types import Detections, Picture, SubmitOptions
from ._library import OBJECT_DTYPE, QueueFullError, check, lib, text
from ._native import Model
from .pictures import prepare_all

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Answer", "Pool", "PoolContextStats", "PoolDevice", "PoolStats", "Request"]

_RETRY_SECONDS = 0.001
_DRAIN_SECONDS = 0.05  # close() waits for calls under way, so none may last


@dataclass(frozen=True)
class PoolDevice:
    """Contexts of one kind in a pool. Options are those of Context."""

    device: str = "auto"
    device_index: int = 0
    precision: str = "auto"
    input_size: Optional[Tuple[int, int]] = None
    max_batch: int = 0  #: 0: the pool's
    n_threads: int = 0  #: of each context; 0: the cores, shared among the contexts
    max_candidates: int = 0
    contexts: int = 0  #: 0: two on CUDA, so that one uploads while the other computes, and one on the CPU


@dataclass(frozen=True)
class Answer:
    """How a request was answered."""

    ticket: int  #: the request's number in its pool: from 1, rising, never used again
    cuts: int  #: what was left out: CUT_OBJECTS, CUT_CANDIDATES
    context: int  #: index of the context that ran it last, as in Pool.contexts; -1: none
    batch: int  #: pictures in that run
    attempts: int  #: runs that it took part in; more than 1 after failures of devices
    wait_ms: float  #: from submission to the beginning of its last run, or to its end unrun
    run_ms: float  #: of that run


@dataclass(frozen=True)
class PoolStats:
    """Counts and times since a pool was made, all of one moment."""

    n_contexts: int
    n_in_service: int
    capacity: int
    n_held: int  #: requests in the pool: waiting and running
    n_waiting: int
    n_running: int
    max_waiting: int  #: most that ever waited
    draining: bool
    n_submitted: int
    n_rejected: int  #: refused because the pool was full
    n_succeeded: int
    n_failed: int
    n_cancelled: int
    n_expired: int  #: their deadlines passed
    n_retried: int  #: put back into the queue after a device failed
    n_runs: int
    wait_ms: float  #: from submission to run: sum over requests
    max_wait_ms: float
    run_ms: float  #: sum over runs
    max_run_ms: float
    batches: Dict[int, int]  #: runs by their number of pictures
    waits: Tuple[int, ...]  #: [i]: requests that waited for less than 2^i microseconds, and not less than half of that
    runs: Tuple[int, ...]  #: runs by the time they took, likewise


@dataclass(frozen=True)
class PoolContextStats:
    """One context of a pool."""

    device: str
    device_index: int
    device_name: str
    max_batch: int
    in_service: bool  #: False: it, or another context of its GPU, has failed
    n_running: int  #: pictures in its present run
    last_error: int  #: status of its last failed run; 0: none
    n_runs: int
    n_pictures: int
    n_failures: int
    run_ms: float  #: spent in runs


def _too_late(_: int) -> bool:
    return False


class Request(Future[Detections]):
    """A picture on its way: a concurrent.futures.Future of an array of OBJECT_DTYPE.

    result() waits and returns the objects or raises Error, DeadlineError or CancelledError. cancel() succeeds as long
    as the picture waits. With asyncio: `await asyncio.wrap_future(request)`. Functions of add_done_callback run on the
    pool's threads and hold a device up as long as they take.
    """

    def __init__(self, withdraw: Callable[[int], bool], kept: Tuple[Any, ...], objects: Detections) -> None:
        super().__init__()
        self._withdraw, self._kept, self._objects = withdraw, kept, objects
        self._ticket = c_uint64()
        self.answer: Optional[Answer] = None  #: how it went; None until then

    def cancel(self) -> bool:
        """Takes the request out of the queue; False when it runs or has been answered."""
        if self._ticket.value and self._withdraw(self._ticket.value):
            super().cancel()
        return self.cancelled()

    def _take(self, raw: _library.Answer) -> None:
        self.answer = Answer(
            raw.ticket, raw.cuts, raw.context, raw.batch, raw.n_attempts, raw.wait_us / 1e3, raw.run_us / 1e3
        )
        self._kept, self._withdraw = (), _too_late  # the picture is the caller's again, and nothing holds the pool
        if raw.status == _library.Error.CANCELLED:
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        self.set_running_or_notify_cancel()
        if raw.status == 0:
            self.set_result(self._objects[: raw.n_objects].copy())
        else:
            self.set_exception(_library.error_of(raw.status, text(raw.message)))


def _make_callback(requests: Dict[int, Request]) -> Any:
    def answered(key: int, raw: Any) -> None:
        requests.pop(key)._take(raw.contents)

    return _library.ANSWER_FUNCTION(answered)


def _destroy(callback: Any, handle: c_void_p) -> None:
    """Ends a pool. Where its last reference goes away inside one of its own callbacks, another thread has to do it."""
    if lib.det_pool_wait(handle, 0, 0, None) == _library.Error.BUSY:
        threading.Thread(target=_destroy, args=(callback, handle)).start()
    else:
        lib.det_pool_destroy(handle)


def _device_structs(devices: Sequence[PoolDevice]) -> Tuple[Any, List[Any]]:
    """The array of det_pool_device, and the options that it points to."""
    kept = []
    array = (_library.PoolDevice * len(devices))()
    for entry, device in zip(array, devices):
        options = _native._context_options(
            device.device,
            device.device_index,
            device.precision,
            device.input_size,
            device.max_batch,
            device.n_threads,
            device.max_candidates,
        )
        kept.append(options)
        entry.options = ctypes.pointer(options)
        entry.n_contexts = device.contexts
    return array, kept


class Pool(_native._Handle):
    """Contexts on one or more devices behind one queue. Any number of threads may use it.

    devices       what contexts there are; or name one device by Context's options: Pool(model, device="cpu",
                  n_threads=1, contexts=2)
    max_batch     most pictures in one run
    max_delay     seconds that a request at most waits for others to fill a batch while a context is free
    capacity      most requests in the pool; 0: four times what all contexts take in one run, at least 64
    max_objects   most objects of a picture, whatever requests ask for; 0: the model's
    max_attempts  runs on failing devices until a request is given up; 0: 3

    At the end of a `with` everything that was submitted is answered; after an exception, what waits is cancelled. The
    same by drain() and close().
    """

    def __init__(
        self,
        model: Model,
        devices: Optional[Sequence[PoolDevice]] = None,
        *,
        max_batch: int = 8,
        max_delay: float = 0.0,
        capacity: int = 0,
        max_objects: int = 0,
        max_attempts: int = 0,
        **device: Any,
    ) -> None:
        if devices is not None and device:
            raise ValueError(f"devices and {', '.join(device)}: say one or the other")
        array, kept = _device_structs([PoolDevice(**device)] if devices is None else devices)
        options = _library.defaults(_library.PoolOptions, lib.det_pool_options_init_sized)
        options.devices, options.n_devices = array, len(array)
        options.max_batch, options.max_delay_us = max_batch, _microseconds(max_delay, "max_delay")
        options.capacity, options.max_objects, options.max_attempts = capacity, max_objects, max_attempts
        handle = c_void_p()
        self._max_objects = model.info.max_objects
        with model._call() as opened:
            check(lib.det_pool_create(opened, byref(options), byref(handle)))
        del kept
        self._requests: Dict[int, Request] = {}
        self._callback = _make_callback(self._requests)
        super().__init__(handle, functools.partial(_destroy, self._callback))
        self._keys = itertools.count(1)
        self._capacity = self.stats.capacity
        # Pictures in a GPU's memory are for pools whose contexts are all on GPUs; the library checks that it is one.
        self._device = "cuda" if {context.device for context in self.contexts} == {"cuda"} else "cpu"

    def submit(
        self,
        picture: Picture,
        *,
        priority: int = 0,
        deadline: Optional[float] = None,
        score: Optional[float] = None,
        iou: Optional[float] = None,
        class_scores: Optional[Sequence[float]] = None,
        class_enabled: Optional[Sequence[bool]] = None,
        class_agnostic: bool = False,
        multi_label: Optional[bool] = None,
        max_objects: Optional[int] = None,
        format: str = "rgb",
    ) -> Request:
        """Queues one picture and returns at once.

        picture   as for Context.detect; it must not change until the request is done
        priority  -4 to 4; a higher one runs first, always
        deadline  seconds; a request that has not begun to run by then fails with DeadlineError
        The others are Context.detect's. Requests of equal thresholds share runs.

        Raises QueueFullError when the pool is full, ClosedError after drain(), Error when no device is left.
        """
        ((image, array),), _ = prepare_all([picture], format, self._device)
        room = _native.room_for(max_objects, self._max_objects)
        thresholds, _arrays = _native._thresholds(score, iou, class_scores, class_enabled, multi_label, room)
        thresholds.class_agnostic = int(class_agnostic)
        objects = np.zeros(max(room, 1), OBJECT_DTYPE)
        raw = _library.defaults(_library.Request, lib.det_request_init_sized)
        raw.objects, raw.max_objects = objects.ctypes.data, len(objects)
        raw.priority, raw.thresholds = priority, ctypes.pointer(thresholds)
        raw.deadline_us = 0 if deadline is None else max(1, _microseconds(deadline, "deadline"))
        request = Request(self._withdraw, (array,), objects)
        key = next(self._keys)
        with self._call() as pool:
            self._requests[key] = request
            status = lib.det_pool_submit(pool, byref(image), byref(raw), self._callback, key, byref(request._ticket))
            if status != 0:
                del self._requests[key]
            check(status)
        return request

    def map(self, pictures: Iterable[Picture], **options: "Unpack[SubmitOptions]") -> Iterator[Detections]:
        """The objects of each picture, in order. Takes from `pictures` as the pool has room, so there may be endlessly
        many; options are submit's. The first failure is raised, and what is still open then is cancelled."""
        waiting: Deque[Request] = collections.deque()
        try:
            for picture in pictures:
                request = self._try_submit(picture, options) if len(waiting) < self._capacity else None
                while request is None:
                    if waiting:
                        yield waiting.popleft().result()
                    else:
                        time.sleep(_RETRY_SECONDS)  # others fill the pool
                    request = self._try_submit(picture, options)
                waiting.append(request)
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for request in waiting:
                request.cancel()

    def _try_submit(self, picture: Picture, options: SubmitOptions) -> Optional[Request]:
        try:
            return self.submit(picture, **options)
        except QueueFullError:
            return None

    def _withdraw(self, ticket: int) -> bool:
        try:
            with self._call() as pool:
                return bool(lib.det_pool_cancel(pool, ticket) == 0)
        except ValueError:  # closed
            return False

    def drain(self, timeout: Optional[float] = None) -> bool:
        """Refuses requests from now on and waits until all that were taken are answered; False when that took longer
        than `timeout` seconds (it goes on; call again). Another thread's close() ends it: what waits is cancelled."""
        self._check_open()
        end = None if timeout is None else time.monotonic() + _microseconds(timeout, "timeout") / 1e6
        while not self._closed:
            left = _DRAIN_SECONDS if end is None else min(_DRAIN_SECONDS, max(0.0, end - time.monotonic()))
            try:
                with self._call() as pool:
                    status = lib.det_pool_drain(pool, _microseconds(left, "timeout"))
            except ValueError:  # closed meanwhile
                break
            if status != _library.Error.TIMEOUT:
                check(status)
                break
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None and not self._closed:
            self.drain()
        self.close()

    @property
    def stats(self) -> PoolStats:
        """Counts and times so far."""
        with self._call() as pool:
            raw = _library.filled(_library.PoolStats, lib.det_pool_get_stats, pool)
        names = [field[0] for field in raw._fields_ if field[0].startswith(("n_", "max_waiting", "capacity"))]
        return PoolStats(
            draining=bool(raw.draining),
            wait_ms=raw.wait_us / 1e3,
            max_wait_ms=raw.max_wait_us / 1e3,
            run_ms=raw.run_us / 1e3,
            max_run_ms=raw.max_run_us / 1e3,
            batches={n: count for n, count in enumerate(raw.batches) if count},
            waits=tuple(raw.waits),
            runs=tuple(raw.runs),
            **{name: getattr(raw, name) for name in names},
        )

    @property
    def contexts(self) -> Tuple[PoolContextStats, ...]:
        """The contexts, in the order of the devices."""
        result = []
        with self._call() as pool:
            for index in range(self.stats.n_contexts):
                raw = _library.sized(_library.PoolContextStats)
                check(lib.det_pool_get_context_stats(pool, index, byref(raw)))
                result.append(
                    PoolContextStats(
                        device=_library.DEVICES[raw.device],
                        device_index=raw.device_index,
                        device_name=text(raw.device_name),
                        max_batch=raw.max_batch,
                        in_service=bool(raw.in_service),
                        n_running=raw.n_running,
                        last_error=raw.last_error,
                        n_runs=raw.n_runs,
                        n_pictures=raw.n_pictures,
                        n_failures=raw.n_failures,
                        run_ms=raw.run_us / 1e3,
                    )
                )
        return tuple(result)


def _microseconds(seconds: float, what: str) -> int:
    if not 0 <= seconds < 1e9:
        raise ValueError(f"{what} is {seconds} seconds; 0 to a billion is allowed")
    return round(seconds * 1e6)
