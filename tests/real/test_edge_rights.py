"""Started by root, the edge serves as nobody in particular, and can do all that it could."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from tests.edge import stand

UID = 70_123
OTHER = 70_124
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def low() -> str:
    """A free address that only root may listen on."""
    for port in range(1023, 600, -1):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return f"127.0.0.1:{port}"
    raise AssertionError("no port below 1024 is free")


@pytest.fixture
async def place() -> AsyncIterator[stand.Stand]:
    page = "<h1>soon</h1>"
    async with stand.standing(uid=UID, maintenance_page=page, listen=low()) as made:
        made.root.chmod(0o711)
        (made.root / "run").chmod(0o711)
        yield made


async def closed(place: stand.Stand, name: str) -> stand.App:
    """An app whose socket lies as the runtime puts it: its own directory, the edge's group."""
    folder = place.root / f"s-{name}"
    folder.mkdir()
    os.chown(folder, OTHER, UID)
    folder.chmod(0o2710)
    app = stand.App(name, str(folder / "s"))
    await app.start()
    os.chown(app.path, OTHER, UID)
    Path(app.path).chmod(0o775)
    place.apps.append(app)
    return app


def ids(pid: int, kind: str) -> set[int]:
    """Real, effective, saved and file system ids of a process, or its groups."""
    (line,) = (
        text
        for text in Path(f"/proc/{pid}/status").read_text().splitlines()
        if text.startswith(f"{kind}:")
    )
    return {int(word) for word in line.split()[1:]}


async def ask(client: aiohttp.ClientSession, place: stand.Stand) -> tuple[int, str]:
    async with client.get(place.url) as answer:
        return answer.status, await answer.text()


async def test_a_worker_has_no_rights_and_serves(place: stand.Stand) -> None:
    app = await closed(place, "a")
    await place.enter(app)
    workers = await place.edge._known_workers()
    assert workers.current is not None
    assert ids(workers.current, "Uid") == {UID}
    assert ids(workers.current, "Gid") == {UID}
    assert ids(workers.current, "Groups") == set()
    assert ids(workers.master, "Uid") == {0}
    for name in ("CapEff", "CapPrm"):
        text = Path(f"/proc/{workers.current}/status").read_text()
        assert f"{name}:\t{0:016x}" in text
    async with aiohttp.ClientSession() as client:
        assert await ask(client, place) == (200, "a")
        await place.edge.maintenance(True)
        assert await ask(client, place) == (503, "<h1>soon</h1>")


async def test_it_reloads_below_port_1024_and_old_workers_pass_on(place: stand.Stand) -> None:
    one, two = await closed(place, "a"), await closed(place, "b")
    await place.enter(one)
    reader, writer = await asyncio.open_connection(*place.config.listen.split(":"))

    async def again() -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return await reader.readexactly(1)

    assert await again() == b"a"
    wanted = replace(place.config, maxconn=400, maintenance_page="<h1>later</h1>")
    await place.edge.reload(wanted, (place.member(one),))
    workers = await place.edge._known_workers()
    assert workers.current is not None
    assert len(workers.old) == 1
    assert ids(workers.current, "Uid") == {UID}
    await place.enter(two)
    await place.leave(one)
    assert await again() == b"b"  # by a socket of the new worker's, which must be the edge's too
    writer.close()
    async with aiohttp.ClientSession() as client:
        assert await ask(client, place) == (200, "b")
        await place.edge.maintenance(True)
        assert await ask(client, place) == (503, "<h1>later</h1>")
    await place.edge.reload(replace(wanted, maxconn=300), (place.member(two),))
    assert (await place.edge.look()).maintenance


async def test_nobody_else_may_give_it_orders(place: stand.Stand) -> None:
    for name in ("edge.sock", "edge-master.sock"):
        seen = (place.root / "run" / name).stat()
        assert (seen.st_uid, seen.st_mode & 0o777) == (0, 0o600)


async def test_a_socket_of_another_group_is_out_of_its_reach(place: stand.Stand) -> None:
    """The planted fault: what the rights are for, and that they are in force."""
    app = await closed(place, "a")
    await place.enter(app)
    os.chown(Path(app.path).parent, OTHER, OTHER)

    async def down() -> bool:
        server = await place.server(app)
        return server is not None and not server.up

    await stand.until(down, "its checks cannot reach it")
