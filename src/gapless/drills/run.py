"""One drill from subject to verdict, with the state put back whatever happens."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, cast

from gapless import errors
from gapless.drills import (
    backlog,
    bad_deploy,
    config,
    connections,
    controller,
    crash,
    deploy,
    edge_crash,
    edge_reload,
    hang,
    leak,
    maintenance,
    private,
    rate_limit,
    rollback,
    scale,
    singleton,
    spike,
    spread,
    stage,
    static,
    sticky,
    tls,
)
from gapless.drills import (
    errors as errors_drill,
)
from gapless.drills.base import Options, Outcome, Target
from gapless.drills.state import State
from gapless.engine.paths import Paths


class Drill(Protocol):
    """What each drill's module offers; its ``judge`` is pure, over its own table of values."""

    NAME: str
    PROMISE: str

    def subject(self, target: Target, state: State) -> str:
        """What it acts on, in a few words. Raises MissingSubject."""

    def run(self, stage: stage.Stage) -> Outcome:
        """Disturb, measure, judge."""


_MODULES: tuple[ModuleType, ...] = (
    deploy,
    bad_deploy,
    rollback,
    scale,
    sticky,
    spread,
    config,
    controller,
    connections,
    crash,
    hang,
    errors_drill,
    singleton,
    spike,
    backlog,
    leak,
    tls,
    static,
    maintenance,
    edge_reload,
    edge_crash,
    rate_limit,
    private,
)
DRILLS: dict[str, Drill] = {one.NAME: cast(Drill, one) for one in _MODULES}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list. ``missing``: why it has no subject here, else ""."""

    name: str
    promise: str
    subject: str
    missing: str = ""


def listing(target: Target, state: State) -> tuple[Entry, ...]:
    """All drills with their subjects in this stack."""
    entries = []
    for name, drill in DRILLS.items():
        try:
            entries.append(Entry(name, drill.PROMISE, drill.subject(target, state)))
        except errors.MissingSubject as error:
            entries.append(Entry(name, drill.PROMISE, "", error.message))
    return tuple(entries)


def find(name: str) -> Drill:
    """Raises UsageError for a name that is no drill's."""
    if name in DRILLS:
        return DRILLS[name]
    near = difflib.get_close_matches(name, DRILLS, 1)
    guess = f'; did you mean "{near[0]}"?' if near else ""
    raise errors.UsageError(f'no drill "{name}"{guess}', hint="gapless drill lists them")


def perform(
    name: str, target: Target, options: Options, paths: Paths, say: Callable[[str], None]
) -> Outcome:
    """Run a drill and put back what it changed, also when interrupted (Ctrl-C, TERM, HUP).

    Raises MissingSubject, NoController, Locked; WorkFailed when it could not be carried out or
    when something could not be put back.
    """
    drill = find(name)
    there = stage.Stage(target, options, paths, say)
    what = drill.subject(target, there.look())
    with stage.alone(paths), stage.interruptible():
        say(f"drill {name}: {drill.PROMISE}; subject: {what}")
        left: tuple[str, ...] = ()
        try:
            outcome = drill.run(there)
        except KeyboardInterrupt:
            say("interrupted: putting back what was there")
            raise
        finally:
            with stage.undisturbed():
                left = there.put_back()
            for one in left:
                say(f"not put back: {one}")
    if left:
        raise errors.WorkFailed(f"drill {name}: not put back: {'; '.join(left)}", hint="gapless ps")
    return outcome
