"""What a drill is, what it may ask, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapless import errors
from gapless.drills import figures, verdict
from gapless.drills.state import State
from gapless.drills.verdict import Reasons, Traffic
from gapless.model import stack as stacks

PRODUCTION = frozenset({"production", "prod"})


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None: the drill's own default.

    ``requests``: at least so many are sent. ``seconds``: no new round begins after so many.
    ``paths``, ``post`` and ``slow`` come instead of the file's ``[drill]``.
    """

    requests: int | None = None
    seconds: float | None = None
    paths: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    slow: str | None = None
    strict: bool = False
    clients: int | None = None
    """Drill ``connections``: so many; None: as many as the machine can hold."""
    points: int = 5
    """Drill ``controller``: kills during deploys; 0: one at every step."""
    rounds: int | None = None
    """Drills that strike the same blow again and again: how often."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which stack: its file, its overlay, and what the file says."""

    file: Path
    overlay: str | None
    stack: stacks.Stack
    on: str | None = None
    """Where it is brought up; None: where it ran before."""

    @property
    def host(self) -> str | None:
        """What requests ask for: one of its names; None: the address itself will do."""
        return self.stack.drill.host or self.stack.host or self._routed

    @property
    def _routed(self) -> str | None:
        """The name by which its first published service is told apart from others."""
        for service in self.stack.services.values():
            if service.http and service.route is not None:
                host = service.route.host
                return host if host is not None and "*" not in host else None
        return None

    @property
    def production(self) -> bool:
        """Whether a person must agree first."""
        return self.overlay in PRODUCTION


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a drill: ``reasons`` say why it did not hold; none: it held."""

    drill: str
    reasons: Reasons
    traffic: Traffic
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return not self.reasons

    @property
    def bound(self) -> dict[str, float | None]:
        """95 % upper bounds of the failure rate; None once something failed."""
        clean = self.traffic.failed == 0
        return {
            "per_request": figures.rule_of_three(self.traffic.requests) if clean else None,
            "per_handover": figures.rule_of_three(self.traffic.handovers) if clean else None,
        }

    def as_json(self) -> dict[str, Any]:
        """What ``drill NAME --json`` prints."""
        traffic = self.traffic
        return {
            "drill": self.drill,
            "held": self.held,
            "requests": traffic.requests,
            "failed": traffic.failed,
            "unknown": traffic.unknown,
            "handovers": traffic.handovers,
            "p50_ms": rounded(traffic.p50),
            "p99_ms": rounded(traffic.p99),
            "baseline_p99_ms": rounded(traffic.baseline_p99),
            "seconds": round(traffic.seconds, 1),
            "bound": self.bound,
            "detail": {"reasons": list(self.reasons), **self.detail},
        }


def published(target: Target, state: State) -> str:
    """The first HTTP service before the public; raises MissingSubject when none runs."""
    for name, service in target.stack.services.items():
        if service.http and service.route is not None:
            seen = state.services.get(name)
            if seen is None or seen.desired == 0:
                continue
            return name
    raise errors.MissingSubject(
        "no published HTTP service runs in this stack",
        hint="a service whose run uses ${socket} or ${port} is one",
    )


def rounded(value: float | None) -> float | None:
    """Milliseconds to two places."""
    return None if value is None else round(value, 2)


def traffic_reasons(traffic: Traffic, wanted: int, strict: bool) -> Reasons:
    """What every drill under load asks for."""
    return (
        *verdict.lossless(traffic),
        *verdict.slow_finished(traffic),
        *verdict.sockets_told(traffic),
        *verdict.enough(traffic, wanted),
        *verdict.quick(traffic, strict),
    )
