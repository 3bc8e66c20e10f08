"""Which certificates are missing, due, or to be put in force.

Invariants: the edge starts and reloads only once each certificate that it names is there, if only
one of our own making; no stack waits for an authority; a new certificate replaces the one before
only after it was verified and the edge has taken it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gapless.core import plan
from gapless.core.world import World
from gapless.model.stack import Stack
from gapless.model.tls import Wanted
from gapless.observed import Certificate

RENEW_SHARE = 1 / 3
"""Of its lifetime is left when a certificate is renewed."""
JITTER_SHARE = 1 / 30
"""Of its lifetime by which that may come sooner, so that not all come at once."""
BACK_OFF = 20.0
"""Seconds after a first failed order; three times as long after each further one."""
BACK_OFF_MOST = 6 * 3600.0
SOON = 14 * 86_400.0
SOON_SHARE = 0.1
"""A certificate with less than both left ends soon: somebody is to hear of it."""
CERTIFICATE = "certificate "
"""Begins the subject of steps that no rollout stands or falls with."""


@dataclass(frozen=True, slots=True)
class CertificateStep(plan.Step):
    """On the certificate of that name."""

    certificate: str


@dataclass(frozen=True, slots=True)
class MakeCertificate(CertificateStep):
    """Without anybody else: a self-signed one, a stand-in, or the given one read."""

    kind: Literal["self-signed", "stand-in", "given"]
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        if self.kind == "stand-in":
            return f"certificate {self.certificate} make a stand-in"
        return f"certificate {self.certificate} {'read' if self.kind == 'given' else 'make'}"


@dataclass(frozen=True, slots=True)
class OrderCertificate(CertificateStep):
    """Begin an order at the authority; its outcome is observed, not returned."""

    names: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"certificate {self.certificate} order"

    @property
    def subject(self) -> str:
        return f"{CERTIFICATE}{self.certificate}"


@dataclass(frozen=True, slots=True)
class InstallCertificate(CertificateStep):
    """New connections are shown it from now on; the others go on."""

    @property
    def text(self) -> str:
        return f"certificate {self.certificate} put in force"

    @property
    def subject(self) -> str:
        return f"{CERTIFICATE}{self.certificate}"


def wanted(stacks: Iterable[Stack]) -> dict[str, Wanted]:
    """By name, of all these stacks; the names of both where two want the same one."""
    found: dict[str, Wanted] = {}
    for stack in stacks:
        for one in stack.certificates:
            before = found.get(one.name)
            names = dict.fromkeys((*(before.names if before else ()), *one.names))
            found[one.name] = Wanted(one.name, one.kind, tuple(names))
    return found


def prepare(agenda: plan.Agenda, world: World, stacks: Iterable[Stack]) -> bool:
    """Make what is missing altogether; True: every certificate is there, of whatever kind."""
    complete = True
    for one in wanted(stacks).values():
        seen = world.observed.certificates.get(one.name)
        if seen is None or not seen.kind:
            agenda.do(_made(one, "there is none yet"))
            complete = False
    return complete


def tend(agenda: plan.Agenda, world: World, stacks: Iterable[Stack]) -> None:
    """Renew, order, and put in force what is new; the edge runs as it should."""
    for one in wanted(stacks).values():
        seen = world.observed.certificates.get(one.name)
        if seen is None or not seen.kind:
            continue
        if seen.fresh or seen.served not in (None, seen.serial):
            agenda.do(InstallCertificate(one.name, cause=_news(one, seen)))
        elif one.kind == "issued":
            _order(agenda, world, one, seen)
        elif (cause := due(one, seen, world.wall)) and world.now >= not_before(seen):
            agenda.do(_made(one, cause))


def _order(agenda: plan.Agenda, world: World, one: Wanted, seen: Certificate) -> None:
    if seen.kind != "issued" and world.wall >= renew_at(seen):
        agenda.do(_made(one, "the stand-in ends"))
        return
    cause = due(one, seen, world.wall)
    if cause and not seen.ordering and world.now >= not_before(seen):
        agenda.do(OrderCertificate(one.name, one.names, cause=cause))


def due(one: Wanted, seen: Certificate, wall: float) -> str:
    """Why another certificate is to come; "": this one is good for now."""
    if seen.asked:
        return "it was asked for"
    if one.kind == "given":
        return ""  # its files say when
    if seen.kind != one.kind:
        return "a stand-in is shown" if one.kind == "issued" else "another kind is wanted"
    if missing := set(one.names) - set(seen.names):
        return f"it is not for {', '.join(sorted(missing))}"
    if wall >= renew_at(seen):
        return "it has ended" if wall >= seen.ends_at else f"{days(seen, wall)} are left"
    return ""


def renew_at(seen: Certificate) -> float:
    """Seconds since 1970."""
    life = seen.ends_at - seen.starts_at
    share = zlib.crc32(f"{seen.name} {seen.serial}".encode()) / 2**32
    return seen.ends_at - life * (RENEW_SHARE + JITTER_SHARE * share)


def not_before(seen: Certificate) -> float:
    """When it may be tried again (CLOCK_BOOTTIME), after failures."""
    failures = seen.failures
    if failures is None:
        return 0.0
    pause = min(BACK_OFF_MOST, BACK_OFF * 3.0 ** min(failures.count - 1, 20))
    share = zlib.crc32(f"{seen.name} {failures.count}".encode()) / 2**32
    return failures.last_at + pause * (1 + 0.2 * share)


def ends_soon(seen: Certificate, wall: float) -> bool:
    """Whether somebody has to hear of it."""
    return seen.ends_at - wall < min(SOON, SOON_SHARE * (seen.ends_at - seen.starts_at))


def days(seen: Certificate, wall: float) -> str:
    """How long it still is valid, in words."""
    left = seen.ends_at - wall
    return f"{left / 86_400:.0f} days" if left >= 2 * 86_400 else f"{max(0.0, left) / 3600:.0f} h"


def _made(one: Wanted, cause: str) -> MakeCertificate:
    kind = "stand-in" if one.kind == "issued" else one.kind
    return MakeCertificate(one.name, kind, one.names, cause=cause)


def _news(one: Wanted, seen: Certificate) -> str:
    if not seen.fresh:
        return "the edge shows another one"
    return "its files have changed" if one.kind == "given" else "it is new"
