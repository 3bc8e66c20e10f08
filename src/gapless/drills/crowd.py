"""A crowd of light long-lived clients: ``python -m gapless.drills.crowd``, a process of its own.

Its standard input takes one line with a ``Gathering`` as JSON, then commands, one a line:
``{"grow": 300, "path": "/ws", "room": true}`` lets so many more come, ``pace`` of them a second;
``{"send": 100}`` has members of the room send so many texts, one after the other; ``{"mark":
"deploy"}`` names the phase that ends of connections belong to; ``{"stop": true}`` ends. Closing the
input ends at once. Its standard output carries JSON lines: ``progress`` four times a second, and
last ``result``, or ``error``.

All times are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import resource
import signal
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import pydantic
from pydantic import Field

from gapless import errors
from gapless.drills import caller, figures
from gapless.drills import spec as specs
from gapless.model import units

PAUSE = 0.5
"""Clients come back after a random time up to this many seconds, as well-behaved ones do."""
PACE = 700.0
"""So many come in a second."""
PATIENCE = 20.0
"""A client that is not connected after so many seconds has been refused."""
BEAT = 0.01
"""Seconds between two looks at how late the loop of this process is."""


class Gathering(units.Model):
    """Where to, and how."""

    url: str
    host: str | None = None
    kind: caller.Kind = "websocket"
    pace: Annotated[float, Field(gt=0, le=5000)] = PACE
    every: Annotated[float, Field(gt=0, le=60)] = 0.25
    """Seconds between two texts."""


@dataclass(slots=True)
class Talk:
    """Texts of a room to itself. ``members``: when it began.

    ``expected``: texts that should have been heard, ``heard`` the microseconds from sending to
    hearing of those that were. ``late``: microseconds that this process's own loop was late
    meanwhile; they are part of what was heard, and nothing is taken off.
    """

    members: int = 0
    sent: int = 0
    expected: int = 0
    heard: array[int] = field(default_factory=lambda: array("I"))
    late: array[int] = field(default_factory=lambda: array("I"))

    def as_json(self) -> dict[str, Any]:
        packed = {"heard": figures.pack(self.heard), "late": figures.pack(self.late)}
        return {**asdict(self), **packed}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Talk:
        """The inverse of ``as_json``."""
        unpacked = {name: figures.unpack(value[name]) for name in ("heard", "late")}
        return cls(**{**value, **unpacked})


@dataclass(slots=True)
class Held:
    """What became of the crowd. Moments in seconds of CLOCK_MONOTONIC.

    ``ends``: phase to how many connections ended in it with and without a word. ``backs``: for
    each that came back, when it was lost and when it was connected again.
    """

    clients: int = 0
    open: int = 0
    refused: int = 0
    why: list[str] = field(default_factory=list)
    ends: dict[str, list[int]] = field(default_factory=dict)
    backs: list[tuple[float, float]] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "talks": [talk.as_json() for talk in self.talks]}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Held:
        """The inverse of ``as_json``."""
        backs = [(lost, back) for lost, back in value["backs"]]
        talks = [Talk.of_json(talk) for talk in value["talks"]]
        return cls(**{**value, "backs": backs, "talks": talks})


class Crowd:
    """All clients of this process."""

    def __init__(self, gathering: Gathering) -> None:
        self._what = gathering
        self._host, self._port = specs.own_address(gathering.url)
        self._name = gathering.host or f"{self._host}:{self._port}"
        self._tls = specs.client_context(gathering.url)
        self.held = Held()
        self.phase = "start"
        self._room: set[caller.Caller] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due = 0.0
        self.sending = 0

    def grow(self, count: int, path: str, room: bool) -> None:
        """So many more, one after the other."""
        now = asyncio.get_running_loop().time()
        self._due = max(self._due, now)
        self.held.clients += count
        for _ in range(count):
            self._due += 1.0 / self._what.pace
            self._begin(self._client(path, room, self._due - now))

    def send(self, count: int) -> None:
        """So many texts from the room to the room."""
        self._begin(self._speak(count))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Everybody leaves by themselves."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, path: str, room: bool, delay: float) -> None:
        await asyncio.sleep(delay)
        lost: float | None = None
        while True:
            one = caller.Caller(self._what.kind, path, self._name, self._hear)
            try:
                await self._connect(one)
            except (OSError, TimeoutError) as error:
                self._refused(error)
                await _pause()
                continue
            if lost is not None:
                self.held.backs.append((lost, time.monotonic()))
            lost = await self._hold(one, room)
            await _pause()

    async def _connect(self, one: caller.Caller) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                await loop.create_connection(
                    lambda: one,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._what.host if self._tls else None,
                )
                await one.arrived
        except BaseException:
            one.close()
            if one.arrived.done() and not one.arrived.cancelled():
                one.arrived.exception()
            raise

    def _refused(self, error: BaseException) -> None:
        self.held.refused += 1
        if len(self.held.why) < 5:
            self.held.why.append(str(error) or type(error).__name__)

    async def _hold(self, one: caller.Caller, room: bool) -> float:
        """Until it ends; when that was."""
        self.held.open += 1
        if room:
            self._room.add(one)
        try:
            told = await one.ended
        finally:
            self.held.open -= 1
            self._room.discard(one)
            one.close()
        ends = self.held.ends.setdefault(self.phase, [0, 0])
        ends[0 if told else 1] += 1
        return time.monotonic()

    def _hear(self, text: bytes) -> None:
        words = text.split(b" ")
        if words[0] == b"said" and len(words) == 3:
            late = time.monotonic() - float(words[2])
            talk = self.held.talks[int(words[1])]
            talk.heard.append(min(2**32 - 1, max(0, round(late * 1e6))))

    async def _speak(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        self.sending += 1
        number, talk = len(self.held.talks), Talk(len(self._room))
        self.held.talks.append(talk)
        watch = asyncio.create_task(self._watch(talk))
        due = loop.time()
        for _ in range(count):
            members = list(self._room)
            if members:
                talk.sent += 1
                talk.expected += len(members)
                text = b"said %d %.6f" % (number, time.monotonic())
                random.choice(members).say(text)  # noqa: S311  # spreads load
            due += self._what.every
            await asyncio.sleep(max(0.0, due - loop.time()))
        watch.cancel()
        self.sending -= 1

    async def _watch(self, talk: Talk) -> None:
        """How late this loop is by itself: part of every time that it measures."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(BEAT)
            late = time.monotonic() - begun - BEAT
            talk.late.append(max(0, round(late * 1e6)))

    def progress(self) -> dict[str, Any]:
        held = self.held
        return {
            "event": "progress",
            "open": held.open,
            "clients": held.clients,
            "refused": held.refused,
            "backs": len(held.backs),
            "expected": sum(talk.expected for talk in held.talks),
            "heard": sum(len(talk.heard) for talk in held.talks),
            "talks": len(held.talks),
            "sending": self.sending,
        }


