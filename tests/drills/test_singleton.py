"""Drill singleton on real stacks: it holds where one is one, and sees two where there are two."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from gapless.drills import base, rivalry, rivals, scratch, siblings, singleton, stage, tenure
from gapless.drills.base import Outcome
from gapless.runtimes.base import CONTAINED
from gapless.runtimes.machine import files, proc
from gapless.runtimes.process import records
from tests.drills import conftest, planted
from tests.drills.stand import wait_for

UNCHECKED = Path(__file__).with_name("unchecked_leader.py")


@contextlib.contextmanager
def scratched(
    source: rivals.Rivals, *kinds: str, fault: str | None = None
) -> Iterator[scratch.Scratch]:
    """A scratch stack for these rounds, of a faulty engine where one is named."""
    with conftest.state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        patch.setattr(rivalry, "PATTERN", kinds)
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        options = base.Options(rounds=len(kinds))
        with (
            nothing_left(home),
            scratch.stack("probes", home / "source", lambda _: None, source, options) as made,
        ):
            yield made


@contextlib.contextmanager
def nothing_left(home: Path) -> Iterator[None]:
    """What a faulty runtime forgets to end is ended here: all that is marked as from there."""
    try:
        yield
    finally:
        for each in proc.scan():
            mark = proc.variable(each.pid, records.MARK) or ""
            if f"/{files.home(home / mark.partition('/')[0])}-" in mark:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)


def play(source: rivals.Rivals, *kinds: str, fault: str | None = None) -> Outcome:
    with scratched(source, *kinds, fault=fault) as made:
        return singleton.attack(made)


def test_it_holds_and_counts_what_was_tried() -> None:
    outcome = play(rivals.Rivals(), "kill", "pause in a restart", "controller paused")
    assert outcome.reasons == ()
    detail = outcome.detail
    assert detail["rounds"] == {"kill": 1, "pause in a restart": 1, "controller paused": 1}
    assert detail["leaders"]["tokens"] >= 3
    assert detail["leaders"]["late_writes_refused"] >= 1
    assert set(detail["longest_gap_seconds"]) == set(detail["rounds"])


def test_it_holds_where_the_controller_is_killed() -> None:
    alone = rivals.Rivals(leaders=0)
    outcome = play(alone, "controller killed in a restart", "deploy")
    assert outcome.reasons == ()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("forgets-too-early", "kill"), ("takes-stopped-for-dead", "pause in a restart")],
)
def test_it_sees_two_where_a_runtime_lets_them(fault: str, kind: str) -> None:
    outcome = play(rivals.Rivals(leaders=0), kind, fault=fault)
    assert any("still wrote when" in one for one in outcome.reasons), outcome.reasons
    assert any("found it held" in one for one in outcome.reasons), outcome.reasons


def test_it_sees_the_writes_of_a_leader_of_yesterday() -> None:
    outcome = play(rivals.Rivals(leader=UNCHECKED), "pause in a restart")
    assert any("after token" in one for one in outcome.reasons), outcome.reasons


OWN = """\
gapless = 1
name = "own"
[service.beat]
run = ["/bin/sh", "-c", "sleep 600 & wait"]
singleton = true
drain = "1s"
"""


class Own:
    """A user's stack with a singleton whose child survives it."""

    def write(self, folder: Path, name: str) -> None:
        (folder / scratch.FILE).write_text(OWN)


@contextlib.contextmanager
def own(fault: str | None = None) -> Iterator[scratch.Scratch]:
    """That stack, under a roof of its own."""
    with conftest.state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        options = base.Options()
        with (
            nothing_left(home),
            scratch.stack("own", home / "source", lambda _: None, Own(), options) as made,
        ):
            yield made


def test_the_user_s_own_is_looked_at_and_not_a_neighbour_s_of_the_same_name() -> None:
    with own() as neighbour, own() as made:
        one = files.home(neighbour.paths.state)
        assert siblings.found(neighbour.target, neighbour.settle()) == ("beat",)
        found = siblings.trial(made, "beat")
        assert siblings.at_once("own", one, "beat", proc.scan()) == 1
    assert len(found.gaps) == siblings.KILLS
    assert found.most == 1
    assert siblings.judge(found) == ()


def test_two_of_the_user_s_own_are_seen() -> None:
    with own("forgets-too-early") as made:
        made.settle()
        found = siblings.trial(made, "beat")
    assert found.most >= 2
    assert siblings.judge(found)


def test_one_after_the_other_within_one_look_is_not_two() -> None:
    """The first died while the look went on: only who is there before and after counts."""
    mark = {records.MARK: "own/beat.1@r1/0a1b2c3d-x"}
    other = {CONTAINED: "own/beat.1@r1.2/0a1b2c3d"}  # as the processes of a container have it
    with (
        subprocess.Popen(["/bin/sleep", "600"], env=mark) as one,
        subprocess.Popen(["/bin/sleep", "600"], env=other) as two,
    ):

        def at_once(service: str, seen: Iterable[proc.Stat], home: str = "0a1b2c3d") -> int:
            return siblings.at_once("own", home, service, seen)

        try:
            wait_for("marks", lambda: at_once("beat", proc.scan()) == 2)
            seen = [stat for pid in (one.pid, two.pid) if (stat := proc.stat(pid))]
            assert at_once("beat", seen) == 2
            assert at_once("other", seen) == 0
            assert at_once("beat", seen, home="0a1b2c3e") == 0

            def dying() -> Iterator[proc.Stat]:
                yield from seen
                one.kill()
                one.wait()

            assert at_once("beat", dying()) == 1
        finally:
            one.kill()
            two.kill()


def lines(text: str) -> list[tenure.Line]:
    return [tenure.holder_line(line) for line in text.splitlines()]


SOUND = """a main 1 1.0 took
a child 2 1.1 alive
a main 1 1.2 alive
b main 3 1.7 took
b main 3 1.8 alive"""


def test_diaries_are_read_by_the_order_of_their_lines() -> None:
    sound = lines(SOUND)
    assert tenure.overlaps(sound) == ()
    assert tenure.gap(sound, "a", "b") == pytest.approx(0.5)
    assert tenure.gap(sound, "a", "c") is None
    # The clock says that it was before: the order says that both were there.
    both = lines(SOUND + "\na child 2 1.1 alive")
    assert tenure.overlaps(both) == ("a (child) still wrote when b held",)
    assert tenure.refusals(lines("b main 3 1.7 refused")) == ("b found it held",)


def test_runs_of_tokens() -> None:
    assert tenure.runs("1:5 2:7") == ((1, 5), (2, 7))
    assert tenure.stale(((1, 5), (2, 7))) == ()
    assert tenure.stale(((1, 5), (2, 7), (1, 2), (2, 1))) == (
        "2 writes with token 1 after token 2",
    )
