"""Which of several load balancers counts, and which is still to take over."""

from __future__ import annotations

import pytest

from gapless.engine import edges
from gapless.runtimes.base import Found


def found(id: str, at: float, *, alive: bool = True, pid: int | None = None) -> Found:
    return Found(id, alive, at, {}, pid=pid)


ELDER, HEIR = found("edge", 1.0, pid=7), found("edge.2", 2.0, pid=8)
LOST = found("edge.2", 2.0, alive=False)
OTHER = found("web.1@r1", 3.0, pid=9)


@pytest.mark.parametrize(
    ("founds", "pid", "counts", "heir"),
    [
        ([OTHER], None, None, None),
        ([OTHER, ELDER], 7, ELDER, None),
        ([HEIR, ELDER], 7, ELDER, HEIR),
        ([ELDER, HEIR], 8, HEIR, None),
        # It has died before it took over: who serves is not taken for dead on its account.
        ([ELDER, LOST], 7, ELDER, None),
        # Nobody answers: the one started last is to, or is what has died.
        ([ELDER, HEIR], None, HEIR, None),
        ([found("edge", 1.0, alive=False), LOST], None, LOST, None),
        # Of a number that is known otherwise it is as ever.
        ([ELDER, HEIR], 99, HEIR, None),
    ],
)
def test_who_answers_counts_and_who_came_later_is_to_take_over(
    founds: list[Found], pid: int | None, counts: Found | None, heir: Found | None
) -> None:
    assert edges.serving(founds, pid) == (counts, heir)
