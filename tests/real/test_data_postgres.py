"""A real PostgreSQL from the wheel: made, started, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.real import stores

from gapless.data import base, engines, helper, pgclient, postgres
from gapless.errors import DataFault, EnvironmentFault
from gapless.model.data import Data

asyncpg = pgclient.driver()

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def roof() -> Iterator[Path]:
    yield from stores.roof()


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """One copy of the programs for all tests that do not look at the copying."""
    for roof in stores.roof():
        engines.take(engines.find("postgres", path=""), roof)
        yield roof


@pytest.fixture(scope="module")
def model(programs: Path) -> Iterator[Path]:
    """The home of a store that was just created, for copying."""
    for roof in stores.roof():
        place = stores.place(roof, engines=programs)
        asyncio.run(open_store(place).create())
        yield place.home


@pytest.fixture
def made(roof: Path, programs: Path, model: Path) -> base.Place:
    """The place of a created store."""
    place = stores.place(roof, engines=programs)
    place.home.parent.mkdir(mode=0o711)
    subprocess.run(["/bin/cp", "-a", model, place.home], check=True)
    return place


def open_store(place: base.Place, *, path: str | None = "", **table: Any) -> postgres.Postgres:
    return postgres.Postgres("db", Data(type="postgres", **table), place, path=path)


def connect(store: base.Store, **other: Any) -> Any:
    """As a service would, by the attributes."""
    at = store.attributes()
    names = ("host", "port", "user", "password", "database")
    return asyncpg.connect(**({name: at[name] for name in names} | other), timeout=5)


async def test_committed_rows_survive_kill(roof: Path, programs: Path) -> None:
    store = open_store(stores.place(roof, engines=programs))
    assert not store.created()
    assert await store.pending() == ()
    await store.create()
    assert store.created()
    log = roof / "log"
    with stores.Running(store.process(), log) as first:
        await stores.ready(store)
        service = await asyncpg.connect(store.attributes()["url"], timeout=5)
        await service.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        first.kill()
        assert await store.probe() != ""
        service.terminate()
    await store.create()  # a repeat does no harm
    with stores.Running(store.process(), log) as second:
        await stores.ready(store)
        service = await connect(store)
        assert await service.fetchval("SELECT sum(n) FROM t") == 500_500
        await service.close()
        assert second.stop() == 0
    assert await store.probe() == "connection refused"
    await store.close()


async def test_program_of_the_machine(roof: Path, programs: Path) -> None:
    machine = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not machine:
        pytest.skip("no PostgreSQL of the machine's own")
    store = open_store(stores.place(roof, engines=programs), path=str(machine[-1].parent))
    await store.create()
    process = store.process()
    assert Path(process.argv[0]).parent == machine[-1].parent
    assert not list(roof.glob("engines/postgres-*"))
    with stores.Running(process, roof / "log"):
        await stores.ready(store)
        await store.close()


async def test_who_may_enter(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    process = store.process()
    socket_folder = process.argv[process.argv.index("-k") + 1]
    assert stat.S_IMODE(Path(socket_folder).stat().st_mode) == 0o700
    with stores.Running(process, roof / "log") as running:
        await stores.ready(store)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(store, password="wrong")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await connect(store, user="postgres", password="")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect(store, host=socket_folder, password="wrong")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await connect(store, database="postgres", user="postgres")
        service = await connect(store)
        assert await service.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = user") is False
        await service.execute("CREATE EXTENSION citext")
        await service.close()
        assert stores.PASSWORD not in stores.command_lines(running.child.pid)
        # An empty look proves nothing: the look does see the arguments.
        assert "listen_addresses=127.0.0.1" in stores.command_lines(running.child.pid)
        await store.close()
        running.stop()
    assert stores.holding(roof, stores.PASSWORD) == []


async def test_shell(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        argv, env = store.shell()
        assert stores.PASSWORD not in " ".join(argv)
        ran = await asyncio.to_thread(
            subprocess.run, [*argv, "-Atc", "SELECT 6 * 7"], env={**env}, capture_output=True
        )
        assert ran.stdout == b"42\n", ran.stderr
        await store.close()


STAGES = {
    "copying the engine": "engines/.new-*/programs/install/bin/postgres",
    "initdb begins": "data/db/.new-*/PG_VERSION",
    "initdb works": "data/db/.new-*/base/1/pg_filenode.map",
    "first start": "data/db/.new-*/postmaster.pid",
}


@pytest.mark.parametrize("stage", STAGES)
async def test_interrupted_create(roof: Path, programs: Path, stage: str) -> None:
    copies = roof / "engines" if stage == "copying the engine" else programs
    place = stores.place(roof, engines=copies)
    child = stores.interruptible("postgres", place, roof)
    while not list(roof.glob(STAGES[stage])):
        assert child.poll() is None, "it ended before the stage was seen"
        await asyncio.sleep(0.001)
    child.kill()  # the controller alone: what it had started goes on, as after a real crash
    child.wait(10)
    store = open_store(place)
    assert not store.created()
    with pytest.raises(DataFault, match="not created"):
        store.process()
    await store.create()
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        await store.close()


async def test_two_creates_at_once(roof: Path) -> None:
    places = [stores.place(roof, name) for name in ("one", "two")]
    both = [open_store(place) for place in places]
    await asyncio.gather(*(store.create() for store in both))
    assert all(store.created() for store in both)
    assert [p.name for p in (roof / "engines").iterdir() if p.name != ".lock"] == [
        engines.find("postgres", path="").name
    ]


async def test_cancelled_create_leaves_nothing_running(roof: Path, programs: Path) -> None:
    place = stores.place(roof, engines=programs)
    task = asyncio.create_task(open_store(place).create())
    while not list(roof.glob(STAGES["initdb begins"])):
        assert not task.done()
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = [p for p in Path("/proc").glob("[0-9]*") if _mentions(p, str(place.home))]
    assert left == []
    assert list(place.home.glob(".new-*")) == []


def _mentions(process: Path, text: str) -> bool:
    try:
        return text.encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"work_mem": "a lot"}, 'invalid value for parameter "work_mem"'),
        ({"max_conections": 200}, 'unrecognized configuration parameter "max_conections"'),
        ({"max_connections": 10**9}, "outside the valid range"),
    ],
)
async def test_wrong_setting_is_refused_before_anything(
    roof: Path, programs: Path, settings: dict[str, Any], said: str
) -> None:
    store = open_store(stores.place(roof, engines=programs), settings=settings)
    with pytest.raises(DataFault, match=said):
        await store.create()
    assert not store.created()
    assert [p.name for p in (roof / "data/db").iterdir() if p.name.startswith(".")] == []


async def test_settings_cannot_smuggle(roof: Path, made: base.Place) -> None:
    value = "x' # \\' log_connections = on"
    store = open_store(made, settings={"cluster_name": value})
    await store.apply(stopped=True)
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        service = await connect(store)
        assert await service.fetchval("SHOW cluster_name") == value
        assert await service.fetchval("SHOW log_connections") in ("", "off")
        await service.close()
        await store.close()


async def test_changed_settings_wait_or_take_effect(roof: Path, made: base.Place) -> None:
    place = made
    store = open_store(place, settings={"max_connections": 50})
    await store.apply(stopped=True)
    log = roof / "log"
    with stores.Running(store.process(), log) as running:
        await stores.ready(store)
        assert await store.pending() == await store.apply() == ()
        await store.close()
        store = open_store(place, settings={"max_connections": 60, "work_mem": "8MB"})
        restart = base.Pending("max_connections", "50", "60", True)
        assert await store.pending() == (
            restart,
            base.Pending("work_mem", "default", "8MB", False),
        )
        assert await store.apply() == (restart,)
        assert await store.pending() == (restart,)
        service = await connect(store)
        assert await service.fetchval("SHOW work_mem") == "8MB"
        assert await service.fetchval("SHOW max_connections") == "50"
        await service.close()
        before = (place.home / "postgresql.conf").read_text()
        with pytest.raises(DataFault, match="wal_level"):
            await open_store(place, settings={"wal_level": "loud"}).apply()
        assert (place.home / "postgresql.conf").read_text() == before
        await store.close()
        running.stop()
    with stores.Running(store.process(), log):
        await stores.ready(store)
        assert await store.pending() == ()
        await store.close()


async def test_port_taken_is_explained(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(store.attributes()["port"])))
        other.listen()
        with stores.Running(store.process(), roof / "log") as running:
            assert await stores.ended(running) != 0
            assert store.explain(running.text()) == (
                'could not bind IPv4 address "127.0.0.1": Address already in use'
            )
    assert store.explain("all is well") == ""


async def test_lock_of_a_dead_server_is_removed(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    lock = roof / "data/db/pgdata/postmaster.pid"
    # After a reboot: the pid is somebody else's, of the same uid.
    bystander = stores.bystander()
    try:
        lock.write_text(f"{bystander.pid}\n{lock.parent}\n1\n{store.attributes()['port']}\n")
        if stores.UID is not None:
            os.chown(lock, stores.UID, stores.UID)
        with stores.Running(store.process(), roof / "log") as running:
            await stores.ready(store)
            store.process()
            assert lock.exists(), "the lock of a live server was taken away"
            assert int(lock.read_text().split()[0]) == running.child.pid
            await store.close()
    finally:
        bystander.kill()
        bystander.wait()


async def test_password_of_the_secret_store_wins(
    roof: Path, programs: Path, made: base.Place
) -> None:
    store = open_store(made)
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        await store.close()
        other = open_store(stores.place(roof, port=made.port, password="another", engines=programs))
        assert "password authentication failed" in await other.probe()
        await other.apply()
        assert await other.probe() == ""
        await other.close()
        assert "password authentication failed" in await store.probe()


async def test_versions(roof: Path, made: base.Place) -> None:
    place = replace(made, engines=roof / "engines")
    shutil.copytree(made.engines, place.engines)
    store = open_store(place)
    major = int((place.home / "pgdata/PG_VERSION").read_text())
    with pytest.raises(DataFault, match=f"made by PostgreSQL {major}"):
        await open_store(place, version=major - 1).create()
    with pytest.raises(DataFault, match="no server for PostgreSQL 9 "):
        await open_store(stores.place(roof, "new"), version=9).create()
    # It was made by an older minor version, which is still there, and goes on with it.
    note = place.home / "store.json"
    noted = json.loads(note.read_text())
    now, old = noted["name"], f"postgres-{major}.0"
    shutil.copytree(place.engines / now, place.engines / old)
    note.write_text(json.dumps({**noted, "name": old, "version": f"{major}.0"}))
    assert old in store.process().argv[0]
    assert [p.what for p in await store.pending()] == ["engine"]
    assert await store.apply(stopped=True) == ()
    assert await store.pending() == ()
    assert now in store.process().argv[0]
    # Its engine is gone: another of the same major version serves.
    shutil.rmtree(place.engines / now)
    assert now in store.process().argv[0]


@needs_root
async def test_closed_home_is_named(roof: Path, programs: Path) -> None:
    roof.chmod(0o700)
    with pytest.raises(EnvironmentFault, match=f"{roof} is closed"):
        await open_store(stores.place(roof, engines=programs)).create()


@needs_root
async def test_where_namespaces_are_forbidden(
    roof: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(roof))  # no unshare
    assert await helper.someone(stores.UID) == helper.Who(uid=helper.NAMELESS)
    store = open_store(stores.place(roof, engines=programs))
    await store.create()
    owners = {p.lstat().st_uid for p in (roof / "data/db/pgdata").rglob("*")}
    assert owners == {stores.UID}
    with stores.Running(store.process(), roof / "log"):
        await stores.ready(store)
        await store.close()


@needs_root
async def test_foreign_data_is_refused(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    os.chown(roof / "data/db/pgdata", 0, 0)
    with pytest.raises(DataFault, match="belongs to uid 0"):
        store.process()


async def test_stopped_server_is_a_reason_within_the_limit(roof: Path, made: base.Place) -> None:
    store = open_store(made)
    with stores.Running(store.process(), roof / "log") as running:
        await stores.ready(store)
        children = Path(f"/proc/{running.child.pid}/task/{running.child.pid}/children")
        for pid in (running.child.pid, *map(int, children.read_text().split())):
            os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(base.PROBE_SECONDS + 2):
                assert await store.probe() == "no answer within 2 s"
        finally:
            for pid in (running.child.pid, *map(int, children.read_text().split())):
                os.kill(pid, signal.SIGCONT)
        await stores.ready(store)
        await store.close()
