"""TLS behind the front: it passes connections on unopened, and each stack shows its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.real.standing import open_folder
from tests.real.test_front import Stack, Visitors

from gapless import errors
from gapless.drills import ports
from gapless.engine.certificates import x509


class Secure(Stack):
    """One of several on one address for plain HTTP and one for TLS."""

    tls = 0

    def share(self, more: str = "shared = true", start: str = "20s") -> None:
        more = f'{more}\ntls = "self-signed"\ntls_listen = "127.0.0.1:{Secure.tls}"'
        super().share(more, start)
        text = self.file.read_text()
        self.file.write_text(text.replace("gapless = 1", f'gapless = 1\ndomains = ["{self.host}"]'))

    def connected(self, name: str) -> http.client.HTTPSConnection:
        """A connection through the front that asks for that name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", Secure.tls, timeout=20)
        plain = http.client.HTTPConnection("127.0.0.1", Secure.tls, timeout=20)
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
async def machine(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Secure, Secure]]:
    """Two stacks on the same ports, both up."""
    with open_folder() as folder:
        monkeypatch.setenv("GAPLESS_STATE", str(folder / "state"))
        port, Secure.tls = ports.reserve(), ports.reserve()
        stacks = [Secure(folder / name, name, port, f"{name}.test") for name in ("alpha", "beta")]
        for stack in stacks:
            await stack.begin()
        await asyncio.gather(*(stack.do("up") for stack in stacks))
        yield stacks[0], stacks[1]
        for stack in stacks:
            if not stack.controller.stopping:
                with contextlib.suppress(errors.NoController):
                    await stack.do("down")
            await stack.end()


class SecureVisitors(Visitors):
    """They come by TLS and ask for the host's name."""

    def __init__(self, stack: Secure) -> None:
        super().__init__(stack)
        self.url = f"https://{stack.host}:{Secure.tls}"

    async def _client(self, number: int) -> None:
        class Here(aiohttp.abc.AbstractResolver):
            async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[object]:  # type: ignore[override]
                found = {"hostname": host, "host": "127.0.0.1", "port": port}
                return [{**found, "family": 2, "proto": 0, "flags": 0}]

            async def close(self) -> None:
                """Nothing is held."""

        connector = aiohttp.TCPConnector(
            limit=1, force_close=number % 2 == 1, ssl=False, resolver=Here()
        )
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as session:
            session._retry_connection = False
            while True:
                await self._one(session, number)
                await asyncio.sleep(0.005)


async def test_each_shows_its_own_certificate(machine: tuple[Secure, Secure]) -> None:
    alpha, beta = machine
    for stack in machine:
        assert (await asyncio.to_thread(_plain, stack)) == f"https://{stack.host}:{Secure.tls}/x"
        connection = await asyncio.to_thread(stack.connected, stack.host)
        status, name, facts = await asyncio.to_thread(asked, connection, stack.host)
        assert (status, name) == (200, stack.name)
        assert stack.host in facts.names
        # A connection for one name may be used for another's, and is sent back then.
        other = beta if stack is alpha else alpha
        assert (await asyncio.to_thread(asked, connection, other.host))[0] == 421
        connection.close()
    # One renews its certificate and goes, under load on the other.
    async with SecureVisitors(beta) as load, asyncio.timeout(60):
        while load.answers.get("ok", 0) < 20:
            assert load.failed == {}
            await asyncio.sleep(0.01)
        await alpha.do("renew")
        await alpha.do("down")
        enough = load.answers["ok"] + 20
        while load.answers["ok"] < enough:
            assert load.failed == {}
            await asyncio.sleep(0.01)
    assert load.failed == {}
    # Who asks for a name that nobody has any more, or never had, or for none, is told nothing.
    for name in ("alpha.test", "gamma.test", ""):
        with pytest.raises(OSError):
            await asyncio.to_thread(beta.connected, name)


def _plain(stack: Secure) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=20)
    connection.request("GET", "/x", headers={"Host": stack.host})
    answer = connection.getresponse()
    connection.close()
    return answer.headers.get("location", "")
