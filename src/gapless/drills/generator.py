"""The drill's end of the load generator: start it, follow it, mark phases, stop it, collect."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import IO, Any, Self

from gapless import errors
from gapless.drills import figures, load
from gapless.drills import spec as specs
from gapless.runtimes.process import priority


class Load:
    """A running load, in one or more processes. A context manager: leaving it ends them.

    Long-lived clients are in a process of their own: fifty that hear of each other's coming and
    going keep a loop busy for tens of milliseconds, which requests timed by it would pay for.
    Thread-safe. All counts are of the moment, up to a quarter of a second old.
    """

    def __init__(self, spec: specs.Spec, processes: int = 1) -> None:
        spec.target()
        parts = split(spec, processes)
        self._lines: list[dict[str, Any]] = [{} for _ in parts]
        self._results: list[figures.Measured | None] = [None for _ in parts]
        self._errors: list[str] = []
        self._changed = threading.Condition()
        self._children = [self._spawn(part) for part in parts]
        self._senders = [number for number, part in enumerate(parts) if part.streams]
        self._threads = [
            threading.Thread(target=self._follow, args=(n, child.stdout), daemon=True)
            for n, child in enumerate(self._children)
        ]
        for thread in self._threads:
            thread.start()

    def _spawn(self, spec: specs.Spec) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "gapless.drills.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the drill, which then ends this in order
        )
        # It stands for clients on machines of their own, which the stack's cpus do not delay.
        priority.set_group(child.pid, priority.AHEAD)
        self._send(child, spec.model_dump_json())
        return child

    def _send(self, child: subprocess.Popen[str], line: str) -> None:
        assert child.stdin is not None  # noqa: S101  # narrows; it was opened as a pipe
        with contextlib.suppress(BrokenPipeError, ValueError):
            child.stdin.write(line + "\n")
            child.stdin.flush()

    def _follow(self, number: int, output: IO[str] | None) -> None:
        assert output is not None  # noqa: S101  # narrows; it was opened as a pipe
        for text in output:
            line = json.loads(text)
            with self._changed:
                if line["event"] == "progress":
                    self._lines[number] = line
                elif line["event"] == "result":
                    self._results[number] = load.decode(line)
                    self._send_home()
                else:
                    self._errors.append(str(line.get("message")))
                self._changed.notify_all()
        with self._changed:
            if self._results[number] is None and not self._errors:
                self._errors.append("the load generator ended without a result")
            self._changed.notify_all()

    def _send_home(self) -> None:
        """Nobody holds a connection for longer than requests are sent."""
        if self._senders and all(self._results[number] for number in self._senders):
            for child in self._children:
                self._send(child, json.dumps({"stop": True}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            if child.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()
        for child in self._children:
            try:
                child.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for thread, child in zip(self._threads, self._children, strict=True):
            thread.join()
            if child.stdout is not None:
                child.stdout.close()

    @property
    def requests(self) -> int:
        """Requests begun so far."""
        return self._sum("requests")

    @property
    def failed(self) -> int:
        """Requests failed so far."""
        return self._sum("failed")

    @property
    def sockets(self) -> int:
        """Long-lived clients connected now."""
        return self._sum("sockets")

    def _sum(self, name: str) -> int:
        with self._changed:
            return sum(int(line.get(name, 0)) for line in self._lines)

    def mark(self, phase: str) -> None:
        """Requests from now on belong to this phase."""
        for child in self._children:
            self._send(child, json.dumps({"mark": phase}))

    def enter(self, phase: str, seconds: float = 20.0) -> None:
        """As ``mark``; on return no request of an earlier phase is begun. Raises WorkFailed."""
        self.mark(phase)
        deadline = time.monotonic() + seconds
        with self._changed:
            while any(line.get("phase") != phase for line in self._lines):
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise errors.WorkFailed("load: the generator does not answer")
                self._changed.wait(left)

    def until(self, *, requests: int = 0, sockets: int = 0, seconds: float) -> bool:
        """Wait until so many are begun and connected; False: time is up. Raises WorkFailed."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                self._check()
                lines = self._lines
                begun = sum(int(line.get("requests", 0)) for line in lines)
                held = sum(int(line.get("sockets", 0)) for line in lines)
                if begun >= requests and held >= sockets and all(lines):
                    return True
                left = deadline - time.monotonic()
                if left <= 0 or all(result is not None for result in self._results):
                    return False
                self._changed.wait(left)

    def finish(self, patience: float = 60.0) -> figures.Measured:
        """Begin no more requests, let those in flight end, and give the sum. Raises WorkFailed.

        ``patience``: seconds after which what is still in flight is cut and counted as unknown.
        """
        for child in self._children:
            self._send(child, json.dumps({"stop": True}))
        return self.collect(patience)

    def collect(self, patience: float) -> figures.Measured:
        """Wait for the bounded end of the run itself; later than ``patience``: cut."""
        deadline = time.monotonic() + patience
        whole = figures.Measured()
        with self._changed:
            while any(result is None for result in self._results):
                self._check()
                left = deadline - time.monotonic()
                if left <= 0:
                    self._cut()
                    deadline = time.monotonic() + 10.0
                self._changed.wait(max(0.1, left))
            for result in self._results:
                assert result is not None  # noqa: S101  # narrows; the loop saw to it
                whole.merge(result)
        return whole

    def _cut(self) -> None:
        for child in self._children:
            if child.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()

    def _check(self) -> None:
        if self._errors:
            raise errors.WorkFailed(f"load: {self._errors[0]}")


def split(spec: specs.Spec, processes: int) -> list[specs.Spec]:
    """The same load as equal parts; streams with fewer clients than parts stay in the first.

    Long-lived clients are one part more, unless there is nothing else.
    """
    if not spec.streams:
        return [spec]
    parts = []
    for number in range(processes):
        streams = []
        for stream in spec.streams:
            share = stream.clients // processes + (number < stream.clients % processes)
            if share == 0:
                continue
            ratio = share / stream.clients
            rate = None if stream.rate is None else stream.rate * ratio
            streams.append(stream.model_copy(update={"clients": share, "rate": rate}))
        limit = None if spec.requests is None else max(1, spec.requests // processes)
        change = {"streams": tuple(streams), "sockets": (), "requests": limit}
        parts.append(spec.model_copy(update=change))
    if spec.sockets:
        parts.append(spec.model_copy(update={"streams": (), "requests": None}))
    return parts


def measure(spec: specs.Spec, processes: int = 1) -> figures.Measured:
    """Run a spec to its own end. Raises WorkFailed."""
    with Load(spec, processes) as running:
        return running.collect(spec.seconds + spec.timeout + 10.0)
