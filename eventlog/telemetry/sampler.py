"""Samples a process while it runs and pushes the samples, in threads of its own: the caller waits for neither."""

import asyncio
import contextlib
import inspect
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack

from ..errors import BackendUnavailable, InvalidInput, LogClosed, NotFound
from ..model.events import checked_label
from ..model.numbers import checked_integer
from ..plan.forks import OfOneProcess
from ..plan.threads import Waiters
from ..runs.given import refuse_async_log, refuse_blocking_log
from ..runs.records import checked_run
from .host import HostMetrics
from .sample import OLDEST_MS
from .terms import MOST_SAMPLES

_log = logging.getLogger("eventlog")

_FIRST_S = 0.1
_RETRY_S = 0.5
_BATCH = 100
_ANSWER_S = 30.0
DEFAULT_INTERVAL_S = 1.0
DEFAULT_BUFFER = 600
STOP_S = 2.0

Stage = str | Callable[[], str | None] | None
"""The stage of a sample: a name, or a function that returns the current one when the sample is taken."""


Push = Callable[..., Sequence[object]]
"""`push_telemetry` of a log. An answer without samples means that none are kept."""
AsyncPush = Callable[..., Coroutine[Any, Any, Sequence[object]]]


class Sampled(Protocol):
    """A log whose runs can be sampled."""

    @property
    def push_telemetry(self) -> Push: ...


class AsyncSampled(Protocol):
    """The asyncio twin of `Sampled`."""

    @property
    def push_telemetry(self) -> AsyncPush: ...


class SamplerOptions(TypedDict, total=False):
    """What `sample_run` and `asample_run` may be given; see `TelemetrySampler`."""

    pid: int | None
    interval_s: float
    stage: Stage
    source: str | None
    capacity: int | None


@dataclass(frozen=True, slots=True)
class SamplerStats:
    """Counts until now. `taken` = `pushed` + `dropped` + `waiting`; `dropped` were older than there was room for, or
    refused, or given up at the end. `problem` is why samples do not get into the log, or else why none are taken, or
    why they have no stage; "" while all is well. What was in the way at the end stays.
    """

    taken: int
    pushed: int
    dropped: int
    waiting: int
    problem: str


