"""What images cannot have yet: told before anything is begun, never in the middle of a deploy."""

from __future__ import annotations

from collections.abc import Iterator

from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.stackfile import references
from gapless.stackfile.places import Path


def problems(stack: Stack) -> tuple[tuple[Path, str], ...]:
    """Place in the file, and fault."""
    owners: list[tuple[Path, Service | Job]] = [
        *((("service", name), table) for name, table in stack.services.items()),
        *((("job", name), table) for name, table in stack.jobs.items()),
    ]
    found = [one for path, table in owners if table.packed for one in _of(stack, path, table)]
    for path, table in owners:
        if not table.packed:
            found += _outside(stack, path, table)
    return tuple(found)


def _outside(stack: Stack, path: Path, table: Service | Job) -> Iterator[tuple[Path, str]]:
    """Programs of the machine are in no network with a store in a container."""
    for reference in references.contained(stack, table):
        place = f"${{{reference.name}.{reference.attribute}}}"
        yield path, f"{place}: is in a container, so this has to be in one: say image or build"


def _of(stack: Stack, path: Path, table: Service | Job) -> Iterator[tuple[Path, str]]:
    texts = references.texts(stack, table)
    user = (table.user or "0").partition(":")[0]
    if not user.isdigit() and any("${socket}" in text for text in texts):
        yield (*path, "user"), "must be a number, since ${socket} lies in a directory of its own"
