"""Programs of ours that no record accounts for: the file was damaged, or removed by a hand.

Each program carries its mark in its environment. A new controller compares what runs with what
is recorded, and takes up again what was lost, so that nothing is started beside it unawares.
What else the record knew (labels, address) is lost; the program is there to be ended in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from gapless.runtimes.base import LOST
from gapless.runtimes.machine import proc
from gapless.runtimes.process import sessions
from gapless.runtimes.process.records import MARK, Record, Records


def recover(records: Records, owners: Collection[int]) -> None:
    """Record again what runs without a record. Raises EnvironmentFault.

    ``owners``: uids that programs of the stack can have; a stranger may put on any mark he likes.
    """
    everyone = proc.scan()
    # Read after the scan: whatever runs was recorded before it ran.
    kept = [record for id in records.names() if (record := records.load(id)) is not None]
    known, taken = {record.nonce for record in kept}, {record.id for record in kept}
    for record in _find(records, everyone, known, owners):
        if record.id in taken:
            # Its id was given again: it is nobody's any more.
            sessions.kill(record, wait=True)
        else:
            records.make()
            records.save(record)
            taken.add(record.id)


def _find(
    records: Records,
    everyone: Iterable[proc.Stat],
    known: Collection[str],
    owners: Collection[int],
) -> list[Record]:
    """Records made anew of marked processes whose nonce is not among ``known``."""
    families: dict[tuple[str, str], list[proc.Stat]] = defaultdict(list)
    for each in everyone:
        mark = proc.variable(each.pid, MARK)
        if mark is None or each.dead or proc.owner(each.pid) not in owners:
            continue
        stack, _, rest = mark.partition("/")
        id, _, nonce = rest.rpartition("/")
        # Stacks of the same name under another roof are told by their home.
        ours = stack == records.stack and nonce.startswith(f"{records.home}-")
        if id and ours and nonce not in known:
            families[id, nonce].append(each)
    return [_made(records.stack, *key, family) for key, family in families.items()]


def _made(stack: str, id: str, nonce: str, family: list[proc.Stat]) -> Record:
    leader = next((each for each in family if each.pid == each.session), None)
    oldest = min(family, key=lambda each: each.start)
    return Record(
        id=id,
        stack=stack,
        # Without its leader it is dead, and its family is known by the mark.
        pid=leader.pid if leader is not None else oldest.session,
        start=leader.start if leader is not None else 0,
        boot=proc.boot(),
        nonce=nonce,
        labels={LOST: "yes"},
        uid=proc.owner(oldest.pid),
    )
