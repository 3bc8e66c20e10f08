"""TLS behind the front: it passes connections on unopened, and each stack shows its own."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.real.sharing import Stack, Visitors, sharing

from gapless import errors
from gapless.drills import generator, mix, spec
from gapless.engine.certificates import x509


def connected(stack: Stack, name: str) -> http.client.HTTPSConnection:
    """A connection through the front that asks for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", stack.tls, timeout=20)
    plain = http.client.HTTPConnection("127.0.0.1", stack.tls, timeout=20)
    plain.connect()
    connection.sock = context.wrap_socket(plain.sock, server_hostname=name or None)
    return connection


def asked(connection: http.client.HTTPSConnection, host: str) -> tuple[int, str, x509.Facts]:
    """Status, the stack that has answered ("" for none), and the certificate."""
    connection.request("GET", "/", headers={"Host": host})
    answer = connection.getresponse()
    answer.read()
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(binary_form=True)
    assert der is not None
    cookie = answer.headers.get("set-cookie", "").partition("=")[0].removesuffix("-web")
    return answer.status, cookie, x509.facts(ssl.DER_cert_to_PEM_cert(der))


@pytest.fixture
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two stacks on the same ports, both up."""
    async with sharing(monkeypatch, "alpha", "beta", tls=True) as (alpha, beta):
        yield alpha, beta


async def test_each_shows_its_own_certificate(machine: tuple[Stack, Stack]) -> None:
    alpha, beta = machine
    for stack in machine:
        assert (await asyncio.to_thread(_plain, stack)) == f"https://{stack.host}:{stack.tls}/x"
        connection = await asyncio.to_thread(connected, stack, stack.host)
        status, name, facts = await asyncio.to_thread(asked, connection, stack.host)
        assert (status, name) == (200, stack.name)
        assert stack.host in facts.names
        # A connection for one name may be used for another's, and is sent back then.
        other = beta if stack is alpha else alpha
        assert (await asyncio.to_thread(asked, connection, other.host))[0] == 421
        connection.close()
    await asyncio.to_thread(_drills_come_as_the_public_does, alpha)
    # One renews its certificate and goes, under load on the other.
    async with Visitors(beta) as load:
        await load.more()
        await alpha.do("renew")
        await alpha.do("down")
        await load.more()
    assert load.failed == {}
    # Who asks for a name that nobody has any more, or never had, or for none, is told nothing.
    for name in ("alpha.test", "gamma.test", ""):
        with pytest.raises(OSError):
            await asyncio.to_thread(connected, beta, name)


def _plain(stack: Stack) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    connection.request("GET", "/x", headers={"Host": stack.host})
    answer = connection.getresponse()
    connection.close()
    return answer.headers.get("location", "")


def _drills_come_as_the_public_does(stack: Stack) -> None:
    """Requests and WebSockets, to the front, by TLS and by the stack's name."""
    site = stack.controller.site
    url = site.local_url(site.stack(1))
    assert url == f"https://127.0.0.1:{stack.tls}"
    chosen = mix.Mix(url, ("/",), ("/echo",), host=stack.host)
    mix.check(chosen)
    assert stack.name in mix.ask(chosen, "/")[1]["set-cookie"]
    crowd = spec.Sockets(kind="websocket", path="/ws", clients=3)
    with generator.Load(chosen.spec(chosen.closed(), 30.0, sockets=(crowd,))) as load:
        assert load.until(requests=50, sockets=3, seconds=30.0)
        measured = load.finish(20.0)
    whole = measured.total()
    assert (whole.failed, whole.unknown) == (0, 0)
    assert (measured.sockets.connected, measured.sockets.refused) == (3, 0)
    # By a name that nobody has there is no way in: it is the name that leads there.
    with pytest.raises(errors.MissingSubject, match="no answer from the edge"):
        mix.check(replace(chosen, host="gamma.test"))
