"""How an application learns that it is leaving: a file that gapless puts up, or TERM.

The file's name is in ``GAPLESS_NOTICE``. It appears before the replica is signalled, says how long
the replica will be waited for and how fast its clients may be sent away (``{"drain": seconds,
"rate": a second}``), and goes again when the replica is needed
after all. TERM is for good.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

LOOK = 0.25
"""Seconds between two looks for the file."""

Passed = Callable[[], None]
"""Hands TERM on to whoever would have got it."""


class Notice:
    """``path``: the file; by default what ``GAPLESS_NOTICE`` names, if anything.

    Asking costs one ``stat``; nothing runs in the background unless ``watch`` is called.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, env: Mapping[str, str] = os.environ
    ) -> None:
        named = env.get("GAPLESS_NOTICE") if path is None else path
        self._path = Path(named) if named else None
        self._ended = False

    @property
    def up(self) -> bool:
        """Whether this process is leaving, as far as is known now."""
        return self._ended or (self._path is not None and self._path.exists())

    @property
    def ended(self) -> bool:
        """Whether TERM came: no way back."""
        return self._ended

    def drain(self) -> float | None:
        """Seconds we will be waited for, as the file says; None when it does not say."""
        return self._number("drain")

    def rate(self) -> float | None:
        """Goodbyes a second that this process may say at most; None when the file says nothing."""
        rate = self._number("rate")
        return rate if rate else None

    def _number(self, name: str) -> float | None:
        if self._path is None:
            return None
        try:
            told = json.loads(self._path.read_bytes())[name]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        good = isinstance(told, int | float) and not isinstance(told, bool) and told >= 0
        return float(told) if good else None

    def end(self) -> None:
        """Leaving for good, from now on. For applications with a way of their own to be told."""
        self._ended = True

    def on_term(self, then: Callable[[Passed], None] | None = None) -> bool:
        """Regard TERM as a notice, and let whoever handled TERM before do so as before.

        ``then(pass_on)`` may put that off: it has to call ``pass_on`` once it is done. A second
        TERM is passed on at once. Returns False where nobody can listen (not the main thread).
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        before = signal.getsignal(signal.SIGTERM)

        def listen(number: int, frame: FrameType | None) -> None:
            def pass_on() -> None:
                if callable(before):
                    before(number, frame)
                elif before != signal.SIG_IGN:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    os.kill(os.getpid(), signal.SIGTERM)

            again, self._ended = self._ended, True
            if then is None or again:
                pass_on()
            else:
                then(pass_on)

        signal.signal(signal.SIGTERM, listen)
        return True

    def watch(self, call: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``call(leaving)`` at each change, from a thread. Returns what stops that.

        For programs without an event loop; ``Drain`` needs no thread.
        """
        stop = threading.Event()

        def look() -> None:
            known = False
            while not stop.wait(LOOK):
                if (now := self.up) != known:
                    known = now
                    call(now)

        threading.Thread(target=look, name="gapless-notice", daemon=True).start()
        return stop.set


@functools.cache
def ours() -> Notice:
    """The one that all parts of this package share unless they are given another."""
    return Notice()


BORN = time.monotonic()
"""When this process imported us, which is when it began as far as its users are concerned."""
