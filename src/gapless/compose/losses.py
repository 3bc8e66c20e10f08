"""What becomes of each key of the stack file in plain Compose: kept, emulated, refused.

A key that is not in the table is refused: none is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gapless.compose.ledger import Kind
from gapless.model.stack import Stack
from gapless.targets.keys import Line

Fate = tuple[Kind, str]
_KEPT: Fate = ("kept", "")
_IMAGE: Fate = ("kept", "")
_NO_EDGE: Fate = ("refused", "Traefik is not told: say it in labels of your own")
_NO_GUARD: Fate = ("refused", "nobody watches the containers but the engine")
_NO_DEPLOY: Fate = ("refused", "docker compose up knows no such choice")
_NO_SCHEDULE: Fate = ("refused", "Compose has no clock")
_HERE: Fate = ("emulated", "says nothing to Compose")

KEYS: dict[str, Fate] = {
    "gapless": _KEPT,
    "name": _KEPT,
    "domains": ("kept", "Traefik gets certificates for them"),
    "secrets": ("emulated", "variables of the environment or of .env, which must be set"),
    "env": ("kept", "written out at each service"),
    "source": ("kept", "the folder that the file lies in"),
    "include": ("emulated", "a build sees all that .dockerignore leaves"),
    "setup": ("emulated", "in a Dockerfile within the file, on python:3.12-slim"),
    "keep": ("refused", "no releases are kept: there is nothing to roll back to"),
    "drill": _HERE,
    "for": ("emulated", "written out for the one that was asked for"),
    "service.run": _KEPT,
    "service.image": _IMAGE,
    "service.build": _IMAGE,
    "service.entrypoint": _IMAGE,
    "service.user": _IMAGE,
    "service.aliases": ("kept", "names in its network"),
    "service.volumes": _IMAGE,
    "service.replicas": _KEPT,
    "service.singleton": ("emulated", "one replica; nothing makes sure that two never overlap"),
    "service.cwd": _KEPT,
    "service.env": _KEPT,
    "service.secrets": ("kept", "those alone are told"),
    "service.port": _KEPT,
    "service.route": ("kept", "Traefik's labels"),
    "service.sticky": ("kept", "Traefik's cookie"),
    "service.ready": ("emulated", "a health check: docker ps shows it, and starting waits for it"),
    "service.live": _NO_GUARD,
    "service.start": ("emulated", "start_period: a late boot is shown as unhealthy, no more"),
    "service.drain": ("refused", "TERM comes while Traefik still sends requests"),
    "service.goodbye": ("refused", "connections are cut at once"),
    "service.hosts": ("kept", "extra_hosts"),
    "service.signal": ("kept", "stop_signal"),
    "service.grace": ("kept", "stop_grace_period"),
    "service.watch": ("emulated", "update_config, which docker stack deploy reads"),
    "service.surge": ("emulated", "update_config, which docker stack deploy reads"),
    "service.switch": _NO_DEPLOY,
    "service.timeout": _NO_EDGE,
    "service.protocol": _NO_EDGE,
    "service.tunnel": _NO_EDGE,
    "service.body": _NO_EDGE,
    "service.concurrency": _NO_EDGE,
    "service.queue": _NO_EDGE,
    "service.queue_length": _NO_EDGE,
    "service.wait": _NO_EDGE,
    "service.private": _NO_EDGE,
    "service.reserve": ("emulated", "reservations, of memory alone outside of Swarm"),
    "service.limits": ("kept", "one that goes beyond is killed, its successor after it"),
    "service.recycle": _NO_GUARD,
    "service.scale": ("refused", "nobody scales: docker compose up --scale by hand"),
    "job.run": _KEPT,
    "job.image": _IMAGE,
    "job.build": _IMAGE,
    "job.entrypoint": _IMAGE,
    "job.user": _IMAGE,
    "job.volumes": _IMAGE,
    "job.hosts": ("kept", "extra_hosts"),
    "job.when": ("emulated", "runs at each docker compose up; what it undoes is undone by nobody"),
    "job.zone": _NO_SCHEDULE,
    "job.catch_up": _NO_SCHEDULE,
    "job.timeout": ("refused", "Compose waits for ever"),
    "job.reversible": ("emulated", "there is no rollback"),
    "job.cwd": _KEPT,
    "job.env": _KEPT,
    "job.secrets": ("kept", "those alone are told"),
    "data.type": ("emulated", "a container with its volume: no backups, no standby, no tuning"),
    "data.version": ("kept", "the tag of its image"),
    "data.image": _KEPT,
    "data.port": ("emulated", "within the stack, where a store has the usual port of its kind"),
    "data.settings": _KEPT,
    "data.url": ("kept", "written out where it is referred to"),
    "edge.listen": ("kept", "Traefik listens there"),
    "edge.tls_listen": ("kept", "Traefik listens there"),
    "edge.access_log": ("emulated", "Traefik's own, in JSON"),
}
"""``service.key`` for ``[service.NAME] key``; a key stands for all below it."""
OTHERS: dict[str, Fate] = {
    "edge": _NO_EDGE,
    "drill": _HERE,
    "registries": ("emulated", "docker login, once, by whoever runs it"),
}
"""Where a table's keys are not named above."""
ALWAYS = (
    Line("deploys", "emulated", "with a gap: old containers stop before new ones answer"),
    Line("rollback, undoing", "emulated", "by hand: a new version that fails stays"),
    Line("crashed replicas", "emulated", "started again by the engine, once they have ended"),
    Line("bad answers", "emulated", "a replica that answers 500 keeps its share of requests"),
    Line("address of the engine", "emulated", "Traefik reads labels at /var/run/docker.sock"),
)
"""What nobody writes into the file because gapless does it by itself."""


def report(tree: Mapping[str, Any], stack: Stack) -> list[Line]:
    """A line for each key of the file, and those of what gapless does by itself."""
    lines = []
    for key, value in tree.items():
        if key in ("service", "job", "data") and isinstance(value, Mapping):
            for name, table in value.items():
                ends = key == "service" and not stack.services[name].http
                lines += [
                    Line(f"{key}.{name}.{inner}", *_fate(f"{key}.{inner}", table[inner], ends=ends))
                    for inner in table
                ]
        elif key == "edge" and isinstance(value, Mapping):
            lines += [Line(f"edge.{inner}", *_fate(f"edge.{inner}", None)) for inner in value]
        elif not key.startswith("x-"):
            lines.append(Line(key, *_fate(key, value)))
    return lines


def _fate(key: str, value: Any, *, ends: bool = False) -> Fate:
    """``ends``: of a service that gets no requests, so that TERM is all there is to it."""
    if key == "service.drain" and ends:
        return "kept", "stop_grace_period"
    if key == "job.when" and value not in ("release", "after-release", "manual"):
        return _NO_SCHEDULE
    unknown: Fate = ("refused", "gapless render does not know this key yet")
    return KEYS.get(key) or OTHERS.get(key.partition(".")[0], unknown)


def known(keys: Iterable[str]) -> list[str]:
    """Those of some keys that the table lacks."""
    return [key for key in keys if key not in KEYS and key.partition(".")[0] not in OTHERS]
