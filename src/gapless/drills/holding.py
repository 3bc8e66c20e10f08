"""The drill's end of a crowd of clients: start it, follow it, tell it what to do, collect."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any, Self

from gapless import errors
from gapless.drills import crowd
from gapless.drills import spec as specs

Line = Mapping[str, Any]


class Holding:
    """A running crowd; leaving the context ends it. Counts are up to a quarter second old."""

    def __init__(self, gathering: crowd.Gathering) -> None:
        specs.own_address(gathering.url)
        self._line: dict[str, Any] = {}
        self._result: crowd.Held | None = None
        self._fault = ""
        self._changed = threading.Condition()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "gapless.drills.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the drill, which then ends this in order
        )
        self._thread = threading.Thread(
            target=self._follow, args=(self._child.stdout,), daemon=True
        )
        self._thread.start()
        self._tell(gathering.model_dump())

    def _follow(self, output: IO[str] | None) -> None:
        assert output is not None  # noqa: S101  # narrows; it was opened as a pipe
        for text in output:
            line = json.loads(text)
            with self._changed:
                if line["event"] == "progress":
                    self._line = line
                elif line["event"] == "result":
                    self._result = crowd.Held.of_json(line["held"])
                else:
                    self._fault = str(line.get("message"))
                self._changed.notify_all()
        with self._changed:
            if self._result is None and not self._fault:
                self._fault = "the clients' process ended without a result"
            self._changed.notify_all()

    def _tell(self, words: Mapping[str, Any]) -> None:
        assert self._child.stdin is not None  # noqa: S101  # narrows; it was opened as a pipe
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.stdin.write(json.dumps(words) + "\n")
            self._child.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self._child.stdin,):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._child.wait(timeout=20.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._thread.join()
        if self._child.stdout is not None:
            self._child.stdout.close()

    def grow(self, count: int, path: str, *, room: bool = False) -> None:
        """So many more come, a paced many in a second."""
        if count > 0:
            self._tell({"grow": count, "path": path, "room": room})

    def send(self, count: int) -> None:
        """Members of the room send so many texts."""
        self._tell({"send": count})

    def mark(self, phase: str) -> None:
        """Connections that end from now on do so in this phase."""
        self._tell({"mark": phase})

    def until(self, true: Callable[[Line], bool], seconds: float) -> bool:
        """Wait until it is so of a progress line; False: time is up. Raises WorkFailed."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (self._line and true(self._line)):
                left = deadline - time.monotonic()
                if self._fault:
                    raise errors.WorkFailed(f"clients: {self._fault}")
                if left <= 0 or self._result is not None:
                    return False
                self._changed.wait(left)
        return True

    def finish(self) -> crowd.Held:
        """Everybody leaves; what became of them. Raises WorkFailed."""
        self._tell({"stop": True})
        deadline = time.monotonic() + 30.0
        with self._changed:
            while self._result is None:
                left = deadline - time.monotonic()
                if self._fault or left <= 0:
                    raise errors.WorkFailed(f"clients: {self._fault or 'no result'}")
                self._changed.wait(left)
            return self._result
