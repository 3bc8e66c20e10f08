"""Asking what an application depends on: all at once, never for longer than the limit.

A check is any callable without arguments, plain or ``async``. Whatever it raises is the reason
shown; ``False`` is down as well; any other answer is up. A check that hangs is given up and not
asked again before it has come back, so a frozen dependency costs one thread or one task, not one
for every probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib import request

Check = Callable[[], Any]

REASON = 200
"""Characters of a reason that are kept."""
_CREDENTIALS = re.compile(r"(\w://)[^/\s]*@")


@dataclass(frozen=True, slots=True)
class State:
    """What asking one dependency gave: ``reason`` is "" when it is up; ``latency`` in seconds."""

    reason: str
    latency: float

    @property
    def up(self) -> bool:
        return not self.reason

    def public(self, with_reason: bool) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = {
            "status": "up" if self.up else "down",
            "latency": round(self.latency, 4),
        }
        return found | ({"reason": self.reason} if self.reason and with_reason else {})


States = Mapping[str, State]


@dataclass(frozen=True, slots=True)
class Asking:
    """``timeout``: seconds for each answer; ``fresh``: seconds for which answers are used again, so
    that probing often costs nothing."""

    timeout: float = 1.0
    fresh: float = 0.5


ASKING = Asking()


class Checks:
    """What an application depends on, by name."""

    def __init__(self, checks: Mapping[str, Check], asking: Asking = ASKING) -> None:
        self._checks = {name: _Asked(check, asking.timeout) for name, check in checks.items()}
        self._fresh = asking.fresh
        self._known: States = {}
        self._at = float("-inf")
        self._look: asyncio.Task[States] | None = None
        self._turn = threading.Lock()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._at <= self._fresh

    async def ask(self) -> States:
        """From an event loop. Askers at the same time share one look."""
        if self._is_fresh():
            return self._known
        look = self._look
        if look is None or look.done() or look.get_loop() is not asyncio.get_running_loop():
            look = self._look = asyncio.create_task(self._ask())
        # Shielded: a prober that hangs up must not take the answer away from the others.
        return await asyncio.shield(look)

    async def _ask(self) -> States:
        found = await asyncio.gather(*(one.ask() for one in self._checks.values()))
        self._known = dict(zip(self._checks, found, strict=True))
        self._at = time.monotonic()
        return self._known

    def ask_blocking(self) -> States:
        """From a thread. Askers at the same time share one look."""
        with self._turn:
            if not self._is_fresh():
                begun = [(name, one.begin()) for name, one in self._checks.items()]
                self._known = {name: answer() for name, answer in begun}
                self._at = time.monotonic()
            return self._known


class _Asked:
    """One dependency, and the question to it that is still open, if any."""

    def __init__(self, check: Check, timeout: float) -> None:
        self._check, self._timeout = check, timeout
        self._task: asyncio.Task[State] | None = None
        self._thread: _Thread | None = None
        self._is_async = inspect.iscoroutinefunction(check)

    async def ask(self) -> State:
        """From an event loop, which awaits what is ``async``; all else gets a thread."""
        loop = asyncio.get_running_loop()
        open_task = self._task is not None and not self._task.done()
        if open_task and self._task is not None and self._task.get_loop() is loop:
            return self._hangs()
        question = _plainly(self._check) if self._is_async else self._by_thread()
        self._task = task = asyncio.create_task(_judged(question))
        done, _ = await asyncio.wait({task}, timeout=self._timeout)
        if done:
            return task.result()
        # Not awaited: a driver whose server is frozen takes its time even to be cancelled.
        task.cancel()
        return self._hangs()

    async def _by_thread(self) -> Any:
        if self._thread is not None and not self._thread.done.is_set():
            raise TimeoutError(self._hangs().reason)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be gone when it comes back
                loop.call_soon_threadsafe(done.set)

        self._thread = thread = _Thread(self._check, tell)
        await done.wait()
        answer = thread.result()
        if inspect.isawaitable(answer):
            # Plain in name only (a lambda, a driver's method): no thread is needed next time.
            self._is_async = True
            return await answer
        return answer

    def begin(self) -> Callable[[], State]:
        """Ask in a thread of its own, loop and all; returns what waits for the answer."""
        if self._thread is not None and not self._thread.done.is_set():
            return self._hangs

        self._thread = thread = _Thread(lambda: _judged_here(self._check), lambda: None)
        deadline = time.monotonic() + self._timeout

        def answer() -> State:
            known = thread.done.wait(max(0.0, deadline - time.monotonic()))
            return thread.result() if known else self._hangs()

        return answer

    def _hangs(self) -> State:
        return State(f"no answer within {self._timeout:g} s", self._timeout)


class _Thread:
    """A call in a daemon thread: one that never returns must not keep the process from ending."""

    def __init__(self, call: Callable[[], Any], then: Callable[[], None]) -> None:
        self.done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None

        def run() -> None:
            try:
                self._value = call()
            except BaseException as error:  # whoever asks for the result gets it
                self._error = error
            self.done.set()
            then()

        threading.Thread(target=run, name="gapless-check", daemon=True).start()

    def result(self) -> Any:
        """What the call returned or raised; only once ``done``."""
        if self._error is not None:
            raise self._error
        return self._value


async def _plainly(check: Check) -> Any:
    answer = check()
    return await answer if inspect.isawaitable(answer) else answer


async def _judged(question: Awaitable[Any]) -> State:
    began = time.monotonic()
    try:
        reason = "the check says no" if await question is False else ""
    except Exception as error:  # whatever a driver raises is the reason to show
        reason = _text(error)
    return State(reason, time.monotonic() - began)


def _judged_here(check: Check) -> State:
    """Within a thread; in a loop only what needs one (Django refuses to work in a loop)."""
    began = time.monotonic()
    try:
        answer = check()
        if inspect.isawaitable(answer):
            return asyncio.run(_judged(answer))
        reason = "the check says no" if answer is False else ""
    except Exception as error:
        reason = _text(error)
    return State(reason, time.monotonic() - began)


def _text(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return _CREDENTIALS.sub(r"\1", words)[:REASON]


def redis(client: Any) -> Check:
    """``client``: of redis-py or valkey-py, plain or asyncio."""
    ping: Check = client.ping
    return ping


def postgres(source: Any) -> Check:
    """``source``: a pool or connection of asyncpg; or of psycopg, where ``with pool.connection()``
    (psycopg_pool) or a callable that makes a connection (``lambda: psycopg.connect(URL)``) will do.
    """
    if hasattr(source, "fetchval"):
        return lambda: source.fetchval("select 1")
    return lambda: _select(getattr(source, "connection", source))


def _select(connect: Callable[[], Any]) -> None:
    with connect() as connection:
        connection.cursor().execute("select 1")


def django(connections: Any, alias: str = "default") -> Check:
    """``connections``: of ``django.db``; ``alias``: a database of Django's settings."""

    def ask() -> None:
        # Connections belong to threads, and this one is about to end.
        connection = connections[alias]
        try:
            with connection.cursor() as cursor:
                cursor.execute("select 1")
        finally:
            connection.close()

    return ask


def url(address: str, timeout: float = 1.0) -> Check:
    """Up when GET answers with a status below 400. http and https only."""
    if not address.startswith(("http://", "https://")):
        raise ValueError(f'url: must start with "http://" or "https://", got {address[:20]!r}')

    def ask() -> None:
        request.urlopen(address, timeout=timeout).close()  # noqa: S310  # checked above

    return ask


def celery(app: Any) -> Check:
    """The broker of a Celery application; the workers are not asked."""

    def ask() -> None:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)

    return ask
