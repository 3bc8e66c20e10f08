"""The matrix of handshakes, protocol by cipher by curve: what a server takes and what it refuses.

The tables here say what an edge must take, by themselves: that they agree with what the edge is
told is the very thing to be shown.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gapless.drills import hello

PATIENCE = 10.0

PROTOCOLS: Mapping[str, int] = {
    "SSLv3": hello.SSL3,
    "TLSv1.0": hello.TLS10,
    "TLSv1.1": hello.TLS11,
    "TLSv1.2": hello.TLS12,
    "TLSv1.3": hello.TLS13,
}
ECDSA: Mapping[str, int] = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
}
RSA: Mapping[str, int] = {
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
}
SUITES: Mapping[str, int] = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_AES_256_GCM_SHA384": 0x1302,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
}
CURVES: Mapping[str, int] = {"X25519": 29, "P-256": 23, "P-384": 24}
WEAK: Mapping[str, int] = {
    "NULL-SHA": 0x0002,
    "EXP-RC4-MD5": 0x0003,
    "RC4-SHA": 0x0005,
    "DES-CBC3-SHA": 0x000A,
    "ADH-AES128-SHA": 0x0034,
    "AES128-SHA": 0x002F,
    "AES256-SHA": 0x0035,
    "AES128-SHA256": 0x003C,
    "AES128-GCM-SHA256": 0x009C,
    "AES256-GCM-SHA384": 0x009D,
    "DHE-RSA-AES128-SHA": 0x0033,
    "DHE-RSA-AES128-GCM-SHA256": 0x009E,
    "DHE-RSA-AES256-GCM-SHA384": 0x009F,
    "DHE-RSA-CHACHA20-POLY1305": 0xCCAA,
    "ECDHE-ECDSA-RC4-SHA": 0xC007,
    "ECDHE-ECDSA-DES-CBC3-SHA": 0xC008,
    "ECDHE-ECDSA-AES128-SHA": 0xC009,
    "ECDHE-ECDSA-AES256-SHA": 0xC00A,
    "ECDHE-ECDSA-AES128-SHA256": 0xC023,
    "ECDHE-ECDSA-AES256-SHA384": 0xC024,
    "ECDHE-ECDSA-AES128-CCM": 0xC0AC,
    "ECDHE-RSA-RC4-SHA": 0xC011,
    "ECDHE-RSA-DES-CBC3-SHA": 0xC012,
    "ECDHE-RSA-AES128-SHA": 0xC013,
    "ECDHE-RSA-AES256-SHA": 0xC014,
    "ECDHE-RSA-AES128-SHA256": 0xC027,
    "ECDHE-RSA-AES256-SHA384": 0xC028,
}
"""Offered one by one, so that a fault has its name. ``EVERYTHING`` is offered all together."""
EVERYTHING = tuple(
    code
    for low, high in ((0x0000, 0x00C8), (0x1304, 0x1308), (0xC001, 0xC107), (0xCC13, 0xCCAF))
    for code in range(low, high)
    if code not in {*ECDSA.values(), *RSA.values(), 0x00FF}
)
"""Every number that was ever given to a cipher, but those that are wanted (and the one that is no
cipher but speaks of renegotiation)."""
OTHER_CURVES = tuple(n for n in (*range(1, 42), *range(256, 261)) if n not in CURVES.values())


@dataclass(frozen=True, slots=True)
class Cell:
    """One handshake: what was offered in words, and whether it was and should have been taken."""

    protocol: str
    cipher: str
    curve: str
    accepted: bool
    wanted: bool

    @property
    def fault(self) -> str:
        """ "" for one that went as it should."""
        if self.accepted == self.wanted:
            return ""
        verb = "accepted" if self.accepted else "refused"
        return f"{self.protocol} {self.cipher} {self.curve}: {verb}"


class Server:
    """Whom to ask: an address of this machine, and the name to ask for."""

    def __init__(self, host: str, port: int, name: str | None) -> None:
        self.host, self.port, self.name = host, port, name
        self.asked = 0

    def offer(
        self,
        protocol: int,
        ciphers: tuple[int, ...],
        groups: tuple[int, ...],
        compression: tuple[int, ...] = (),
    ) -> hello.Chosen:
        """One connection, one offer. Raises OSError, ValueError for an answer that is no TLS."""
        self.asked += 1
        offer = hello.Offer(protocol, ciphers, groups, self.name, compression)
        with socket.create_connection((self.host, self.port), PATIENCE) as channel:
            channel.sendall(hello.encode(offer, os.urandom(32)))
            reader = hello.Reader()
            while True:
                try:
                    data = channel.recv(65_536)
                except ConnectionResetError:
                    return hello.CLOSED
                if not data:
                    return hello.CLOSED
                if (found := reader.feed(data)) is not None:
                    return found


def matrix(server: Server) -> Iterator[Cell]:
    """Every cell. A cipher for another kind of key than the certificate's is to be refused."""
    curves = tuple(CURVES.values())
    kinds = [
        kind
        for kind in (ECDSA, RSA)
        if server.offer(hello.TLS12, tuple(kind.values()), curves).accepted
    ]
    named = {"TLSv1.2": {**ECDSA, **RSA}, "TLSv1.3": SUITES}
    good = {"TLSv1.2": {name for kind in kinds for name in kind}, "TLSv1.3": set(SUITES)}
    for protocol, version in PROTOCOLS.items():
        old = {**ECDSA, **RSA} if version < hello.TLS12 else {}
        ours = named.get(protocol, old)
        for name, code in {**ours, **WEAK}.items():
            wanted = name in good.get(protocol, ())
            for curve, group in CURVES.items():
                chosen = server.offer(version, (code,), _groups(version, (group,)))
                taken = chosen.accepted
                if wanted:
                    taken = (chosen.version, chosen.cipher, chosen.group) == (version, code, group)
                yield Cell(protocol, name, curve, taken, wanted)
        rest = EVERYTHING if version != hello.TLS13 else tuple(range(0x1304, 0x1400))
        chosen = server.offer(version, rest, (*curves, *OTHER_CURVES))
        yield Cell(protocol, _named(chosen, "any other cipher"), "any", chosen.accepted, False)
        chosen = server.offer(version, tuple(ours.values()), _groups(version, OTHER_CURVES))
        other = chosen.accepted and chosen.group not in curves
        curve = f"curve {chosen.group}" if other else "any other curve"
        yield Cell(protocol, "wanted ciphers", curve, other, False)


