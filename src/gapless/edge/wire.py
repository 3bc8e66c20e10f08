"""HAProxy's runtime API as text: commands out, parsed answers in. Pure.

A command is one line; several go out together, separated by ``;``, and run in that order without
a request between that could see half of them for long. Answers come back concatenated: what a
command changes in silence answers with an empty line, so any other line is its refusal.
"""

from __future__ import annotations

import csv
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gapless import errors, observed
from gapless.edge import awaiting, judging, words
from gapless.edge import config as conf

Admin = Literal["ready", "maint"]

REGISTERED = "New server registered."
DELETED = "Server deleted."
UNKNOWN_SERVER = "No such server."
UNKNOWN_BACKEND = "No such backend."
ATTACHED = "still has connections attached"

SERVERS = "show stat -1 4 -1"
TOTALS = "show stat -1 3 -1"
INFO = "show info"
WORKERS = "show proc"
SESSIONS = "show sess"
_ANALYSED = ",an=00h,"
_OWNER = re.compile(r"^(0x[0-9a-f]+): .* source=(\S+)", re.MULTILINE)
TABLE = "# pxname,"
"""How every table begins."""


@dataclass(frozen=True, slots=True)
class Info:
    """Of one worker: its pid, what its configuration calls itself, and its age in seconds."""

    pid: int
    stack: str
    digest: str
    uptime: int


@dataclass(frozen=True, slots=True)
class Workers:
    """The master, its present worker (None while it has none) and the ones on their way out."""

    master: int
    current: int | None
    old: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One server in one worker; ``id`` is ``words.server_id`` of what it was added with."""

    server: observed.EdgeServer
    id: int
    checked: bool
    """Whether a check has had an answer since it was last put to work."""
    limit: int = 0
    """Requests that it gets at a time as one that is judged; 0: any number."""
    judged: Admin | None = "ready"
    """What it was told as one that is judged by its answers; None: it is not there as such."""
    floor: Admin | None = None
    """What it was told as a server of the floor (``render.text``); None: not there as such."""


@dataclass(frozen=True, slots=True)
class Row:
    """Totals of one frontend or backend."""

    name: str
    frontend: bool
    requests: int
    sessions: int
    responses_5xx: int
    cut: int
    """Answers that a server broke off."""
    denied: int = 0
    """Requests that a rule refused without an answer of its own."""


def escape(word: str) -> str:
    """One argument of a command. Raises UsageError for control characters."""
    if not word or not word.isprintable():
        raise errors.UsageError(f"edge: not a possible argument: {word!r}")
    return re.sub(r"([\\ ;<#'\"])", r"\\\1", word)


def command(*words: str) -> str:
    """Words to one command."""
    return " ".join(escape(word) for word in words)


def line(commands: Sequence[str], *, worker: int | None = None) -> str:
    """Commands to one line; through the master each is addressed to a worker's pid."""
    if worker is None:
        return ";".join(commands) + "\n"
    return ";".join([*(f"@!{worker} {text}" for text in commands), "quit"]) + "\n"


def add(backend: conf.Backend, server: conf.Server, *, floor: bool = False) -> list[str]:
    """Make a server known, checked, and out of rotation (as new servers are)."""
    name = target(conf.floor(backend.name) if floor else backend.name, server.name)
    return [
        command("add", "server", name, *judging.server_words(backend, server, floor=floor)),
        command("enable", "health", name),
    ]


def state(backend: str, name: str, admin: Admin) -> str:
    """Into rotation, or out of it at once, holders of its cookie included."""
    return command("set", "server", target(backend, name), "state", admin)


def out(backend: str, name: str, seen: Seen) -> list[str]:
    """Out of rotation at once in everything it is there as."""
    orders = []
    if seen.floor is not None:
        orders.append(state(conf.floor(backend), name, "maint"))
    if seen.judged is not None:
        orders.append(state(backend, name, "maint"))
    return orders


