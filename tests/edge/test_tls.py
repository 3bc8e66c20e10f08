"""TLS of a real edge: what it speaks, what it shows, and that a change of that disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from gapless.drills import handshakes, hello, ports
from gapless.edge import config, render, tls
from gapless.engine.certificates import x509
from gapless.errors import EdgeRefused, UsageError
from tests.edge import issuer, stand

NAME = "chat.example.test"
ANY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY.check_hostname = False
ANY.verify_mode = ssl.CERT_NONE


def made(*names: str) -> str:
    return x509.self_signed(names or (NAME,), 30, time.time())


@contextlib.asynccontextmanager
async def secure(**more: object) -> AsyncIterator[stand.Stand]:
    """A stand that speaks TLS for ``NAME``, not yet started; ``more`` of ``tls.Tls``."""
    async with stand.standing(started=False) as place:
        folder = place.root / "certificates"
        folder.mkdir()
        (folder / f"{NAME}.pem").write_text(made())
        port = ports.reserve()
        spoken = tls.Tls(str(folder), (NAME,), NAME, port)
        spoken = replace(spoken, **more)  # type: ignore[arg-type]
        bind = config.Bind(f"127.0.0.1:{port}", tls=True)
        place.config = replace(place.config, binds=(bind,), tls=spoken)
        yield place


def port(place: stand.Stand) -> int:
    assert place.config.tls is not None
    return place.config.tls.port


def shown(place: stand.Stand, name: str | None = NAME) -> x509.Facts:
    connection = http.client.HTTPSConnection("127.0.0.1", port(place), context=ANY)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(binary_form=True)
    connection.close()
    assert der is not None
    return x509.facts(ssl.DER_cert_to_PEM_cert(der))


def server(place: stand.Stand) -> handshakes.Server:
    return handshakes.Server("127.0.0.1", port(place), NAME)


async def test_it_speaks_exactly_what_the_policy_says() -> None:
    async with secure() as place:
        await place.start()
        cells = await asyncio.to_thread(lambda: list(handshakes.matrix(server(place))))
        assert [cell.fault for cell in cells if cell.fault] == []
        taken = {(cell.protocol, cell.cipher, cell.curve) for cell in cells if cell.accepted}
        ours = [("TLSv1.2", handshakes.ECDSA), ("TLSv1.3", handshakes.SUITES)]
        assert taken == {
            (protocol, cipher, curve)
            for protocol, ciphers in ours
            for cipher in ciphers
            for curve in handshakes.CURVES
        }
        assert len(cells) > 400
        assert list(await asyncio.to_thread(handshakes.manners, server(place))) == []


FAULTS = [
    (
        tls.Policy(least="TLSv1.1", ciphers=("ECDHE-ECDSA-AES128-SHA@SECLEVEL=0",)),
        "TLSv1.1 ECDHE-ECDSA-AES128-SHA P-256: accepted",
    ),
    (tls.Policy(curves=("X25519", "P-256")), "TLSv1.3 TLS_AES_128_GCM_SHA256 P-384: refused"),
    (
        tls.Policy(curves=("X25519", "P-256", "P-384", "P-521")),
        "TLSv1.2 wanted ciphers curve 25: accepted",
    ),
    (tls.Policy(options=("prefer-client-ciphers",)), "gives session tickets"),
]


@pytest.mark.parametrize(("policy", "fault"), FAULTS)
async def test_another_policy_is_seen(
    policy: tls.Policy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "POLICY", policy)
    async with secure() as place:
        await place.start()

        def look() -> Iterator[str]:
            yield from (cell.fault for cell in handshakes.matrix(server(place)) if cell.fault)
            yield from handshakes.manners(server(place))

        assert fault in await asyncio.to_thread(lambda: list(look()))


CHECKER = shutil.which("sslyze")


@pytest.mark.skipif(
    CHECKER is None, reason="no sslyze on PATH (it pins older libraries: an environment of its own)"
)
async def test_a_checker_finds_nothing() -> None:
    """But that nobody has signed a certificate of our own making."""
    async with secure(hsts="max-age=63072000") as place:
        await place.start()
        await place.enter(await place.app("one"))
        argv = [str(CHECKER), "--mozilla_config", "intermediate", "--sni", NAME]
        child = await asyncio.create_subprocess_exec(
            *argv, f"127.0.0.1:{port(place)}", stdout=asyncio.subprocess.PIPE
        )
        said = (await child.communicate())[0].decode().partition("COMPLIANCE")[2]
        faults = [line for line in said.splitlines() if line.strip().startswith("* ")]
        assert [one.split()[1] for one in faults] == ["certificate_path_validation:"], said


async def test_a_certificate_changes_and_nobody_notices() -> None:
    async with secure() as place:
        await place.start()
        await place.enter(await place.app("one"))
        before, edge = shown(place), place.edge
        assert await edge.certificates() == {NAME: before.serial}
        look = await edge.look()
        worker = await edge.worker()
        bad: list[object] = []
        done = asyncio.Event()

        async def load(keep: bool) -> int:
            count = 0
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=ANY, force_close=not keep)
            ) as session:
                while not done.is_set():
                    try:
                        async with session.get(f"https://127.0.0.1:{port(place)}/") as answer:
                            await answer.read()
                            bad.extend([answer.status] if answer.status != 200 else [])
                    except (aiohttp.ClientError, OSError) as error:
                        bad.append(error)
                    count += 1
            return count

        url = f"https://127.0.0.1:{port(place)}/ws"
        async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=ANY) as held:
            tasks = [asyncio.create_task(load(keep)) for keep in (True, True, False, False)]
            serials = set()
            for _ in range(10):
                await edge.certify(NAME, made())
                serials.add((await asyncio.to_thread(shown, place)).serial)
            done.set()
            counts = await asyncio.gather(*tasks)
            await held.send_str("still")
            assert await held.receive_str(timeout=5) == "one still"
        assert bad == []
        assert min(counts) > 0
        assert len(serials - {before.serial}) == 10
        assert (await edge.look()).pid == look.pid
        assert await edge.worker() == worker


async def test_what_is_no_certificate_changes_nothing() -> None:
    async with secure() as place:
        await place.start()
        before = shown(place)
        other = made()
        key = other[other.index("-----BEGIN PRIVATE") :]
        mixed = made().split("-----BEGIN PRIVATE")[0] + key
        for bad in (mixed, key, "nonsense", "x" * 20_000):
            with pytest.raises(EdgeRefused):
                await place.edge.certify(NAME, bad)
        with pytest.raises(EdgeRefused, match="no certificate other"):
            await place.edge.certify("other", made())
        assert shown(place) == before
        # One that a controller left half-way is in nobody's way.
        path = tls.file(str(place.root / "certificates"), NAME)
        from gapless.edge import wire

        await place.edge._answer([wire.set_certificate(path, made())])
        await place.edge.certify(NAME, made())
        assert shown(place) != before


async def test_the_authoritys_word_is_shown_along() -> None:
    """For what is there at the start, and for what comes later."""
    async with issuer.issuing() as authority, secure(stapled=(NAME,)) as place:
        assert place.config.tls is not None
        first = authority.bundle(NAME)
        Path(tls.file(place.config.tls.folder, NAME)).write_text(first)
        await place.start()

        async def stapled() -> bool:
            ciphers, curves = handshakes.ECDSA.values(), handshakes.CURVES.values()
            offered = hello.TLS12, tuple(ciphers), tuple(curves)
            chosen = await asyncio.to_thread(server(place).offer, *offered)
            return hello.STAPLE in chosen.extensions

        await stand.until(stapled, "the word is shown")
        assert authority.asked == [x509.facts(first).serial]
        second = authority.bundle(NAME)
        await place.edge.certify(NAME, second)
        await stand.until(stapled, "the next word is shown")
        assert shown(place).serial == x509.facts(second).serial
        assert set(authority.asked) == {x509.facts(one).serial for one in (first, second)}
        # One that says nothing of whom to ask needs a reload first.
        with pytest.raises(EdgeRefused, match="OCSP"):
            await place.edge.certify(NAME, made())
        await place.edge.reload(
            replace(place.config, tls=replace(place.config.tls, stapled=())), ()
        )
        await place.edge.certify(NAME, made())
        assert shown(place).own
        assert not await stapled()


async def test_plain_requests_are_sent_on() -> None:
    async with secure(hsts="max-age=60", challenge=True) as place:
        await place.start()
        app = await place.app("one")
        await place.enter(app)
        url, there = place.url, f"https://{NAME}:{port(place)}"
        async with aiohttp.ClientSession() as session:
            cases = [("GET", 301), ("HEAD", 301), ("POST", 308), ("PUT", 308), ("DELETE", 308)]
            for method, status in cases:
                async with session.request(
                    method, f"{url}/a/b?c=d%20e", headers={"Host": NAME}, allow_redirects=False
                ) as answer:
                    assert answer.status == status
                    assert answer.headers["location"] == f"{there}/a/b?c=d%20e"
                    assert "strict-transport-security" not in answer.headers
            async with session.get(f"https://127.0.0.1:{port(place)}/", ssl=ANY) as answer:
                assert answer.status == 200
                assert answer.headers["strict-transport-security"] == "max-age=60"
                assert "secure" in answer.headers["set-cookie"].lower()
            assert app.headers["X-Forwarded-Proto"] == "https"
            assert app.served == 1
        # An edge that is replaced passes on what comes to it, and that it came by TLS.
        held = http.client.HTTPSConnection("127.0.0.1", port(place), context=ANY)
        assert await asyncio.to_thread(got, held) == 200
        held.auto_open = False
        await place.edge.reload(replace(place.config, maxconn=400), (place.member(app),))
        app.headers.clear()
        assert await asyncio.to_thread(got, held) == 200
        assert app.headers["X-Forwarded-Proto"] == "https"
        held.close()


def got(connection: http.client.HTTPConnection) -> int:
    """The status of one request on it."""
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def test_an_authority_is_answered_before_all_else() -> None:
    path = f"{tls.CHALLENGE_PATH}token-1"
    async with secure(challenge=True) as place:
        await place.start()

        async def asked(name: str = path) -> tuple[int, str]:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{place.url}{name}", allow_redirects=False) as answer,
            ):
                return answer.status, await answer.text()

        assert (await asked())[0] == 301
        await place.edge.challenges({path: "token-1.thumb_print"})
        assert await asked() == (200, "token-1.thumb_print")
        await place.edge.maintenance(True)
        assert await asked() == (200, "token-1.thumb_print")
        await place.edge.reload(replace(place.config, maxconn=400), ())
        assert await asked() == (200, "token-1.thumb_print")
        assert (await asked(f"{path}x"))[0] == 301
        await place.edge.challenges({})
        assert (await asked())[0] == 301


def test_it_needs_its_certificate_to_start(tmp_path: Path) -> None:
    """And says which file it misses."""

    async def attempt() -> None:
        async with secure() as place:
            (place.root / "certificates" / f"{NAME}.pem").unlink()
            with pytest.raises(EdgeRefused, match=rf"{NAME}\.pem"):
                await place.edge.process(place.config)

    asyncio.run(attempt())


@pytest.mark.parametrize("name", ["a b", "a'b", "../x", "A.example", "x\ny", "", "a;b", "-x"])
def test_a_hostile_name_is_refused(name: str) -> None:
    spoken = tls.Tls("/certificates", (NAME,), NAME, 443)
    with pytest.raises(UsageError):
        tls.listing(replace(spoken, certificates=(name,)))
    with pytest.raises(UsageError):
        tls.redirect_lines(replace(spoken, name=name if name != "-x" else "x y"))


def test_without_tls_nothing_of_it_is_written() -> None:
    text = render.text(
        config.Config("demo", "127.0.0.1:8080", (), (stand.backend("web"),), "/run/x", 100, 1)
    )
    assert "ssl" not in text
    assert "https" not in text
