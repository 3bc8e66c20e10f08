"""The load generator: ``python -m gapless.drills.load``, a process of its own.

Its standard input takes one line with a ``Spec`` as JSON, then commands, one a line:
``{"mark": "during"}`` names the phase that requests from now on belong to, ``{"stop": true}``
lets what is in flight finish and ends. Closing the input ends at once: what was in flight is
*unknown* then. Its standard output carries JSON lines: ``progress`` four times a second, and last
``result``, or ``error``.

A process of its own, because a loop that also polls, judges and prints would measure itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import sys
import time
from array import array
from dataclasses import asdict
from typing import Any

import pydantic

from gapless import errors
from gapless.drills import figures, jars, sockets, wire
from gapless.drills import spec as specs

FIRST_PHASE = "start"
AFTER_FAILURE = 0.02
"""A closed-loop client waits this long after a failure: an outage is not to be counted by
how fast refused connections can be made."""
COLLECTING = (2_000, 10, 1_000)
"""Garbage is collected often and in small parts: a collection of 50,000 objects held all clients up
for 80 to 120 ms, and the hundred requests that were late by that were one in a hundred of all."""


class Schedule:
    """When the next request of an open-loop stream is due; shared by its clients."""

    def __init__(self, start: float, rate: float) -> None:
        self._start = start
        self._gap = 1.0 / rate
        self._taken = 0

    def next(self) -> float:
        due = self._start + self._taken * self._gap
        self._taken += 1
        return due


class Run:
    """One run of a spec. ``stop`` may be called at any time, from the same loop."""

    def __init__(self, spec: specs.Spec) -> None:
        self.spec = spec
        self.phase = FIRST_PHASE
        self.measured = figures.Measured()
        self.stopping = asyncio.Event()
        self._host, self._port = spec.target()
        self._name = spec.host or f"{self._host}:{self._port}"
        self._tls = specs.client_context(spec.url)
        self._sent = 0
        self._idle: set[asyncio.Task[None]] = set()
        self._late = array("I")
        self._jars = {one.name: jars.Jar(one) for one in spec.streams if one.cookie}
        self._crowd = sockets.Crowd(spec, self.measured.sockets)
        self._began = 0.0

    async def go(self) -> figures.Measured:
        """Send until stopped or bounded; cancelled: what is in flight counts as unknown."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        crowd = asyncio.create_task(self._crowd.hold(self.stopping))
        clients = [
            asyncio.create_task(self._client(stream, number, schedule))
            for stream in self.spec.streams
            for schedule in [Schedule(self._began, stream.rate) if stream.rate else None]
            for number in range(stream.clients)
        ]
        clock = loop.call_later(self.spec.seconds, self.stop)
        try:
            await self.stopping.wait()
            await self._finish(clients)
            await crowd
        finally:
            clock.cancel()
            for task in [*clients, crowd]:
                task.cancel()
            await asyncio.gather(*clients, crowd, return_exceptions=True)
            self._close(loop.time() - self._began)
        return self.measured

    def stop(self) -> None:
        """No request is begun from now on."""
        self.stopping.set()
        for task in self._idle:
            task.cancel()

    def progress(self) -> dict[str, Any]:
        whole = self.measured.total()
        return {
            "event": "progress",
            "phase": self.phase,
            "requests": whole.requests,
            "failed": whole.failed,
            "unknown": whole.unknown,
            "sockets": self.measured.sockets.open,
        }

    async def _finish(self, clients: list[asyncio.Task[None]]) -> None:
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def _close(self, seconds: float) -> None:
        measured = self.measured
        measured.seconds = seconds
        late = figures.percentile(sorted(self._late), 0.99)
        measured.late_p99_ms = None if late is None else late / 1000
        measured.cookies = {name: jar.report() for name, jar in self._jars.items()}

    def _take(self) -> bool:
        if self.stopping.is_set():
            return False
        if self.spec.requests is not None and self._sent >= self.spec.requests:
            self.stop()
            return False
        self._sent += 1
        return True

    async def _client(self, stream: specs.Stream, number: int, schedule: Schedule | None) -> None:
        loop = asyncio.get_running_loop()
        connection: wire.Connection | None = None
        try:
            while True:
                due = None if schedule is None else schedule.next()
                if due is not None and not await self._until(due):
                    return
                if not self._take():
                    return
                count = self._count(stream)
                count.requests += 1
                begun = loop.time() if due is None else due
                connection, good = await self._once(stream, number, connection, count)
                if good:
                    count.samples.append(min(2**32 - 1, round((loop.time() - begun) * 1e6)))
                elif schedule is None:
                    await asyncio.sleep(AFTER_FAILURE)
        finally:
            if connection is not None:
                connection.close()

    async def _until(self, due: float) -> bool:
        """Sleep until the moment; False: the run is stopping."""
        loop = asyncio.get_running_loop()
        wait = due - loop.time()
        if wait <= 0:
            return True
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # narrows; we run in one
        self._idle.add(task)
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            if self.stopping.is_set() and task.uncancel() == 0:
                return False
            raise
        finally:
            self._idle.discard(task)
        self._late.append(max(0, round((loop.time() - due) * 1e6)))
        return True

    def _count(self, stream: specs.Stream) -> figures.Count:
        streams = self.measured.phases.setdefault(self.phase, {})
        if (count := streams.get(stream.name)) is None:
            count = streams[stream.name] = figures.Count(slow=stream.slow)
        return count

    async def _once(
        self,
        stream: specs.Stream,
        number: int,
        connection: wire.Connection | None,
        count: figures.Count,
    ) -> tuple[wire.Connection | None, bool]:
        """One request. Gives the connection to go on with, and whether the answer was good."""
        jar = self._jars.get(stream.name)
        sent = time.time()
        data = wire.request(
            stream.method,
            stream.path,
            self._name,
            body=stream.body,
            close=not stream.keep_alive,
            cookie=jar.send(number) if jar else "",
        )
        try:
            async with asyncio.timeout(self.spec.timeout):
                if connection is None or not connection.open:
                    connection = None
                    connection = await wire.Connection.to(
                        self._host, self._port, self._tls, self.spec.host
                    )
                answer = await connection.exchange(data)
        except TimeoutError:
            silent = connection is None or connection.silent
            text = f"no complete answer within {self.spec.timeout:g} s"
            fault = wire.Failure("timeout", text, before_byte=silent)
            self._failed(stream, count, connection, fault, sent)
            return None, False
        except wire.Failure as failure:
            self._failed(stream, count, connection, failure, sent)
            return None, False
        except asyncio.CancelledError:
            count.unknown += 1
            raise
        if jar:
            jar.take(number, answer)
        if not stream.keep_alive:
            connection.close()  # also where the server would have gone on
        if answer.status >= 400:
            kind = f"{answer.status // 100}xx"
            text = f"HTTP {answer.status}"
            fault = wire.Failure(kind, text, before_byte=False)
            self._failed(stream, count, connection, fault, sent, answer)
            return connection if connection.open else None, False
        return connection if connection.open else None, True

    def _failed(
        self,
        stream: specs.Stream,
        count: figures.Count,
        connection: wire.Connection | None,
        failure: wire.Failure,
        sent: float,
        answer: wire.Answer | None = None,
    ) -> None:
        if failure.kind == "generator":
            count.unknown += 1
        else:
            count.failed += 1
        count.kinds[failure.kind] = count.kinds.get(failure.kind, 0) + 1
        # a complete bad answer was already counted by ``exchange``, hence the one more
        reused = connection is not None and connection.served > (answer is not None)
        if reused and failure.before_byte and failure.kind != "timeout":
            count.reused_failed += 1
        failures = self.measured.failures
        if len(failures) < self.spec.keep_failures:
            server = answer.headers.get(self.spec.server_header) if answer else None
            failures.append(
                {
                    "sent": round(sent, 4),
                    "at": round(time.time(), 4),
                    "phase": self.phase,
                    "stream": stream.name,
                    "method": stream.method,
                    "path": stream.path,
                    "kind": failure.kind,
                    "status": answer.status if answer else None,
                    "text": failure.text,
                    "reused": reused,
                    "before_byte": failure.before_byte,
                    "server": server,
                }
            )


