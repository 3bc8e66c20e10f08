"""The drill of long connections on real stacks: it holds on a sound one, and fails on a faulty one.

The parts are driven on one scratch stack of WebSockets, which stands for the user's here.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless.drills import base, connections, hall, holds, scratch, stage
from gapless.drills.holds import Moves, Part, Speech, Table
from gapless.drills.state import State
from gapless.model.stack import Stack
from tests.drills import planted
from tests.drills.conftest import state

CLIENTS = 60


@contextlib.contextmanager
def standing(
    mode: str = "good", fault: str | None = None, say: stage.Say = lambda _: None
) -> Iterator[scratch.Scratch]:
    """A stack of WebSockets, of a faulty engine or application where one is named."""
    with state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        patch.setattr(connections, "HOLD", 1.0)
        patch.setattr(connections, "ROOMS", (20, 40))
        patch.setattr(connections, "TEXTS", 20)
        patch.setattr(connections, "OWN_PACE", 300.0)
        patch.setattr(hall, "SHORTEST", 3)
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        source = hall.Source(CLIENTS, rate=45.0, mode=mode, watch="500ms")
        options = base.Options(clients=CLIENTS)
        with scratch.stack("sockets", home / "source", say, source, options) as made:
            yield made


def judged(part: Part) -> tuple[str, ...]:
    return holds.judge(Table((part,)))


def test_a_sound_stack_holds_them() -> None:
    made: scratch.Scratch
    draining: list[tuple[int, bool]] = []

    def look(said: str) -> None:
        """Once the deploy is done, and while its old replicas still have their sockets."""
        if "deployed after" in said:
            services = made.client.get("/v1/status")["services"]
            found = [r for r in services[0]["replicas"] if r["state"] == "draining"]
            draining.extend((r["sockets"], r["drains_until"] > 0) for r in found if r["sockets"])

    with standing(say=look) as made:
        part = connections.rooms(made, CLIENTS)
        subject = connections.subject(made.target, made.look())
    assert judged(part) == ()
    assert 0 < sum(sockets for sockets, _ in draining) <= CLIENTS
    assert all(until for _, until in draining)
    assert part.arrived == part.open == part.moves.lost == part.moves.back == CLIENTS
    assert [(said.members, said.sent) for said in part.speeches] == [(20, 20), (40, 20)]
    assert part.kib.keys() == {"edge", "replicas"}
    assert subject == "/ws of web, and the probe service"


@pytest.mark.parametrize(("mode", "fault"), [("good", "shuts-all-at-once"), ("drops", None)])
def test_all_at_once_fails(mode: str, fault: str | None) -> None:
    """An edge without a pace, and an application that hangs up on everybody."""
    with standing(mode, fault) as made:
        part = connections.own(made, "websocket", "/ws")
    assert any("came back in one second" in reason for reason in judged(part)), part


def test_a_cut_fails() -> None:
    """A replica is killed while nothing should happen to anybody."""
    made: scratch.Scratch

    def kill(said: str) -> None:
        if "held for" in said:
            pid = made.look().replicas[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

    with standing(say=kill) as made:
        part = connections.rooms(made, CLIENTS)
    assert any("ended while nothing was changed" in reason for reason in judged(part)), part


def test_without_a_route_the_probe_service_is_the_subject() -> None:
    tables = {"gapless": 1, "name": "x", "service": {"web": {"run": "app ${socket}"}}}
    target = base.Target(Path("gapless.toml"), None, Stack.model_validate(tables))
    assert "alone" in connections.subject(target, State.of_status({}))


GOOD = Part(
    "web",
    clients=10,
    arrived=10,
    open=10,
    moves=Moves(handovers=3, lost=10, back=10, away=0.4, window=20.0, fastest=5, rate=200.0),
    speeches=(Speech(10, 5, 50, 50, 1.0, 4.0, 0.1),),
)


def with_moves(**values: float) -> Part:
    moves = {name: values.get(name, getattr(GOOD.moves, name)) for name in Moves.__slots__}
    return with_values(moves=Moves(**moves))


def with_values(**values: object) -> Part:
    return Part(**{name: values.get(name, getattr(GOOD, name)) for name in Part.__slots__})  # type: ignore[arg-type]  # as named


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (with_values(arrived=9), "only 9 of 10"),
        (with_values(ended=1), "1 connections ended"),
        (with_values(refused=2, why=("HTTP 503",)), r"2 times refused \(HTTP 503\)"),
        (with_values(open=9), "9 of 10 connected at the end"),
        (with_values(speeches=(Speech(10, 5, 50, 49),)), "49 of 50 texts"),
        (with_values(speeches=(Speech(10, 0, 0, 0),)), "0 of 0 texts"),
        (with_moves(handovers=0), "no replica"),
        (with_moves(lost=0), "no replica"),
        (with_moves(back=9), "1 of 10 did not come back"),
        (with_moves(away=21.0), "away for 21.0 s"),
        (with_moves(fastest=201), "201 came back in one second"),
    ],
)
def test_each_rule_catches_what_it_is_for(part: Part, said: str) -> None:
    (reason,) = judged(part)
    assert re.search(said, reason)


def test_times_are_judged_only_when_asked() -> None:
    slow = with_values(speeches=(Speech(1000, 5, 50, 50, 30.0, 60.0, 1.0),))
    assert judged(slow) == ()
    assert holds.judge(Table((slow,)), strict=True) == (
        "web: p99 of a text 60.0 ms, 50 ms allowed",
    )
    assert holds.judge(Table((GOOD,)), strict=True) == ()


def test_the_fastest_second_is_any_second() -> None:
    assert holds.fastest([]) == 0
    assert holds.fastest([0.9, 1.0, 1.1, 5.0]) == 3
    assert holds.fastest([0.0, 1.0, 2.0]) == 1
