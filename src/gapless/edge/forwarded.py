"""Who the client is, also behind proxies that are trusted, and what the application is told. Pure.

After ``client`` the edge's ``src`` is the client's address everywhere: in limits, allow-lists and
logs. A claim is believed only when the one who makes it is trusted: hop after hop, from the right
end of ``X-Forwarded-For``, up to the first address that is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapless.edge import words

HOPS = 5
"""Trusted proxies in a row that are seen through; with more, the client is the next one."""
_SPELLED = "sess.client"
_CLAIMED = "X-Forwarded-For"
ID = "X-Request-ID"
_PROXIED = "{ var(txn.proxied) -m bool }"


@dataclass(frozen=True, slots=True)
class Proxies:
    """``trusted``: networks of the proxies before the edge. ``announce``: these speak the PROXY
    protocol, and nobody else may."""

    trusted: tuple[str, ...] = ()
    announce: bool = False


def expected(proxies: Proxies) -> list[str]:
    """For a listener: from whom a PROXY header is to come first."""
    if not (proxies.announce and proxies.trusted):
        return []
    return [
        *words.networks("trusted", proxies.trusted),
        "tcp-request connection expect-proxy layer4 if trusted",
    ]


def spelled(proxies: Proxies) -> list[str]:
    """The address as text, once for a connection: to write one costs as much as five headers."""
    if proxies.trusted:
        return []
    return [f"tcp-request session set-var({_SPELLED}) src,concat()"]


def address(proxies: Proxies) -> str:
    """The client's address as text, for a log format. Behind proxies each request has its own."""
    return "src" if proxies.trusted else f"var({_SPELLED})"


def client(proxies: Proxies) -> list[str]:
    """Makes ``src`` the client's address. Stands before all that asks for it.

    One address that cannot be read ends the walk: what lies beyond it may be anybody's claim.
    """
    if not proxies.trusted:
        return []
    lines = [
        *(() if proxies.announce else words.networks("trusted", proxies.trusted)),
        "http-request set-var(txn.proxied) bool(true) if trusted",
    ]
    readable = ""
    for hop in range(1, HOPS + 1):
        address = f"req.hdr_ip({_CLAIMED},-{hop})"
        lines.append(f"http-request set-src {address} if trusted{readable}")
        readable += f" {{ {address} -m found }}"
    return lines


def identified(proxies: Proxies) -> list[str]:
    """For a frontend: each request's id in a header, where no proxy's own word for it counts.
    HAProxy adds it after all rules."""
    return [] if proxies.trusted else [f"unique-id-header {ID}"]


def claims(proxies: Proxies) -> tuple[str, ...]:
    """Names of headers that nobody may send, as expressions (``hostile.STRIPPED``). Of trusted
    proxies' own words ``told`` takes what it does not believe."""
    always = ("forwarded", "proxy")
    if proxies.trusted:
        return (*always, "x-forwarded-prefix")
    return (*always, "x-forwarded-[^,]*", "x-real-ip", "x-request-id")


def told(proxies: Proxies, *, tls: bool = False) -> list[str]:
    """The request headers that say so; of a client's own claims nothing is left (``claims``).

    ``tls``: the acl ``over-tls`` tells who speaks it (``edge.tls``).
    """
    kept = dict.fromkeys(("proto", "host", "port", "id"), "")
    # Without a proxy none of them is there any more: so nobody has to look for it.
    make = "http-request add-header"
    if proxies.trusted:
        make = "http-request set-header"
        kept = {
            "proto": _unless("X-Forwarded-Proto", "-m str http https"),
            "host": _unless("X-Forwarded-Host", "-m found"),
            "port": _unless("X-Forwarded-Port", "-m reg -- '^[0-9]{1,5}$'"),
            "id": _unless("X-Request-ID", "-m reg -- '^[A-Za-z0-9._:-]{1,128}$'"),
        }
    scheme, spoken = "http", []
    if tls:
        scheme = "%[var(txn.scheme)]"
        spoken = [
            "http-request set-var(txn.scheme) str(http)",
            "http-request set-var(txn.scheme) str(https) if over-tls",
        ]
    told_id = [f"{make} {ID} %[unique-id]{kept['id']}"] if proxies.trusted else []
    return [
        *spoken,
        f"{make} {_CLAIMED} %[{address(proxies)}]",
        f"{make} X-Real-IP %[{address(proxies)}]",
        f"{make} X-Forwarded-Proto {scheme}{kept['proto']}",
        f"{make} X-Forwarded-Host %[req.fhdr(host)]{kept['host']}",
        f"{make} X-Forwarded-Port %[dst_port]{kept['port']}",
        *told_id,
    ]


def _unless(name: str, test: str) -> str:
    """A trusted proxy's word stands, where it is one."""
    return f" unless {_PROXIED} {{ req.fhdr({name}) {test} }}"