class TelemetrySampler(OfOneProcess):
    """Takes a sample of `pid` (None: this process) and its descendants every `interval_s` and pushes it to `run_id`.

    A function as `stage` is called when a sample is taken. While the log is away the newest `buffer` samples wait for
    it and older ones are dropped. A run that does not exist yet is waited for. With a `capacity` of 0 nothing is
    sampled, and sampling ends where the log keeps no samples. Use it with `with`, or `start` and `stop`.

    What goes wrong while it samples is never raised: it is in `stats()`, and logged as a warning, once for each kind.
    Raises `InvalidInput` for wrong arguments.
    """

    def __init__(
        self,
        push: Push,
        run_id: str,
        *,
        pid: int | None = None,
        interval_s: float = DEFAULT_INTERVAL_S,
        stage: Stage = None,
        source: str | None = None,
        capacity: int | None = None,
        buffer: int = DEFAULT_BUFFER,
        metrics: Callable[[], Mapping[str, int | float] | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < interval_s <= 3600:
            raise InvalidInput("interval_s", f"{interval_s!r} is not a number of seconds above 0, up to 3600")
        if buffer < 2:
            raise InvalidInput("buffer", f"{buffer!r} is not a number of samples from 2 on")
        if inspect.iscoroutinefunction(push):
            raise InvalidInput("push", "is for asyncio: use asample_run")
        self._push = push
        self._run_id = checked_run(run_id)
        self._pid = None if pid is None else _checked_pid(pid)
        self._interval_s = interval_s
        self._stage = stage if stage is None or callable(stage) else checked_label("stage", stage)
        self._source = None if source is None else checked_label("source", source)
        self._capacity = None if capacity is None else checked_integer("capacity", capacity, 0, MOST_SAMPLES)
        self._metrics = metrics
        self._clock = clock
        self._bound = buffer
        self._changed = Waiters()
        self._unstarted = [True]
        self._waiting: deque[_Taken] = deque()
        self._batch: _Batch | None = None
        self._taken = self._pushed = self._dropped = 0
        self._problem = self._untaken = self._unstaged = ""
        self._warned: set[str] = set()
        self._stopping = self._sampled_all = self._abandoned = False
        self._threads: list[threading.Thread] = []
        self._left_to_stop: tuple[Callable[[], None], ...] = ()
        self._process = os.getpid()

    def start(self) -> None:
        """Begin. The first sample comes after an instant, the next after `interval_s`. Idempotent."""
        if self._stopping or self._capacity == 0 or not self._unstarted:
            return
        try:
            self._unstarted.pop()
        except IndexError:
            return  # another thread is about to
        self._process = os.getpid()
        if self._metrics is None:
            self._metrics = HostMetrics(self._pid).sample
        self._threads = [
            threading.Thread(target=work, name=f"eventlog-telemetry-{name}", daemon=True)
            for name, work in (("sampler", self._keep_sampling), ("pusher", self._keep_pushing))
        ]
        for thread, work in zip(self._threads, (self._keep_sampling, self._keep_pushing), strict=True):
            try:
                thread.start()
            except RuntimeError:
                # None can be had, as the interpreter ends.
                self._left_to_stop += (work,)

    def sample(self) -> bool:
        """Take a sample now, in this thread, besides those of its own. False if there is nothing to take."""
        metrics = self._metrics
        if metrics is None or self._abandoned or self._process != os.getpid():
            return False
        try:
            host = metrics()
        except Exception as error:
            self._take_none(f"no sample: {error!r}")
            return False
        if host is None:
            if self._pid is not None:
                self._take_none(f"process {self._pid} is gone")
            return False
        labels = {"stage_name": self._current_stage(), "source": self._source}
        sample = {"host": dict(host), **{name: label for name, label in labels.items() if label is not None}}
        taken = (_Taken(self._clock(), sample),)
        # No call in between, after which an interrupt might leave one without the other.
        self._untaken = ""
        self._taken += 1
        self._waiting += taken
        self._make_room()
        self._changed.wake()
        return True

    def _take_none(self, why: str) -> None:
        self._untaken = why
        # A process that was sampled and has ended is no reason to warn.
        if not self._taken:
            self._warn_once("untaken", f"nothing is sampled: {why}")

    def _current_stage(self) -> str | None:
        if not callable(self._stage):
            return self._stage
        try:
            stage = self._stage()
            found = None if stage is None else checked_label("stage", stage)
        except Exception as error:
            self._unstaged = f"no stage: {error!r}"
            self._warn_once("unstaged", f"samples have no stage, as asking for it failed: {error!r}")
            return None
        self._unstaged = ""
        return found

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Take a last sample, push what waits, and end, all within `timeout_s`. Idempotent, and never raises.

        Nothing happens in a forked child: the threads are its parent's. In one of these, by a finalizer say, it waits
        for the other alone.
        """
        if self._process != os.getpid():
            return
        deadline = time.monotonic() + timeout_s
        self._stopping = True
        dropped = self._dropped
        self._changed.wake()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(deadline - time.monotonic(), 0.0))
        left, self._left_to_stop = self._left_to_stop, ()
        for work in left:
            work()
        # A batch that is under way may still arrive, but nothing waits for it.
        lost = self._dropped - dropped + self._held()
        why = self._problem or "the log does not answer"
        if lost:
            self._problem = why
        self._give_up()
        if lost and "ended" not in self._warned:
            self._warn_once("lost", f"{lost} samples are lost, as sampling was stopped: {why}")

    def stats(self) -> SamplerStats:
        """See `SamplerStats`."""
        problem = self._problem or self._untaken or self._unstaged
        pushed, dropped, taken = self._pushed, self._dropped, self._taken
        return SamplerStats(taken, pushed, dropped, taken - pushed - dropped, problem)

    @property
    def running(self) -> bool:
        """True while it samples or pushes."""
        return any(thread.is_alive() for thread in self._threads)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _keep_sampling(self) -> None:
        next_s = time.monotonic() + min(self._interval_s, _FIRST_S)
        while not self._stopped_before(next_s):
            self.sample()
            # Where sampling took longer than the interval, what was missed is not made up for.
            next_s = max(next_s + self._interval_s, time.monotonic())
        self.sample()
        self._sampled_all = True
        self._changed.wake()

    def _stopped_before(self, moment_s: float) -> bool:
        return self._changed.wait_for(lambda: self._stopping or self._abandoned, max(moment_s - time.monotonic(), 0.0))

    def _keep_pushing(self) -> None:
        while (batch := self._next_batch()) is not None:
            if not self._settle(batch):
                self._changed.wait_for(lambda: self._abandoned, _RETRY_S)
        if self._batch is not None:
            self._lose(self._batch, self._problem)

    def _next_batch(self) -> "_Batch | None":
        """What is to be pushed next: a batch whose outcome is unknown as it was. None at the end."""
        self._changed.wait_for(lambda: self._batch or self._waiting or self._sampled_all or self._abandoned)
        if self._abandoned or not (self._batch or self._waiting):
            return None
        if self._batch is None:
            # A batch whose outcome is unknown has to stay as it is: it leaves room for what is newer.
            most = min(_BATCH, self._bound // 2)
            self._batch = _Batch(self._oldest(most), uuid.uuid4().hex)
        return self._batch

    def _oldest(self, most: int) -> list["_Taken"]:
        oldest: list[_Taken] = []
        # Others may let some go meanwhile.
        with contextlib.suppress(IndexError):
            while len(oldest) < most:
                oldest.append(self._waiting.popleft())
        return oldest

    def _settle(self, batch: "_Batch") -> bool:
        """Push a batch; False if it is to be tried again after a while."""
        try:
            kept = self._push(
                self._run_id, batch.samples(self._clock()), capacity=self._capacity, idempotency_key=batch.key
            )
        except NotFound as error:
            return self._lose(batch, error) if self._stopping else self._put_back(batch, error)
        except InvalidInput as error:
            self._warn_once("refused", f"{len(batch.taken)} samples were refused: {error}")
            return self._lose(batch, error)
        except LogClosed as error:
            return self._end(batch, error)
        except BackendUnavailable as error:
            self._problem = str(error)
            return False
        except Exception as error:
            _log.warning("telemetry of run %s: %r", self._run_id, error)
            return self._lose(batch, error)
        if not kept:
            return self._end(batch, "the log keeps no samples of this run")
        self._batch = None
        self._pushed += len(batch.taken)
        self._problem = ""
        return True

    def _put_back(self, batch: "_Batch", why: Exception) -> bool:
        """Nothing of the batch was stored: its samples wait again."""
        self._batch = None
        self._waiting.extendleft(reversed(batch.taken))
        self._make_room()
        self._problem = str(why)
        return False

    def _lose(self, batch: "_Batch", why: object) -> bool:
        self._batch = None
        self._dropped += len(batch.taken)
        self._problem = str(why)
        return True

    def _end(self, batch: "_Batch", why: object) -> bool:
        self._warn_once("ended", f"sampling ends: {why}")
        self._lose(batch, why)
        self._give_up()
        return True

    def _make_room(self) -> None:
        while self._held() > self._bound and self._drop_oldest():
            self._warn_once("full", "samples are dropped, as the log does not take them")

    def _drop_oldest(self) -> bool:
        try:
            del self._waiting[0]
            self._dropped += 1
        except IndexError:
            return False
        return True

    def _held(self) -> int:
        return len(self._waiting) + (0 if self._batch is None else len(self._batch.taken))

    def _warn_once(self, kind: str, what: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning("telemetry of run %s: %s", self._run_id, what)

    def _give_up(self) -> None:
        self._abandoned = True
        while self._drop_oldest():
            pass
        self._changed.wake()


@dataclass(frozen=True, slots=True)
class _Taken:
    at_s: float
    sample: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Batch:
    taken: list[_Taken]
    key: str

    def samples(self, now_s: float) -> list[dict[str, Any]]:
        """The samples, each with its age at `now_s`."""
        return [
            {**one.sample, "age_ms": min(max(round((now_s - one.at_s) * 1000), 0), OLDEST_MS)} for one in self.taken
        ]


def sample_run(log: Sampled, run_id: str, **options: Unpack[SamplerOptions]) -> TelemetrySampler:
    """Sample this process, or `pid`, into a run of `log` while a block runs: `with sample_run(log, "r1", stage="a"):`

    Where telemetry is off, for the log or by a `capacity` of 0, nothing is sampled. Raises `InvalidInput` at once for a
    wrong run id, process, stage or capacity, and for an asyncio log.
    """
    refuse_async_log(log, "asample_run")
    return TelemetrySampler(log.push_telemetry, run_id, **_with_capacity(log, options))


def asample_run(
    log: AsyncSampled, run_id: str, **options: Unpack[SamplerOptions]
) -> AbstractAsyncContextManager[TelemetrySampler]:
    """The asyncio twin of `sample_run`: samples are taken in a thread, and pushed by the running event loop."""
    refuse_blocking_log(log, "sample_run")
    push = _PushOn(asyncio.get_running_loop(), log.push_telemetry)
    return _sampled(TelemetrySampler(push, run_id, **_with_capacity(log, options)))


@asynccontextmanager
async def _sampled(sampler: TelemetrySampler) -> AsyncIterator[TelemetrySampler]:
    # Reading the first state of a process would block the loop for a moment.
    await asyncio.to_thread(sampler.start)
    try:
        yield sampler
    finally:
        await asyncio.to_thread(sampler.stop)


class _PushOn:
    """The push of an asyncio log as a blocking call, for the pushing thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, push: AsyncPush) -> None:
        self._loop = loop
        self._push = push

    def __call__(self, *args: Any, **kwargs: Any) -> Sequence[object]:
        work = self._push(*args, **kwargs)
        try:
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise LogClosed("the event loop was closed") from error
        try:
            return answer.result(_ANSWER_S)
        except TimeoutError as error:
            answer.cancel()
            raise BackendUnavailable("the event loop is too busy to push", outcome_unknown=True) from error


def _checked_pid(pid: object) -> int:
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        raise InvalidInput("pid", f"{pid!r} is not the id of a process")
    return pid


def _with_capacity(log: object, options: SamplerOptions) -> SamplerOptions:
    """With a capacity of 0 where telemetry is off. A log behind a server does not know what the server keeps."""
    if options.get("capacity") is None and getattr(log, "telemetry_capacity", None) == 0:
        return {**options, "capacity": 0}
    return options
