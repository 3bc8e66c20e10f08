"""Certificates from an authority: a whole stack, HAProxy and Pebble."""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real import authority
from tests.real.standing import Load, Standing, open_folder, standing

from gapless import errors
from gapless.drills import ports
from gapless.engine.certificates import order, x509

NAME = "chat.example.test"
pytestmark = authority.needed


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with open_folder() as home:
        monkeypatch.setenv("GAPLESS_STATE", str(home / "state"))
        yield home


def believing() -> ssl.SSLContext:
    """How a client asks that believes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(port: int, context: ssl.SSLContext | None = None) -> x509.Facts:
    """What a new connection for ``NAME`` is shown; verified with a context that verifies."""
    context = context or believing()
    raw = http.client.HTTPConnection("127.0.0.1", port)
    raw.connect()
    with context.wrap_socket(raw.sock, server_hostname=NAME) as channel:
        der = channel.getpeercert(binary_form=True)
    assert der is not None
    return x509.facts(ssl.DER_cert_to_PEM_cert(der))


async def settled(stack: Standing) -> None:
    """Until nothing is being ordered."""
    async with asyncio.timeout(60):
        while stack.controller.site.certificates._orders:
            await stack.controller.round_done()
    await stack.controller.round_done()


async def test_issued_renewed_and_never_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with standing(folder / "stack") as stack:
        with authority.authority(folder, stack.port) as ca:
            port = ports.reserve()
            acme = f'directory = "{ca.directory}", ca = "{ca.ca}", email = "ops@example.test"'
            stack.write(more=f'tls_listen = "127.0.0.1:{port}"\nacme = {{ {acme} }}')
            text = stack.file.read_text().replace(
                "gapless = 1", f'gapless = 1\ndomains = ["{NAME}"]'
            )
            stack.file.write_text(text)

            # Nobody waits for an authority that is not there: a stand-in is shown, and told of.
            await stack.do("up")
            await settled(stack)
            assert shown(port).own
            edge = stack.controller.observed.edge.pid
            seen = stack.controller.observed.certificates[NAME]
            assert seen.kind == "stand-in"
            assert seen.failures is not None
            assert "cannot be reached" in seen.failures.reason

            # It comes, and forgets its nonces: who asks only twice gets nowhere.
            ca.start(bad_nonces=95)
            with monkeypatch.context() as planted, pytest.raises(errors.WorkFailed, match="nonce"):
                planted.setattr(order, "NONCES", 2)
                await stack.do("renew")
            assert shown(port).own
            ca.stop()
            ca.start(bad_nonces=50)
            await stack.do("renew")
            first = shown(port, ca.trusting())
            assert (first.names, first.own) == ((NAME,), False)
            assert stack.controller.observed.certificates[NAME].kind == "issued"

            # Another one, under load, with a connection from before.
            held = http.client.HTTPSConnection("127.0.0.1", port, context=believing())
            held.request("GET", "/")
            assert held.getresponse().read()
            held.auto_open = 0
            async with Load(f"https://127.0.0.1:{port}") as load:
                for _ in range(2):
                    await load.more()
                    await stack.do("renew")
                await load.more()
            assert load.failed == {}
            second = shown(port, ca.trusting())
            assert second.serial != first.serial
            held.request("GET", "/")
            assert held.getresponse().read()
            held.close()

            # An authority that has gone away takes nothing with it.
            trusting = ca.trusting()
            ca.stop()
            with pytest.raises(errors.WorkFailed, match="cannot be reached"):
                await stack.do("renew")
            assert shown(port, trusting) == second

            # It comes back, and knows neither the account nor the certificate any more.
            ca.start()
            await stack.do("renew")
            trusting, third = ca.trusting(), shown(port, ca.trusting())
            assert third.serial != second.serial

            # Another controller, or another edge, loses nothing of it.
            await stack.end()
            await stack.begin()
            assert stack.controller.observed.edge.pid == edge
            await stack.controller.site.runtime.signal("edge", "KILL")
            async with asyncio.timeout(30):
                while stack.controller.observed.edge.pid in (edge, None):
                    await stack.controller.round_done()
            await stack.do("wait")
            assert shown(port, trusting) == third
            assert stack.controller.site.certificates._orders == {}
            names = {one.name for one in stack.controller.site.certificates.home.iterdir()}
            assert names == {f"{NAME}.pem", f"{NAME}.last.pem"}
