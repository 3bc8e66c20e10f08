"""The access log: one JSON object a line, as HAProxy writes it and as it is read again. Pure.

What a client sends stands in it only as JSON strings that HAProxy has escaped, so no request can
forge a line. The query is left out: passwords and tokens travel in it. Times are milliseconds; -1
in one of them: it did not come to that. ``-`` in a text: there was none.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gapless.edge import config as conf
from gapless.edge import forwarded, hostile, words

LONGEST = 8192
"""Bytes of a line at most: a path and an agent of nothing but control characters still fit."""
AGENT = 200
"""Bytes of the client's name for itself where something of it has to be escaped; and in any case
as many as these may be then."""
HOST = 100
ESCAPED = 6
"""Bytes of JSON that one byte is at most."""
_ODD_TEXT = r"[^ !#-\[\]-~]"
BEGINNING = '{"time":"'
"""How every line begins; what HAProxy itself has to say does not."""
_TEXT = "json(utf8s)"
ID = "%[rand,hex,bytes(8,8)]" * 4
"""128 random bits: what uuid() is made of, in a third of its time."""
_FIELDS = (
    '"time":"%[date,utime(%Y-%m-%dT%H:%M:%S)].%[date(0,ms),concat(),bytes(10,3)]Z"',
    '"client":"%[{client}]"',
    f'"method":"%[capture.req.method,{_TEXT}]"',
    '"host":"%[capture.req.hdr(0)]"',
    f'"path":"%[capture.req.uri,field(1,?),{_TEXT}]"',
    '"status":%ST',
    '"in":%U',
    '"out":%B',
    '"request_ms":%TR',
    '"queue_ms":%Tw',
    '"connect_ms":%Tc',
    '"response_ms":%Tr',
    '"total_ms":%Ta',
    # Without the beginning that floors have (``config.FLOOR``).
    '"service":"%[be_name,field(-1,:)]"',
    '"replica":"%[srv_name,regsub(:,@)]"',
    '"release":"%[srv_name,field(2,:),field(1,.)]"',
    '"id":"%[{id}]"',
    '"agent":"%[capture.req.hdr(1)]"',
    '"protocol":"%HV"',
    '"tls":"%[ssl_fc_protocol]"',
    '"ended":"%ts"',
    '"retries":"%rc"',
)


def always(config: conf.Config) -> list[str]:
    """What the public frontend says first of all, so that refusals are logged as well."""
    made = [f"unique-id-format {ID}"]
    if not config.access_log:
        return made
    return [
        *made,
        f"log stdout len {LONGEST} format raw local0",
        f"log-format '{{{','.join(_fields(config))}}}'",
        "option dontlognull",
        # As they come: ``asked`` sees to it that nothing of them has to be escaped.
        f"capture request header Host len {HOST}",
        f"capture request header User-Agent len {AGENT * ESCAPED}",
    ]


def _fields(config: conf.Config) -> Iterator[str]:
    known = {"{id}": _id(config), "{client}": forwarded.address(config.proxies)}
    for line in _FIELDS:
        for name, fetch in known.items():
            line = line.replace(name, fetch)
        yield line


def asked(config: conf.Config) -> list[str]:
    """The first rule of all, since nothing may come between it and the capture.

    Escaping costs 80 instructions for each character, a look for something to escape costs six: so
    the agent is escaped only where there is need.
    """
    if not config.access_log:
        return []
    agent = f"req.fhdr(user-agent),bytes(0,{AGENT})"
    odd = f"{{ req.fhdr(user-agent) -m reg -- {words.quote(_ODD_TEXT)} }}"
    return [f"http-request capture {agent},{_TEXT} id 1 if {odd}"]


def closely(config: conf.Config) -> list[str]:
    """What matters only to requests that are not ordinary: none but these has a host that would
    have to be escaped, and is refused for it. HAProxy's own id costs less than a variable."""
    if not config.access_log:
        return []
    odd = f"{{ req.fhdr(host) -m reg -- {words.quote(hostile.ODD_HOST)} }}"
    return [f"http-request capture str(-) id 0 if {hostile.UNUSUAL} {odd}"]


def named(config: conf.Config) -> list[str]:
    """The id that is logged of who gets no further."""
    if not (config.access_log and config.proxies.trusted):
        return []
    return ["http-request set-var(txn.gapless_id) unique-id"]


def _id(config: conf.Config) -> str:
    """Whose id it is: that of a trusted proxy takes a variable (``known``)."""
    return f"var(txn.gapless_id),{_TEXT}" if config.proxies.trusted else "unique-id"


def known(config: conf.Config) -> list[str]:
    """The id as the application gets it: that of a trusted proxy stands."""
    if not (config.access_log and config.proxies.trusted):
        return []
    return ["http-request set-var(txn.gapless_id) req.fhdr(X-Request-ID)"]


def parse(line: str) -> dict[str, Any] | None:
    """One line as an object; None for what is none of the log."""
    if not line.startswith(BEGINNING):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def readable(line: str) -> str:
    """One line for people; what is not of the log stays as it is."""
    one = parse(line)
    if one is None:
        return line
    total = f"{one.get('total_ms')} ms"
    served = one.get("replica", "-")
    served = "edge" if served == "-" else served
    return (
        f"{one.get('time')} {one.get('client')} {one.get('status')} {one.get('method')}"
        f" {one.get('host')}{one.get('path')} {total} {one.get('out')} B {served} {one.get('id')}"
    )


@dataclass(slots=True)
class Tally:
    """What was answered for one service. ``times``: milliseconds, of all that had an answer."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    times: list[int] = field(default_factory=list)

    def add(self, status: int, total: int) -> None:
        """One request. ``errors``: 5xx and those without an answer; ``refused``: 4xx."""
        self.requests += 1
        if status < 0 or status >= 500:
            self.errors += 1
        elif status >= 400:
            self.refused += 1
        if status > 0 and total >= 0:
            self.times.append(total)

    def told(self, seconds: float) -> dict[str, Any]:
        """As the API tells it: counts, a rate, and exact percentiles (None without answers)."""
        ordered = sorted(self.times)
        return {
            "requests": self.requests,
            "per_second": round(self.requests / seconds, 2) if seconds > 0 else None,
            "errors": self.errors,
            "refused": self.refused,
            "error_rate": round(self.errors / self.requests, 6) if self.requests else None,
            "p50_ms": percentile(ordered, 0.50),
            "p95_ms": percentile(ordered, 0.95),
            "p99_ms": percentile(ordered, 0.99),
        }


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """The smallest of all values that at least ``share`` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def tally(entries: Iterable[dict[str, Any]]) -> dict[str, Tally]:
    """By service; ``edge``: what no service was asked for. ``""``: all together."""
    found: dict[str, Tally] = defaultdict(Tally)
    for one in entries:
        name = str(one.get("service") or "")
        service = "edge" if name.startswith("_") or name in ("", "-") else name
        status, total = int(one.get("status", -1)), int(one.get("total_ms", -1))
        found[service].add(status, total)
        found[""].add(status, total)
    return dict(found)
