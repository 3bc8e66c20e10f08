"""The container runtime on a real engine, beyond the contract that all runtimes keep."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.edge.stand import clean_up
from tests.runtimes import docker_bench
from tests.runtimes.process_bench import dead, until

from gapless.engine.releases import context
from gapless.errors import EnvironmentFault, RuntimeFault
from gapless.model.process import Exit, Process, Stop
from gapless.runtimes.docker import DockerRuntime, follow, holder, seen, spec
from gapless.runtimes.docker.client import Client
from gapless.runtimes.mixed import MixedRuntime
from gapless.runtimes.process import ProcessRuntime


class Stand:
    """Runtimes of one stack, one after the other, and everything cleared away in the end."""

    def __init__(self, folder: Path, image: str, url: str | None = None) -> None:
        self.folder = folder
        self.image = image
        self.url = url
        self.opened: list[DockerRuntime] = []

    def runtime(self, **more: Any) -> DockerRuntime:
        run = self.folder / "run"
        given = {"url": self.url, "image": self.image, **more}
        made = DockerRuntime(self.folder / "state", run, "chat", **given)
        self.opened.append(made)
        return made

    async def close(self) -> None:
        client = Client(self.url)
        owner = self.runtime().owner
        for body in await client.containers(owner.labels):
            await client.remove(body["Id"], force=True)
        for name in await client.networks(owner.labels):
            await client.remove_network(name)
        await client.close()
        for runtime in self.opened:
            await runtime.close()


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path, await asyncio.to_thread(docker_bench.image))
    yield made
    await made.close()


@pytest.fixture(params=["docker", "podman"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    """The same on one engine and on the other."""
    url = docker_bench.podman() if request.param == "podman" else None
    made = Stand(tmp_path, await asyncio.to_thread(docker_bench.image, url), url)
    yield made
    await made.close()


def shell(text: str, id: str = "web.1@r1", **more: Any) -> Process:
    return Process(id, ("sh", "-c", text), **more)


async def test_what_is_promised_of_containers_holds_inside(stand: Stand) -> None:
    runtime = stand.runtime()
    address = runtime.address("web.1@r1", "socket")
    text = """
    id -u; cat /proc/self/status
    echo > /mine 2>/dev/null && echo ROOT IS WRITABLE
    echo > "$(echo $PLACE)/made" && echo socket directory is writable
    echo > /tmp/made && echo temporary is writable
    exec sleep 600
    """
    place = str(Path(str(address.socket)).parent)
    given = shell(text, address=address, identity="web", env={"PLACE": place}, cpu_limit=0.5)
    found = await runtime.start(given)
    assert found.alive
    log = runtime.log("web.1@r1")
    await until(lambda: "temporary is writable" in log.read_text())
    lines = log.read_text().splitlines()
    wanted = runtime.identity_uid("web")
    assert wanted is None or str(wanted) in lines
    assert "socket directory is writable" in lines and "ROOT IS WRITABLE" not in lines
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["CapEff"].strip("0") == status["CapBnd"].strip("0") == ""
    assert status["NoNewPrivs"] == "1"
    body = await runtime.client.inspect(runtime.owner.name("web.1@r1"))
    assert body is not None
    assert body["HostConfig"]["NanoCpus"] == 500_000_000 and not body["HostConfig"]["PortBindings"]
    assert list(body["NetworkSettings"]["Networks"]) == [runtime.owner.network]


async def test_docker_ps_shows_what_the_controller_found_and_nothing_comes_of_it(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spec, "HEALTH_EVERY", 1)
    runtime = stand.runtime()
    ended: list[str] = []

    async def listen() -> None:
        ended.append(await anext(runtime.ended()))

    listening = asyncio.create_task(listen())
    name = runtime.owner.name("web.1@r1")
    await runtime.start(shell("exec sleep 600", shown=60.0))

    async def shown() -> str:
        body = await runtime.client.inspect(name)
        assert body is not None and body["RestartCount"] == 0
        return str(body["State"]["Health"]["Status"])

    async def shows(word: str) -> bool:
        return await shown() == word

    before = await runtime.client.inspect(name)
    # Not ready yet, and within its time: nothing is said against it.
    assert await shown() == "starting"
    for ready, word in ((True, "healthy"), (False, "unhealthy"), (True, "healthy")):
        runtime.show_health({"web.1@r1": ready})
        await until(functools.partial(shows, word))
    after = await runtime.client.inspect(name)
    assert before is not None and after is not None
    assert [one["State"]["StartedAt"] for one in (before, after)] == [
        before["State"]["StartedAt"]
    ] * 2
    # Its own look of what happens heard of no end, and it lives.
    assert [found.alive for found in await runtime.look()] == [True]
    listening.cancel()
    assert ended == []
    # What lives no more is shown no more.
    runtime.show_health({})
    assert list((stand.folder / "run" / "h").iterdir()) == []


async def test_a_command_is_asked_where_the_program_is(stand: Stand) -> None:
    runtime = stand.runtime()
    assert (await runtime.ask("web.1@r1", ["true"], 5.0))[0] is None  # nobody is there
    await runtime.start(shell("echo 7 > /tmp/mine; exec sleep 600", env={"WORD": "hello"}))
    ask = functools.partial(runtime.ask, "web.1@r1")

    async def well(words: str) -> bool:
        return (await ask(["sh", "-c", words], 60.0))[0] == 0

    await until(functools.partial(well, "test -s /tmp/mine"))
    assert await ask(["sh", "-c", "cat /tmp/mine; echo $WORD; exit 3"], 60.0) == (3, "7\nhello")
    assert (await ask(["./nowhere"], 60.0))[0] not in (0, None)
    # One that hangs is not joined by another, and whoever asks is told.
    for _ in range(2):
        said = await ask(["sh", "-c", "echo x >> /tmp/asked; exec sleep 300"], 0.2)
        assert said == (None, "no end within 0.2 s")
    await until(functools.partial(well, "test -s /tmp/asked"))
    assert await ask(["sh", "-c", "cat /tmp/asked"], 60.0) == (0, "x")


async def test_containers_find_each_other_by_name(stand: Stand) -> None:
    runtime = stand.runtime()
    for number in (1, 2):
        await runtime.start(shell("exec sleep 600", f"queue.{number}@r1", alias="queue"))
    image = await asyncio.to_thread(docker_bench.python_image)
    await runtime.start(shell("exec sleep 600", image=image))
    asks = "import socket; print(len({a[4] for a in socket.getaddrinfo('%s', 1, type=1)}))"
    assert await runtime.ask("web.1@r1", ["python3", "-c", asks % "queue"], 60.0) == (0, "2")
    assert (await runtime.ask("web.1@r1", ["python3", "-c", asks % "nobody"], 60.0))[0] == 1


async def test_nothing_of_others_is_touched(stand: Stand) -> None:
    """Not a container with the labels of the same stack under another roof, nor a stranger's."""
    client = Client()
    other = spec.Owner("chat", "another0")
    labels = other.labels | {spec.ID: "web.1@r1", spec.FACTS: "{}"}
    foreign = {"Image": stand.image, "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
    keys: list[str] = []
    try:
        for body in (foreign, foreign | {"Labels": labels}):
            key, _ = await client.create(f"foreign{len(keys)}-{stand.folder.name}", body)
            keys.append(key)
        runtime = stand.runtime()
        assert list(await runtime.look()) == []
        await runtime.start(shell("exec sleep 600"))
        await runtime.signal("web.1@r1", "KILL")
        await until(lambda: dead(runtime, "web.1@r1"))
        await runtime.forget("web.1@r1")
        assert [await client.inspect(key) is not None for key in keys] == [True, True]
        # The network goes with the last of ours, and only ours.
        assert list(await client.networks(runtime.owner.labels)) == []
    finally:
        for key in keys:
            await client.remove(key, force=True)
        await client.close()


async def test_a_network_that_is_open_stays_until_it_is_closed(either: Stand) -> None:
    """And programs of the machine may listen there before any container is in it."""
    stand = either
    runtime = stand.runtime()
    await runtime.open_bridge()
    bridge = runtime.bridge
    assert bridge is not None and holder.here(bridge.host)
    assert ipaddress.ip_address(bridge.host) in ipaddress.ip_network(bridge.network)
    await runtime.start(shell("true", "call@r1.1", record_exit=True))
    await until(lambda: dead(runtime, "call@r1.1"))
    await runtime.forget("call@r1.1")
    assert list(await runtime.client.networks(runtime.owner.labels)) == [runtime.owner.network]
    again = stand.runtime()
    await again.open_bridge()
    assert again.bridge == bridge and holder.here(bridge.host)
    await again.close_bridge()
    assert list(await runtime.client.networks(runtime.owner.labels)) == []
    assert await runtime.client.containers(runtime.owner.labels) == []


async def test_a_network_of_stores_that_lacks_the_machine_is_told_with_what_to_do(
    either: Stand,
) -> None:
    runtime = either.runtime()
    if either.url is None:
        assert holder.here((await runtime.inner_bridge()).host)
        return
    with pytest.raises(RuntimeFault, match="stores: has no address of this machine") as caught:
        await runtime.inner_bridge()
    assert "a store without image is a program of this machine" in str(caught.value.hint)


async def test_an_address_that_no_container_brings_about_is_told_and_nothing_is_left(
    either: Stand,
) -> None:
    runtime = either.runtime()
    await runtime.client.make_network(
        runtime.owner.network, spec.network(runtime.owner.labels, inner=False)
    )
    held = holder.Holder(runtime.client, runtime.owner)
    await held.hold("127.0.0.1")  # needs none
    with pytest.raises(RuntimeFault, match=r"its address 192\.0\.2\.77 is none of this machine's"):
        await held.hold("192.0.2.77")
    assert await runtime.client.containers(runtime.owner.labels) == []


async def test_each_line_is_copied_once_whoever_dies_and_when(stand: Stand) -> None:
    first = stand.runtime()
    text = "for n in $(seq 2000); do echo line $n; echo error $n >&2; done; exec sleep 600"
    await first.start(shell(text))
    log = first.log("web.1@r1")
    await until(lambda: log.read_text().count("\n") > 500)
    await first.close()
    # As a kill between the two writes leaves it: more was copied than the mark knows.
    (mark,) = (stand.folder / "state" / "copied").iterdir()
    held = mark.read_text()
    second = stand.runtime()
    await second.look()
    await until(lambda: log.read_text().count("\n") > 1000)
    await second.close()
    mark.write_text(held)
    third = stand.runtime()
    await third.look()
    await until(lambda: log.read_text().count("\n") >= 4000)
    await third.signal("web.1@r1", "KILL")
    await until(lambda: dead(third, "web.1@r1"))
    await third.forget("web.1@r1")
    lines = log.read_text().splitlines()
    for word in ("line", "error"):
        assert [x for x in lines if x.startswith(word)] == [f"{word} {n}" for n in range(1, 2001)]
    assert len(lines) == 4000
    assert not list((stand.folder / "state" / "copied").iterdir())


async def test_lines_of_any_length_are_copied_whole(stand: Stand) -> None:
    runtime = stand.runtime()
    await runtime.start(shell("head -c 100000 /dev/zero; echo; echo -n '\\377'", record_exit=True))
    await until(lambda: dead(runtime, "web.1@r1"))
    await runtime.forget("web.1@r1")
    assert runtime.log("web.1@r1").read_bytes() == b"\0" * 100_000 + b"\n\xef\xbf\xbd"


async def test_a_job_that_takes_too_long_is_ended_and_says_so(stand: Stand) -> None:
    runtime = stand.runtime()
    await runtime.start(Process("job", ("sleep", "600"), record_exit=True, timeout=0.5))
    found = await until(lambda: dead(runtime, "job"))
    assert found.exit == Exit(signal=15, timed_out=True)


async def test_what_never_ran_is_cleared_away_and_started_again(stand: Stand) -> None:
    """A creator that died between creating and starting."""
    first = stand.runtime()
    given = shell("exec sleep 600")
    body = spec.container(
        given,
        spec.facts(given, 1.0, "boot"),
        first.owner,
        spec.Place(stand.image, "70001:70001", (), "none"),
    )
    await first.client.create(first.owner.name(given.id), body)
    second = stand.runtime()
    assert list(await second.look()) == []
    assert (await second.start(given)).alive
    # And one that appears behind the back of the first look.
    await first.client.create(first.owner.name("web.2@r1"), body)
    assert (await second.start(shell("exec sleep 600", "web.2@r1"))).alive


async def test_a_container_removed_by_other_means_is_gone_and_wakes_the_loop(stand: Stand) -> None:
    runtime = stand.runtime()
    await runtime.start(shell("exec sleep 600"))
    await runtime.client.remove(runtime.owner.name("web.1@r1"), force=True)
    async with asyncio.timeout(90):
        assert await anext(aiter(runtime.ended())) == "web.1@r1"
    assert list(await runtime.look()) == []


async def test_a_foreign_container_of_the_name_is_told_and_left_alone(stand: Stand) -> None:
    runtime = stand.runtime()
    name = runtime.owner.name("web.1@r1")
    key, _ = await runtime.client.create(name, {"Image": stand.image, "Cmd": ["true"]})
    try:
        with pytest.raises(RuntimeFault, match=f"a container {name} is there already"):
            await runtime.start(shell("exec sleep 600"))
        assert await runtime.client.inspect(key) is not None
    finally:
        await runtime.client.remove(key, force=True)


async def test_each_program_is_on_the_side_that_its_image_says(stand: Stand) -> None:
    containers = stand.runtime()
    processes = ProcessRuntime(stand.folder / "state", stand.folder / "run", "chat")
    both = MixedRuntime(processes, containers)
    packed = Process("web.1@r1", ("sleep", "600"), image=stand.image)
    plain = Process("edge", ("sleep", "600"))
    assert await both.start(packed) != await both.start(plain)
    assert [found.id for found in await both.look()] == ["edge", "web.1@r1"]
    assert [found.id for found in await processes.look()] == ["edge"]
    assert set(await both.usage(["edge", "web.1@r1", "never"])) == {"edge", "web.1@r1"}
    assert await both.standstill(["edge", "web.1@r1"]) == {}
    # Another instance finds each where it is.
    again = MixedRuntime(processes, stand.runtime())
    await again.look()
    ends = aiter(again.ended())
    for id in ("edge", "web.1@r1"):
        await again.signal(id, "TERM")
        async with asyncio.timeout(90):
            assert await anext(ends) == id
        await until(functools.partial(dead, again, id))
        await again.forget(id)
    assert list(await again.look()) == []
    await ends.aclose()  # type: ignore[attr-defined]  # a generator
    processes.close()


async def test_a_missing_image_is_a_fault_with_its_name(stand: Stand) -> None:
    with pytest.raises(RuntimeFault, match="nobody/has-this"):
        await stand.runtime().start(shell("true", image="nobody/has-this:1"))


async def test_more_than_a_hundred_connections_are_no_limit(stand: Stand) -> None:
    """Each program's output is one; a limit would be a standstill of everything."""
    client = Client()
    streams = [client.events({spec.STACK: "chat"}) for _ in range(130)]
    try:
        async with asyncio.timeout(90):
            await asyncio.gather(*(anext(stream) for stream in streams))
            assert await client.containers({spec.STACK: "nobody"}) == []
    finally:
        for stream in streams:
            await stream.aclose()  # type: ignore[attr-defined]  # a generator
        await client.close()


async def test_no_engine_and_one_too_old_are_refused_with_what_to_do(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/none.sock", "ftp://nowhere"):
        with pytest.raises(EnvironmentFault, match="docker:") as refused:
            await Client(url).engine()
        assert refused.value.hint == "is Docker running, and may you use it? docker version"

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"ApiVersion": "1.40"}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(old, tmp_path / "old.sock")
    async with server:
        with pytest.raises(EnvironmentFault, match=r"speaks version 1\.40 of the API, 1\.41 is"):
            await Client(f"unix://{tmp_path}/old.sock").engine()


def frame(text: str) -> bytes:
    body = text.encode()
    return b"\1\0\0\0" + len(body).to_bytes(4, "big") + body


Output = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def recorded(folder: Path, output: Output) -> AsyncIterator[Client]:
    """A client of an engine that has one container, of which it tells ``output``."""

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": "1.41"})

    routes = web.Application()
    routes.router.add_get("/version", version)
    routes.router.add_get("/v1.41/version", version)
    routes.router.add_get("/v1.41/containers/key/logs", output)
    runner = web.AppRunner(routes, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "engine.sock")).start()
    client = Client(f"unix://{folder}/engine.sock")
    try:
        yield client
    finally:
        await client.close()
        await clean_up(runner)


