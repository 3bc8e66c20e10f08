"""Numbers, durations and sizes of a Compose file: replicas, limits, how updates go."""

from __future__ import annotations

import math
import re
from typing import Any

from gapless.compose import fates
from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map, Node
from gapless.model.units import format_duration, format_size

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|µs|ms|ns|s|m|h|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?b?)", re.IGNORECASE)
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
NO_DURATION = 'is no duration: say "30s" or "1m30s"'
LONGEST = 365 * 86_400.0
MOST = 1000

Table = dict[str, Any]


def seconds(plain: str) -> float | None:
    """``1m30s``, ``90s``, ``0`` to seconds, rounded to milliseconds; None: no duration."""
    plain = plain.strip()
    if plain == "0":
        return 0.0
    parts = _DURATION.findall(plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        return None
    found = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return round(found, 3) if math.isfinite(found) and found <= LONGEST else None


def size(plain: str) -> int | None:
    """``512M``, ``1.5g``, ``1000`` to bytes; None: no size."""
    found = _SIZE.fullmatch(plain.strip())
    if found is None or len(found[1]) > 15:
        return None
    return int(float(found[1]) * _BYTES[found[2].lower()])


def whole(plain: str) -> int | None:
    """A whole number, not below 0; None: none."""
    return int(plain) if re.fullmatch(r"[0-9]{1,9}", plain.strip()) else None


def scale(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``scale`` and ``deploy.replicas``."""
    number = whole(draft.value(node, "scale"))
    if number is None or number > MOST:
        draft.ledger.refused(node, f"must be a whole number from 0 to {MOST}")
    elif draft.roles.get(service) == "job":
        draft.ledger.emulated(node, "a job runs once")
    else:
        made["replicas"] = number
        draft.ledger.kept(node)


def _cores(draft: Draft, node: Node, table: Table) -> None:
    plain = draft.value(node, "cpus")
    number = float(plain) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", plain.strip()) else None
    if number:
        table["cpu"] = int(number) if number == int(number) else number
        draft.ledger.kept(node)
    elif number == 0:
        draft.ledger.kept(node, "no limit")
    else:
        draft.ledger.refused(node, 'is no number of cores: say "0.5"')


def _bytes(draft: Draft, node: Node, table: Table) -> None:
    number = size(draft.value(node, "memory"))
    if number:
        table["memory"] = format_size(number)
        draft.ledger.kept(node)
    elif number == 0:
        draft.ledger.kept(node, "no limit")
    else:
        draft.ledger.refused(node, 'is no size: say "512m"')


def cpus(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``cpus``."""
    _limited(draft, service, node, made, "limits", "cpu")


def memory(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``mem_limit``."""
    _limited(draft, service, node, made, "limits", "memory")


def reserved(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``mem_reservation``."""
    _limited(draft, service, node, made, "reserve", "memory")


def _limited(draft: Draft, service: str, node: Node, made: Table, table: str, key: str) -> None:
    if draft.roles.get(service) == "job":
        draft.ledger.refused(node, "no limits for jobs in this version")
        return
    found: Table = {}
    (_cores if key == "cpu" else _bytes)(draft, node, found)
    if found:
        made.setdefault(table, {}).update(found)


def grace(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``stop_grace_period``: between TERM and KILL; without HTTP that is drain."""
    found = seconds(draft.value(node, "stop_grace_period"))
    if found is None:
        draft.ledger.refused(node, NO_DURATION)
    elif draft.roles.get(service) == "job":
        draft.ledger.emulated(node, "a job is stopped by its timeout alone")
    else:
        key = "grace" if service in draft.ports else "drain"
        made[key] = format_duration(found)
        draft.ledger.kept(node, f"{key} = {made[key]}")


def deploy(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``deploy``."""
    for key, inner in node.items.items() if isinstance(node, Map) else ():
        if key == "replicas":
            scale(draft, service, inner, made)
        elif key == "resources":
            _resources(draft, service, inner, made)
        elif key == "mode":
            _mode(draft, inner)
        elif key == "update_config":
            _update(draft, service, inner, made)
        elif key == "restart_policy":
            _policy(draft, service, inner)
        elif key in fates.DEPLOY:
            draft.ledger.rest(inner, *fates.DEPLOY[key])
        elif key.startswith("x-"):
            draft.ledger.rest(inner, "emulated", "gapless reads no extensions of services")
    if isinstance(node, Map) and not node.items:
        draft.ledger.kept(node)


def _mode(draft: Draft, node: Node) -> None:
    if text(node) == "replicated":
        draft.ledger.kept(node)
    elif text(node) == "global":
        draft.ledger.emulated(node, "one for each machine is one: there is one machine")
    else:
        draft.ledger.refused(node, "say a job")


def _resources(draft: Draft, service: str, node: Node, made: Table) -> None:
    for kind, table in (("limits", "limits"), ("reservations", "reserve")):
        inner = node.items.get(kind) if isinstance(node, Map) else None
        for key, value in inner.items.items() if isinstance(inner, Map) else ():
            if key == "cpus":
                _limited(draft, service, value, made, table, "cpu")
            elif key == "memory":
                _limited(draft, service, value, made, table, "memory")
            else:
                draft.ledger.rest(value, "refused", "no limit of this kind in this version")
        if inner is not None:
            draft.ledger.rest(inner, "kept", "")
    draft.ledger.rest(node, "kept", "")


def _update(draft: Draft, service: str, node: Node, made: Table) -> None:
    ledger = draft.ledger
    for key, value in node.items.items() if isinstance(node, Map) else ():
        plain = draft.value(value, key)
        number = whole(plain)
        if key == "parallelism" and number is not None and number <= MOST:
            _surge(draft, service, number, made)
            ledger.kept(value, "surge: so many new ones start at once")
        elif key == "order":
            start_first = plain == "start-first"
            ledger.say(value, "kept" if start_first else "emulated",
                       "" if start_first else "new ones are ready before old ones go")  # fmt: skip
        elif key == "failure_action":
            back = plain == "rollback"
            ledger.say(value, "kept" if back else "emulated",
                       "" if back else "a deploy that fails is undone")  # fmt: skip
        elif key == "monitor" and (found := seconds(plain)) is not None:
            if draft.roles.get(service) != "job":
                made["watch"] = format_duration(found)
            ledger.kept(value, "watch")
        elif key in ("delay", "max_failure_ratio"):
            ledger.emulated(value, "the next one goes once the new one has been watched")
        else:
            ledger.refused(value, "deploys have no such choice")
    ledger.rest(node, "kept", "")


def _surge(draft: Draft, service: str, number: int, made: Table) -> None:
    if draft.roles.get(service) != "job":
        made["surge"] = number or "all"


def _policy(draft: Draft, service: str, node: Node) -> None:
    for key, value in node.items.items() if isinstance(node, Map) else ():
        if key == "condition":
            fits = (draft.roles.get(service) == "job") == (text(value) == "none")
            said = "" if fits else "a service that ends is started again"
            draft.ledger.say(value, "kept" if fits else "emulated", said)
        else:
            draft.ledger.emulated(value, "again after 1, 2, 4 … 60 s, for ever")
    draft.ledger.rest(node, "kept", "")
