"""A process that hands events over to a sink and ends, in one of several ways. It says what it counted.

Run as `python -m tests.faults.dispatching <scenario> [arguments]`.
"""

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from eventlog.dispatch.dispatchers import AsyncEventDispatcher, EventDispatcher

_never = threading.Event()


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hang(**given: Any) -> None:
    _never.wait()


def speak(**given: Any) -> None:
    say("delivered", given["event_name"])


def burst(drain_s: str) -> None:
    """Ten thousand events for a sink that hangs, and no word of goodbye."""
    dispatcher = EventDispatcher(hang, drain_timeout_s=float(drain_s))
    for n in range(10_000):
        dispatcher.dispatch(event_name="a", data={"n": n})
    stats = dispatcher.stats()
    say(stats.dispatched, stats.in_flight, stats.dropped["full"])
    atexit.register(lambda: say("exit"))


def many(drain_s: str) -> None:
    """Several dispatchers, all with a sink that hangs."""
    kept = [EventDispatcher(hang, drain_timeout_s=float(drain_s)) for _ in range(20)]
    for dispatcher in kept:
        dispatcher.dispatch(event_name="a")
    sys.modules["kept"] = kept  # type: ignore[assignment]


def last_words() -> None:
    """A handful of events just before the end."""
    dispatcher = EventDispatcher(speak, max_workers=1)
    for name in ("a", "b", "run.finished"):
        dispatcher.dispatch(event_name=name)


def coroutines(drain_s: str) -> None:
    """A coroutine function as the sink, in a child too; at the end one of its calls hangs."""

    async def sink(**given: Any) -> None:
        speak(**given)
        if given["event_name"] == "hangs":
            try:
                await asyncio.sleep(60)
            finally:
                say("cleaned up")

    dispatcher = EventDispatcher(sink, max_workers=1, drain_timeout_s=float(drain_s))
    dispatcher.dispatch(event_name="parent")
    if os.fork() == 0:
        dispatcher.dispatch(event_name="child")
        say("drained", dispatcher.shutdown(timeout_s=20), dispatcher.stats().delivered)
        os._exit(0)
    os.wait()
    dispatcher.dispatch(event_name="hangs")


def forgotten() -> None:
    """The dispatcher itself is gone when the process ends."""
    last_words()
    gc.collect()


def closed_at_exit() -> None:
    """What the sink needs is closed at exit by a hook that was registered before the dispatcher was made."""
    is_open = [True]
    atexit.register(is_open.clear)

    def sink(**given: Any) -> None:
        say("delivered" if is_open else "too late", given["event_name"])

    dispatcher = EventDispatcher(sink, max_workers=1)
    for name in "abc":
        dispatcher.dispatch(event_name=name)


def at_exit() -> None:
    """Events that are handed over while the process ends, before and after the dispatcher did."""
    atexit.register(lambda: dispatcher.dispatch(event_name="after"))
    dispatcher = EventDispatcher(speak, max_workers=1)
    dispatcher.dispatch(event_name="first")
    atexit.register(lambda: dispatcher.dispatch(event_name="before"))


def terminated() -> None:
    """SIGTERM, whose handler shuts down and leaves."""
    dispatcher = EventDispatcher(speak, max_workers=1)

    def leave(signum: int, frame: object) -> None:
        dispatcher.dispatch(event_name="run.cancelled")
        say("drained", dispatcher.shutdown())
        sys.exit(7)

    signal.signal(signal.SIGTERM, leave)
    say("ready")
    while True:
        dispatcher.dispatch(event_name="a")


def forked() -> None:
    """A child that is forked in the middle, with calls of its own, while another thread hands over as well."""
    gate = threading.Event()

    def sink(**given: Any) -> None:
        gate.wait(20)
        speak(**given)

    dispatcher = EventDispatcher(sink, max_workers=2, inflight_oversubscription=100)
    for n in range(3):
        dispatcher.dispatch(event_name=f"parent{n}")
    ending = threading.Event()
    other = EventDispatcher(lambda **given: None)

    def keep_busy() -> None:
        while not ending.is_set():
            other.dispatch(event_name="x")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    for child in range(5):
        if os.fork() == 0:
            assert dispatcher.stats().dispatched == 0
            gate.set()
            dispatcher.dispatch(event_name=f"child{child}")
            other.dispatch(event_name="x")
            drained = dispatcher.shutdown() and other.shutdown()
            say("drained", drained, dispatcher.stats().delivered)
            os._exit(0)
    for _ in range(5):
        os.wait()
    ending.set()
    busy.join()
    gate.set()


def forked_by_the_sink() -> None:
    """A sink that forks: the child goes on in the worker's place and is to deliver nothing."""

    def sink(**given: Any) -> None:
        if given["event_name"] == "fork":
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            return
        speak(**given)

    dispatcher = EventDispatcher(sink, max_workers=1)
    for name in ("fork", "a", "b"):
        dispatcher.dispatch(event_name=name)


def forked_with_a_loop() -> None:
    """Children, forked while another thread hands over to an asyncio dispatcher, that use it on loops of their own."""

    async def sink(**given: Any) -> None:
        if given["event_name"] != "busy":
            speak(**given)

    async def child(number: int) -> None:
        async with dispatcher:
            dispatcher.dispatch(event_name=f"child{number}")

    async def parent() -> None:
        async with dispatcher:
            busy.start()
            await asyncio.sleep(0.01)
            await asyncio.to_thread(fork)
            ending.set()
            await asyncio.to_thread(busy.join)

    def keep_busy() -> None:
        while not ending.is_set():
            dispatcher.dispatch(event_name="busy")

    def fork() -> None:
        for number in range(5):
            if os.fork() == 0:
                assert dispatcher.stats().dispatched == 0
                asyncio.run(child(number))
                say("counted", dispatcher.stats().delivered, dispatcher.stats().dispatched)
                os._exit(0)
        for _ in range(5):
            os.wait()

    dispatcher = AsyncEventDispatcher(sink)
    ending = threading.Event()
    busy = threading.Thread(target=keep_busy)
    asyncio.run(parent())


def crowded() -> None:
    """No thread can be started but the first, as when the interpreter ends just after an event was handed over."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def only_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    threading.Thread.start = only_one  # type: ignore[method-assign]
    last_words()


def threadless() -> None:
    """No thread can be started at all."""

    def never(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threading.Thread.start = never  # type: ignore[method-assign]
    dispatcher = EventDispatcher(speak, drain_timeout_s=60)
    for name in "ab":
        dispatcher.dispatch(event_name=name)
    say("drained", dispatcher.shutdown(), dispatcher.stats().dropped["shutdown"])


SCENARIOS: tuple[Callable[..., None], ...] = (
    burst,
    many,
    last_words,
    coroutines,
    forgotten,
    closed_at_exit,
    at_exit,
    terminated,
    forked,
    forked_by_the_sink,
    forked_with_a_loop,
    crowded,
    threadless,
)

if __name__ == "__main__":
    {scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[1]](*sys.argv[2:])
