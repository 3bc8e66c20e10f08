"""TLS of rendered files: the edge's own policy, the redirect, and what services are told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gapless.drills import handshakes, ports
from gapless.edge import tls
from gapless.model.stack import Stack
from gapless.targets import ask, balance, haproxy, keys, nginx
from tests.edge.test_tls import ANY, NAME, made
from tests.real.standing import open_folder
from tests.targets import programs
from tests.targets.echo import Echo

TABLE: dict[str, Any] = {
    "gapless": 1,
    "name": "demo",
    "domains": [NAME],
    "service": {"web": {"run": "a ${socket}", "sticky": "cookie"}},
    "edge": {"listen": "127.0.0.1:80", "tls_listen": "127.0.0.1:8443"},
}
STACK = Stack.model_validate(TABLE)


def _ask(target: str, folder: Path, behind: str) -> ask.Ask:
    (folder / "site.pem").write_text(made())
    return ask.Ask(
        at=str(folder),
        upstreams=ask.upstreams([behind]),
        listen=f"127.0.0.1:{ports.reserve()}",
        tls_listen=f"127.0.0.1:{ports.reserve()}",
        certificate=f"{folder}/site.pem",
        key=f"{folder}/site.pem" if target == "nginx" else None,
    )


def _write(target: str, folder: Path, wanted: balance.Balance) -> None:
    made_ = nginx.files(wanted) if target == "nginx" else haproxy.files(wanted)
    programs.write(folder, made_)


def _port(listen: str | None) -> int:
    return int((listen or "").rpartition(":")[2])


@pytest.mark.parametrize("target", ["nginx", "haproxy"])
@pytest.mark.parametrize("name", ["web", "edge"])
async def test_the_policy_the_redirect_and_the_words(target: str, name: str) -> None:
    with open_folder() as folder:
        app = await Echo("web1", f"{folder}/web1.sock").start()
        wanted = balance.of_stack(STACK, _ask(target, folder, f"{name}=unix:{app.path}"))
        _write(target, folder, wanted)
        assert programs.check(target, folder) == ""
        plain, secure = _port(wanted.listen), _port(wanted.tls_listen)
        try:
            with programs.running(target, folder, secure):
                await _asked(app, plain, secure)
                if (target, name) == ("haproxy", "web"):
                    return  # the edge's own text, whose policy has tests of its own
                server = handshakes.Server("127.0.0.1", secure, NAME)
                cells = await asyncio.to_thread(lambda: list(handshakes.matrix(server)))
                assert [cell.fault for cell in cells if cell.fault] == []
                assert list(await asyncio.to_thread(handshakes.manners, server)) == []
        finally:
            await app.stop()


async def _asked(app: Echo, plain: int, secure: int) -> None:
    named = {"Host": NAME}
    connector = aiohttp.TCPConnector(ssl=ANY)
    async with aiohttp.ClientSession(connector=connector) as client:
        async with client.get(f"https://127.0.0.1:{secure}/x", headers=named) as answer:
            assert answer.status == 200
        assert app.headers["x-forwarded-proto"] == "https"
        for cookie in answer.cookies.values():
            assert cookie["secure"]
        async with client.ws_connect(f"wss://127.0.0.1:{secure}/ws", headers=named) as channel:
            await channel.send_str("hello")
            assert (await channel.receive_str()).endswith("hello")
        for method, status in (("GET", 301), ("POST", 308)):
            url = f"http://127.0.0.1:{plain}/x?y=%20"
            async with client.request(method, url, headers=named, allow_redirects=False) as answer:
                assert answer.status == status
                assert answer.headers["Location"] == f"https://{NAME}:{secure}/x?y=%20"


async def test_another_policy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault: what is spoken follows the edge's table."""
    monkeypatch.setattr(tls, "POLICY", tls.Policy(curves=("X25519", "P-256")))
    with open_folder() as folder:
        wanted = balance.of_stack(STACK, _ask("nginx", folder, "web=unix:/nobody"))
        _write("nginx", folder, wanted)
        with programs.running("nginx", folder, _port(wanted.tls_listen)):
            server = handshakes.Server("127.0.0.1", _port(wanted.tls_listen), NAME)
            cells = await asyncio.to_thread(lambda: list(handshakes.matrix(server)))
            assert any("P-384: refused" in cell.fault for cell in cells)


def test_a_stack_that_speaks_tls_wants_a_certificate(tmp_path: Path) -> None:
    asked = replace(_ask("nginx", tmp_path, "web=a:1"), certificate=None, key=None)
    lines = keys.report("nginx", balance.of_stack(STACK, asked), [])
    assert [line.kind for line in lines if line.key == "TLS"] == ["refused"]