def encode(measured: figures.Measured) -> dict[str, Any]:
    """The ``result`` line."""
    return {
        "event": "result",
        "phases": {
            phase: {name: count.as_json() for name, count in streams.items()}
            for phase, streams in measured.phases.items()
        },
        "sockets": asdict(measured.sockets),
        "cookies": {name: asdict(one) for name, one in measured.cookies.items()},
        "failures": measured.failures,
        "seconds": round(measured.seconds, 3),
        "late_p99_ms": measured.late_p99_ms,
    }


def decode(line: dict[str, Any]) -> figures.Measured:
    """The inverse of ``encode``."""
    return figures.Measured(
        phases={
            phase: {name: figures.Count.of_json(count) for name, count in streams.items()}
            for phase, streams in line["phases"].items()
        },
        sockets=figures.Sockets(**line["sockets"]),
        cookies={name: figures.Cookies(**one) for name, one in line["cookies"].items()},
        failures=line["failures"],
        seconds=line["seconds"],
        late_p99_ms=line["late_p99_ms"],
    )


def _emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _commands(reader: asyncio.StreamReader, run: Run) -> None:
    """Obey the input; returns when it is closed."""
    while line := await reader.readline():
        command = json.loads(line)
        if mark := command.get("mark"):
            run.phase = str(mark)
        if command.get("stop"):
            run.stop()


async def _report(run: Run) -> None:
    while True:
        await asyncio.sleep(0.25)
        _emit(run.progress())


async def serve() -> int:
    """The process: read a spec, run it, print what came. Gives the exit code."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**22)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        run = Run(specs.Spec.model_validate_json(await reader.readline()))
    except pydantic.ValidationError as error:
        _emit({"event": "error", "message": f"load: {error.errors()[0]['msg']}"})
        return 2
    except errors.GaplessError as error:
        _emit({"event": "error", "message": error.message})
        return error.exit_code
    work = asyncio.create_task(run.go())
    orders = asyncio.create_task(_commands(reader, run))
    report = asyncio.create_task(_report(run))
    orders.add_done_callback(lambda _: work.cancel())
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    for task in (orders, report):
        task.cancel()
    with contextlib.suppress(BrokenPipeError):
        _emit(encode(run.measured))
    return 0


def main() -> int:
    """Entry of the process."""
    gc.freeze()
    gc.set_threshold(*COLLECTING)
    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