async def _pause() -> None:
    await asyncio.sleep(random.uniform(0, PAUSE))  # noqa: S311  # spreads clients, guards nothing


def _emit(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def _commands(reader: asyncio.StreamReader, crowd: Crowd) -> None:
    """Obey the input; returns when it is closed, or says so."""
    while line := await reader.readline():
        command = json.loads(line)
        if count := command.get("grow"):
            crowd.grow(int(count), str(command["path"]), bool(command.get("room")))
        if count := command.get("send"):
            crowd.send(int(count))
        if mark := command.get("mark"):
            crowd.phase = str(mark)
        if command.get("stop"):
            return


async def _report(crowd: Crowd) -> None:
    while True:
        _emit(crowd.progress())
        await asyncio.sleep(0.25)


async def serve() -> int:
    """The process: read what to do, do it, print what came. Gives the exit code."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        crowd = Crowd(Gathering.model_validate_json(await reader.readline()))
    except pydantic.ValidationError as error:
        _emit({"event": "error", "message": f"crowd: {error.errors()[0]['msg']}"})
        return 2
    except errors.GaplessError as error:
        _emit({"event": "error", "message": error.message})
        return error.exit_code
    work = asyncio.create_task(_commands(reader, crowd))
    report = asyncio.create_task(_report(crowd))
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(name, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
    report.cancel()
    held = crowd.held.as_json()
    with contextlib.suppress(BrokenPipeError):
        _emit({"event": "result", "held": held})
    await crowd.close()
    return 0


def main() -> int:
    """Entry of the process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A collection among thousands of clients takes tens of milliseconds, which would be told of the
    # stack; what is left uncollected in some minutes is little.
    gc.disable()
    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
