"""Asks replicas whether they are ready, while no edge does it: before they enter, and parked.
And whether they are live, all the time.

One task a replica and question; results are ``core.health`` verdicts. A change wakes the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import aiohttp

from gapless.core import health
from gapless.engine import clock
from gapless.model.process import Address
from gapless.model.service import Probe

EAGER = 0.05
"""Least seconds between probes of a replica that is not ready yet."""
EAGER_SHARE = 0.05
"""They come rarer as time goes by: a boot is noticed within this share of its own length."""
BODY = 200
"""Characters of an answer that are kept as the reason."""
READ = 4096
"""Bytes of an answer that are read."""
UNPROVEN = 1.0
"""Seconds at most between liveness probes until the first good one."""
ALIVE_FOR = 0.5
"""A program without a probe counts as ready once it has lived this long (seconds)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to ask and how; ``command``, ``command_env`` and ``uid`` are for command probes.

    ``ask`` runs the command where the replica is (id, command, seconds at most; see
    ``runtimes.base.Asks``); None: here.
    """

    id: str
    probe: Probe | None
    address: Address | None
    started_at: float
    command: tuple[str, ...] = ()
    command_env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    uid: int | None = None
    ask: Callable[[str, Sequence[str], float], Awaitable[tuple[int | None, str]]] | None = None


class _Rounds:
    """One probing task for each watched replica."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._tasks

    def watch(self, subject: Subject) -> None:
        """Probe it until ``leave``; already watched: nothing changes."""
        if subject.id not in self._tasks:
            self._tasks[subject.id] = asyncio.create_task(self._probe_forever(subject))

    def leave(self, id: str) -> None:
        """Stop probing; what is known stays."""
        if task := self._tasks.pop(id, None):
            task.cancel()

    async def close(self) -> None:
        """Stop everything."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe_forever(self, subject: Subject) -> None:
        async with _session(subject.address) as session:
            while True:
                ok, text = await _ask(subject, session)
                delay = self._judge(subject, ok, text)
                if delay is None:
                    return
                await asyncio.sleep(delay)

    def _judge(self, subject: Subject, ok: bool, text: str) -> float | None:
        """Take note of an answer; returns the seconds until the next question, None: no more."""
        raise NotImplementedError


class Prober(_Rounds):
    """Asks whether replicas are ready, while no edge does it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake
        self._health: dict[str, health.Health] = {}

    def health(self, id: str) -> health.Health:
        """What is known of one replica."""
        return self._health.get(id, health.Health())

    def assume_ready(self, id: str) -> None:
        """The edge had found it ready: probing goes on from there."""
        if not self.health(id).ready:
            known = self.health(id)
            self._health[id] = replace(known, ready=True, since=clock.now(), ever=True)

    def forget(self, id: str) -> None:
        """Stop probing and drop what is known."""
        self.leave(id)
        self._health.pop(id, None)

    def _judge(self, subject: Subject, ok: bool, text: str) -> float | None:
        probe = subject.probe
        before = self.health(subject.id)
        now = clock.now()
        after = health.judge(before, ok, text, now, after=probe.after if probe else 3)
        self._health[subject.id] = after
        if after.ready != before.ready:
            self._wake()
        if ok and probe is None and subject.address is None:
            return None  # nothing is asked of it but that it lives, and every look sees that
        every = probe.every if probe else 1.0
        eager = max(EAGER, EAGER_SHARE * (now - subject.started_at))
        return every if ok else min(every, eager)


