"""The keeper of certificates: real files, real certificates, an edge in memory."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.runtimes.process_bench import reachable

from gapless import errors, observed
from gapless.cli.render import troubles
from gapless.edge import config, tls
from gapless.engine.certificates import keeper, order, report, x509
from gapless.engine.paths import Paths
from gapless.engine.secrets import Secrets
from gapless.model.stack import Stack
from gapless.testing.edge import Desk, FakeEdge

NAME = "chat.example.test"
RUNNING = observed.Edge("running", pid=1, config="x")


def stack(**edge: Any) -> Stack:
    table = {"run": "uvicorn a:b --uds ${socket}"}
    return Stack.model_validate(
        {"gapless": 1, "name": "demo", "domains": [NAME], "service": {"web": table}, "edge": edge}
    )


class Place:
    """A keeper with its folder; ``notes`` are what people were told."""

    def __init__(self, home: Path, of: Stack) -> None:
        self.home, self.stack = home, of
        self.desk = Desk()
        self.notes: list[str] = []
        self.certificates = keeper.Keeper(
            home / "edge", home, Secrets(Paths("demo", home / "s", home / "r")), FakeEdge(self.desk)
        )
        self.certificates.note = self.notes.append

    async def start(self) -> None:
        spoken = tls.Tls(
            str(self.home), tuple(one.name for one in self.stack.certificates), NAME, 443
        )
        wanted = config.Config("demo", "127.0.0.1:80", (), (), "/run/x", 9, 1, tls=spoken)
        await FakeEdge(self.desk).process(wanted)

    async def seen(self, name: str) -> observed.Certificate:
        self.certificates._sources_at = float("-inf")
        return (await self.certificates.look([self.stack], RUNNING))[name]


@pytest.fixture
def home() -> Iterator[Path]:
    with reachable() as place:
        yield place


@pytest.fixture
async def place(home: Path) -> Place:
    made = Place(home, stack(tls="self-signed"))
    await made.start()
    return made


async def test_made_kept_and_renewed(place: Place) -> None:
    kept = place.certificates
    assert (await place.seen("self-signed")).kind == ""
    kept.make("self-signed", "self-signed", (NAME, "127.0.0.1"))
    first = await place.seen("self-signed")
    assert (first.kind, first.names) == ("self-signed", (NAME, "127.0.0.1"))
    assert not first.fresh
    kept.ask("self-signed")
    assert (await place.seen("self-signed")).asked
    kept.make("self-signed", "self-signed", (NAME, "127.0.0.1"))
    second = await place.seen("self-signed")
    # The new one waits; the one in force is the one before.
    assert second.fresh
    assert second.serial == first.serial
    await kept.install("self-signed")
    third = await place.seen("self-signed")
    assert not third.fresh
    assert not third.asked
    assert third.serial != first.serial
    assert x509.facts((kept.home / "self-signed.last.pem").read_text()).serial == first.serial
    assert {stat.S_IMODE(one.stat().st_mode) for one in kept.home.iterdir()} == {0o600}
    assert stat.S_IMODE(kept.home.stat().st_mode) == 0o700


async def test_what_the_edge_refuses_is_laid_aside(place: Place) -> None:
    kept = place.certificates
    kept.make("self-signed", "self-signed", (NAME,))
    before = await place.seen("self-signed")
    (kept.home / "self-signed.next.pem").write_text("-----BEGIN NOTHING-----")
    with pytest.raises(errors.EdgeRefused):
        await kept.install("self-signed")
    after = await place.seen("self-signed")
    assert after.serial == before.serial
    assert not after.fresh
    assert after.failures is not None


async def test_an_edge_that_is_away_refuses_nothing(place: Place) -> None:
    kept = place.certificates
    kept.make("self-signed", "self-signed", (NAME,))
    await place.seen("self-signed")
    kept.make("self-signed", "self-signed", (NAME,))
    waiting = (kept.home / "self-signed.next.pem").read_text()
    place.desk.stop()
    with pytest.raises(errors.EdgeRefused):
        await kept.install("self-signed")
    assert (kept.home / "self-signed.next.pem").read_text() == waiting
    await place.start()
    kept.again("self-signed")
    await kept.install("self-signed")
    assert (kept.home / "self-signed.pem").read_text() == waiting


async def test_one_that_is_damaged_is_made_anew(place: Place) -> None:
    kept = place.certificates
    kept.make("self-signed", "self-signed", (NAME,))
    (kept.home / "self-signed.pem").write_text("half of it")
    assert (await place.seen("self-signed")).kind == ""


async def test_given_files_are_read_again_when_they_change(home: Path) -> None:
    place = Place(home, stack(tls={"cert": "c.pem", "key": "k.pem"}))
    await place.start()
    kept = place.certificates

    def write(text: str, key: str | None = None) -> None:
        cut = text.index("-----BEGIN PRIVATE")
        (home / "c.pem").write_text(f"# a comment\n\n{text[:cut]}\n")
        (home / "k.pem").write_text(key or text[cut:])

    await place.seen("given")
    with pytest.raises(errors.UsageError, match=r"c\.pem cannot be read"):
        kept.make("given", "given", ())
    first = x509.self_signed((NAME,), 90, time.time())
    write(first)
    await place.seen("given")
    kept.make("given", "given", ())
    assert (await place.seen("given")).serial == x509.facts(first).serial
    second = x509.self_signed((NAME,), 90, time.time())
    write(second, key=first[first.index("-----BEGIN PRIVATE") :])
    seen = await place.seen("given")
    assert not seen.fresh
    assert any("another certificate's" in note for note in place.notes)
    write(second)
    assert (await place.seen("given")).fresh
    await kept.install("given")
    assert (await place.seen("given")).serial == x509.facts(second).serial


async def test_an_authority_that_is_not_there(home: Path) -> None:
    acme = {"directory": "https://127.0.0.1:9/dir"}
    place = Place(home, stack(tls="auto", acme=acme))
    await place.start()
    kept = place.certificates
    kept.make(NAME, "stand-in", (NAME,))
    kept.order(NAME, (NAME,))
    assert (await place.seen(NAME)).ordering
    await next(iter(kept._orders.values()))
    seen = await place.seen(NAME)
    assert seen.kind == "stand-in"
    assert seen.failures is not None
    assert "cannot be reached" in seen.failures.reason
    assert len(place.notes) == 1
    assert kept.secrets.get(order.ACCOUNT)
    row = report.rows([seen], time.time())[0]
    assert row["state"] in ("stand-in", "ordering")
    assert "cannot be reached" in row["reason"]


def test_a_plan_tells_what_is_still_to_come() -> None:
    table = stack(hsts="1y")
    said = report.notes(table, {}, proven=False)
    assert [NAME in said[0], "tls has held" in said[1], len(said)] == [True, True, 2]
    issued = {NAME: observed.Certificate(NAME, "issued")}
    assert report.notes(table, issued, proven=True) == []
    assert report.notes(stack(tls="self-signed"), {}, proven=False) == []


def test_what_is_told_of_them() -> None:
    now = 1000 * 86_400.0
    fresh = observed.Certificate(NAME, "issued", (NAME,), "CA", 7, now, now + 90 * 86_400, served=7)
    states = {
        "valid": fresh,
        "ends soon": replace(fresh, starts_at=now - 85 * 86_400, ends_at=now + 5 * 86_400),
        "ended": replace(fresh, ends_at=now),
        "stand-in": replace(fresh, kind="stand-in"),
        "ordering": replace(fresh, ordering=True),
        "missing": observed.Certificate(NAME),
    }
    for state, one in states.items():
        row = report.rows([one], now)[0]
        assert row["state"] == state
        said = list(troubles({"edge": {"certificates": [row]}}))
        assert (said == []) == (state == "valid"), said


FAULTS = [
    (-100.0, (NAME,), "not valid before"),
    (91 * 86_400.0, (NAME,), "it ended"),
    (0.0, ("other.example.test",), "not for other"),
]


@pytest.mark.parametrize(("later", "names", "fault"), FAULTS)
def test_what_may_not_be_shown(later: float, names: tuple[str, ...], fault: str) -> None:
    now = time.time()
    made = x509.self_signed((NAME,), 90, now)
    assert x509.fault(made, (NAME,), now) == ""
    moment = now + later - (3600 if later < 0 else 0)
    assert fault in x509.fault(made, names, moment)


def test_chains_and_keys_are_looked_at() -> None:
    now = time.time()
    one, two = (x509.self_signed((NAME,), 90, now) for _ in range(2))
    cut = one.index("-----BEGIN PRIVATE")
    other = two[two.index("-----BEGIN PRIVATE") :]
    assert "another certificate's" in x509.fault(one[:cut] + other, (), now)
    assert "chain is broken" in x509.fault(
        one[:cut] + two[: two.index("-----BEGIN PRIV")] + one[cut:], (), now
    )
    assert "cannot be read" in x509.fault("nothing", (), now)
    with pytest.raises(ValueError, match="private key"):
        x509.bundle(one[:cut], one[:cut])
    assert x509.bundle(f"\n# a\n\n{one[:cut]}\n", f"\n\n{one[cut:]}") == one


def test_wildcards_cover_one_label() -> None:
    assert x509.covers(("*.example.test",), "a.example.test")
    assert not x509.covers(("*.example.test",), "a.b.example.test")
    assert not x509.covers(("*.example.test",), "example.test")