async def test_what_an_engine_cuts_off_or_leaves_open_is_copied_to_its_end(tmp_path: Path) -> None:
    """One that is held up as Podman may be: an output that goes on for ever after the death of
    its program, and does not have the last lines."""
    asked: list[str] = []

    async def output(request: web.Request) -> web.StreamResponse:
        asked.append(request.query["follow"])
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(frame("2026-11-29T02:03:50Z one\n"))
        if request.query["follow"] == "1":
            await asyncio.Event().wait()
        await answer.write(frame("2026-11-29T02:03:50Z two\n"))
        return answer

    log = tmp_path / "log"
    async with recorded(tmp_path, output) as client:
        copy = follow.Copy(client, "key", log, tmp_path / "mark")
        living = [True]
        copying = asyncio.create_task(copy.run(lambda: living[0]))
        await until(lambda: log.exists() and log.read_text() == "one\n")
        living[0] = False
        copy.ended()
        await asyncio.wait_for(copying, 90)
    assert (log.read_text(), asked) == ("one\ntwo\n", ["1", "0"])


async def test_each_question_to_a_local_engine_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """One that is on its way out answers on those that it has, and takes no new ones."""
    asked = []

    async def output(request: web.Request) -> web.StreamResponse:
        asked.append(request.transport)
        return web.Response()

    async with recorded(tmp_path, output) as client:
        for _ in range(2):
            assert [piece async for piece in client.output("key", "0", follow=False)] == []
    assert asked[0] is not asked[1]


