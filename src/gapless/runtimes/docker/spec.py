"""A program as the engine is told of it: one container, created once and never restarted. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gapless.model.process import Address, Mount, Process
from gapless.runtimes.base import CONTAINED

STACK, HOME, ID, FACTS = "gapless.stack", "gapless.home", "gapless.id", "gapless.facts"
"""Labels: whose a container is, which program it is, and what a later look must tell (JSON)."""
ONCE = "gapless.once"
"""Label of a container that is no program of the stack's: see ``once``."""

NOBODY = "65534:65534"
"""As whom that runs which needs nothing at all."""
LONGEST = 120
"""Characters of a container's name."""
BEGINNING = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""What an image that begins as root may do: give files away, become somebody, listen on 80."""
SHARES, BACKGROUND = 1024, 128
"""Weights of cpu: that of everybody, and that of a program that gives way."""
HEALTH_EVERY = 15
"""Seconds between two looks of the engine at what the controller found: each starts a program."""
SECOND = 10**9
"""In the engine's nanoseconds."""
TEMPORARY = "/tmp"  # noqa: S108  # of the container, in memory
SHARED = 256 * 1024**2
"""Bytes of shared memory at most: the engine's 64 MB are too few for parallel queries."""
LOG = {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "3"}}
"""What the engine keeps of the output until it is in the log file, bounded. It turns bytes that are
not UTF-8 into U+FFFD, as every reader does later; ``local`` loses the ends of long lines."""


def shares(background: bool) -> int:
    """The weight of cpu of what gives way, or does not."""
    return BACKGROUND if background else SHARES


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose containers they are: ``home`` tells stacks of one name under different roofs apart."""

    stack: str
    home: str

    @property
    def labels(self) -> dict[str, str]:
        return {STACK: self.stack, HOME: self.home}

    @property
    def repository(self) -> str:
        """Where the images that its releases need are named."""
        return f"gapless/{self.stack}-{self.home}"

    @property
    def network(self) -> str:
        """The name of the stack's network."""
        return f"gapless-{self.stack}-{self.home}"

    @property
    def stores(self) -> str:
        """The name of the network of its stores."""
        return f"{self.network}-stores"

    def name(self, id: str) -> str:
        """The container's: readable in ``docker ps``, and different for different ids."""
        plain = re.sub(r"[^a-zA-Z0-9_.-]", "-", id)
        if plain != id.replace("@", "-") or len(plain) > LONGEST:
            plain = f"{plain[:LONGEST]}-{hashlib.sha256(id.encode()).hexdigest()[:8]}"
        return f"{self.stack}-{self.home}-{plain}"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a container's label remembers of its program. ``at``: CLOCK_BOOTTIME of ``boot``."""

    labels: Mapping[str, str]
    at: float
    boot: str
    address: Address | None = None
    record_exit: bool = False
    timeout: float | None = None
    log: str | None = None

    def to_json(self) -> str:
        body = {
            "labels": dict(self.labels),
            "at": self.at,
            "boot": self.boot,
            "address": None if self.address is None else str(self.address),
            "record_exit": self.record_exit,
            "timeout": self.timeout,
            "log": self.log,
        }
        return json.dumps(body, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Facts:
        """The inverse. Raises ValueError, KeyError or TypeError for what is not ours."""
        body: dict[str, Any] = json.loads(text)
        address = body.pop("address")
        return cls(address=None if address is None else Address.parse(address), **body)


@dataclass(frozen=True, slots=True)
class Place:
    """What the machine adds to a program: image, network, groups, and as whom it runs ("" for the
    user of the image)."""

    image: str
    user: str
    groups: tuple[int, ...]
    network: str
    health: str | None = None
    """What is there while it is ready, in a folder that it sees; None: nothing shows that."""


def facts(process: Process, at: float, boot: str) -> Facts:
    """What is to be remembered of a program that begins at ``at``."""
    return Facts(
        labels=process.labels,
        at=at,
        boot=boot,
        address=process.address,
        record_exit=process.record_exit,
        timeout=process.timeout,
        log=process.log,
    )


def container(process: Process, known: Facts, owner: Owner, place: Place) -> dict[str, Any]:
    """The body of the engine's ``create``.

    An init stands before the program: it hands on signals and reaps, as pid 1 of a machine would;
    without it TERM would not end a program that has no handler. Nothing may be gained inside: no
    capability, no setuid, a root that is read-only, ``/tmp`` in memory. Images of others are made
    to write where they like, and to begin as root and become somebody: theirs is a root of their
    own that goes with the container, and what that takes. The engine never restarts it: that is
    the plan's to decide.
    """
    foreign = _foreign(process)
    return {
        "Image": place.image,
        **_program(process),
        "Env": [f"{name}={value}" for name, value in _environment(process, owner).items()],
        **({"WorkingDir": process.cwd or "/"} if process.cwd or not process.image else {}),
        **({"User": place.user} if place.user else {}),
        "Labels": owner.labels | {ID: process.id, FACTS: known.to_json()},
        **({"StopSignal": f"SIG{process.stop}"} if process.stop else {}),
        "Healthcheck": _health(process, place),
        **_called(process, place.network),
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            **_surroundings(process, place.network),
            "ExtraHosts": [f"{name}:{address}" for name, address in process.hosts.items()],
            "GroupAdd": [str(group) for group in place.groups],
            "CapDrop": ["ALL"],
            "CapAdd": list(BEGINNING) if foreign and not _unprivileged(place.user) else [],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": not foreign,
            "Tmpfs": {} if foreign else {TEMPORARY: "rw,nosuid,nodev,mode=1777"},
            "LogConfig": LOG,
            "ShmSize": SHARED,
            "Mounts": _mounts(process, place),
            "CpuShares": shares(process.background),
            **_limits(process),
        },
    }


