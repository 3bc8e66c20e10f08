"""Our decisions against the published cases of the Kubernetes HorizontalPodAutoscaler."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gapless.core.autoscale import behaviour, deciding, proposals
from gapless.core.autoscale.behaviour import Behaviour, Policy, Rules
from gapless.core.autoscale.proposals import Member
from gapless.observed import Load, Measure, Moment

NOW = 1_000_000.0
COOL = 180.0
CASES: dict[str, list[dict[str, Any]]] = tomllib.loads(
    Path(__file__).with_name("hpa_cases.toml").read_text(encoding="utf-8")
)
UPSTREAM = proposals.Rules(initialization=120.0, delay=10.0)


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", CASES[kind], ids=lambda case: case["case"])


def rules(case: dict[str, Any]) -> proposals.Rules:
    given = {key: case[key] for key in ("down", "up") if isinstance(case.get(key), float)}
    return proposals.Rules(initialization=120.0, delay=10.0, **given)


def members(case: dict[str, Any], count: int) -> list[Member]:
    """Upstream's pods: what they were told about is at the start of its calendar, not now."""
    ready, start = case.get("ready", ""), case.get("start", "")
    phase, deleted = case.get("phase", ""), case.get("deleted", "")
    requests, levels = case.get("requests", []), case["levels"]
    return [
        Member(
            value=levels[n] if n < len(levels) else None,
            request=requests[n] if n < len(requests) else 0.0,
            started_at={"H": NOW, "C": NOW - COOL}.get(start[n : n + 1], 0.0),
            ready=ready[n : n + 1] != "F",
            measured_at=0.0,
            window=60.0,
            pending=phase[n : n + 1] == "P",
            gone=phase[n : n + 1] == "F" or deleted[n : n + 1] == "D",
        )
        for n in range(count)
    ]


@cases("utilization")
def test_utilization(case: dict[str, Any]) -> None:
    pods = members(case, len(case["requests"]))
    told = proposals.utilization(
        pods, case["count"], case["target"], cpu=True, now=NOW, rules=rules(case)
    )
    assert told.count == case.get("expect")
    if told.count is not None:
        assert told.measured == case["measured"]


@cases("average")
def test_average(case: dict[str, Any]) -> None:
    pods = members(case, case.get("pods", case["count"]))
    told = proposals.average(pods, case["count"], case["target"], now=NOW, rules=rules(case))
    assert told.count == case["expect"]
    assert int(told.measured + 1e-6) == case["measured"]


@cases("value")
def test_value(case: dict[str, Any]) -> None:
    ready = case.get("pods_ready", case["count"])
    level, target = case["level"], case["target"]
    assert (
        proposals.value(level, case["count"], ready, target, rules=rules(case)).count
        == (case["expect"])
    )


@cases("share")
def test_share(case: dict[str, Any]) -> None:
    told = proposals.share(case["level"], case["count"], case["target"], rules=rules(case))
    assert told.count == case["expect"]
    assert math.ceil(told.measured) == pytest.approx(case["measured"])


@cases("groups")
def test_groups(case: dict[str, Any]) -> None:
    pods = [
        Member(
            value=1.0 if "measured" in pod else None,
            started_at=NOW - pod["start"] if "start" in pod else None,
            ready=pod.get("ready"),
            ready_changed_at=NOW - pod.get("changed", 0),
            measured_at=NOW - pod.get("measured", 0),
            window=pod.get("window", 0),
            pending=pod.get("pending", False),
            gone=pod.get("gone", False),
        )
        for pod in case["pods"]
    ]
    found = proposals.group(pods, cpu=case.get("cpu", True), now=NOW, rules=UPSTREAM)
    counted = (len(found.telling), len(found.unready), len(found.missing))
    assert counted == (case["telling"], case["unready"], case["missing"])


def moments(pairs: list[list[int]]) -> tuple[Moment, ...]:
    return tuple(Moment(NOW - ago, count) for count, ago in pairs)


@cases("stabilised")
def test_stabilised(case: dict[str, Any]) -> None:
    windows = Behaviour().after(case.get("up", 0), case.get("down", 0))
    earlier = moments(case["earlier"])
    found = behaviour.stabilised(case["wanted"], case["count"], earlier, windows, NOW)
    assert found == case["expect"]


def direction(given: list[int] | None, default: Rules, select: str) -> Rules:
    if given is None:
        return default
    replicas, replicas_period, percent, percent_period = given
    policies = []
    if replicas:
        policies.append(Policy("replicas", replicas, replicas_period))
    if percent:
        policies.append(Policy("percent", percent, percent_period))
    return Rules(default.window, tuple(policies), select)  # type: ignore[arg-type]  # "min" or "max"


def behaving(case: dict[str, Any]) -> Behaviour:
    select = case.get("select", "max")
    return Behaviour(
        direction(case.get("up"), behaviour.UP, select),
        direction(case.get("down"), behaviour.DOWN, select),
    )


def spread(numbers: list[int], sign: int) -> tuple[Moment, ...]:
    """In the middle of as many equal parts of the last 120 s."""
    part = 120 / max(1, len(numbers))
    return tuple(
        Moment(NOW - int(120 - part * (n + 1) + part / 2), sign * number)
        for n, number in enumerate(numbers)
    )


@cases("limited")
def test_limited(case: dict[str, Any]) -> None:
    changes = (*spread(case.get("ups", []), 1), *spread(case.get("downs", []), -1))
    found = behaviour.limited(
        case["wanted"], case["count"], tuple(case["bounds"]), changes, behaving(case), NOW
    )
    assert found == (case["expect"], case["limit"])


@cases("changes")
def test_changes(case: dict[str, Any]) -> None:
    for sign in (1, -1):
        earlier = moments([[sign * count, ago] for count, ago in case["earlier"]])
        assert behaviour.changed(earlier, 60, NOW) == sign * case["expect"]


def measures(case: dict[str, Any]) -> tuple[Measure, ...]:
    count = case["count"]
    told: list[tuple[str, proposals.Proposal]] = []
    if "cpu" in case:
        pods = members(case, len(case["requests"]))
        told.append(
            (
                "cpu",
                proposals.utilization(pods, count, case["cpu"], cpu=True, now=NOW, rules=UPSTREAM),
            )
        )
    if "pods" in case:
        target, *levels = case["pods"]
        pods = members({"levels": levels}, len(levels))
        told.append(("rps", proposals.average(pods, count, target, now=NOW)))
    if "object" in case:
        target, level = case["object"]
        told.append(("latency", proposals.value(level, count, count, target)))
    if "shared" in case:
        target, level = case["shared"]
        told.append(("backlog", proposals.share(level, count, target)))
    told += [("memory", proposals.Proposal(None, fault="fails"))] * case.get("invalid", 0)
    return tuple(Measure(name, 1.0, one.measured, one.count, one.fault) for name, one in told)


@cases("decisions")
def test_decisions(case: dict[str, Any]) -> None:
    found, count = measures(case), case["count"]
    earlier = moments(case["earlier"]) if "earlier" in case else (Moment(NOW, count),)
    load = Load(NOW, found, deciding.recommend(found, count), earlier)
    verdict = deciding.decide(load, count, tuple(case["bounds"]), behaving(case), NOW)
    assert verdict.count == case["expect"]
    assert verdict.reason


def test_there_are_enough_of_them() -> None:
    """A table that loses its rows would prove nothing, in silence."""
    assert sum(len(kind) for kind in CASES.values()) >= 200
