"""Makes the records of rollouts: deploy, rollback, restart. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from gapless import errors
from gapless.model.desired import Desired, Generation, Rollout
from gapless.model.stack import Stack
from gapless.stackfile import references


def deploy(
    desired: Desired,
    release: int,
    stack: Stack,
    services: tuple[str, ...],
    *,
    kind: Literal["up", "deploy"],
    park: bool,
    surge_all: bool = False,
) -> Rollout:
    """A new release for all services, or for those named."""
    target = {name: Generation(release) for name in services or stack.services}
    jobs = stack.jobs.items()
    return Rollout(
        id=desired.counter + 1,
        kind=kind,
        base=dict(desired.vector),
        target=target,
        order=order(stack, target, first=not desired.vector),
        phase="release-jobs",
        stack=release,
        removed=() if services else tuple(n for n in desired.vector if n not in stack.services),
        release_jobs=tuple(name for name, job in jobs if job.when == "release"),
        smoke_jobs=tuple(name for name, job in jobs if job.when == "after-release"),
        park=park,
        surge_all=surge_all,
    )


def rollback(
    desired: Desired,
    stacks: Callable[[int], Stack],
    release: int | None,
    stack: Stack | None,
) -> Rollout:
    """Back to what was in force before, or to ``release`` with its ``stack``; no release jobs."""
    if release is not None and stack is not None:
        vector: Mapping[str, Generation] = {name: Generation(release) for name in stack.services}
        number = release
    elif desired.previous is not None:
        vector, number = desired.previous.vector, desired.previous.stack
        stack = stacks(number)
    else:
        raise errors.Refused("rollback: there is no earlier release", hint="gapless releases")
    target = {
        name: generation
        for name, generation in vector.items()
        if (now := desired.vector.get(name)) is None or now.release != generation.release
    }
    removed = tuple(name for name in desired.vector if name not in vector)
    if not target and not removed and number == desired.stack:
        raise errors.Refused(f"rollback: r{number} is what runs", hint="gapless releases")
    return Rollout(
        id=desired.counter + 1,
        kind="rollback",
        base=dict(desired.vector),
        target=target,
        order=order(stack, target),
        phase="rolling",
        stack=number,
        removed=removed,
        smoke_jobs=tuple(n for n, job in stack.jobs.items() if job.when == "after-release"),
        surge_all=True,
    )


def restart(desired: Desired, stack: Stack, services: tuple[str, ...], *, park: bool) -> Rollout:
    """The same releases in new replicas."""
    number = desired.counter + 1
    assert desired.stack is not None, "only what runs is restarted"  # noqa: S101
    target = {
        name: Generation(generation.release, number)
        for name, generation in desired.vector.items()
        if not services or name in services
    }
    return Rollout(
        id=number,
        kind="restart",
        base=dict(desired.vector),
        target=target,
        order=order(stack, target),
        phase="rolling",
        stack=desired.stack,
        park=park,
    )


def order(stack: Stack, names: Mapping[str, Generation], *, first: bool = False) -> tuple[str, ...]:
    """HTTP services first, then workers, singletons last; what is referred to goes before.

    ``first``: nothing serves yet that could wait for another one, so it is the file's own order.
    """
    needs = references.dependencies(stack)
    if first:
        return tuple(_booted(names, needs))

    def rank(name: str) -> tuple[int, int]:
        service = stack.services.get(name)
        if service is None:
            return (3, 0)
        kind = 0 if service.http else 2 if service.singleton else 1
        return (kind, len(needs.get(name, ())) if service.http and service.route else 0)

    return tuple(sorted(names, key=rank))


def _booted(names: Collection[str], needs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Each after those that it refers to (never in a circle: the file would have been refused)."""
    found: dict[str, None] = {}
    todo = list(names)[::-1]
    while todo:
        waits = [one for one in needs.get(todo[-1], ()) if one in names and one not in found]
        if waits:
            todo += waits
        else:
            found[todo.pop()] = None
    return list(found)