class LiveProber(_Rounds):
    """Asks whether replicas are live, at their own address, in the edge or not."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake
        self._known: dict[str, health.Liveness] = {}

    def of(self, id: str) -> health.Liveness:
        """What is known of one replica."""
        return self._known.get(id, health.Liveness())

    def forget(self, id: str) -> None:
        """Stop probing and drop what is known."""
        self.leave(id)
        self._known.pop(id, None)

    def _judge(self, subject: Subject, ok: bool, text: str) -> float:
        probe = subject.probe
        assert probe is not None, "only those that have a probe are watched"  # noqa: S101
        before = self.of(subject.id)
        after = health.judge_live(before, ok, text, clock.now(), after=probe.after)
        self._known[subject.id] = after
        if (after.failed_since is None) != (before.failed_since is None):
            self._wake()
        # A probe that never succeeded is wrong itself, perhaps: soon enough to end a deploy.
        return probe.every if after.ever else min(probe.every, UNPROVEN)


@contextlib.asynccontextmanager
async def _session(address: Address | None) -> AsyncIterator[aiohttp.ClientSession | None]:
    """An HTTP session to the address, or None where there is none to ask."""
    if address is None:
        yield None
        return
    connector: aiohttp.BaseConnector
    if address.socket:
        connector = aiohttp.UnixConnector(path=address.socket, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def _ask(subject: Subject, session: aiohttp.ClientSession | None) -> tuple[bool, str]:
    probe = subject.probe
    if probe is not None and probe.command:
        return await _command(subject, probe)
    if probe is not None and probe.path and session is not None:
        return await _http(subject, probe, session)
    if subject.address is not None:
        return await _connect(subject.address)
    lived = clock.now() - subject.started_at
    return lived >= ALIVE_FOR, "alive" if lived >= ALIVE_FOR else "just started"


async def _http(subject: Subject, probe: Probe, session: aiohttp.ClientSession) -> tuple[bool, str]:
    address = subject.address
    host = "localhost" if address is None or address.socket else f"{address.host}:{address.port}"
    url = f"http://{host}{probe.path}"
    limit = aiohttp.ClientTimeout(total=probe.timeout)
    try:
        async with session.get(url, timeout=limit, allow_redirects=False) as answer:
            ok = 200 <= answer.status < 400
            text = f"GET {probe.path}: {answer.status}"
            return ok, text if ok else f'{text}, "{reason(await answer.content.read(READ))}"'
    except TimeoutError:
        return False, f"GET {probe.path}: no answer within {probe.timeout:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return False, f"GET {probe.path}: {_short(error)}"


def reason(body: bytes) -> str:
    """What an answer gives as its reason: the "reason" of a JSON object, or how it begins."""
    text = body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("reason"), str):
            text = found["reason"]
    return " ".join(text.split())[:BODY]


async def _connect(address: Address) -> tuple[bool, str]:
    try:
        if address.socket:
            _, writer = await asyncio.open_unix_connection(address.socket)
        else:
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError as error:
        where = "" if address.socket else f" to {address}"
        return False, f"connect{where}: {_short(error)}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True, "accepts connections"


async def _command(subject: Subject, probe: Probe) -> tuple[bool, str]:
    if subject.ask is not None:
        code, said = await subject.ask(subject.id, subject.command, probe.timeout)
        ended = said if code is None else f"exit {code}, {said[-BODY:]!r}"
        return code == 0, f"{subject.command[0]}: {ended}"
    options: dict[str, object] = {}
    if subject.uid is not None:
        options = {"user": subject.uid, "group": subject.uid, "extra_groups": []}
    try:
        process = await asyncio.create_subprocess_exec(
            *subject.command,
            env=dict(subject.command_env),
            cwd=subject.cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            **options,  # type: ignore[arg-type]  # user, group and extra_groups of Popen
        )
    except OSError as error:
        return False, f"{subject.command[0]}: {_short(error)}"
    try:
        output, _ = await asyncio.wait_for(process.communicate(), probe.timeout)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return False, f"{subject.command[0]}: no end within {probe.timeout:g} s"
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    text = output.decode("utf-8", "replace").strip()[-BODY:]
    return process.returncode == 0, f"{subject.command[0]}: exit {process.returncode}, {text!r}"


def _short(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:  # else: of a name's look-up
        return os.strerror(error.errno).lower()  # asyncio's own text is for programmers
    return str(error) or type(error).__name__