def _surroundings(process: Process, network: str) -> dict[str, Any]:
    """Whom it sees. What is at the machine has signals and children in its own hand."""
    if process.at_machine:
        return {"Init": False, "NetworkMode": "host", "PidMode": "host"}
    return {"Init": True, "NetworkMode": network}


def _health(process: Process, place: Place) -> dict[str, Any]:
    """See ``mirror``. What an engine finds unhealthy it shows, and leaves as it is."""
    if process.shown is None or place.health is None:
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", place.health, "--version"],
        "Interval": HEALTH_EVERY * SECOND,
        "Timeout": HEALTH_EVERY * SECOND,
        "StartPeriod": round(process.shown * SECOND),
        "Retries": 1,
    }


def _called(process: Process, network: str) -> dict[str, Any]:
    if process.alias is None:
        return {}
    called = {"Aliases": [process.alias, *process.aliases]}
    return {"NetworkingConfig": {"EndpointsConfig": {network: called}}}


def network(labels: Mapping[str, str], *, inner: bool) -> dict[str, Any]:
    """The body of a network's ``create``; ``inner``: nothing leads out of it, and nothing in."""
    return {"Driver": "bridge", "Internal": inner, "Labels": dict(labels)}


def errand(image: str, argv: Sequence[str], user: str, mounts: Sequence[Mount]) -> dict[str, Any]:
    """The body of ``create`` for a program that runs to its end, with nothing but its mounts."""
    return {
        "Image": image,
        "Entrypoint": list(argv[:1]),
        "Cmd": list(argv[1:]),
        "Env": [f"HOME={TEMPORARY}", "LC_ALL=C"],
        "WorkingDir": "/",
        "User": user,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "Init": True,
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "Tmpfs": {TEMPORARY: "rw,nosuid,nodev,mode=1777"},
            "LogConfig": LOG,
            "ShmSize": SHARED,
            "Mounts": [_bind(one) for one in mounts],
        },
    }


def words(process: Process, image: Mapping[str, Any]) -> tuple[str, ...]:
    """What runs in the end: the image's own (its ``Config``) where nothing else is said."""
    if process.image is None:
        return process.argv
    if process.entrypoint is not None:
        return (*process.entrypoint, *process.argv)
    return (*(image.get("Entrypoint") or ()), *(process.argv or image.get("Cmd") or ()))


def _program(process: Process) -> dict[str, Any]:
    if process.image is None:
        return {"Entrypoint": list(process.argv[:1]), "Cmd": list(process.argv[1:])}
    asked: dict[str, Any] = {}
    if process.entrypoint is not None:
        asked["Entrypoint"] = list(process.entrypoint)
    if process.argv:
        asked["Cmd"] = list(process.argv)
    return asked


def _unprivileged(user: str) -> bool:
    number = user.partition(":")[0]
    return number.isdigit() and int(number) > 0


def _foreign(process: Process) -> bool:
    return process.image is not None and not process.sealed


def _environment(process: Process, owner: Owner) -> dict[str, str]:
    mark = {CONTAINED: f"{owner.stack}/{process.id}/{owner.home}"}
    if _foreign(process):
        return mark | dict(process.env)
    base = mark | {"HOME": TEMPORARY, "TMPDIR": TEMPORARY, "LANG": "C.UTF-8"}
    if process.identity is not None:
        base |= {"USER": process.identity, "LOGNAME": process.identity}
    return base | dict(process.env)


def _mounts(process: Process, place: Place) -> list[dict[str, Any]]:
    """A socket's directory is where it is on the machine: a path means the same to everybody."""
    wanted = list(process.mounts)
    if process.address is not None and process.address.socket is not None:
        folder = str(PurePosixPath(process.address.socket).parent)
        wanted.append(Mount(folder, folder, writable=True))
    if process.shown is not None and place.health is not None:
        folder = str(PurePosixPath(place.health).parent)
        wanted.append(Mount(folder, folder))
    return [_bind(one) for one in sorted(wanted, key=lambda one: one.place)]


def _bind(m: Mount) -> dict[str, Any]:
    return {"Type": "bind", "Source": m.source, "Target": m.place, "ReadOnly": not m.writable}


def _limits(process: Process) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if process.memory_limit is not None:
        # Without the second one as much again would be swapped out.
        limits |= {"Memory": process.memory_limit, "MemorySwap": process.memory_limit}
    if process.cpu_limit is not None:
        limits["NanoCpus"] = round(process.cpu_limit * 1e9)
    return limits
