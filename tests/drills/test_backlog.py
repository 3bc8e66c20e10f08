"""The backlog drill: its verdict, its subject, and the real thing with sound and faulty engines."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gapless import errors, stackfile
from gapless.drills import backlog, base, celery_kit, scratch, stage, workers
from gapless.drills.backlog import Batch, Following, Kill, Meeting, Table
from gapless.drills.base import Target
from gapless.drills.state import Service, State
from gapless.model import service as services
from tests.drills import conftest, planted
from tests.examples import application

MEETING = Meeting(16, {"worker.1@r1": 8, "worker.2@r1": 8}, 2, 16)
FOLLOWING = Following(Batch(1_000, laden=20), 2, most=4, left=2, after=2)
DEPLOY = Batch(128, laden=16)
KILL = Kill(Batch(32, repeated=("kill-1", "kill-2")), ("kill-1", "kill-2"))
SOUND = Table(MEETING, FOLLOWING, DEPLOY, KILL)
FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"meeting": None}, "tasks at once: not tried"),
    ({"following": None}, "following the queue: not tried"),
    ({"deploy": None}, "a deploy: not tried"),
    ({"kill": None}, "a killed worker: not tried"),
    ({"meeting": replace(MEETING, by_worker={"w1": 8, "w2": 7})}, "at most 15 tasks ran at once"),
    ({"meeting": replace(MEETING, by_worker={"w1": 16})}, "on 1 workers instead of 2"),
    ({"meeting": replace(MEETING, reported=0)}, "what is not acknowledged does not count"),
    ({"meeting": replace(MEETING, reported=None)}, "the backlog was None"),
    ({"following": replace(FOLLOWING, most=2, left=0)}, "never more than 2 workers"),
    ({"following": replace(FOLLOWING, left=0)}, "none of 4 workers left"),
    ({"following": replace(FOLLOWING, after=4)}, "4 workers in the end instead of 2"),
    ({"following": replace(FOLLOWING, batch=Batch(9, laden=1, lost=("a",)))}, "tasks lost: a"),
    (
        {"following": replace(FOLLOWING, batch=Batch(9, laden=1, repeated=("a",)))},
        "scaling down: tasks run twice: a",
    ),
    ({"following": replace(FOLLOWING, batch=Batch(9))}, "scaling down: no worker that left"),
    ({"deploy": replace(DEPLOY, lost=("a", "b"))}, "deploying: tasks lost: a, b"),
    ({"deploy": replace(DEPLOY, repeated=tuple("abcdefg"))}, "7 in all"),
    ({"deploy": replace(DEPLOY, laden=0)}, "deploying: no worker that left"),
    ({"kill": replace(KILL, in_hand=())}, "had no task in hand"),
    ({"kill": replace(KILL, in_hand=("kill-3",))}, "did not run again: kill-3"),
    ({"kill": replace(KILL, strange=("kill-2",))}, "tasks of others ran twice: kill-2"),
    ({"kill": replace(KILL, batch=replace(KILL.batch, lost=("x",)))}, "tasks lost: x"),
]


@pytest.mark.parametrize(("change", "reason"), FAULTS)
def test_verdict(change: dict[str, Any], reason: str) -> None:
    assert backlog.judge(SOUND) == ()
    found = backlog.judge(replace(SOUND, **change))
    assert any(reason in one for one in found), found


def test_what_it_tells() -> None:
    outcome = backlog.outcome(SOUND, 60.0)
    assert outcome.held
    assert (outcome.traffic.requests, outcome.traffic.failed) == (16 + 1_000 + 128 + 32, 0)
    assert outcome.detail["said"] == [
        "at once: 8 + 8 tasks; backlog then: 16",
        "1,000 tasks in 0 s: workers 2 to 4 and back to 2; 0 lost, 0 run twice, "
        "20 ended by workers on their way out",
        "128 tasks during a deploy: 0 lost, 0 run twice, 16 ended by workers on their way out",
        "kill -9 with 2 tasks in hand: 2 ran again, 0 lost of 32",
    ]


# Subject

WEB = '[service.web]\nrun = "server --uds ${socket}"\n'
CELERY = '[service.jobs]\nrun = "celery -A app worker -Q mail"\n'
CACHE = '[data.cache]\ntype = "redis"\n'
FOLLOWS = (
    '[service.other]\nrun = "consume"\nscale = { max = 4, queue = "cache:mail", backlog = 10 }\n'
)


def subject(text: str, *running: str) -> str:
    stack = stackfile.parse(f'gapless = 1\nname = "x"\n{text}', file="x.toml").stack
    seen = {name: Service(name, 1, 1) for name in running}
    state = State(1, "", None, seen, (), {})
    return backlog.subject(Target(Path("x.toml"), None, stack), state)


def test_subject_is_a_worker_with_a_queue() -> None:
    assert "workers like jobs" in subject(WEB + CELERY + CACHE, "web", "jobs")
    both = subject(WEB + CELERY + FOLLOWS + CACHE, "web", "jobs", "other")
    assert both.startswith("workers like other, on a store like cache")


@pytest.mark.parametrize(
    ("text", "running", "missing"),
    [
        (WEB + CACHE, ["web"], "no worker service runs"),
        (WEB + CELERY + CACHE, ["web"], "no worker service runs"),
        (WEB + CELERY, ["web", "jobs"], "no store of type redis"),
    ],
)
def test_without_a_subject(text: str, running: list[str], missing: str) -> None:
    with pytest.raises(errors.MissingSubject, match=missing):
        subject(text, *running)


# Celery, found and copied


def ask(argv: Sequence[str]) -> tuple[int, str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def worker(run: str) -> services.Service:
    return services.Service.model_validate({"run": run})


@pytest.fixture(scope="module")
def kit() -> celery_kit.Kit:
    return celery_kit.find(worker(f"{application.environment()}/celery worker"), ask)


def test_where_no_python_has_it_that_is_said() -> None:
    with pytest.raises(errors.MissingSubject, match="has no celery") as missing:
        celery_kit.find(worker("celery -A app worker"), ask)
    assert "celery[redis]" in str(missing.value.hint)


def test_a_copy_runs_with_a_bare_python(kit: celery_kit.Kit, tmp_path: Path) -> None:
    kit.copy(tmp_path / "libs")
    code = "import celery.bin.celery, kombu.transport.redis; print(celery.__file__)"
    env = {"PYTHONPATH": str(tmp_path / "libs"), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [kit.python, "-c", code]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path)), done.stderr


def test_its_stack_file_is_sound(kit: celery_kit.Kit, tmp_path: Path) -> None:
    settings = {"maxmemory": "100mb", "appendonly": False, "hz": 50}
    made = workers.Fleet(kit, version=9, settings=settings)
    made.rewrite(tmp_path, "x-drill")
    stack = stackfile.load(tmp_path / scratch.FILE).stack
    scale = stack.services["worker"].scale
    assert scale is not None
    assert (scale.max, scale.store, scale.queue_name, scale.backlog) == (4, "queue", "probe", 100)
    assert stack.data["queue"].settings == settings
    assert stack.data["queue"].version == 9


# The real thing: four hands instead of sixteen

TASKS = 80


@contextlib.contextmanager
def crew(kit: celery_kit.Kit, fault: str | None = None) -> Iterator[workers.Workers]:
    """Two workers with two hands each, of a faulty engine where one is named."""
    fleet = workers.Fleet(kit, concurrency=2, backlog=5, down_after="1s")
    with conftest.state() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPLESS_STATE", str(home))
        patch.setattr(backlog, "PATIENCE", 60.0 if fault is None else 6.0)
        patch.setattr(backlog, "STALL", 10.0 if fault is None else 3.0)
        patch.setattr(backlog, "VISIBILITY", 5.0)
        if fault is not None:
            patch.setattr(stage, "CLI", planted.command(fault, "cli"))
        options = base.Options()
        with scratch.stack("crew", home / "source", lambda _: None, fleet, options) as there:
            yield workers.Workers(there, fleet)


def test_holds(kit: celery_kit.Kit) -> None:
    with crew(kit) as sound:
        found = backlog.try_all(sound, TASKS)
    assert found.reasons == ()
    assert found.traffic.requests == 4 + TASKS + 32 + 8
    assert found.traffic.failed == 0


def test_fails_where_workers_are_treated_badly(kit: celery_kit.Kit) -> None:
    """Killed instead of told, not followed, and what they have taken not counted."""
    with crew(kit, "bad-to-workers") as broken:
        meeting = backlog.meet(broken)
        following = backlog.follow(broken, TASKS)
        found = backlog.judge(Table(meeting, following, backlog.deploy(broken)))
    for reason in ("the backlog was 0", "never more than 2 workers", "deploying: tasks"):
        assert any(reason in one for one in found), found