def limit(backend: str, name: str, requests: int) -> str:
    """So many requests at a time; ``judging.ANY``: any number. 0 leaves who waits waiting."""
    return command("set", "maxconn", "server", target(backend, name), str(requests))


def trip(backend: str, name: str) -> str:
    """Out of rotation until enough checks in a row are good."""
    return command("set", "server", target(backend, name), "health", "down")


def shutdown(backend: str, name: str) -> str:
    """End what a server still has in flight."""
    return command("shutdown", "sessions", "server", target(backend, name))


def delete(backend: str, name: str) -> str:
    """Forget a server."""
    return command("del", "server", target(backend, name))


def target(backend: str, name: str) -> str:
    """``backend/server``, both as identifiers."""
    return f"{words.identifier(backend)}/{words.identifier(name)}"


def switch_look(path: str) -> str:
    """Asks for a list that holds ``on`` while something is on: see ``is_on``."""
    return command("show", "acl", path)


def map_look(path: str) -> str:
    """Asks for the entries of a map: see ``hold.until``, ``awaiting.told``, ``static.told``."""
    return command("show", "map", path)


def only_entry(path: str, value: str | None) -> list[str]:
    """Make a map hold that value alone (None: nothing), as ``hold.entry`` says it, or a digest."""
    cleared = command("clear", "map", path)
    return [cleared] if value is None else [cleared, command("add", "map", path, "on", value)]


def switch(path: str, on: bool) -> list[str]:
    """Make the list say so."""
    cleared = command("clear", "acl", path)
    return [cleared, command("add", "acl", path, "on")] if on else [cleared]


def show_certificate(path: str) -> str:
    """Ask about one: see ``serial``."""
    return command("show", "ssl", "cert", path)


def serial(answer: str) -> int | None:
    """Parse the answer: its serial number; None when there is none of that name."""
    found = re.search(r"^Serial: ([0-9A-Fa-f]+)$", answer, re.MULTILINE)
    return int(found[1], 16) if found else None


def set_certificate(path: str, pem: str) -> str:
    """Another one instead, not in force yet. ``pem`` must have no empty lines.

    The payload ends the line of commands: nothing can follow it.
    """
    return f"{command('set', 'ssl', 'cert', path)} <<\n{pem.strip()}\n"


def transaction_begun(answer: str) -> bool:
    """Whether HAProxy took what ``set_certificate`` sent, and checked it."""
    return "Transaction created" in answer or "Transaction updated" in answer


def other_transaction(answer: str) -> str | None:
    """The certificate of one that nobody has finished, when it stands in the way."""
    found = re.search(r"ongoing transaction is about '([^']+)'", answer)
    return found[1] if found else None


def commit_certificate(path: str) -> str:
    """Put it in force for new connections."""
    return command("commit", "ssl", "cert", path)


def committed(answer: str) -> bool:
    """Whether it is in force."""
    return "Success!" in answer


def abort_certificate(path: str) -> str:
    """Forget what was set and not committed."""
    return command("abort", "ssl", "cert", path)


def clear_map(path: str) -> str:
    """Forget all its entries."""
    return command("clear", "map", path)


def add_map(path: str, key: str, value: str) -> str:
    """One more entry."""
    return command("add", "map", path, key, value)


def delete_map(path: str, key: str) -> str:
    """Forget what it has for that key; without any it says so."""
    return command("del", "map", path, key)


def refusals(answer: str) -> list[str]:
    """The lines of an answer that are neither empty nor good news."""
    lines = (text.strip() for text in answer.splitlines())
    return [text for text in lines if text and text not in (REGISTERED, DELETED)]


def info(answer: str) -> Info:
    """Parse ``show info``. Raises ValueError."""
    found = dict(text.split(": ", 1) for text in answer.splitlines() if ": " in text)
    words = found.get("description", "").split()
    if len(words) != 3 or words[0] != "gapless":
        raise ValueError("not an edge of ours")
    return Info(int(found["Pid"]), words[1], words[2], int(found["Uptime_sec"]))