async def test_a_line_that_the_engine_records_late_is_copied_after_all(tmp_path: Path) -> None:
    """The controller ends between two lines whose order in the record is not that of their times:
    each of a program's two streams is stamped before it waits for its turn to be recorded."""
    record = ["50.000000001Z one", "58.300000000Z three"]

    async def output(request: web.Request) -> web.StreamResponse:
        since = float(request.query["since"])
        lines = [f"2026-11-29T02:03:{line}\n" for line in record]
        told = [line for line in lines if seen.moment(line.split()[0]) >= since]
        return web.Response(body=b"".join(map(frame, told)))

    async with recorded(tmp_path, output) as client:
        for more in ("58.200000000Z two", "58.300000000Z four"):
            await follow.Copy(client, "key", tmp_path / "log", tmp_path / "mark").run(lambda: False)
            record.append(more)
        await follow.Copy(client, "key", tmp_path / "log", tmp_path / "mark").run(lambda: False)
    assert (tmp_path / "log").read_text().split() == ["one", "three", "two", "four"]


async def test_an_engine_is_spoken_to_over_tcp_too(stand: Stand) -> None:
    """A tunnel stands for the engine's own port."""

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection("/var/run/docker.sock")
        await asyncio.gather(_pass(reader, back), _pass(there, writer))

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0, family=socket.AF_INET)
    async with server:
        port = server.sockets[0].getsockname()[1]
        runtime = stand.runtime(url=f"tcp://127.0.0.1:{port}")
        await runtime.start(shell("echo hello", record_exit=True))
        await until(lambda: dead(runtime, "web.1@r1"))
        await runtime.forget("web.1@r1")
        assert runtime.log("web.1@r1").read_text() == "hello\n"
        await runtime.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_a_mark_has_always_the_same_length() -> None:
    longest = follow.Mark(10**19, 10**9, 10**15)
    assert len(str(longest)) < follow.WIDTH


