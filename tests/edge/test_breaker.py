"""A run of bad answers over several looks, as counters tell it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gapless.edge import breaker, judging
from gapless.observed import EdgeServer

LIMIT = judging.SLOW_LIMIT


def server(good: int, bad: int, up: bool = True) -> EdgeServer:
    return EdgeServer("web.1@r1", "web", "ready", up, served=good + bad, bad=bad, check="L7OK/200")


def look(made: breaker.Breaker, seen: EdgeServer, now: float = 7.0) -> list[EdgeServer]:
    return made.look([seen], now)


def trips(*looks: EdgeServer) -> list[bool]:
    made = breaker.Breaker()
    return [bool(look(made, seen)) for seen in looks]


def test_so_many_without_a_good_one_between_are_too_many() -> None:
    looks = [server(9, n) for n in range(LIMIT + 1)]
    assert trips(*looks) == [False] * LIMIT + [True]


def test_a_good_one_ends_a_run() -> None:
    looks = [server(9, 0), server(9, LIMIT - 1), server(10, LIMIT), server(10, 2 * LIMIT - 1)]
    assert trips(*looks) == [False] * 4


def test_what_was_before_the_first_look_is_nobodys_run() -> None:
    assert trips(server(0, 100), server(0, 100)) == [False, False]


def test_another_worker_counts_anew() -> None:
    assert trips(server(100, 100), server(0, LIMIT)) == [False, False]


def test_it_is_named_while_it_is_out_and_begins_anew_after() -> None:
    made = breaker.Breaker()
    look(made, server(9, 0))
    assert look(made, server(9, LIMIT))
    out = server(9, LIMIT, up=False)
    assert look(made, out) == []
    assert made.reason(out) == f"{LIMIT} bad answers in a row, {LIMIT} in all"
    assert look(made, server(9, LIMIT)) == []
    assert made.reason(out) == ""
    assert look(made, server(9, 2 * LIMIT - 1)) == []


def test_what_fails_its_checks_was_not_taken_out_here() -> None:
    made = breaker.Breaker()
    look(made, server(9, 0))
    assert made.reason(server(9, 0, up=False)) == ""


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=12))
def test_it_never_trips_on_fewer_and_always_on_a_clear_run(steps: list[tuple[int, int]]) -> None:
    made = breaker.Breaker()
    good = bad = run = 0
    look(made, server(0, 0))
    for more_good, more_bad in steps:
        good, bad = good + more_good, bad + more_bad
        run = 0 if more_good else run + more_bad
        tripped = bool(look(made, server(good, bad)))
        assert tripped == (run >= LIMIT)
        run = 0 if tripped else run
        if tripped:
            look(made, server(good, bad))


def test_it_is_uneasy_for_a_while_after_each_bad_answer() -> None:
    made = breaker.Breaker()
    look(made, server(9, 0), now=0.0)
    assert not made.uneasy(0.0)
    look(made, server(9, 1), now=1.0)
    look(made, server(9, 1), now=2.0)
    assert made.uneasy(1.0 + breaker.UNEASY / 2)
    assert not made.uneasy(1.0 + breaker.UNEASY)
    look(made, server(10, 2), now=9.0)  # which came last?
    assert made.uneasy(9.0)
    look(made, server(10 + breaker.MANY, 3), now=19.0)
    assert not made.uneasy(19.0)
