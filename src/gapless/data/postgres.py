"""A PostgreSQL server of our own.

Layout of ``home``: ``pgdata`` (the server's, closed), and beside it what we write and it only
reads: ``postgresql.conf``, ``pg_hba.conf``, ``store.json`` (engine and settings in force).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gapless.data import base, engines, helper, owned, pgclient, pgconf, programs
from gapless.errors import DataFault, EnvironmentFault
from gapless.model.data import Data
from gapless.model.process import Address, Bridge, Process

_HOST = "127.0.0.1"


ASKED = 4
"""Times that one which is too busy to answer is asked whether it knows the password."""


class Postgres:
    """One server, one role, one database. See ``data.base.Store`` for the methods."""

    def __init__(
        self, name: str, data: Data, place: base.Place, *, path: str | None = None
    ) -> None:
        """``path`` replaces PATH in the search for a server ("" for wheels only)."""
        self.name = name
        self._data = data
        self._place = place
        self._programs = programs.of("postgres", data, place, path)
        self._pgdata = place.home / "pgdata"
        # One directory a server: several uids may share ``run``. The port keeps the path short.
        self._run = place.sockets
        self._line = pgclient.Line(
            host=str(self._run) if self._programs.contained else _HOST,
            port=place.port,
            user=pgconf.USER,
            password=place.password,
            database=pgconf.DATABASE,
            ssl=False,
        )

    def attributes(self, host: str | None = None) -> Mapping[str, str]:
        place = self._place
        host = self.name if self._programs.contained else host or _HOST
        url = (
            f"postgresql://{pgconf.USER}:{quote(place.password, safe='')}"
            f"@{host}:{place.port}/{pgconf.DATABASE}"
        )
        return {
            "url": url,
            "pool_url": url,
            "replica_url": url,
            "host": host,
            "port": str(place.port),
            "user": pgconf.USER,
            "password": place.password,
            "database": pgconf.DATABASE,
        }

    def created(self) -> bool:
        return (self._pgdata / "PG_VERSION").is_file()

    async def create(self) -> None:
        """Make it: initdb aside, role and database, hand over, check the settings, rename."""
        if os.geteuid() == 0 and self._place.uid is None:
            raise DataFault(f"{self.name}: PostgreSQL does not run as root and has no identity")
        pgconf.check_settings(self.name, self._data.settings)
        self._ready_run()
        place = self._place
        owned.folder(place.home, 0o711)
        owned.check_reachable(place.home, place.uid)
        if self.created():
            self._check_major()
            return
        engine = await self._programs.anew(self._data.version)
        owned.sweep(place.home, ".")
        temp = place.home / f".new-{secrets.token_hex(4)}"
        try:
            owned.folder(temp, 0o700, place.uid)
            await self._check(engine, temp, None)
            await self._fill(engine, temp)
            await self._settle(engine, temp)
            temp.rename(self._pgdata)
            owned.sync(place.home)
        except OSError as error:
            raise EnvironmentFault(f"{self.name}: {temp}: {error.strerror}") from None
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    def process(self, bridge: Bridge | None = None) -> Process:
        noted = self._noted()
        engine = self._engine(noted)
        self._ready_run()
        self._check_owner()
        self._drop_stale_lock()
        place = self._place
        # The machine itself is in its containers' network, and comes by the socket.
        barred = bridge.host if bridge is not None and self._programs.contained else ""
        rules = pgconf.hba(None if bridge is None else bridge.network, barred)
        owned.write(place.home / "pg_hba.conf", rules, 0o600, place.uid)
        listens = _HOST if bridge is None else f"{_HOST},{bridge.host}"
        listens = "*" if self._programs.contained else listens
        server = Process(
            id=f"data.{self.name}",
            argv=(
                engine.program,
                *("-D", str(self._pgdata)),
                *("-p", str(place.port)),
                *("-k", str(self._run)),
                *("-c", f"listen_addresses={listens}"),
                *("-c", f"config_file={place.home / 'postgresql.conf'}"),
                *("-c", f"hba_file={place.home / 'pg_hba.conf'}"),
            ),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
            cwd=str(place.home),
            identity=place.identity,
            address=Address(host=_HOST, port=place.port),
            labels={"kind": "data", "data": self.name},
            stop="INT",
        )
        return self._programs.server(engine, server, (self._pgdata, self._run))

    async def probe(self) -> str:
        return await self._line.ask()

    def shell(self) -> tuple[tuple[str, ...], Mapping[str, str]]:
        psql = str(self._engine(self._noted()).bin / "psql")
        if not os.access(psql, os.X_OK):
            psql = shutil.which("psql") or ""
        if not psql:
            raise DataFault(f"{self.name}: psql is not installed", hint="put psql on PATH")
        port = str(self._place.port)
        host = str(self._run) if self._programs.contained else _HOST
        argv = (psql, "-h", host, "-p", port, "-U", pgconf.USER, "-d", pgconf.DATABASE)
        return argv, {"PGPASSWORD": self._place.password}

    async def pending(self) -> tuple[base.Pending, ...]:
        if not self.created():
            return ()
        noted = self._noted()
        waiting = await self._waiting()
        found = [*waiting.values(), *(await self._engine_pending(noted))]
        now, wanted = noted["settings"], _spelled(self._data.settings)
        changed = sorted(key for key in {*now, *wanted} if now.get(key) != wanted.get(key))
        needs = await self._restart_settings(changed)
        for key in changed:
            before, after = now.get(key, "default"), wanted.get(key, "default")
            found.append(base.Pending(key, before, after, key in needs))
        return tuple(found)

    async def apply(self, *, stopped: bool = False) -> tuple[base.Pending, ...]:
        pgconf.check_settings(self.name, self._data.settings)
        noted = self._noted()
        self._check_major()
        engine = self._engine(noted)
        if stopped:
            engine = await self._newest(engine)
        if noted["settings"] != _spelled(self._data.settings) or engine.name != noted["name"]:
            await self._settle(engine, self._pgdata)
        if stopped:
            return ()
        await self._same_password()
        with contextlib.suppress(DataFault):  # not up: it reads the file when it starts
            await self._admin("SELECT pg_reload_conf()")
        return tuple((await self._waiting()).values())

    def explain(self, log: str) -> str:
        """The last FATAL or PANIC, or what it could not bind to."""
        bind = re.findall(r"could not bind (.*)", log)
        if bind:
            return f"could not bind {bind[-1]}"
        found = re.findall(r"(?:FATAL|PANIC):\s+(.*)", log)
        return found[-1] if found else ""

    async def close(self) -> None:
        await self._line.close()

    # making

    async def _fill(self, engine: engines.Engine, temp: Path) -> None:
        place = self._place
        who = await self._programs.someone()
        root = 0 if os.geteuid() == 0 else None
        owned.folder(temp, 0o700, root if who.uid is None else who.uid)
        locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        argv = (
            str(engine.bin / "initdb"),
            *("-D", str(temp), "-U", pgconf.ADMIN, "--encoding=UTF8", "--locale=C"),
            *("--auth-local=reject", "--auth-host=reject", "--no-instructions", "-k"),
            "--no-sync",  # the tree is synced as a whole, before it gets its name
            # Our own copy of C.UTF-8: an index must not change with the machine's C library.
            *(locale if engine.major >= 17 else ()),
        )
        code, said = await self._programs.run(engine, argv, who)
        if code != 0:
            raise DataFault(f"{self.name}: initdb failed: {pgconf.complaints(said)}")
        secret = pgconf.verifier(place.password, secrets.token_bytes(16))
        single = (engine.program, "--single", "-D", str(temp), "-c", "fsync=off")
        sql = pgconf.first_sql(secret).encode()
        code, said = await self._programs.run(engine, (*single, pgconf.ADMIN), who, sql)
        if code != 0 or re.search(r"\b(ERROR|FATAL|PANIC):", said):
            raise DataFault(f"{self.name}: first start failed: {pgconf.complaints(said)}")
        await asyncio.to_thread(owned.give, temp, place.uid)
        await asyncio.to_thread(owned.sync_tree, temp)

    async def _settle(self, engine: engines.Engine, pgdata: Path) -> None:
        """Check the settings with the data in ``pgdata``, then write them, and the note."""
        home, uid = self._place.home, self._place.uid
        await self._check(engine, pgdata, f"{pgdata.name}/postgresql.conf")
        settings = self._data.settings
        final = pgconf.configuration(settings, generated="pgdata/postgresql.conf")
        owned.write(home / "postgresql.conf", final, 0o600, uid)
        note = {**engines.record(engine), "settings": _spelled(settings)}
        owned.write(home / "store.json", json.dumps(note, indent=1), 0o644)

    async def _check(self, engine: engines.Engine, pgdata: Path, generated: str | None) -> None:
        """Raise DataFault when the server refuses the settings. ``pgdata`` may be empty."""
        trial = self._place.home / f".trial-{secrets.token_hex(4)}.conf"
        text = pgconf.configuration(self._data.settings, generated=generated)
        owned.write(trial, text, 0o600, self._place.uid)
        # -C reads and checks the whole configuration, prints one value and ends.
        argv = (engine.program, "-C", "max_connections", "-D", str(pgdata))
        try:
            code, said = await self._programs.run(
                engine, (*argv, "-c", f"config_file={trial}"), helper.Who(uid=self._place.uid)
            )
        finally:
            trial.unlink(missing_ok=True)
        if code != 0:
            raise DataFault(
                f"{self.name}: settings: {pgconf.complaints(said)}",
                hint=f"see [data.{self.name}] settings",
            )

    def _ready_run(self) -> None:
        place = self._place
        owned.check_socket(self._run / f".s.PGSQL.{place.port}")
        owned.folder(place.run, 0o711)
        owned.folder(self._run, 0o700, place.uid)

    def _check_owner(self) -> None:
        owner = self._pgdata.stat().st_uid
        wanted = os.geteuid() if self._place.uid is None else self._place.uid
        if owner != wanted:
            raise DataFault(
                f"{self.name}: {self._pgdata} belongs to uid {owner}, but runs as uid {wanted}",
                hint=f"chown -R {wanted}:{wanted} {self._pgdata}",
            )

    def _drop_stale_lock(self) -> None:
        """Remove postmaster.pid when its pid is not a server of this directory.

        After a reboot the number may belong to anybody, and PostgreSQL would refuse to start for
        ever. The shared memory block still protects data that a live server holds.
        """
        lock = self._pgdata / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(lock.read_text().split()[0])
            try:
                alive = Path(f"/proc/{pid}/cwd").resolve(strict=True) == self._pgdata.resolve()
            except PermissionError:
                return  # not ours to judge: PostgreSQL does
            except OSError:
                alive = False
            if not alive:
                lock.unlink()

    # engines

    async def _newest(self, engine: engines.Engine) -> engines.Engine:
        return await self._programs.newest(engine, engine.major)

    def _engine(self, noted: dict[str, Any]) -> engines.Engine:
        # Where its copy or its package is gone, any server of the same major version can go on.
        return self._programs.recall(noted, int(noted["version"].split(".")[0]))

    async def _engine_pending(self, noted: dict[str, Any]) -> list[base.Pending]:
        engine = self._engine(noted)
        newest = await self._newest(engine)
        if newest.name == engine.name:
            return []
        return [base.Pending("engine", engine.version, newest.version, True)]

    def _noted(self) -> dict[str, Any]:
        if not self.created():
            raise DataFault(f"{self.name}: was not created yet", hint="gapless up")
        try:
            noted: dict[str, Any] = json.loads((self._place.home / "store.json").read_text())
        except (OSError, ValueError) as error:
            raise DataFault(f"{self._place.home / 'store.json'}: {error}") from None
        return noted

    def _check_major(self) -> None:
        made = int((self._pgdata / "PG_VERSION").read_text())
        if self._data.version is not None and self._data.version != made:
            raise DataFault(
                f"{self.name}: was made by PostgreSQL {made}; "
                f"version = {self._data.version} cannot read its files",
                hint="a new major version needs a new store and a dump and restore",
            )

    # settings in force

    async def _admin(self, sql: str) -> Any:
        return await pgclient.once(
            sql,
            host=str(self._run),
            port=self._place.port,
            user=pgconf.ADMIN,
            database="postgres",
        )

    async def _waiting(self) -> dict[str, base.Pending]:
        """Settings that are written and wait for a restart; none when it is not up."""
        sql = (
            "SELECT f.name, current_setting(f.name, true), f.setting FROM pg_file_settings f"
            " WHERE f.error = 'setting could not be applied'"
        )
        try:
            rows = await self._admin(sql)
        except DataFault:
            return {}
        return {key: base.Pending(key, now or "", to, True) for key, now, to in rows}

    async def _restart_settings(self, names: list[str]) -> set[str]:
        if not names:
            return set()
        try:
            rows = await self._admin("SELECT name FROM pg_settings WHERE context = 'postmaster'")
        except DataFault:
            return set()
        fixed = {row[0] for row in rows}
        return {name for name in names if name.lower() in fixed}

    async def _same_password(self) -> None:
        """The secret store is right: a server that remembers another password learns it.

        Raises DataFault when a busy one never says which it remembers.
        """
        for _ in range(ASKED):
            said = await self._line.ask()
            if not said.startswith(pgclient.LATE):
                break
        else:
            raise DataFault(f"{self.name}: {said}")
        if "password authentication failed" in said:
            secret = pgconf.verifier(self._place.password, secrets.token_bytes(16))
            await self._admin(pgconf.new_secret_sql(secret))


def _spelled(settings: pgconf.Settings) -> dict[str, str]:
    return {key: pgconf.literal(value) for key, value in sorted(settings.items())}
