"""The chat example on its own: real stores, the programs that the stack file runs, no gapless."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]
from tests.examples import application, stores
from tests.examples.application import Application, ask

from gapless.drills import ports


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[stores.Running, stores.Running]]:
    with stores.running() as found:
        yield found


@pytest.fixture(scope="module")
def app(both: tuple[stores.Running, stores.Running]) -> Application:
    made = Application(application.environment(), both[0].url, both[1].url)
    done = made.run(["alembic", "upgrade", "head"])
    assert (done.returncode, done.stderr) == (0, "")
    return made


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def replicas(app: Application, logs: Path) -> Iterator[tuple[str, str]]:
    """Two replicas of release 1."""
    with (
        app.web(logs / "web1", SERVER_ID="web.1@r1", RELEASE="1") as first,
        app.web(logs / "web2", SERVER_ID="web.2@r1", RELEASE="1") as second,
    ):
        yield first, second
    for name in ("web1", "web2"):
        told = [line for line in (logs / name).read_text().splitlines() if "Error" in line]
        # That the lease's store was away is said, and no more than that.
        assert not [line for line in told if not line.startswith("tally: ")]


@contextlib.asynccontextmanager
async def person(base: str, name: str, room: str) -> AsyncIterator[Person]:
    one = Person(name)
    await one.io.connect(base, transports=["websocket"])
    try:
        one.joined = await one.io.call("join", {"room": room, "user": name})
        yield one
    finally:
        await one.io.disconnect()


class Person:
    """A client in a room that remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.joined: dict[str, Any] = {}
        self.heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.io = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.2)
        for event in ("message", "users", "reconnect"):
            self.io.on(event, lambda data, event=event: self.heard.put_nowait((event, data)))
        self.io.on("connect", lambda: self.heard.put_nowait(("connect", None)))

    async def hears(self, event: str, **having: Any) -> Any:
        """The next such event whose data has these values."""
        async with asyncio.timeout(15):
            while True:
                what, data = await self.heard.get()
                if what == event and having.items() <= (data or {}).items():
                    return data

    async def sees(self, *names: str) -> None:
        """Wait until told that exactly these are in the room."""
        async with asyncio.timeout(15):
            while await self.heard.get() != ("users", sorted(names)):
                pass


def test_health_says_who_answers(replicas: tuple[str, str]) -> None:
    status, body = ask(replicas[1], "/health/ready")
    assert (status, body["status"], body["down"]) == (200, "ready", [])
    assert {name: one["status"] for name, one in body["checks"].items()} == {
        "db": "up",
        "cache": "up",
    }
    assert (body["server"], body["release"]) == ("web.2@r1", "1")
    assert ask(replicas[0], "/api/whoami")[1]["server"] == "web.1@r1"


async def test_one_replica_leads_and_counts_people(replicas: tuple[str, str]) -> None:
    def leading() -> list[bool]:
        return [ask(base, "/health")[1]["leader"]["tally"] for base in replicas]

    stores.wait_for("one of them leads", lambda: sorted(leading()) == [False, True])
    async with person(replicas[0], "ann", "lobby"), person(replicas[1], "bob", "lobby"):
        await asyncio.to_thread(
            stores.wait_for,
            "both are counted",
            lambda: ask(replicas[0], "/api/rooms")[1]["people"]["lobby"] == 2,
        )


def test_what_one_replica_takes_in_the_other_has(replicas: tuple[str, str]) -> None:
    said = [
        ask(replicas[n % 2], "/api/rooms/both/messages", {"author": "a", "body": f"no. {n}"})
        for n in range(6)
    ]
    assert [status for status, _ in said] == [201] * 6
    status, body = ask(replicas[1], "/api/rooms/both/messages?limit=4")
    assert status == 200
    assert body["messages"] == [message for _, message in said[2:]]
    before = said[2][1]["id"]
    older = ask(replicas[0], f"/api/rooms/both/messages?before={before}")[1]
    assert older["messages"] == [message for _, message in said[:2]]
    assert ask(replicas[0], "/api/rooms")[1]["rooms"][:2] == ["lobby", "both"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/rooms/UPPER/messages", {"author": "a", "body": "b"}),
        ("/api/rooms/x/messages", {"author": "", "body": "b"}),
        ("/api/rooms/x/messages", {"author": "a", "body": "b" * 2001}),
        ("/api/rooms/x/messages?limit=0", None),
        ("/api/slow?seconds=31", None),
    ],
)
def test_nonsense_is_refused(replicas: tuple[str, str], path: str, body: Any) -> None:
    assert ask(replicas[0], path, body)[0] == 422


def test_page_and_echo(replicas: tuple[str, str]) -> None:
    for path, kind in (("/", "text/html"), ("/static/live.js", "text/javascript")):
        with urllib.request.urlopen(replicas[0] + path) as answer:
            assert answer.headers["Content-Type"].startswith(kind)
            assert b"//cdn" not in answer.read()
    with urllib.request.urlopen(replicas[0] + "/api/echo", b"\0any <b>bytes") as answer:
        assert answer.read() == b"\0any <b>bytes"
        assert answer.headers["Content-Type"] == "application/octet-stream"
    assert ask(replicas[0], "/api/slow?seconds=0.01")[1]["slept"] == 0.01


