"""Files come from the edge's side: replicas see none of the requests, not through a deploy either.

On the stack itself its own files are asked for, in every way that clients ask, and under load
while a deploy goes by. That pages of the old release find what they need needs two releases with
other files: those are the probe service's, on a scratch stack.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gapless import errors
from gapless.drills import asked, base, mix, rollback, scratch, traffic, verdict
from gapless.drills import state as states
from gapless.drills.base import Outcome, Target
from gapless.drills.stage import Stage
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.edge import static

NAME = "static"
PROMISE = "files come from the edge's side, those of old pages too, and replicas see no request"
REQUESTS = 5_000
FILES = 4
"""So many of the stack's own are asked for."""
LARGEST = 1 << 20
LOOKED_AT = 2_000
"""Files of a folder among which they are chosen."""


@dataclass(frozen=True, slots=True)
class Table:
    """``sent``: requests for files. ``counted``: those that the edge gave to the server of files.

    ``replicas``: requests that replicas got meanwhile, where nobody else asked anything.
    ``faults``: answers that were wrong. ``old``: status of an old release's own file, by moment.
    """

    traffic: Traffic
    wanted: int
    sent: int
    counted: int
    replicas: int | None = None
    faults: tuple[str, ...] = ()
    old: Mapping[str, int] | None = None
    release_before: int | None = None
    release_after: int | None = None


def judge(table: Table, strict: bool = False) -> Reasons:
    reasons = [
        *base.traffic_reasons(table.traffic, table.wanted, strict),
        *verdict.handed_over(table.traffic),
        *verdict.equal("release", table.release_before, table.release_after),
        *table.faults,
    ]
    if table.counted < table.sent:
        reasons.append(f"{table.sent - table.counted:,} of {table.sent:,} did not go to files")
    if table.replicas:
        reasons.append(f"replicas got {table.replicas:,} of {table.sent:,} requests for files")
    for moment, status in (table.old or {}).items():
        if status != 200:
            reasons.append(f"a page of the old release found no file of its own {moment}: {status}")
    return tuple(reasons)


def subject(target: Target, state: State) -> str:
    base.published(target, state)
    folders = [path for path, one in target.stack.edge.static.items() if one.store is None]
    if not folders:
        raise errors.MissingSubject(
            "this stack publishes no folder of its release",
            hint='[edge] static = { "/static" = "web/dist" }',
        )
    return f"the files at {', '.join(folders)}"


def run(stage: Stage) -> Outcome:
    own = on_stack(stage)
    name = scratch.name_for(stage.paths.stack)
    stage.say(f"two releases with other files are needed: a scratch stack {name} is used")
    ground = scratch.Ground.of(stage.target.stack)
    settings = scratch.Settings(start="20s", watch="1s", static=True, ground=ground)
    folder = stage.paths.state / "drill"
    options = base.Options(requests=min(stage.options.requests or REQUESTS, 1_000))
    with scratch.stack(name, folder, stage.say, settings, options) as probes:
        old = attack(probes)
    reasons = (*own.reasons, *(f"{name}: {reason}" for reason in old.reasons))
    return replace(own, reasons=reasons, detail={**own.detail, "scratch": old.as_json()})


def on_stack(stage: Stage) -> Outcome:
    """Its own files, in every way, and through a deploy that changes nothing."""
    before = stage.settle()
    files = tuple(chosen(stage, before))
    if not files:
        raise errors.MissingSubject("the folders that this stack publishes hold no file to ask for")
    client = asked.Client(mix.edge_url(before), stage.target.host)
    seen = counted(stage)
    wrong = [fault for one in files for fault in asked.faults(client, one)]
    for path in stage.target.stack.edge.static:
        wrong += asked.open_doors(client, path)
    stage.say(f"{client.asked} questions about {len(files)} files: {len(wrong)} wrong answers")
    wanted = stage.options.requests or REQUESTS
    load = mix.Mix(mix.edge_url(before), tuple(one.path for one in files), host=stage.target.host)
    stage.later("release", lambda: rollback.back(stage, before))

    def change(number: int) -> int:
        old = stage.look()
        mark = {rollback.MARK: f"static-{number}"}
        stage.must("/v1/deploy", services=[], env=mark, wait=True, drill=True)
        return states.handovers(old, stage.settle())

    whole = traffic.under_load(stage, load, wanted, change)
    rollback.back(stage, before)
    stage.forget("release")
    now = counted(stage)
    table = Table(
        whole.traffic(),
        wanted,
        whole.requests,
        sum(now.get(name, 0) - seen.get(name, 0) for name in static.BACKENDS),
        faults=tuple(wrong),
        release_before=before.release,
        release_after=stage.look().release,
    )
    detail = {**whole.detail(), "files": [one.path for one in files], "counted": table.counted}
    return Outcome(NAME, judge(table, stage.options.strict), table.traffic, detail)