def is_on(answer: str) -> bool:
    """Parse the answer to ``switch_look``: lines of address and pattern."""
    return any(re.fullmatch(r"0x[0-9a-f]+ on", text) for text in answer.splitlines())


def workers(answer: str) -> Workers:
    """Parse ``show proc`` of the master. Raises ValueError."""
    master: int | None = None
    current: int | None = None
    old: list[int] = []
    leaving = False
    for text in answer.splitlines():
        if text.startswith("#"):
            leaving = text.startswith("# old") or (leaving and not text.startswith("# "))
            continue
        words = text.split()
        if len(words) < 2 or not words[0].isdigit():
            continue
        pid = int(words[0])
        if words[1] == "master":
            master = pid
        elif words[1] == "worker" and leaving:
            old.append(pid)
        elif words[1] == "worker":
            current = pid
    if master is None:
        raise ValueError("the master did not name itself")
    return Workers(master, current, tuple(old))


def servers(answer: str) -> list[Seen]:
    """Parse ``show stat`` of servers (the table may stand after other answers).

    A server and its namesake on the floor are one. What else is in backends that begin with
    ``_`` is the edge's own and nobody's business.
    """
    found: dict[tuple[str, str], Seen] = {}
    floors = []
    for row in _table(answer):
        if row["svname"] == awaiting.SERVER:
            continue
        if row["pxname"].startswith(conf.FLOOR):
            floors.append(row)
        elif not row["pxname"].startswith("_"):
            found[(row["pxname"], row["svname"])] = _seen(row)
    for row in floors:
        key = (row["pxname"].removeprefix(conf.FLOOR), row["svname"])
        found[key] = _with_floor(found.get(key), key, row)
    return list(found.values())


def sessions(answer: str, backend: str, name: str) -> list[str]:
    """Parse ``show sess``: the ids of what is in flight on a server."""
    own = (words.identifier(backend), words.identifier(conf.floor(backend)))
    wanted = [f" be={each} srv={words.identifier(name)} " for each in own]
    lines = (text for text in answer.splitlines() if any(each in text for each in wanted))
    return [text.partition(":")[0] for text in lines if text.startswith("0x")]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A session that carries a WebSocket, say. ``id`` is another's as soon as it has ended."""

    id: str
    source: str


def tunnels(answer: str) -> dict[str, list[Tunnel]]:
    """Parse ``show sess``: WebSockets and other tunnels, by server name.

    A tunnel is what has been analysed to the end on both sides; a request or an answer that is
    under way, of whatever length, still has an analyser that counts its body.
    """
    found: dict[str, list[Tunnel]] = {}
    for text in answer.splitlines():
        if text.count(_ANALYSED) == 2 and text.startswith("0x"):
            name = text.partition(" srv=")[2].partition(" ")[0]
            if not name.startswith("<"):
                source = text.partition(" src=")[2].partition(" ")[0]
                found.setdefault(name, []).append(Tunnel(text.partition(":")[0], source))
    return found


def show_session(id: str) -> str:
    """Ask about one of them."""
    return command("show", "sess", id)


def still(answer: str) -> set[Tunnel]:
    """Parse the answers to several ``show_session``: who these ids belong to at present."""
    return {Tunnel(id, source) for id, source in _OWNER.findall(answer)}


def end_session(id: str) -> str:
    """End one of them."""
    return command("shutdown", "session", id)


def totals(answer: str) -> list[Row]:
    """Parse ``show stat`` of frontends and backends."""
    return [
        Row(
            name=row["pxname"],
            frontend=row["svname"] == "FRONTEND",
            requests=_number(row, "req_tot"),
            sessions=_number(row, "scur"),
            responses_5xx=_number(row, "hrsp_5xx"),
            cut=_number(row, "srv_abrt"),
            denied=_number(row, "dreq"),
        )
        for row in _table(answer)
    ]


