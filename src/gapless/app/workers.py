"""Workers of Celery that leave without running anything twice.

Told to end, Celery stops listening, ends what it has begun, and gives back what it has not, all at
the same time. Where tasks are acknowledged late (``task_acks_late``), an acknowledgement can come
too late in that crowd: a task that is done is given back and runs again. So here it is one thing
after the other: take nothing more from the queue, finish and acknowledge what was taken, and only
then tell Celery to end. A second TERM goes to Celery at once.

``leave_gently(app)``, beside the definition of the app, is all there is to do.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

TICK = 0.25
"""Seconds between two looks at what is left to do."""
QUIET = 1.5
"""Seconds of listening no more, at the least: a request to Redis for one more task lasts 1 s."""


def leave_gently(app: Any) -> None:
    """Have the workers of a ``celery.Celery`` leave in good order when they get TERM."""
    from celery import signals  # type: ignore[import-not-found,unused-ignore]

    def ready(sender: Any = None, **_: Any) -> None:
        if sender is not None and sender.app is app:
            _Leaving(sender).watch()

    signals.worker_ready.connect(ready, weak=False)


class _Leaving:
    """One worker, from TERM to its end. ``consumer`` is Celery's own, of the main process.

    The signal's handler does no more than to note the time: whatever it interrupts may hold locks.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._end: Callable[[int, Any], Any] | None = None
        self._told_at: float | None = None
        self._cancelled: Any = None
        self._idle = 0

    def watch(self) -> None:
        """Stand between TERM and Celery."""
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):
            return  # somebody else has decided what TERM means
        self._end = before
        with contextlib.suppress(ValueError):  # not the main thread: an embedded worker
            signal.signal(signal.SIGTERM, self._told)
            self._consumer.timer.call_repeatedly(TICK, self._tick)

    def _told(self, number: int, _: Any) -> None:
        assert self._end is not None  # noqa: S101  # watch has set it
        self._told_at = time.monotonic()
        signal.signal(number, self._end)

    def _tick(self) -> None:
        if self._told_at is None or self._end is None:
            return
        listening = self._consumer.task_consumer
        if listening is not None and listening is not self._cancelled:
            # Also the one that a lost connection was replaced by.
            self._cancelled = listening
            self._consumer.call_soon(self._cancel, listening)
            self._idle = 0
            return
        # Looked at twice: the last acknowledgements are on their way at the first.
        self._idle = 0 if self._busy() else self._idle + 1
        if self._idle >= 2 and time.monotonic() >= self._told_at + QUIET:
            end, self._end = self._end, None
            end(signal.SIGTERM, None)

    def _cancel(self, listening: Any) -> None:
        # The connection may be lost just now. Then nothing is taken either.
        with contextlib.suppress(Exception):
            listening.cancel()

    def _busy(self) -> bool:
        from celery.worker import state  # type: ignore[import-not-found,unused-ignore]

        return bool(state.active_requests or state.reserved_requests)