def attack(probes: scratch.Scratch) -> Outcome:
    """A deploy and its rollback while pages of the old release go on asking for their files."""
    before = probes.settle()
    source = probes.target.file.parent
    needed = scratch.publish(source, 1)
    url = mix.edge_url(before)
    client = asked.Client(url, None)
    seen, found = counted(probes), {}

    def change(number: int) -> int:
        fresh = scratch.publish(source, number + 1)
        old = probes.look()
        probes.must("/v1/deploy", services=[], wait=True)
        new = probes.settle()
        # Asked as nobody has asked before: what the edge has in memory proves nothing.
        found[f"after deploy {number}"] = client.ask(f"{needed}?{number}").status
        found[f"(the new one's, after deploy {number})"] = client.ask(f"{fresh}?1").status
        page = client.ask("/assets/").body.decode("utf-8", "replace")
        if fresh.rpartition("/")[2] not in page:
            found[f"(the new page, after deploy {number})"] = 0
        probes.must("/v1/rollback", release=before.release, yes=True, wait=True)
        found[f"(the undone one's, after rollback {number})"] = client.ask(f"{fresh}?2").status
        return states.handovers(old, new) + states.handovers(new, probes.settle())

    wanted = probes.options.requests or REQUESTS
    load = mix.Mix(url, ("/assets/", needed))
    whole = traffic.under_load(probes, load, wanted, change)
    now = counted(probes)
    delta = {name: number - seen.get(name, 0) for name, number in now.items()}
    sent = whole.requests + client.asked
    table = Table(
        whole.traffic(),
        wanted,
        sent,
        sum(delta.pop(name, 0) for name in static.BACKENDS),
        replicas=sum(number for name, number in delta.items() if name),
        old=found,
        release_before=before.release,
        release_after=probes.look().release,
    )
    detail = {**whole.detail(), "old": found, "counted": table.counted, "sent": sent}
    return Outcome(NAME, judge(table), table.traffic, detail)


def counted(stage: Stage) -> dict[str, int]:
    """Requests so far, by backend."""
    counters: Mapping[str, Mapping[str, Any]] = stage.client.get("/v1/counters")
    return {name: int(one["requests"]) for name, one in counters.items()}


def chosen(stage: Stage, state: State) -> Iterator[asked.Published]:
    """Some files of the release in force: of each folder small ones, of different types."""
    tree = stage.paths.releases / f"r{state.release}" / "tree"
    left = FILES
    for path, table in stage.target.stack.edge.static.items():
        if table.store is None and left:
            for file in _varied(tree / table.dir, left):
                left -= 1
                name = file.relative_to(tree / table.dir).as_posix()
                yield asked.Published(f"{path.rstrip('/')}/{name}", file)


def _varied(folder: Path, most: int) -> list[Path]:
    found: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here, name) for name in sorted(names) if _askable(Path(here, name))]
        if len(found) > LOOKED_AT:
            break
    kinds: dict[str, list[Path]] = {}
    for file in found:
        kinds.setdefault(file.suffix, []).append(file)
    firsts = [files[0] for _, files in sorted(kinds.items())]
    rest = [file for file in found if file not in firsts]
    return [*firsts, *rest][:most]


def _askable(file: Path) -> bool:
    plain = file.name.isascii() and file.name.replace("-", "").replace("_", "").replace(".", "")
    simple = bool(plain) and str(plain).isalnum() and not file.name.startswith(".")
    return simple and not file.is_symlink() and 0 < file.stat().st_size <= LARGEST
