"""TLS as the policy says and nothing else; certificates change under load and nobody notices."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gapless import errors
from gapless.drills import base, handshakes, mix, traffic
from gapless.drills import spec as specs
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import asking
from gapless.engine.certificates import x509
from gapless.model.stack import Stack

NAME = "tls"
PROMISE = "TLS 1.2 and 1.3 with forward secrecy alone; certificates change and nothing is dropped"
REQUESTS = 2_000
HELD = 20
"""Connections that are there before a certificate changes and are used after it."""


@dataclass(frozen=True, slots=True)
class Table:
    """``cells``: the handshakes. ``changed``: certificates that new connections were shown another
    of; ``expected``: how many should have been. ``cut``: held connections that did not last.
    ``certificates``: what is wrong with what is shown. ``redirects``: status and place by method.
    ``hsts`` and ``wanted_hsts``: what was sent by TLS and should have been; None: nothing.
    ``program`` and ``worker`` are pids of the edge, before and after.
    """

    cells: tuple[handshakes.Cell, ...]
    traffic: Traffic
    requests: int = 1
    manners: tuple[str, ...] = ()
    protocols: tuple[str | None, ...] = ("h2", "http/1.1")
    certificates: tuple[str, ...] = ()
    redirects: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    place: str = ""
    hsts: str | None = None
    wanted_hsts: str | None = None
    plain_hsts: str | None = None
    changed: int = 1
    expected: int = 1
    held: int = HELD
    cut: int = 0
    program: tuple[int | None, int | None] = (1, 1)
    worker: tuple[int | None, int | None] = (2, 2)


def judge(table: Table, strict: bool = False) -> Reasons:
    return tuple(_faults(table, strict))


def _faults(table: Table, strict: bool) -> Iterator[str]:
    yield from (cell.fault for cell in table.cells if cell.fault)
    if not any(cell.wanted and cell.accepted for cell in table.cells):
        yield "no handshake that should succeed did"
    yield from table.manners
    if table.protocols != ("h2", "http/1.1"):
        yield f"offered h2 and http/1.1, it chose {table.protocols}"
    yield from table.certificates
    for method, code in (("GET", 301), ("POST", 308)):
        status, place = table.redirects.get(method, (0, ""))
        if (status, place) != (code, table.place):
            yield f"plain {method}: {status} {place}, not {code} {table.place}"
    if table.hsts != table.wanted_hsts:
        yield f"HSTS by TLS: {table.hsts or 'none'}, not {table.wanted_hsts or 'none'}"
    if table.plain_hsts is not None:
        yield "HSTS is sent over plain HTTP"
    yield from base.traffic_reasons(table.traffic, table.requests, strict)
    if table.changed != table.expected or not table.expected:
        yield f"{table.changed} of {table.expected} certificates were changed"
    if table.cut or not table.held:
        yield f"{table.cut} of {table.held} held connections were cut"
    for what, (before, after) in (("program", table.program), ("worker", table.worker)):
        if before != after or before is None:
            yield f"the edge's {what}: pid {before} before, {after} after"


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    if target.stack.tls is None:
        raise errors.MissingSubject(
            "the edge speaks no TLS", hint='domains = […], or [edge] tls = "self-signed"'
        )
    if urlsplit(state.edge_url).scheme != "https":
        raise errors.MissingSubject(
            "the edge speaks no TLS yet: the file asks for it", hint="gapless deploy"
        )
    return state.edge_url


def run(stage: Stage) -> Outcome:
    before = stage.settle()
    chosen = mix.choose(stage.target, before, stage.options)
    mix.check(chosen)
    host, port = specs.own_address(chosen.url)
    names = _names(stage.target)
    server = handshakes.Server(host, port, names[0])
    stage.say("handshakes: protocol by cipher by curve")
    cells = tuple(handshakes.matrix(server))
    manners = tuple(handshakes.manners(server))
    wanted = stage.options.requests or REQUESTS
    edge = asking.Asking(stage.paths.run, stage.paths.stack)
    worker = asyncio.run(edge.worker())
    changing = _Changing(stage, chosen, names)
    whole = traffic.under_load(stage, chosen, wanted, changing.round)
    after = stage.look()
    plain = _plain(stage, chosen)
    secure = _headers(chosen)
    table = Table(
        cells=cells,
        traffic=whole.traffic(),
        requests=wanted,
        manners=manners,
        protocols=tuple(_protocol(host, port, names[0], one) for one in ("h2", "http/1.1")),
        certificates=tuple(_certificates(stage, chosen, names)),
        redirects=plain.redirects,
        place=plain.place,
        hsts=secure.get("strict-transport-security"),
        wanted_hsts=_wanted_hsts(stage),
        plain_hsts=plain.hsts,
        changed=changing.changed,
        expected=changing.expected,
        held=changing.held,
        cut=changing.cut,
        program=(before.edge_pid, after.edge_pid),
        worker=(worker, asyncio.run(edge.worker())),
    )
    reasons = judge(table, stage.options.strict)
    if not reasons:
        reasons = tuple(_proven(stage, chosen))
    detail = {
        **whole.detail(),
        "handshakes": len(cells),
        "accepted": sum(cell.accepted for cell in cells),
        "certificates": _status(stage),
        "changed": changing.changed,
        "held_connections": changing.held,
        "cut": changing.cut,
        "hsts": _headers(chosen).get("strict-transport-security"),
    }
    return Outcome(NAME, reasons, table.traffic, detail)


def _names(target: Target) -> list[str | None]:
    """Whom to ask for; a stack without any name is asked for by its address alone."""
    return [name for name in target.stack.domains if not name.startswith("*")] or [target.host]


# -- what changes ---------------------------------------------------------------------------------


class _Changing:
    """Renews all certificates, with connections open across it."""

    def __init__(self, stage: Stage, chosen: mix.Mix, names: Sequence[str | None]) -> None:
        self.stage, self.chosen, self.names = stage, chosen, names
        self.changed = self.expected = self.held = self.cut = 0

    def round(self, number: int) -> int:
        """One renewal; how many certificates new connections are shown another of."""
        before = self._shown()
        held = [_Held(self.chosen) for _ in range(HELD)]
        same = not _renewable(self.stage.target.stack)
        try:
            good = [one for one in held if one.ask()]
            self.stage.must("/v1/renew", again=same)
            after = self._shown()
            self.held += len(held)
            self.cut += len(held) - sum(one.ask() for one in good)
        finally:
            for one in held:
                one.close()
        changed = sum((before[name] != after[name]) != same for name in before)
        self.expected += len(before)
        self.changed += changed
        return changed

    def _shown(self) -> dict[str | None, int]:
        host, port = specs.own_address(self.chosen.url)
        return {name: x509.facts(_shown(host, port, name)).serial for name in self.names}


def _renewable(stack: Stack) -> bool:
    """Whether another certificate is to be had for a drill: of your own there is none, and a
    public authority issues a few a week. Then the one in force is put in force once more."""
    acme = stack.edge.acme
    private = acme.ca is not None or "staging" in acme.directory
    return stack.tls == "self-signed" or (stack.tls == "auto" and private)


class _Held:
    """One connection that is used again and again, and never replaced."""

    def __init__(self, chosen: mix.Mix) -> None:
        self._connection = chosen.connection()
        self._path = chosen.get[0]
        self._headers = chosen.headers
        self._connection.connect()
        self._connection.auto_open = False

    def ask(self) -> bool:
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status < 400

    def close(self) -> None:
        self._connection.close()


def _shown(host: str, port: int, name: str | None) -> str:
    """The certificate that a new connection is shown, as PEM."""
    with _connected(host, port, name, ("http/1.1",)) as channel:
        der = channel.getpeercert(binary_form=True)
    if der is None:
        raise errors.WorkFailed(f"{name or host}: no certificate is shown")
    return ssl.DER_cert_to_PEM_cert(der)


def _protocol(host: str, port: int, name: str | None, offered: str) -> str | None:
    with _connected(host, port, name, (offered,)) as channel:
        return channel.selected_alpn_protocol()


def _connected(host: str, port: int, name: str | None, alpn: Sequence[str]) -> ssl.SSLSocket:
    context = specs.client_context(f"https://{host}")
    assert context is not None  # noqa: S101  # narrows; the URL is one of TLS
    context.set_alpn_protocols(list(alpn))
    raw = socket.create_connection((host, port), handshakes.PATIENCE)
    return context.wrap_socket(raw, server_hostname=name)


# -- what is shown and sent -----------------------------------------------------------------------


def _status(stage: Stage) -> list[dict[str, Any]]:
    edge = stage.client.get("/v1/status").get("edge") or {}
    return list(edge.get("certificates") or [])


def _certificates(stage: Stage, chosen: mix.Mix, names: Sequence[str | None]) -> Iterator[str]:
    host, port = specs.own_address(chosen.url)
    for name in names:
        facts = x509.facts(_shown(host, port, name))
        if not x509.covers(facts.names, name or host) and stage.target.stack.domains:
            yield f"{name or host} is shown a certificate for {', '.join(facts.names) or 'nobody'}"
    for one in _status(stage):
        if one["state"] != "valid":
            yield f"certificate {one['name']}: {one['state']}"


@dataclass(frozen=True, slots=True)
class _Plain:
    redirects: Mapping[str, tuple[int, str]]
    place: str
    hsts: str | None


def _plain(stage: Stage, chosen: mix.Mix) -> _Plain:
    """How plain HTTP is answered, and where it should be sent."""
    address, _, port = stage.target.stack.edge.listen.rpartition(":")
    host = chosen.host or "127.0.0.1"
    here = "127.0.0.1" if address in ("*", "0.0.0.0", "[::]") else address.strip("[]")  # noqa: S104
    secure = urlsplit(chosen.url).port or 443
    path = "/there?a=b%20c&d"
    place = f"https://{host}{'' if secure == 443 else f':{secure}'}{path}"
    found, hsts = {}, None
    for method in ("GET", "POST"):
        connection = http.client.HTTPConnection(here, int(port), timeout=chosen.timeout)
        try:
            connection.request(method, path, b"x" if method == "POST" else None, {"Host": host})
            answer = connection.getresponse()
            found[method] = (answer.status, answer.headers.get("location", ""))
            hsts = hsts or answer.headers.get("strict-transport-security")
        except (OSError, http.client.HTTPException) as error:
            found[method] = (0, str(error))
        finally:
            connection.close()
    return _Plain(found, place, hsts)


def _headers(chosen: mix.Mix) -> dict[str, str]:
    connection = chosen.connection()
    try:
        connection.request("GET", chosen.get[0], headers=chosen.headers)
        answer = connection.getresponse()
        answer.read()
        return {name.lower(): value for name, value in answer.headers.items()}
    except (OSError, http.client.HTTPException) as error:
        raise errors.WorkFailed(f"{chosen.get[0]}: no answer from the edge ({error})") from None
    finally:
        connection.close()


def _wanted_hsts(stage: Stage) -> str | None:
    """What is to be sent: nothing before this drill has held once."""
    table = stage.target.stack.edge.hsts
    edge = stage.client.get("/v1/status").get("edge") or {}
    return table.header if table is not None and edge.get("hsts") else None


def _proven(stage: Stage, chosen: mix.Mix) -> Iterator[str]:
    """Have it noted that it has held, and HSTS sent from now on."""
    table = stage.target.stack.edge.hsts
    if table is None:
        return
    stage.must("/v1/proven", drill=NAME)
    sent = _headers(chosen).get("strict-transport-security")
    if sent != table.header:
        yield f"HSTS was to be sent from now on, and is {sent or 'not'}"
    else:
        stage.say(f"HSTS is sent from now on: {table.header}")
