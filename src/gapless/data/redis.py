"""A Valkey (or Redis) server of our own, with a password and an append-only file.

Layout of ``home``: ``data`` (the server's, closed), and beside it what we write and it only
reads: ``redis.conf`` (holds the password, owner-only) and ``store.json``.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gapless.data import (
    base,
    engines,
    helper,
    owned,
    programs,
    redisconf,
    redisline,
    redismeter,
    resp,
)
from gapless.errors import DataFault
from gapless.model.data import Data
from gapless.model.process import Address, Bridge, Process

_HOST = "127.0.0.1"


class Redis:
    """One server. See ``data.base.Store`` for the methods."""

    def __init__(
        self, name: str, data: Data, place: base.Place, *, path: str | None = None
    ) -> None:
        """``path`` replaces PATH in the search for a server ("" for wheels only)."""
        self.name = name
        self._data = data
        self._place = place
        self._programs = programs.of("redis", data, place, path)
        self._conf = place.home / "redis.conf"
        self._run = place.sockets
        self._host = str(self._run / "s") if self._programs.contained else _HOST
        self._target = resp.Target(self._host, place.port, place.password)
        self._line = redisline.Line(self._target)
        self._meter = redismeter.Meter(name, self._target)

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        place = self._place
        host = self.name if self._programs.contained else host or _HOST
        return {
            "url": f"redis://:{quote(place.password, safe='')}@{host}:{place.port}/0",
            "host": host,
            "port": str(place.port),
            "user": "default",
            "password": place.password,
            "database": "0",
        }

    def created(self) -> bool:
        # Written last of all, by a rename.
        return (self._place.home / "store.json").is_file()

    async def create(self) -> None:
        place = self._place
        redisconf.check_settings(self.name, self._data.settings)
        owned.folder(place.home, 0o711)
        owned.check_reachable(place.home, place.uid)
        if self.created():
            return
        engine = await self._programs.anew(self._data.version)
        owned.folder(place.home / "data", 0o700, place.uid)
        await self._settle(engine)

    def process(self, bridge: Bridge | None = None) -> Process:
        engine = self._engine(self._noted())
        place = self._place
        owned.folder(place.home / "data", 0o700, place.uid)
        # One that begins with a hyphen may be absent: then who is on the machine is still served.
        listens: tuple[str, ...] = (_HOST,) if bridge is None else (_HOST, f"-{bridge.host}")
        if self._programs.contained:
            owned.check_socket(Path(self._host))
            owned.folder(place.run, 0o711)
            owned.folder(self._run, 0o700, place.uid)
            listens = ("0.0.0.0", "--unixsocket", self._host)  # noqa: S104  # of its own network
        server = Process(
            id=f"data.{self.name}",
            argv=(
                engine.program,
                str(self._conf),
                *("--port", str(place.port)),
                *("--bind", *listens),
            ),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            cwd=str(place.home),
            identity=place.identity,
            address=Address(host=_HOST, port=place.port),
            labels={"kind": "data", "data": self.name},
        )
        return self._programs.server(engine, server, (place.home / "data", self._run))

    async def probe(self) -> str:
        return await self._line.ask()

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        """valkey-cli or redis-cli where there is one, else the small client of our own."""
        cli = shutil.which("valkey-cli") or shutil.which("redis-cli")
        where: tuple[str, ...] = ("-h", _HOST, "-p", str(self._place.port))
        if self._programs.contained:
            where = ("-s", self._host)
        own = (sys.executable, "-m", "gapless.data.redis_shell")
        return (*((cli,) if cli else own), *where), {"REDISCLI_AUTH": self._place.password}

    async def pending(self) -> tuple[base.Pending, ...]:
        if not self.created():
            return ()
        noted = self._noted()
        found = [*await self._waiting(noted), *await self._engine_pending(noted)]
        now, wanted = noted["settings"], _spelled(self._data.settings)
        for key in sorted({*now, *wanted}):
            before, after = now.get(key, "default"), wanted.get(key, "default")
            if before != after:
                found.append(base.Pending(key, before, after, after == "default"))
        return tuple(found)

    async def apply(self, *, stopped: bool = False) -> tuple[base.Pending, ...]:
        redisconf.check_settings(self.name, self._data.settings)
        noted = self._noted()
        engine = self._engine(noted)
        if stopped:
            engine = await self._newest(engine)
            await self._settle(engine)
            return ()
        now, wanted = noted["settings"], _spelled(self._data.settings)
        changed = {
            key: wanted.get(key) for key in {*now, *wanted} if now.get(key) != wanted.get(key)
        }
        if changed:
            await self._settle(engine, noted["waiting"], noted["run"])
            waiting = {name: list(pair) for name, pair in noted["waiting"].items()}
            waiting.update(await self._put_in_force(now, changed))
            self._note(engine, waiting, await self._run_id())
        return tuple(await self._waiting(self._noted()))

    def explain(self, log: str) -> str:
        """Why it could not start: the configuration line, the port, the damaged file."""
        if "FATAL CONFIG FILE ERROR" in log:
            return redisconf.complaint(log)
        bind = re.findall(r"(Could not create server TCP.*)", log)
        found = re.findall(r"# (.*(?:Can't|Failed|Fatal|Bad file format).*)", log)
        said: list[str] = bind or found
        return said[-1] if said else ""

    async def backlog(self, queue: str) -> int:
        """See ``data.base.Backlog``; the queues that ``data.redisqueue`` knows."""
        return await self._meter.backlog(queue)

    async def close(self) -> None:
        await self._line.close()
        await self._meter.close()

    # files

    async def _settle(
        self, engine: engines.Engine, waiting: dict[str, list[str]] | None = None, run: str = ""
    ) -> None:
        """Check the configuration, then write it and the note."""
        place = self._place
        text = redisconf.configuration(
            self._data.settings, folder=str(place.home / "data"), password=place.password
        )
        trial = place.home / f".trial-{secrets.token_hex(4)}.conf"
        owned.write(trial, text, 0o600, place.uid)
        try:
            await self._check(engine, trial)
        finally:
            trial.unlink(missing_ok=True)
        owned.write(self._conf, text, 0o600, place.uid)
        self._note(engine, waiting or {}, run)

    def _note(self, engine: engines.Engine, waiting: dict[str, list[str]], run: str) -> None:
        """``waiting``: what the run ``run`` of the server has not in force."""
        note = {
            **engines.record(engine),
            "settings": _spelled(self._data.settings),
            "waiting": waiting,
            "run": run,
        }
        owned.write(self._place.home / "store.json", json.dumps(note, indent=1), 0o644)

    async def _check(self, engine: engines.Engine, trial: Path) -> None:
        # The server reads its options in order and stops at the first that it refuses: that must
        # be the one nobody knows. So it never starts, whatever the file says.
        argv = (engine.program, str(trial), f"--{redisconf.SENTINEL}", "yes")
        _, said = await self._programs.run(engine, argv, helper.Who(uid=self._place.uid))
        if complaint := redisconf.complaint(said):
            raise DataFault(
                f"{self.name}: settings: {complaint}", hint=f"see [data.{self.name}] settings"
            )

    def _noted(self) -> dict[str, Any]:
        if not self.created():
            raise DataFault(f"{self.name}: was not created yet", hint="gapless up")
        try:
            noted: dict[str, Any] = json.loads((self._place.home / "store.json").read_text())
        except (OSError, ValueError) as error:
            raise DataFault(f"{self._place.home / 'store.json'}: {error}") from None
        return noted

    # engines

    def _engine(self, noted: dict[str, Any]) -> engines.Engine:
        return self._programs.recall(noted, None)

    async def _newest(self, engine: engines.Engine) -> engines.Engine:
        return await self._programs.newest(engine, self._data.version or engine.major)

    async def _engine_pending(self, noted: dict[str, Any]) -> list[base.Pending]:
        engine = self._engine(noted)
        newest = await self._newest(engine)
        if newest.name == engine.name:
            return []
        return [base.Pending("engine", engine.version, newest.version, True)]

    # settings in force

    async def _put_in_force(
        self, now: Mapping[str, str], changed: Mapping[str, str | None]
    ) -> dict[str, list[str]]:
        """CONFIG SET what the server takes; the rest waits: ``{name: [now, wanted]}``.

        A setting that is taken out of the file goes back to its default at the next restart.
        """
        waiting = {}
        for key, value in changed.items():
            before, after = now.get(key, "default"), value or "default"
            try:
                if value is None:
                    raise resp.ReplyError("no default is known")
                await redisline.once(self._target, "CONFIG", "SET", key, value)
            except resp.ReplyError:
                waiting[key] = [before, after]
            except DataFault:
                return {}  # not up: it reads the file when it starts
        return waiting

    async def _run_id(self) -> str:
        with contextlib.suppress(DataFault, resp.ReplyError):
            info = str(await redisline.once(self._target, "INFO", "server"))
            found = re.search(r"^run_id:(\w+)", info, re.MULTILINE)
            return found[1] if found else ""
        return ""

    async def _waiting(self, noted: dict[str, Any]) -> list[base.Pending]:
        """What still waits for a restart: nothing once another run of the server began."""
        if not noted["waiting"] or await self._run_id() != noted["run"]:
            return []
        return [
            base.Pending(key, before, after, True)
            for key, (before, after) in sorted(noted["waiting"].items())
        ]


def _spelled(settings: redisconf.Settings) -> dict[str, str]:
    return {key: redisconf.literal(value) for key, value in sorted(settings.items())}
