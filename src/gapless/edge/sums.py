"""Several workers' answers to one: sums and searches over parsed tables. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from gapless import errors, observed
from gapless.edge import awaiting, base, static, wire, words
from gapless.edge import config as conf


def find(known: Iterable[wire.Seen], backend: str, name: str) -> wire.Seen | None:
    """The server of that name, or None."""
    wanted = words.identifier(name)
    for seen in known:
        if seen.server.name == wanted and seen.server.backend == backend:
            return seen
    return None


def backend(config: conf.Config, name: str) -> conf.Backend:
    """A backend of the configuration. Raises EdgeRefused when it has none of that name."""
    for found in config.backends:
        if found.name == name:
            return found
    raise errors.EdgeRefused(
        f'edge: the configuration in force has no backend "{name}"',
        command="enter",
        answer=wire.UNKNOWN_BACKEND,
    )


def with_old(now: observed.EdgeServer | None, old: observed.EdgeServer) -> observed.EdgeServer:
    """What a server has on an old worker too. Known there alone: it only finishes its work."""
    if now is None:
        return replace(old, admin="maint", up=False, tripped=False)
    return replace(
        now,
        in_flight=now.in_flight + old.in_flight,
        served=now.served + old.served,
        bad=now.bad + old.bad,
    )


def first(config: conf.Config, wanted: Sequence[base.Member]) -> tuple[conf.Server, ...]:
    """Members as they stand in the text that an edge starts with: all in rotation."""
    backends = {found.name: found for found in config.backends}
    return tuple(
        conf.Server(
            member.name,
            member.backend,
            member.address,
            member.cookie if backends[member.backend].sticky else None,
        )
        for member in wanted
        if member.backend in backends
    )


def members(
    config: conf.Config, wanted: Sequence[base.Member], known: Sequence[wire.Seen]
) -> tuple[conf.Server, ...]:
    """Members as the next configuration names them: in rotation only those that are in it."""
    listed = []
    backends = {found.name: found for found in config.backends}
    for member in wanted:
        if member.backend not in backends:
            continue
        seen = find(known, member.backend, member.name)
        cookie = member.cookie if backends[member.backend].sticky else None
        listed.append(
            conf.Server(
                member.name,
                member.backend,
                member.address,
                cookie,
                enabled=seen is not None and seen.judged == "ready",
            )
        )
    return tuple(listed)


def counters(rows: Sequence[wire.Row], name: str) -> base.Counters:
    """Totals of one backend, or of the public frontend (``""``)."""
    if name:
        both = (name, conf.floor(name))
        own = [row for row in rows if not row.frontend and row.name in both]
        again = [row for row in rows if row.name == f"{awaiting.SECTION}{name}"]
        alone = again
        cut = sum(row.cut for row in own)
    else:
        own = [row for row in rows if row.frontend and row.name == conf.PUBLIC]
        again = []
        alone = [row for row in rows if row.name.startswith(awaiting.SECTION)]
        cut = sum(row.cut for row in rows if not row.frontend)
    # Who has waited, and not in vain, is counted a second time.
    bad = sum(row.responses_5xx for row in own)
    bad -= sum(row.responses_5xx - row.denied for row in again)
    return base.Counters(
        requests=sum(row.requests for row in own) - sum(row.requests - row.denied for row in again),
        failed=bad + cut,
        responses_5xx=bad,
        sessions=sum(row.sessions for row in own) - sum(row.sessions for row in again),
        nobody_left=sum(row.requests for row in alone),
    )


def plus(now: base.Counters, before: base.Counters | None) -> base.Counters:
    """What passed through now and before; sessions are only those of now."""
    if before is None:
        return now
    return base.Counters(
        now.requests + before.requests,
        now.failed + before.failed,
        now.responses_5xx + before.responses_5xx,
        now.sessions,
        now.nobody_left + before.nobody_left,
    )


def to_json(counted: Mapping[str, base.Counters]) -> str:
    """Counters as a JSON object; ``from_json`` is the inverse."""
    return json.dumps({name: asdict(each) for name, each in counted.items()})


def from_json(text: str) -> dict[str, base.Counters]:
    """The inverse of ``to_json``. Raises ValueError or TypeError on anything else."""
    return {name: base.Counters(**each) for name, each in json.loads(text).items()}


def names(rows: Sequence[wire.Row]) -> set[str]:
    """The backends of services among them, and of files."""
    found = {row.name for row in rows if not row.frontend}
    return {name for name in found if not name.startswith("_") or name in static.BACKENDS}


def batches(orders: Sequence[str], limit: int) -> Iterator[list[str]]:
    """Orders in lines of at most ``limit`` bytes; one longer than that stands alone."""
    batch: list[str] = []
    size = 0
    for order in orders:
        length = len(order.encode()) + 1
        if batch and size + length > limit:
            yield batch
            batch, size = [], 0
        batch.append(order)
        size += length
    if batch:
        yield batch