async def test_messages_and_presence_cross_replicas(replicas: tuple[str, str]) -> None:
    async with person(replicas[0], "ann", "hall") as ann:
        async with person(replicas[1], "bob", "hall") as bob:
            assert bob.joined["users"] == ["ann", "bob"]
            await ann.sees("ann", "bob")
            said = await bob.io.call("say", {"body": "hello"})
            assert await ann.hears("message", body="hello") == said
            assert said["server"] == "web.2@r1"
            async with person(replicas[1], "eve", "elsewhere") as eve:
                await eve.io.call("say", {"body": "psst"})
        await ann.sees("ann")
        ask(replicas[1], "/api/rooms/hall/messages", {"author": "api", "body": "posted"})
        assert (await ann.hears("message"))["body"] == "posted"


async def test_events_with_nonsense_get_an_answer(replicas: tuple[str, str]) -> None:
    client = socketio.AsyncClient()
    await client.connect(replicas[0], transports=["websocket"])
    try:
        for event, data in (("join", None), ("join", {"room": 1}), ("say", {"body": "x"})):
            assert "error" in await client.call(event, data)
    finally:
        await client.disconnect()


async def test_sockets_are_told_to_go_once_the_notice_is_up(
    app: Application, tmp_path: Path, logs: Path
) -> None:
    notice = tmp_path / "notice"
    with app.web(logs / "leaving", SERVER_ID="web.1@r1", GAPLESS_NOTICE=str(notice)) as leaving:
        async with person(leaving, "ann", "moving") as ann:
            await ann.hears("connect")
            await ann.io.call("say", {"body": "still here"})
            notice.touch()
            await ann.hears("reconnect")
            assert ask(leaving, "/health/ready")[1]["status"] == "draining"
            notice.unlink()
            await ann.hears("connect")


def test_smoke_passes_where_all_is_well(app: Application, replicas: tuple[str, str]) -> None:
    done = app.run(["python", "-m", "chat.smoke"], WEB_URL=replicas[0])
    assert done.returncode == 0, done.stderr


def test_smoke_fails_where_nothing_answers(app: Application) -> None:
    nowhere = f"http://127.0.0.1:{ports.reserve()}"
    done = app.run(["python", "-m", "chat.smoke"], WEB_URL=nowhere)
    assert done.returncode == 1
    assert nowhere in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_worker_answers_in_the_room(
    app: Application, replicas: tuple[str, str], logs: Path
) -> None:
    worker = ["celery", "-A", "chat.tasks", "worker", "-P", "solo", "-Q", "default"]
    async with person(replicas[0], "ann", "counted") as ann:
        for text in ("one", "/stats"):
            await ann.io.call("say", {"body": text})
        with app.started(worker, logs / "worker", SERVER_ID="worker.1@r1"):
            answer = await ann.hears("message", author="bot")
    assert answer["body"] == "2 messages by 1 people, counted by worker.1@r1"


def test_beat_asks_for_tidying_without_writing_files(app: Application, logs: Path) -> None:
    beat = ["celery", "-A", "chat.tasks", "beat", "--scheduler", "celery.beat:Scheduler"]
    before = sorted(path.name for path in application.CHAT.iterdir())
    with app.started([*beat, "--loglevel", "INFO"], logs / "beat"):
        stores.wait_for("beat starts", lambda: "Starting" in (logs / "beat").read_text())
    assert sorted(path.name for path in application.CHAT.iterdir()) == before


def test_migrations_go_down_and_up_again(app: Application) -> None:
    for argv in (["current"], ["downgrade", "base"], ["upgrade", "head"], ["upgrade", "head"]):
        done = app.run(["alembic", *argv])
        assert done.returncode == 0, done.stderr


def test_missing_environment_is_one_clear_line(app: Application) -> None:
    done = app.run(["python", "-c", "import chat.main"], REDIS_URL="")
    assert done.returncode == 1
    assert done.stderr.strip() == "chat: REDIS_URL must be set"


@pytest.mark.parametrize(("which", "name"), [(0, "db"), (1, "cache")])
def test_a_store_that_is_away_makes_it_unready_and_is_named(
    app: Application,
    both: tuple[stores.Running, stores.Running],
    replicas: tuple[str, str],
    which: int,
    name: str,
) -> None:
    def down() -> list[str]:
        status, body = ask(replicas[0], "/health/ready")
        assert (status == 200) == (body["down"] == [])
        return list(body["down"])

    both[which].freeze(True)
    try:
        stores.wait_for(f"{name} is named as frozen", lambda: down() == [name])
        assert ask(replicas[0], "/health/live")[0] == 200
    finally:
        both[which].freeze(False)
    stores.wait_for("ready again", lambda: down() == [])
    both[which].stop()
    try:
        stores.wait_for(f"{name} is named as gone", lambda: down() == [name])
    finally:
        both[which].start()
    stores.wait_for("ready again", lambda: down() == [])
