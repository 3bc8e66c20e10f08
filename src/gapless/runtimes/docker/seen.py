"""What the engine says of a container, as a runtime tells it. Pure."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gapless.model.process import Address, Bridge, Exit
from gapless.runtimes import base
from gapless.runtimes.docker import spec

ALIVE = frozenset({"running", "paused", "restarting"})
"""States of a container whose program lives."""
UNBEGUN = "created"
"""The state of one that never ran: its creator died between the two."""
BY_SIGNAL = range(129, 128 + 65)
"""Exit codes by which an init tells that a signal ended the program."""
OUT_OF_MEMORY = 137


@dataclass(frozen=True, slots=True)
class Container:
    """One of ours. ``state`` is the engine's word; ``key`` the engine's id."""

    key: str
    id: str
    state: str
    facts: spec.Facts
    found: base.Found
    begun: float
    """When the engine started it, by the engine's clock: seconds since 1970."""

    @property
    def alive(self) -> bool:
        return self.state in ALIVE


def read(body: Mapping[str, Any], network: str, boot: str) -> Container | None:
    """The answer of ``inspect``; None: not ours, or its label is not as we wrote it."""
    labels = body["Config"].get("Labels") or {}
    try:
        id = labels[spec.ID]
        facts = spec.Facts.from_json(labels[spec.FACTS])
    except (KeyError, ValueError, TypeError):
        return None
    state = body["State"]
    alive = state["Status"] in ALIVE
    found = base.Found(
        id=id,
        alive=alive,
        # Times of another boot mean nothing on this one's clock.
        started_at=facts.at if facts.boot == boot else 0.0,
        labels=dict(facts.labels),
        pid=(state.get("Pid") or None) if alive else None,
        address=_address(facts.address, body, network),
        exit=None if alive else end(state, facts),
    )
    return Container(body["Id"], id, state["Status"], facts, found, _begun(state))


def bridge(network: Mapping[str, Any]) -> Bridge | None:
    """Where the machine is in a network, from the engine's ``inspect``; None: it is not in it."""
    for table in (network.get("IPAM") or {}).get("Config") or ():
        with contextlib.suppress(ValueError):  # Podman's "<nil>": the machine is not in it
            host = ipaddress.IPv4Address(table.get("Gateway", "").partition("/")[0])
            return Bridge(str(host), table["Subnet"])
    return None


def end(state: Mapping[str, Any], facts: spec.Facts) -> Exit:
    """How it ended, from the engine's ``State``."""
    code = int(state.get("ExitCode", 0))
    if facts.timeout is not None and _lasted(state) >= facts.timeout:
        return Exit(signal=code - 128 if code in BY_SIGNAL else 9, timed_out=True)
    if code in BY_SIGNAL:
        memory = code == OUT_OF_MEMORY and bool(state.get("OOMKilled"))
        return Exit(signal=code - 128, out_of_memory=memory)
    return Exit(code=code)


def sampled(stats: Mapping[str, Any]) -> bool:
    """Whether a sample is of one that lives: of the dead the engine tells nothing but names."""
    return bool(stats.get("memory_stats", {}).get("usage"))


def use(stats: Mapping[str, Any]) -> base.Usage:
    """Cpu of all its processes; memory without files that are only cached, as the engine's own
    tools count it (``total_inactive_file`` in the first version of control groups)."""
    memory = stats["memory_stats"]
    details = memory.get("stats", {})
    cached = details.get("total_inactive_file", details.get("inactive_file", 0))
    return base.Usage(
        cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        memory=max(0, memory["usage"] - cached),
    )


def _lasted(state: Mapping[str, Any]) -> float:
    try:
        return moment(state["FinishedAt"]) - _begun(state)
    except (KeyError, ValueError):
        return 0.0


def _begun(state: Mapping[str, Any]) -> float:
    return moment(state.get("StartedAt") or "1970-01-01T00:00:00Z")


def moment(text: str) -> float:
    """Seconds since 1970 of the engine's timestamps, whose fractions have up to nine digits.

    Raises ValueError.
    """
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").partition("+")[0]
    base = datetime.datetime.fromisoformat(f"{whole.rstrip('Z')}+00:00")
    return base.timestamp() + (float(f"0.{digits}") if digits.isdigit() else 0.0)


def _address(given: Address | None, body: Mapping[str, Any], network: str) -> Address | None:
    """A port is reached at the container's own address, which the engine chose at its start."""
    if given is None or given.socket is not None:
        return given
    networks = body.get("NetworkSettings", {}).get("Networks") or {}
    own = networks.get(network, {}).get("IPAddress")
    return Address(host=own, port=given.port) if own else given
