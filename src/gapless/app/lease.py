"""One leader among many replicas: a lease that has to be renewed, and a token that only grows.

Nobody can *know* that he leads: between looking and acting he may be paused for a minute. So the
lease carries a token that is larger for every new leader, and a write is checked where it happens:
``await lease.check(connection)`` within the write's transaction raises ``Lost`` for a leader of
yesterday, and keeps a new one from being made until the transaction is over. ``leading`` is for
deciding whether to begin at all.

Whose clock counts: the store's alone. Ours only bounds how long we believe ourselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

log = logging.getLogger(__name__)

TTL = 3.0


def _now() -> float:
    """Seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lost(Exception):
    """Somebody else leads, or nobody: what was about to be written must not be."""


class Store(Protocol):
    """Where leases are kept. All raise what their driver raises."""

    async def acquire(self, name: str, holder: str, ttl: float) -> int | None:
        """The new token, or None while somebody holds it."""

    async def renew(self, name: str, token: int, ttl: float) -> bool:
        """False when it is not ours any more."""

    async def release(self, name: str, token: int) -> None:
        """Free at once for the next; nothing happens when it is not ours."""

    async def check(self, connection: Any, name: str, token: int, ttl: float) -> bool:
        """Within a transaction on ``connection``; see ``Lease.check``."""


class BlockingStore(Protocol):
    """The same for threads."""

    def acquire(self, name: str, holder: str, ttl: float) -> int | None: ...
    def renew(self, name: str, token: int, ttl: float) -> bool: ...
    def release(self, name: str, token: int) -> None: ...
    def check(self, connection: Any, name: str, token: int, ttl: float) -> bool: ...


class _Belief:
    """What a holder may believe: a token, until a moment of its own clock."""

    def __init__(self, name: str, ttl: float) -> None:
        if ttl <= 0:
            raise ValueError(f"lease {name}: ttl must be above 0")
        self.name, self.ttl = name, ttl
        self.holder = f"{os.environ.get('SERVER_ID', os.getpid())}/{secrets.token_hex(4)}"
        self._held: tuple[int, float] | None = None

    @property
    def token(self) -> int | None:
        """The token while we believe to lead; grows with each new leader."""
        held = self._held
        return held[0] if held is not None and _now() < held[1] else None

    @property
    def leading(self) -> bool:
        """Whether to begin with what only the leader does."""
        return self.token is not None

    def _believe(self, token: int | None, asked: float) -> None:
        # From before the question was sent: the store can only have counted from later.
        before = self._held
        self._held = None if token is None else (token, asked + self.ttl)
        if (before is None) != (token is None):
            log.info("%s: %s %s", self.name, self.holder, "lost" if token is None else "leads")

    def _lost(self) -> Lost:
        return Lost(f"{self.name}: {self.holder} does not lead")

    @property
    def _pause(self) -> float:
        return self.ttl / 3


class Lease(_Belief):
    """For event loops. ``async with Lease("writer", store):`` tries, and renews, until it ends.

    ``ttl``: seconds after which a leader that is not heard of is replaced (a third of it later at
    most). It is released at the end, so a planned stop costs no waiting.
    """

    def __init__(self, name: str, store: Store, ttl: float = TTL) -> None:
        super().__init__(name, ttl)
        self._store = store
        self._keeper: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._ending = False

    async def __aenter__(self) -> Lease:
        self._ending = False
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending = True  # a driver may take the cancellation for a fault of its connection
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        held, self._held = self._held, None
        if held is not None:
            # A store that is away cannot be told; then the time runs out by itself.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self.ttl):
                    await self._store.release(self.name, held[0])

    async def wait(self) -> int:
        """Until we lead; returns the token."""
        while (token := self.token) is None:
            self._changed.clear()
            await self._changed.wait()
        return token

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work()`` whenever we lead, cancel it when we don't; for ever, or until it raises.

        A cancelled ``work`` may still be within a write: that is what ``check`` is for.
        """
        while True:
            token = await self.wait()
            task = asyncio.ensure_future(work())
            try:
                while self.token == token and not task.done():
                    await asyncio.wait({task}, timeout=self.ttl / 10)
                if task.done():
                    return await task
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def check(self, connection: Any) -> None:
        """Raise ``Lost`` unless we lead; until the transaction's end nobody else can.

        ``connection``: the one that writes, within a transaction.
        """
        held = self._held
        if held is None or not await self._store.check(connection, self.name, held[0], self.ttl):
            raise self._lost()

    async def _keep(self) -> None:
        while not self._ending:
            asked = _now()
            try:
                async with asyncio.timeout(self.ttl):
                    await self._try(asked)
            except Exception as error:  # the store is away: go on asking
                log.warning("%s: %s", self.name, str(error) or type(error).__name__)
            await asyncio.sleep(max(0.0, asked + self._pause - _now()))

    async def _try(self, asked: float) -> None:
        held = self._held
        if held is not None:
            kept = await self._store.renew(self.name, held[0], self.ttl)
            self._believe(held[0] if kept else None, asked)
        if self._held is None:
            asked = _now()
            self._believe(await self._store.acquire(self.name, self.holder, self.ttl), asked)
        if self.leading:  # also by a renewal, after the belief had run out
            self._changed.set()


class BlockingLease(_Belief):
    """For threads: ``with BlockingLease("writer", store):`` keeps it from a thread of its own."""

    def __init__(self, name: str, store: BlockingStore, ttl: float = TTL) -> None:
        super().__init__(name, ttl)
        self._store = store
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None

    def __enter__(self) -> BlockingLease:
        self._stop.clear()
        self._keeper = threading.Thread(target=self._keep, name="gapless-lease", daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._keeper is not None:
            self._keeper.join(self.ttl)

    def wait(self, timeout: float | None = None) -> int | None:
        """Until we lead, or for so many seconds; returns the token, or None."""
        with self._changed:
            self._changed.wait_for(lambda: self.leading, timeout)
        return self.token

    def check(self, connection: Any) -> None:
        """Raise ``Lost`` unless we lead; until the transaction's end nobody else can.

        ``connection``: the one that writes (or a cursor of it), within a transaction.
        """
        held = self._held
        if held is None or not self._store.check(connection, self.name, held[0], self.ttl):
            raise self._lost()

    def _keep(self) -> None:
        while not self._stop.is_set():
            asked = _now()
            try:
                self._try(asked)
            except Exception as error:  # the store is away: go on asking
                log.warning("%s: %s", self.name, str(error) or type(error).__name__)
            self._stop.wait(max(0.0, asked + self._pause - _now()))
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(Exception):
                self._store.release(self.name, held[0])

    def _try(self, asked: float) -> None:
        held = self._held
        if held is not None:
            kept = self._store.renew(self.name, held[0], self.ttl)
            self._believe(held[0] if kept else None, asked)
        if self._held is None:
            asked = _now()
            self._believe(self._store.acquire(self.name, self.holder, self.ttl), asked)
        with self._changed:  # also after a renewal: the belief may have run out before it
            self._changed.notify_all()
