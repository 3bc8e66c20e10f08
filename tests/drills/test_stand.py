"""Load on a real edge: the right order loses nothing, wrong ones are seen."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapless import errors
from gapless.drills import generator, mix, sticky, traffic, verdict
from gapless.drills import spec as specs
from tests.drills.stand import Stand, stand, wait_for


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with stand(tmp_path_factory.mktemp("s")) as made:
        yield made


def mixed(made: Stand) -> specs.Spec:
    chosen = mix.Mix(url=made.url, get=("/",), post=("/echo",), slow="/slow?s=0.3")
    rates = {stream.name: 60.0 for stream in chosen.closed()}
    return chosen.spec((*chosen.open(rates), *chosen.slowly()), 120.0)


def test_the_right_order_holds(small: Stand) -> None:
    with generator.Load(mixed(small)) as load:
        assert load.until(requests=100, seconds=30)
        load.mark("before")
        assert load.until(requests=200, seconds=30)
        load.mark("during")
        for name in list(small.names):
            small.swap(name)
        assert load.until(requests=load.requests + 100, seconds=30)
        measured = load.finish()
    table = traffic.Measurement(measured, 3).traffic()
    assert verdict.lossless(table) == ()
    assert verdict.slow_finished(table) == ()
    assert table.requests > 300
    assert table.slow_begun > 0
    assert table.p99 is not None
    assert table.baseline_p99 is not None


def test_signal_before_the_edge_knows_is_seen(small: Stand) -> None:
    """A request is held in flight when the wrong order strikes: no luck is needed."""
    chosen = mix.Mix(url=small.url, get=("/",), slow="/slow?s=20")
    victim = small.names[0]
    with generator.Load(chosen.spec(chosen.slowly(), 60.0)) as load:
        wait_for("a request in flight", lambda: small.busy(victim) > 0)
        small.signal(victim, signal.SIGKILL)
        small.leave(victim)
        wait_for("the failure", lambda: load.failed > 0)
        measured = load.finish(patience=0.5)
    table = traffic.Measurement(measured, 1).traffic()
    assert table.failed >= 1
    assert verdict.lossless(table)
    assert verdict.slow_finished(table)
    assert table.unknown > 0  # what the drill itself cut is told apart


def test_a_bad_answer_is_seen(small: Stand) -> None:
    bad = small.start("bad")
    small.enter(bad)
    for name in small.names:
        small.leave(name)
    spec = mixed(small)
    with generator.Load(spec) as load:
        wait_for("a failure", lambda: load.failed > 0)
        measured = load.finish()
    assert measured.total().kinds["5xx"] > 0
    assert {one["server"] for one in measured.failures} == {bad}


def test_two_processes_count_together(small: Stand) -> None:
    stream = specs.Stream(name="s", path="/", clients=4)
    spec = specs.Spec(url=small.url, streams=(stream,), requests=400, seconds=30)
    whole = generator.measure(spec, processes=2).total()
    assert (whole.requests, whole.failed, len(whole.samples)) == (400, 0, 400)


def test_capacity_gives_rates_for_every_stream(
    small: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "CAPACITY", 0.5)
    chosen = mix.Mix(url=small.url, get=("/", "/ready"), post=("/echo",))
    rates = traffic.capacity(chosen)
    assert set(rates) == {stream.name for stream in chosen.closed()}
    assert sum(rates.values()) <= mix.FASTEST + len(rates)


def test_a_path_that_fails_undisturbed_is_no_subject(small: Stand) -> None:
    mix.check(mix.Mix(url=small.url, get=("/",), post=("/echo",), slow="/slow?s=0.01"))
    with pytest.raises(errors.MissingSubject, match="404"):
        mix.check(mix.Mix(url=small.url, get=("/nowhere",)))
    with pytest.raises(errors.MissingSubject, match="405"):
        mix.check(mix.Mix(url=small.url, get=("/echo",)))


@pytest.fixture
def sticky_stand(tmp_path: Path) -> Iterator[Stand]:
    with stand(tmp_path, sticky=True) as made:
        yield made


def faithful(made: Stand, cookie: str, **more: object) -> specs.Spec:
    fields = {"name": "f", "path": "/", "clients": 30, "rate": 300, "keep_alive": False}
    stream = specs.Stream.model_validate({**fields, "cookie": cookie, **more})
    return specs.Spec(url=made.url, streams=(stream,), seconds=60)


def test_clients_stay(sticky_stand: Stand) -> None:
    cookie, values = sticky.fresh_cookies(mix.Mix(url=sticky_stand.url, get=("/",)), 12)
    assert cookie == "GAPLESS"
    assert len(values) == 3
    spec = faithful(sticky_stand, cookie).model_copy(update={"requests": 120})
    seen = generator.measure(spec).cookies["f"]
    assert (seen.clients, seen.without, seen.moved) == (30, 0, 0)
    assert sum(seen.by.values()) == 30
    assert len(seen.by) == 3


def test_a_moved_client_is_seen(sticky_stand: Stand) -> None:
    with generator.Load(faithful(sticky_stand, "GAPLESS")) as load:
        assert load.until(requests=60, seconds=30)
        sticky_stand.leave(sticky_stand.names[0])
        assert load.until(requests=load.requests + 60, seconds=30)
        seen = load.finish().cookies["f"]
    assert seen.moved > 0


def test_forged_cookies_are_sent_and_answered(sticky_stand: Stand) -> None:
    spec = faithful(sticky_stand, "GAPLESS", forged=sticky.FORGED)
    measured = generator.measure(spec.model_copy(update={"requests": 60}))
    assert (measured.total().requests, measured.total().failed) == (60, 0)


def test_no_affinity_cookie_is_no_subject(small: Stand) -> None:
    with pytest.raises(errors.MissingSubject):
        sticky.fresh_cookies(mix.Mix(url=small.url, get=("/",)), 6)
