"""Answers of the controller as tables and lines. Values in, text and rows out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gapless.cli import out

Answer = Mapping[str, Any]

REPLICA_HEADS = (
    "REPLICA",
    "STATE",
    "RELEASE",
    "ADDRESS",
    "PID",
    "UPTIME",
    "RESTARTS",
    "CPU",
    "MEMORY",
    "IN FLIGHT",
)
DATA_HEADS = ("DATA", "TYPE", "STATE", "ROLE", "ADDRESS")
JOB_HEADS = ("JOB", "STATE", "SCHEDULE", "LAST DUE", "OUTCOME", "NEXT DUE")


def span(seconds: float) -> str:
    """``42s``, ``7m 3s``, ``5h 12m``, ``3d 4h``: two units at most."""
    whole = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def size(count: float | None) -> str:
    """Bytes as ``512 B``, ``45.3 MiB``; None as a dash."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def cores(count: float | None) -> str:
    """Cores in use as per cent of one: ``12.5%``; None as a dash."""
    return "-" if count is None else f"{count * 100:.1f}%"


def clock(at: float | None) -> str:
    """Seconds since 1970 as local date and time."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _dash(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def replica_row(replica: Answer, now: float) -> tuple[str, ...]:
    """One line of ``ps``; ``now`` in the clock of ``started_at`` (seconds since 1970)."""
    started = replica.get("started_at")
    state = str(replica.get("state", "?"))
    return (
        str(replica.get("id", "?")),
        state,
        _dash(replica.get("release")),
        _dash(short_address(replica.get("address"))),
        _dash(replica.get("pid") or replica.get("container")),
        span(now - started) if started and state != "stopped" else "-",
        _dash(replica.get("restarts")),
        cores(replica.get("cpu")),
        size(replica.get("memory")),
        _dash(replica.get("in_flight")),
    )


def short_address(address: object) -> str:
    """What fits into a column; a socket's whole path is told by ``describe``."""
    text = str(address or "")
    return "socket" if text.startswith("unix:/") else text


def replica_rows(status: Answer, now: float) -> list[tuple[str, ...]]:
    """All replicas of a status, and a line for each service that has none."""
    rows = []
    for service in status.get("services", ()):
        replicas = service.get("replicas", ())
        rows += [replica_row(replica, now) for replica in replicas]
        if not replicas:
            rows.append((service["name"], "stopped", *["-"] * 8))
    return rows


def data_rows(status: Answer) -> list[tuple[str, ...]]:
    """All stores of a status."""
    return [
        (
            str(node["name"]),
            _dash(node.get("type")),
            _dash(node.get("state")),
            _dash(node.get("role")),
            _dash(short_address(node.get("address"))),
        )
        for node in status.get("data", ())
    ]


def job_rows(status: Answer) -> list[tuple[str, ...]]:
    """All jobs with a schedule; times are local."""
    rows: list[tuple[str, ...]] = []
    for job in status.get("jobs", ()):
        last = job.get("last") or {}
        outcome = ", ".join(str(last[key]) for key in ("state", "reason") if last.get(key))
        schedule = f"{job.get('schedule') or ''} {job.get('zone') or ''}".strip()
        rows.append(
            (
                str(job["name"]),
                _dash(job.get("state")),
                _dash(schedule),
                clock(last.get("due")),
                _dash(outcome),
                clock(job.get("next")),
            )
        )
    return rows


def loads(status: Answer) -> Iterator[str]:
    """What the services do that follow their load, a line each."""
    for service in status.get("services", ()):
        scale = service.get("scale")
        if not scale:
            continue
        count = f"{service['name']}: {service.get('desired')} of {scale['min']} to {scale['max']}"
        held = f"; held: {scale['held']}" if scale.get("held") else ""
        queued = service.get("backlog")
        more = "" if queued is None else f"; {tasks(queued)}"
        yield f"{count} replicas: {scale.get('reason') or 'not measured yet'}{more}{held}"


def tasks(count: int) -> str:
    """The backlog of a queue in words."""
    return f"{count:,} task{'' if count == 1 else 's'} not done"


def troubles(status: Answer) -> Iterator[str]:
    """Reasons of what is not as it should be, a line each."""
    for service in status.get("services", ()):
        for replica in service.get("replicas", ()):
            if replica.get("sockets") and (until := replica.get("drains_until")):
                yield (
                    f"{replica['id']}: {replica['sockets']:,} sockets left, "
                    f"drains until {clock(until)} at the latest"
                )
            if reason := replica.get("reason"):
                yield f"{replica['id']}: {reason}"
            if (end := replica.get("last_end")) and replica.get("state") != "backing-off":
                yield f"{replica['id']}: {end}"
        if (drift := service.get("drift")) is not None:
            yield f"{service['name']}: scaled to {drift} by hand, until the next deploy"
        if service.get("stopped"):
            yield f"{service['name']}: stopped by hand; gapless start {service['name']}"
    for node in status.get("data", ()):
        if reason := node.get("reason"):
            yield f"{node['name']}: {reason}"
    yield from _edge_troubles(status.get("edge") or {})


def _edge_troubles(edge: Answer) -> Iterator[str]:
    for one in edge.get("certificates") or ():
        if one["state"] != "valid" or one["reason"]:
            yield certificate(one)
    if reason := (edge.get("front") or {}).get("reason"):
        yield f"front: {reason}"


