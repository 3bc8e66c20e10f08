"""Several stacks on one address, on real parts: what one does is nothing to the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from tests.edge.stand import until
from tests.real.sharing import Stack, Visitors, sharing

from gapless import errors
from gapless.edge import keeper
from gapless.engine import claims


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two stacks on one port, both up."""
    async with sharing(monkeypatch, "alpha", "beta") as (alpha, beta):
        yield alpha, beta


async def test_each_has_its_own_and_nothing_of_the_other(machine: tuple[Stack, Stack]) -> None:
    alpha, beta = machine
    assert await alpha.ask() == (200, "alpha")
    assert await beta.ask() == (200, "beta")
    assert (await alpha.ask("gamma.test"))[0] == 404
    assert alpha.front_pid == beta.front_pid
    # One connection may carry requests for several hosts: a proxy in front does that.
    reader, writer = await asyncio.open_connection("127.0.0.1", alpha.port)
    for host in ("alpha.test", "BETA.test:80", "alpha.test", "beta.test"):
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 200"), head
        assert f"set-cookie: {host.partition('.')[0].lower()}-" in head.lower(), head
        length = int(head.lower().partition("content-length: ")[2].split()[0])
        await reader.readexactly(length)
    writer.close()
    await _only_the_front_reaches_an_edge_behind_it(alpha)
    await _a_request_for_another_host_is_sent_back(alpha)
    await _who_stands_alone_is_told_how_to_share(alpha)


async def _only_the_front_reaches_an_edge_behind_it(alpha: Stack) -> None:
    uid = alpha.front.uid()
    seen = (alpha.controller.site.paths.run / "front.sock").stat()
    assert seen.st_mode & 0o777 == 0o600
    if uid is None:
        return  # only root has somebody else to be
    assert (seen.st_uid, seen.st_gid) == (uid, uid)
    (serving,) = Path(f"/proc/{alpha.front_pid}/task").glob("*/children")
    workers = serving.read_text().split()
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in workers} == {uid}
    assert uid not in {alpha.controller.site.uid("edge"), alpha.controller.site.uid("web"), 0}


async def _a_request_for_another_host_is_sent_back(alpha: Stack) -> None:
    """What a browser does with one connection for two names that one certificate covers."""
    door = str(alpha.controller.site.paths.run / "front.sock")
    for host, status in (("alpha.test", b"200"), ("beta.test", b"421")):
        reader, writer = await asyncio.open_unix_connection(door)
        writer.write(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n")
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).split()[1] == status
        writer.close()


async def _who_stands_alone_is_told_how_to_share(alpha: Stack) -> None:
    loner = Stack(alpha.folder.parent, "loner", alpha.port)
    loner.share(more="")
    await loner.begin()
    with pytest.raises(errors.EnvironmentFault) as refused:
        await loner.do("up")
    await loner.end()
    assert "of the stack _front" in refused.value.message
    assert "shared = true" in (refused.value.hint or "")


async def test_what_one_does_costs_the_other_nothing(machine: tuple[Stack, Stack]) -> None:
    alpha, beta = machine
    front = alpha.front_pid
    async with Visitors(beta) as visitors:
        await visitors.more()
        alpha.version("good", 2)
        await alpha.do("deploy")
        assert await alpha.ask() == (200, "alpha")

        alpha.version("crash", 3)
        with pytest.raises(errors.Refused):
            await alpha.do("deploy")

        # Its edge is killed, and comes back behind the same front.
        old = alpha.edge_pid
        os.kill(old, signal.SIGKILL)

        async def again() -> bool:
            return alpha.controller.observed.edge.pid not in (None, old)

        await until(again, "another edge of alpha")
        await alpha.do("wait")
        assert await alpha.ask() == (200, "alpha")

        # It loses all that it has, and then its controller too: its host fails, and no other.
        await alpha.drop()
        os.kill(alpha.edge_pid, signal.SIGKILL)

        async def fails() -> bool:  # its worker may be about to go
            return (await alpha.ask())[0] in (502, 503)

        await until(fails, "nobody answers for alpha")
        await alpha.begin()
        await alpha.do("up")
        assert await alpha.ask() == (200, "alpha")

        await alpha.do("down")
        assert (await alpha.ask())[0] == 404
        assert await beta.ask() == (200, "beta")
        await visitors.more()
    assert visitors.failed == {}
    assert beta.front_pid == front

    # With the last one the front goes, and its address is free.
    await beta.do("down")
    with pytest.raises(OSError, match="Cannot connect"):
        await beta.ask()
    assert claims.Claims(beta.front.paths.state).all() == ()


