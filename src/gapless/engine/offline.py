"""One look without a controller: what ``ps`` and its kin show when it is dead.

Only what lies on disk and what the kernel says is used: the process records, the desired state,
/proc. Nothing is changed, nothing is locked, and pydantic is not imported: reading is quick.
The edge goes on without a controller and is asked what it knows; what it knows nothing of (a
worker, or all of them when it is dead too) is ``running``.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import socket
import sqlite3
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gapless.engine.paths import Paths
from gapless.errors import Damaged, EnvironmentFault
from gapless.model import front
from gapless.model.process import ReplicaId

Status = dict[str, Any]
Servers = Mapping[str, tuple[str, int | None]]
"""Replica id to state and requests in flight."""
EDGE_SOCKET = "edge.sock"
EDGE_FOLDER = "e"
"""Of the run directory, where the edge runs in a container."""
ANYWHERE = ("*", "0.0.0.0")  # noqa: S104  # compared only


@dataclass(frozen=True, slots=True)
class Program:
    """A recorded program. ``started_at`` in seconds since 1970; ``exit`` only for the dead."""

    id: str
    pid: int
    alive: bool
    started_at: float
    address: str | None
    labels: Mapping[str, str]
    exit: str | None = None

    @property
    def replica(self) -> ReplicaId | None:
        """The replica that it is; None for the edge, stores and jobs."""
        if self.labels.get("kind", "replica") not in ("replica", "service"):
            return None
        try:
            return ReplicaId.parse(self.id)
        except ValueError:
            return None

    @property
    def service(self) -> str:
        """The service it belongs to; its own name for what is no replica."""
        replica = self.replica
        return self.id if replica is None else replica.service


def programs(paths: Paths) -> list[Program]:
    """Every program with a record, alive or dead."""
    from gapless.runtimes.machine import proc
    from gapless.runtimes.process import records

    kept = records.Records(paths.state, paths.stack)
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for name in kept.names():
        record = kept.load(name)
        if record is None:
            continue
        stat = proc.stat(record.pid) if record.boot == proc.boot() else None
        alive = stat is not None and stat.start == record.start and not stat.dead
        end = None if alive else kept.exit(name)
        found.append(
            Program(
                id=record.id,
                pid=record.pid,
                alive=alive,
                started_at=booted + record.start / proc.TICKS,
                address=record.address,
                labels=record.labels,
                exit=None if end is None else str(end),
            )
        )
    return found


def desired(paths: Paths) -> dict[str, Any]:
    """The durable record as plain JSON; {} when there is none or it cannot be read."""
    try:
        value = json.loads(paths.record.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def status(paths: Paths) -> Status:
    """What ``GET /v1/status`` answers, as far as it can be seen; ``controller`` is ``dead``."""
    wanted = desired(paths)
    everything = programs(paths)
    services: dict[str, list[Program]] = {}
    for program in everything:
        if (replica := program.replica) is not None:
            services.setdefault(replica.service, []).append(program)
    for name in wanted.get("vector", {}):
        services.setdefault(name, [])
    serving = _serving(paths)
    return {
        "stack": paths.stack,
        "release": _release(wanted.get("stack")),
        "controller": "dead",
        "maintenance": bool(wanted.get("maintenance")),
        "held_until": (wanted.get("hold") or {}).get("until"),
        "edge": _edge(everything, _url(paths, wanted), paths),
        "rollout": _rollout(wanted.get("rollout")),
        "services": [_service(name, found, serving) for name, found in sorted(services.items())],
        "data": _stores(everything),
        "jobs": _jobs(everything, wanted),
    }


def anything_runs(answer: Status) -> bool:
    """Whether a status shows a living program."""
    replicas = [r for service in answer["services"] for r in service["replicas"]]
    stores = answer["data"]
    return (
        any(part["pid"] is not None for part in (*replicas, *stores))
        or any(job["state"] == "running" for job in answer["jobs"])
        or answer["edge"]["pid"] is not None
    )


def usage(paths: Paths, over: float) -> list[dict[str, Any]]:
    """Use of each living program, measured over some seconds: cpu in cores, memory in bytes."""
    from gapless.runtimes.machine import proc

    living = {program.id: program for program in programs(paths) if program.alive}
    leaders = {name: program.pid for name, program in living.items()}
    before, begun = proc.usage(leaders, proc.scan()), time.monotonic()
    time.sleep(over)
    after, elapsed = proc.usage(leaders, proc.scan()), time.monotonic() - begun
    return [
        {
            "id": name,
            "service": living[name].service,
            "cpu": max(0.0, used.cpu_seconds - before[name].cpu_seconds) / elapsed,
            "memory": used.memory,
        }
        for name, used in sorted(after.items())
        if name in before
    ]


def history(paths: Paths, limit: int) -> list[dict[str, Any]]:
    """The journal's newest entries, oldest first; [] when there is none.

    Raises Damaged.
    """
    if not paths.journal.exists():
        return []
    try:
        # Not read-only: after a kill the write-ahead log may have to be recovered first.
        with contextlib.closing(sqlite3.connect(paths.journal, timeout=2.0)) as db:
            rows = db.execute(
                "SELECT at, actor, what, cause, outcome FROM event ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
    except sqlite3.Error as error:
        raise Damaged(
            f"{paths.journal}: cannot be read: {error}",
            hint="it only explains the past; gapless up -d begins a new one",
        ) from None
    names = ("at", "actor", "what", "cause", "outcome")
    return [dict(zip(names, row, strict=True)) for row in reversed(rows)]


def releases(paths: Paths) -> list[dict[str, Any]]:
    """What is kept, oldest first, as ``GET /v1/releases`` answers it."""
    wanted = desired(paths)
    found = []
    for manifest in paths.releases.glob("*/release.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(manifest.read_text("utf-8")))
    found.sort(key=lambda entry: int(entry.get("release", 0)))
    now = _numbers(wanted)
    before = set(_numbers(wanted.get("previous") or {}).values())
    return [
        {
            "release": _release(number := entry.get("release")),
            "created_at": entry.get("created_at"),
            "by": entry.get("by"),
            "source": entry.get("source"),
            "services": [name for name, runs in now.items() if runs == number],
            "state": "current"
            if number in now.values()
            else "previous"
            if number in before
            else "kept",
        }
        for entry in found
    ]


def lock(paths: Paths) -> dict[str, Any]:
    """``{"held", "holder"}``: whether somebody is the one writer, and who says to be it."""
    try:
        with paths.lock.open("rb") as stream:
            said = stream.read(4096).decode("utf-8", "replace").strip()
            inode = os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        return {"held": False, "holder": ""}
    except OSError as error:
        raise EnvironmentFault(f"{paths.lock}: cannot be read: {error.strerror}") from None
    # The kernel's list is asked, for trying the lock would refuse a controller that starts now.
    held = any(
        fields[1] == "FLOCK" and fields[-3].rpartition(":")[2] == str(inode)
        for fields in map(str.split, Path("/proc/locks").read_text().splitlines())
        if len(fields) == 8
    )
    return {"held": held, "holder": said if held else ""}


def _service(name: str, found: list[Program], serving: Servers) -> dict[str, Any]:
    return {
        "name": name,
        "desired": None,
        "ready": None,
        "drift": None,
        "replicas": [_replica(program, serving) for program in sorted(found, key=_order)],
    }


def _order(program: Program) -> tuple[int, str]:
    replica = program.replica
    return (0 if replica is None else replica.ordinal, program.id)


def _replica(program: Program, serving: Servers) -> dict[str, Any]:
    replica = program.replica
    state, in_flight = serving.get(program.id, ("running", None))
    return {
        "id": program.id,
        "state": state if program.alive else "stopped",
        "release": None if replica is None else _release(replica.release),
        "pid": program.pid if program.alive else None,
        "address": program.address,
        "started_at": program.started_at,
        "restarts": None,
        "cpu": None,
        "memory": None,
        "in_flight": in_flight if program.alive else None,
        "reason": program.exit,
    }


def _serving(paths: Paths) -> Servers:
    """What the edge says of each replica: it goes on without a controller, and can be asked."""
    try:
        with socket.socket(socket.AF_UNIX) as edge:
            edge.settimeout(1.0)
            inner = paths.run / EDGE_FOLDER / EDGE_SOCKET
            edge.connect(str(inner if inner.exists() else paths.run / EDGE_SOCKET))
            edge.sendall(b"show stat -1 4 -1\n")
            answer = b"".join(iter(lambda: edge.recv(1 << 16), b""))
    except OSError:
        return {}
    found: dict[str, tuple[str, int | None]] = {}
    rows = csv.DictReader(answer.decode("utf-8", "replace").lstrip("# ").splitlines())
    # A server and its namesake on the edge's floor are one; the floor has the last word on nothing.
    for row in sorted(rows, key=lambda row: (row.get("pxname") or "").startswith("_")):
        if row.get("svname"):
            name, work = row["svname"].replace(":", "@"), _int(row.get("scur"))
            word, before = found.get(name, (_word(row.get("status") or ""), None))
            found[name] = (word, before if work is None else (before or 0) + work)
    return found


def _word(status: str) -> str:
    for start, word in (("UP", "ready"), ("no check", "ready"), ("DRAIN", "draining")):
        if status.startswith(start):
            return word
    return "parked" if status.startswith("MAINT") else "unhealthy"


def _int(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _url(paths: Paths, wanted: Mapping[str, Any]) -> str | None:
    """Where the release in force is published, by the copy of the file that it holds."""
    folder = paths.releases / f"r{wanted.get('stack')}"
    try:
        table = tomllib.loads((folder / "stack.toml").read_text("utf-8"))
        overlay = json.loads((folder / "release.json").read_text("utf-8")).get("overlay")
    except (OSError, ValueError, AttributeError):
        return None
    layers = (table, table.get("for", {}).get(overlay, {}))
    edge = {**layers[0].get("edge", {}), **layers[1].get("edge", {})}
    domains = layers[1].get("domains") or layers[0].get("domains") or []
    secure = edge.get("tls", "auto" if domains else None)
    if edge.get("shared") and not secure:
        return _own_url(paths)
    key, usual = ("tls_listen", "443") if secure else ("listen", "80")
    here = "127.0.0.1:8443" if secure else "127.0.0.1:8080"
    asked = edge.get(key) or (f"*:{usual}" if domains else here)
    address, _, port = str(asked).rpartition(":")
    named = next((str(name) for name in domains if not str(name).startswith("*")), None)
    host = named or ("127.0.0.1" if address in ANYWHERE else address)
    return f"http{'s' if secure else ''}://{host}" + ("" if named and port == usual else f":{port}")


def _own_url(paths: Paths) -> str | None:
    """Of an edge that is behind the front: where it listens for this machine alone."""
    try:
        return (
            f"http://127.0.0.1:{int(json.loads((paths.state / 'ports.json').read_text())['edge'])}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _front(paths: Paths) -> dict[str, Any] | None:
    """The front that the stack is behind, by what it has claimed; None: it has claimed nothing."""
    home = paths.state.parent / "_front"
    try:
        fields = json.loads((home / "claims" / f"{paths.stack}.json").read_text("utf-8"))
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        urls = front.urls(front.Claim(**fields))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    found = programs(Paths("_front", home, home))
    alive = [program.pid for program in found if program.alive]
    names = [file.stem for file in (home / "claims").glob("[a-z]*.json")]
    return {
        "state": "running" if alive else "dead" if found else "absent",
        "pid": alive[0] if alive else None,
        "urls": list(urls),
        "shared_with": sorted(name for name in names if name != paths.stack),
        "reason": "",
    }


def _edge(everything: list[Program], url: str | None, paths: Paths) -> dict[str, Any]:
    found: dict[str, Any] = {"url": url, "state": "absent", "pid": None, "front": _front(paths)}
    for program in everything:
        if program.labels.get("kind") == "edge" or program.id == "edge":
            state = "running" if program.alive else "dead"
            return {**found, "state": state, "pid": program.pid if program.alive else None}
    return found


def _stores(everything: list[Program]) -> list[dict[str, Any]]:
    return [
        {
            "name": program.labels.get("data", program.id.removeprefix("data.")),
            "type": program.labels.get("type", ""),
            "state": "running" if program.alive else "stopped",
            "address": program.address or "",
            "role": program.labels.get("role", "primary"),
            "pid": program.pid if program.alive else None,
            "reason": program.exit or "",
        }
        for program in everything
        if program.labels.get("kind") == "data"
    ]


def _jobs(everything: list[Program], wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that a schedule starts; without a controller none is to come."""
    living = {program.labels.get("job") for program in everything if program.alive}
    found = []
    for name, known in sorted((wanted.get("schedules") or {}).items()):
        expression, _, zone = str(known.get("counted") or "").rpartition(" ")
        last = {key: known.get(key) for key in ("due", "state", "reason")}
        found.append(
            {
                "name": name,
                "schedule": expression,
                "zone": zone,
                "state": "running" if name in living else "stopped",
                "next": None,
                "last": last if last["state"] else None,
            }
        )
    return found


def _numbers(wanted: Mapping[str, Any]) -> dict[str, int]:
    """Release by service."""
    vector = wanted.get("vector") or {}
    return {name: generation.get("release") for name, generation in vector.items()}


def _release(number: Any) -> str | None:
    return f"r{number}" if isinstance(number, int) else None


def _rollout(rollout: Any) -> dict[str, Any] | None:
    if not isinstance(rollout, dict):
        return None
    return {key: rollout.get(key) for key in ("id", "kind", "phase", "target")}