@pytest.mark.parametrize(("said", "code"), [(None, 2), ("TERM", 15), ("QUIT", 3)])
async def test_what_ends_it_is_what_it_says_else_what_its_image_says(
    stand: Stand, said: Stop | None, code: int
) -> None:
    runtime = stand.runtime()
    name = f"gapless-test:int-{stand.folder.name.lower()}"
    recipe = f"FROM {stand.image}\nSTOPSIGNAL SIGINT\n".encode()
    with context.archive({}, {"Dockerfile": recipe}) as archive:
        async for _ in runtime.client.build(archive, name, query={}, labels={}):
            pass
    try:
        traps = " ".join(f"trap 'exit {number}' {number};" for number in (2, 3, 15))
        text = f"{traps} echo ready; while :; do sleep 0.1; done"
        await runtime.start(shell(text, image=name, stop=said))
        await until(lambda: "ready" in runtime.log("web.1@r1").read_text())
        await runtime.signal("web.1@r1", None)
        found = await until(lambda: dead(runtime, "web.1@r1"))
        assert found.exit == Exit(code)
    finally:
        await runtime.client.untag(name)


async def test_an_image_that_somebody_removed_is_told_with_what_to_do(stand: Stand) -> None:
    gone = f"sha256:{'0' * 64}"
    with pytest.raises(RuntimeFault, match="No such image") as told:
        await stand.runtime().start(shell("true", image=gone))
    assert "gapless deploy --force" in str(told.value.hint)
