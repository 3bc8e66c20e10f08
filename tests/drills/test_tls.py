"""The drill ``tls`` on a real stack; what it reads off the wire, and what it makes of that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gapless import errors
from gapless.drills import base, handshakes, hello, mix, ports, run, scratch, tls
from gapless.drills.state import Service, State
from gapless.drills.verdict import Traffic
from gapless.model.stack import Stack
from tests.drills import conftest
from tests.drills.test_drills import shape

NAME = "chat.example.test"
EDGE = """\
[edge]
tls = "self-signed"
tls_listen = "127.0.0.1:{port}"
hsts = {{ age = "1y", subdomains = true }}
"""


class Secure:
    """The probe service behind TLS, under a name."""

    def write(self, folder: Path, name: str) -> None:
        scratch.write_source(folder, name, conftest.QUICK)
        file = folder / scratch.FILE
        text = file.read_text().replace("[edge]\n", EDGE.format(port=ports.reserve()))
        file.write_text(text.replace("gapless = 1\n", f'gapless = 1\ndomains = ["{NAME}"]\n'))


@contextlib.contextmanager
def secure(fault: str | None = None) -> Iterator[scratch.Scratch]:
    with conftest.engine(fault) as home:
        chosen = base.Options(requests=100)
        with scratch.stack("secure", home / "source", print, Secure(), chosen) as made:
            yield made


def test_holds_and_then_hsts_is_sent() -> None:
    with secure() as made:
        before = made.settle()
        assert before.edge_url.startswith("https://127.0.0.1:")
        assert made.client.get("/v1/status")["edge"]["url"].startswith(f"https://{NAME}:")
        outcome = run.perform("tls", made.target, made.options, made.paths, made.say)
        assert outcome.reasons == ()
        assert outcome.traffic.requests >= 100
        assert outcome.traffic.failed == 0
        assert outcome.detail["changed"] > 0
        assert outcome.detail["accepted"] == 18
        assert outcome.detail["hsts"] == "max-age=31536000; includeSubDomains"
        assert made.client.get("/v1/status")["edge"]["hsts"]
        assert shape(made.settle()) == shape(before)


def test_needs_an_edge_that_speaks_it_and_not_only_a_file_that_says_so() -> None:
    table = {
        "gapless": 1,
        "name": "secure",
        "service": {"web": {"run": "serve ${socket}"}},
        "edge": {"tls": "self-signed"},
    }
    target = base.Target(Path("gapless.toml"), None, Stack.model_validate(table))
    runs = State(1, "http://127.0.0.1:8080", None, {"web": Service("web", 1, 1)}, (), {})
    with pytest.raises(errors.MissingSubject, match="speaks no TLS yet"):
        tls.subject(target, runs)
    assert tls.subject(target, replace(runs, edge_url="https://127.0.0.1:8443"))


def test_fails_on_planted_faults() -> None:
    """A policy that lets TLS 1.1 in, and an edge that is started again for a certificate."""
    with secure("careless-with-tls") as broken:
        outcome = run.perform("tls", broken.target, broken.options, broken.paths, broken.say)
        for reason in ("TLSv1.1 ECDHE-ECDSA-AES128-SHA", "the edge's program: pid"):
            assert any(reason in one for one in outcome.reasons), outcome.reasons
        assert not broken.client.get("/v1/status")["edge"]["hsts"]


GOOD = tls.Table(
    cells=(handshakes.Cell("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519", True, True),),
    traffic=Traffic(requests=100),
    redirects={"GET": (301, "https://x/"), "POST": (308, "https://x/")},
    place="https://x/",
    hsts="max-age=1",
    wanted_hsts="max-age=1",
)
WORSE: list[tuple[dict[str, object], str]] = [
    ({"cells": ()}, "no handshake"),
    ({"cells": (replace(GOOD.cells[0], accepted=False),)}, "refused"),
    ({"cells": (*GOOD.cells, replace(GOOD.cells[0], protocol="SSLv3", wanted=False))}, "SSLv3"),
    ({"manners": ("compresses",)}, "compresses"),
    ({"protocols": (None, "http/1.1")}, "h2"),
    ({"certificates": ("x is shown another's",)}, "another's"),
    ({"redirects": {"GET": (302, "https://x/"), "POST": (308, "https://x/")}}, "302"),
    ({"redirects": {"GET": (301, "https://evil/"), "POST": (308, "https://x/")}}, "evil"),
    ({"redirects": {"GET": (301, "https://x/")}}, "plain POST: 0"),
    ({"hsts": None}, "HSTS by TLS: none"),
    ({"wanted_hsts": None}, "HSTS by TLS: max-age=1, not none"),
    ({"plain_hsts": "max-age=1"}, "plain HTTP"),
    ({"traffic": Traffic(requests=100, failed=1, kinds={"cut": 1})}, "1 cut"),
    ({"changed": 0}, "0 of 1 certificates"),
    ({"changed": 0, "expected": 0}, "0 of 0 certificates"),
    ({"cut": 1}, "1 of 20 held"),
    ({"held": 0}, "0 of 0 held"),
    ({"program": (1, 3)}, "program"),
    ({"worker": (2, 4)}, "worker"),
]


@pytest.mark.parametrize(("change", "reason"), WORSE)
def test_each_fault_has_its_reason(change: dict[str, object], reason: str) -> None:
    assert tls.judge(GOOD) == ()
    table = replace(GOOD, **change)  # type: ignore[arg-type]
    reasons = tls.judge(table)
    assert len(reasons) >= 1
    assert any(reason in one for one in reasons), reasons


def test_bytes_that_are_no_tls_are_no_answer() -> None:
    reader = hello.Reader()
    with pytest.raises(ValueError, match="no TLS"):
        reader.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert hello.Reader().feed(b"\x15\x03\x01\x00\x02\x02\x46") == hello.Chosen(alert=0x46)
    cut = hello.Reader()
    assert [cut.feed(bytes([one])) for one in b"\x15\x03\x01\x00\x02\x02\x46"][-1] is not None


def test_names_are_asked_for_on_the_way_to_an_address() -> None:
    assert mix.Mix(url="https://127.0.0.1:1", get=("/",), host=NAME).spec((), 1).host == NAME
