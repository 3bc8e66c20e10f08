"""What follows from the order in which tasks wrote down that they start and end."""

from __future__ import annotations

import json

from gapless.drills.diary import Diary, Entry, tasks


def diary(text: str) -> Diary:
    """``"a+1 a-1"``: task a starts, then ends, on worker 1."""
    words = (word.partition("+" if "+" in word else "-") for word in text.split())
    return Diary(
        tuple(Entry(task, "start" if mark == "+" else "end", f"w{w}") for task, mark, w in words)
    )


def test_at_once_is_a_matter_of_order() -> None:
    assert diary("").most_at_once() == {}
    assert diary("a+1 a-1 b+1 b-1").most_at_once() == {"w1": 1}
    assert diary("a+1 b+2 c+1 a-1 d+2 c-1").most_at_once() == {"w1": 2, "w2": 1}


def test_lost_is_what_never_came_to_its_end() -> None:
    found = diary("a+1 b+1 b-1 c+1 a+2 a-2")
    assert found.lost(("a", "b", "c", "d")) == ("c", "d")
    assert found.repeated() == ("a",)


def test_in_hand_is_what_one_worker_has_begun() -> None:
    found = diary("a+1 b+1 b-1 c+2 a+2 a-2")
    assert found.in_hand("w1") == {"a"}
    assert found.in_hand("w2") == {"c"}
    assert found.touched_by("w2") == {"a", "c"}


def test_ended_on_the_way_out() -> None:
    found = diary("a+1 a-1 b+1 c+2 b-1 c-2")
    assert found.ended_after({"w1"}, 2) == 1
    assert found.ended_after({"w1", "w2"}, 0) == 3
    assert found.ended_after(set(), 0) == 0


def test_read_from_what_tasks_write() -> None:
    raw = {"task": "r-0", "what": "start", "worker": "w", "at": 1.5, "again": True}
    assert Diary.of([json.dumps(raw)]).entries == (Entry("r-0", "start", "w", 1.5, True),)
    assert tasks("r", 2) == ("r-0", "r-1")