async def test_a_killed_front_is_started_by_one_of_them(machine: tuple[Stack, Stack]) -> None:
    alpha, beta = machine
    edges = alpha.edge_pid, beta.edge_pid
    async with Visitors(alpha) as visitors:
        await visitors.more()
        await _killed(alpha, beta)
        starts = [
            entry
            for stack in machine
            for entry in stack.controller.site.journal.tail(200)
            if entry["what"] == "front start" and entry["cause"] == "it has died"
        ]
        # Both may have wanted to; the one that came second found it there.
        assert 1 <= len(starts) <= 2
        assert len(listeners(alpha.port)) == 1
        assert (alpha.edge_pid, beta.edge_pid) == edges
        # Whoever is left starts it, and has kept what is needed: who comes waits.
        await visitors.more()
        await alpha.drop()
        await _killed(beta)
        await visitors.more()
        assert visitors.refused == 0
        await alpha.begin()


async def test_who_keeps_nothing_has_clients_refused(
    machine: tuple[Stack, Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: what it is for that controllers hold the front's sockets."""
    monkeypatch.setattr(keeper.Keeper, "take", lambda *_: None)
    alpha, beta = machine
    for stack in machine:
        stack.front._keeper.drop()
    async with Visitors(alpha) as visitors:
        await visitors.more()
        await _killed(alpha, beta)
    assert visitors.refused > 0


async def _killed(*known: Stack) -> None:
    """By signal 9; on return all of them know another that serves."""
    old = known[0].front_pid
    assert old is not None
    os.kill(old, signal.SIGKILL)

    async def again() -> bool:
        return len(pids := {stack.front_pid for stack in known}) == 1 and not pids & {None, old}

    await until(again, "all know another front")

    async def serves() -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError):
            return all([(await stack.ask())[0] == 200 for stack in known])
        return False

    await until(serves, "it passes requests on")


def listeners(port: int) -> list[str]:
    """Sockets that listen on a port, by inode."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return [f[9] for f in lines if f[3] == "0A" and int(f[1].rpartition(":")[2], 16) == port]


async def test_a_name_is_of_one_stack_alone(machine: tuple[Stack, Stack]) -> None:
    alpha, beta = machine
    thief = Stack(alpha.folder.parent, "thief", alpha.port)
    thief.host = beta.host
    thief.share()
    await thief.begin()
    with pytest.raises(errors.Refused, match=r"beta-\d+ has beta\.test on "):
        await thief.do("up")
    await thief.end()

    # A deploy that wants it is refused before anything is touched, and so is who has no name.
    before = alpha.pids()
    alpha.host = "beta.test"
    alpha.share()
    alpha.version("good", 2)
    with pytest.raises(errors.Refused, match=r"beta-\d+ has beta\.test"):
        await alpha.do("deploy")
    assert alpha.pids() == before
    alpha.write(replicas=1, more="shared = true")
    with pytest.raises(errors.InvalidStack, match="told apart by host name"):
        await alpha.do("deploy")

    # A name that nobody has is taken by a deploy, and the old one is free again.
    alpha.host = "delta.test"
    alpha.share()
    await alpha.do("deploy", wait=True)
    assert await alpha.ask() == (200, "alpha")
    await until(lambda: _free(alpha), "the old name is given up")
    assert await beta.ask() == (200, "beta")


async def _free(stack: Stack) -> bool:
    return (await stack.ask("alpha.test"))[0] == 404