def _table(answer: str) -> Iterable[Mapping[str, str]]:
    start = answer.find(TABLE)
    if start < 0:
        raise ValueError(f"no table in {answer[:80]!r}")
    lines = csv.reader(answer[start + 2 :].split("\n\n", 1)[0].splitlines())
    head = next(lines)
    # Some twenty of a hundred columns: this runs every second for each server.
    names = [name for name in head if name in _READ]
    pick = operator.itemgetter(*(head.index(name) for name in names))
    return (dict(zip(names, pick(fields), strict=True)) for fields in lines if len(fields) > 1)


_ANSWERS = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")
_CHECK = ("check_status", "check_code", "check_desc", "last_chk")
_PLACE = ("pxname", "svname", "sid", "status", "qcur", "scur", "slim")
_TIMES = ("qtime", "ctime", "rtime")
"""Means over the last 1024 requests, in ms: in the queue, to connect, until the answer begins."""
_READ = frozenset((*_PLACE, *_CHECK, *_ANSWERS, *_TIMES, "hanafail", "req_tot", "srv_abrt", "dreq"))
_GOOD = ("L7OK", "L6OK", "L4OK", "L7OKC")


def _seen(row: Mapping[str, str]) -> Seen:
    status = row["status"]
    up = status.startswith("UP") or status in ("no check", "DRAIN")
    admin: Literal["ready", "drain", "maint"] = _admin(row)
    if status.startswith("DRAIN"):
        admin = "drain"
    check = row["check_status"].removeprefix("* ")
    trips = _number(row, "hanafail")
    down = not up and admin != "maint"
    server = observed.EdgeServer(
        name=row["svname"],
        backend=row["pxname"],
        admin=admin,
        up=up,
        in_flight=_number(row, "scur") + _number(row, "qcur"),
        tripped=down and (check == "HANA" or (trips > 0 and check in _GOOD)),
        served=sum([_number(row, name) for name in _ANSWERS]),
        bad=_number(row, "hrsp_5xx"),
        check=_check_text(row, check),
        latency=sum([_number(row, name) for name in _TIMES]) / 1000,
    )
    if server.tripped:
        words = f"{judging.ERROR_LIMIT} bad answers in a row, {server.bad} in all"
        server = replace(server, check=f"{words}; {server.check}")
    return Seen(
        server,
        _number(row, "sid"),
        checked=check not in ("", "INI", "UNK"),
        limit=_limit(row),
        judged=_admin(row),
    )


def _limit(row: Mapping[str, str]) -> int:
    """0 for ``judging.ANY``; of a text HAProxy drops a limit that is above all connections."""
    found = _number(row, "slim")
    return found if found < judging.ANY else 0


def _admin(row: Mapping[str, str]) -> Admin:
    return "maint" if row["status"].startswith("MAINT") else "ready"


def _with_floor(seen: Seen | None, key: tuple[str, str], row: Mapping[str, str]) -> Seen:
    """One that is still on the floor has not left, so it must not look as if it had."""
    floor = _admin(row)
    if seen is None:
        server = observed.EdgeServer(name=key[1], backend=key[0], admin="maint")
        seen = Seen(server, _number(row, "sid"), checked=False, judged=None)
    now = seen.server
    in_flight = _number(row, "scur") + _number(row, "qcur")
    served = sum([_number(row, name) for name in _ANSWERS])
    server = now
    if in_flight or served or (floor == "ready" != now.admin):  # nearly never
        server = replace(
            now,
            admin="ready" if floor == "ready" else now.admin,
            in_flight=now.in_flight + in_flight,
            served=now.served + served,
            bad=now.bad + _number(row, "hrsp_5xx"),
        )
    return (
        seen if server is now and seen.floor == floor else replace(seen, server=server, floor=floor)
    )


def _check_text(row: Mapping[str, str], check: str) -> str:
    if check in ("", "INI", "UNK"):
        return ""
    code = row["check_code"]
    words = [f"{check}/{code}" if code and code != "0" else check]
    words += [row[name] for name in ("check_desc", "last_chk") if row.get(name)]
    return ": ".join(words)


def _number(row: Mapping[str, str], name: str) -> int:
    text = row.get(name, "")
    return int(text) if text.isdigit() else 0