CERTIFICATES = {
    "stand-in": "a self-signed stand-in is shown until the authority has issued one",
    "ordering": "is being ordered",
    "missing": "is not there yet",
}


def certificate(one: Answer) -> str:
    """What is wrong with one of the edge's certificates."""
    state = CERTIFICATES.get(one["state"], f"{one['state']} ({clock(one.get('ends_at'))})")
    return f"certificate {one['name']}: {state}" + (f"; {one['reason']}" if one["reason"] else "")


def headline(status: Answer) -> str:
    """First line of ``ps``: stack, release, controller, edge."""
    edge = status.get("edge") or {}
    release = status.get("release")
    parts = [
        f"{status['stack']}" + (f" at {release}" if release else ""),
        f"controller: {status.get('controller', '?')}",
        f"edge: {edge.get('state', 'absent')}" + (f" {edge['url']}" if edge.get("url") else ""),
    ]
    if front := edge.get("front"):
        others = ", ".join(front["shared_with"])
        parts.append(f"front: {front['state']}" + (f", shared with {others}" if others else ""))
    if status.get("maintenance"):
        parts.append("maintenance: on")
    if (held := status.get("held_until")) is not None and held > time.time():
        parts.append(f"requests held: {held - time.time():.0f} s")
    if rollout := status.get("rollout"):
        parts.append(f"{rollout.get('kind', 'change')}: {rollout.get('phase', 'under way')}")
    return " · ".join(parts)


TRAFFIC_HEADS = ("SERVICE", "ROUTE", "REQ/S", "4XX", "ERRORS", "P50", "P95", "P99")


def traffic_rows(traffic: Answer) -> list[tuple[str, ...]]:
    """A row for each service that had requests; ``edge``: what the edge itself answered."""
    return [
        (
            name,
            _dash(one.get("route")),
            f"{one['per_second']:,.1f}",
            str(one["refused"]),
            f"{one['errors']} ({(one['error_rate'] or 0.0):.2%})",
            *("-" if one[key] is None else f"{one[key]} ms" for key in PERCENTILES),
        )
        for name, one in (traffic.get("services") or {}).items()
    ]


PERCENTILES = ("p50_ms", "p95_ms", "p99_ms")


def counts(services: Mapping[str, Answer]) -> str:
    """``web 2/3, worker 2/2`` of a progress event."""
    return ", ".join(
        f"{name} {at.get('ready', '?')}/{at.get('wanted', '?')}" for name, at in services.items()
    )


def step(event: Answer) -> str:
    """One step of a plan as it was done."""
    line = f"[{event.get('n', '?')}] {event.get('text', '')}"
    if cause := event.get("cause"):
        line += f"   because {cause}"
    if event.get("state") == "failed":
        line += f"   FAILED: {event.get('error') or 'no reason given'}"
    return out.clean(line)


def verdict(result: Answer) -> str:
    """The closing line of a deploy: what clients felt, as the edge counted it."""
    if result.get("requests") is None:
        return ""
    parts = ["no request came meanwhile"]
    if result["requests"]:
        parts = [f"{result.get('failed', 0):,} of {result['requests']:,} requests failed"]
    if unknown := result.get("unknown"):
        parts.append(f"{unknown:,} unknown")
    p99, before = result.get("p99_ms"), result.get("baseline_p99_ms")
    if p99 is not None and before is not None:
        parts.append(f"p99 {p99 - before:+.0f} ms")
    elif p99 is not None:
        parts.append(f"p99 {p99:.0f} ms")
    if handovers := result.get("handovers"):
        parts.append(f"{handovers} handovers")
    sockets = (result.get("detail") or {}).get("sockets")
    if isinstance(sockets, Mapping) and sockets.get("total"):
        parts.append(
            f"{sockets['total']:,} sockets: {sockets.get('moved', 0):,} moved, "
            f"{sockets.get('draining', 0):,} still draining"
        )
    if (seconds := result.get("seconds")) is not None:
        parts.append(f"{seconds:.1f} s")
    return ", ".join(parts)


def totals(sums: Answer) -> str:
    """What replicas reserve at their floor against what the machine has; "" where unknown."""
    if "replicas" not in sums:
        return ""
    text = (
        f"reserved: {sums['cpu']:g} of {sums['machine_cpus']:g} cores, "
        f"{size(sums['memory'])} of {size(sums['machine_memory'])}, {sums['replicas']} replicas"
    )
    return text if sums.get("fits", True) else f"{text}: does not fit"


def tree(value: Any, indent: int = 0) -> Iterator[str]:
    """Any answer as indented ``key: value`` lines."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list) and inner:
                yield f"{pad}{key}:"
                yield from tree(inner, indent + 1)
            else:
                yield f"{pad}{key}: {out.clean(_scalar(key, inner))}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            if isinstance(inner, Mapping):
                lines = list(tree(inner, indent + 1))
                yield f"{pad}- {lines[0].strip()}" if lines else f"{pad}-"
                yield from lines[1:]
            else:
                yield f"{pad}- {out.clean(inner)}"
    else:
        yield f"{pad}{out.clean(value)}"


def _scalar(key: object, value: object) -> str:
    if value is None or value in ({}, []) or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "memory" and isinstance(value, int):
        return size(value)
    if key == "cpu" and isinstance(value, float):
        return cores(value)
    if key in ("created_at", "started_at", "ends_at", "at") and isinstance(value, int | float):
        return clock(value)
    return str(value)