def _groups(version: int, groups: tuple[int, ...]) -> tuple[int, ...]:
    """Up to TLS 1.2 a client must also name the curve of the certificate's own key; what it names
    first is what it would like for the exchange."""
    if version >= hello.TLS13:
        return groups
    return tuple(dict.fromkeys((*groups, CURVES["P-256"], CURVES["P-384"])))


def manners(server: Server) -> Iterator[str]:
    """What else is wrong with how it speaks TLS, in words."""
    curves = tuple(CURVES.values())
    ciphers = (*ECDSA.values(), *RSA.values())
    chosen = server.offer(hello.TLS12, ciphers, curves, compression=(1, 64))
    if chosen.compression:
        yield f"compresses (method {chosen.compression})"
    if hello.RENEGOTIATION not in chosen.extensions:
        yield "does not secure renegotiation"
    if hello.TICKET in chosen.extensions:
        yield "gives session tickets"
    if hello.HEARTBEAT in chosen.extensions:
        yield "answers heartbeats"
    lowered = server.offer(hello.TLS12, (*ciphers, hello.FALLBACK), curves)
    if lowered.alert != hello.INAPPROPRIATE_FALLBACK:
        yield "lets itself be talked down to TLSv1.2"


def _named(chosen: hello.Chosen, otherwise: str) -> str:
    return f"cipher 0x{chosen.cipher:04X}" if chosen.accepted else otherwise
