"""Everything that one decision may know: what is wanted, what was found, and the time."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gapless.model.desired import Desired, Generation, Vector
from gapless.model.front import Claim
from gapless.model.service import Service
from gapless.model.stack import Stack
from gapless.observed import EdgeForm, Observed, Replica, Slot

DOWN_DRAIN = 10.0
"""Seconds that ``down`` waits for requests in flight at most, whatever the service says."""

Situation = Literal["base", "rolling", "switched"]


@dataclass(frozen=True, slots=True)
class EdgeConfigs:
    """Digests of the edge configuration wanted in each situation.

    ``base``: the stack in force. ``rolling``: its routes, with the target's backends added.
    ``switched``: the target's routes, with the base's backends kept.
    """

    base: str = ""
    rolling: str = ""
    switched: str = ""

    def of(self, situation: Situation) -> str:
        """The digest wanted in a situation."""
        match situation:
            case "base":
                return self.base
            case "rolling":
                return self.rolling
            case "switched":
                return self.switched


@dataclass(frozen=True, slots=True)
class Claims:
    """What is wanted of the front in each situation, as ``EdgeConfigs``; None: nothing.

    While a rollout is under way these are the names of both sides, where both share.
    """

    base: Claim | None = None
    rolling: Claim | None = None
    switched: Claim | None = None
    target: Claim | None = None
    """Once it is committed."""


@dataclass(frozen=True)  # no slots: what is looked up often is put in order once
class World:
    """``now`` is CLOCK_BOOTTIME in seconds. ``needs``: service or job to the stores it uses."""

    desired: Desired
    stacks: Mapping[int, Stack]
    observed: Observed
    now: float
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edge_configs: EdgeConfigs = EdgeConfigs()
    handing_configs: EdgeConfigs = EdgeConfigs()
    """Likewise, while an address passes between edge and front: it is reached both ways."""
    edge_forms: Mapping[str, EdgeForm] = field(default_factory=dict)
    """By digest of a configuration; of one that is not named: whatever runs will do."""
    claims: Claims = Claims()
    static_configs: EdgeConfigs = EdgeConfigs()
    """Likewise of the server of files; "": none is wanted."""
    bridges: bool = False
    """Whether programs may have a network of their own, by which they reach the others."""
    wall: float = 0.0
    """Seconds since 1970, for schedules alone: somebody may set this clock."""

    @property
    def in_force(self) -> list[Stack]:
        """The stack whose edge and stores apply, and the one of the rollout under way."""
        rollout = self.desired.rollout
        releases = {self.desired.stack} | ({rollout.stack} if rollout else set())
        return [self.stacks[n] for n in releases if n is not None and n in self.stacks]

    def service(self, name: str, generation: Generation | None) -> Service | None:
        """The service's table in that generation's release."""
        stack = self.stacks.get(generation.release) if generation else None
        return stack.services.get(name) if stack else None

    def own_service(self, replica: Replica) -> Service | None:
        """The table that a replica was started from."""
        return self.service(replica.id.service, replica.generation)

    def count(self, name: str, generation: Generation | None, *, scaled: bool = True) -> int:
        """How many replicas are wanted. ``scaled`` False: whatever was set by hand."""
        service = self.service(name, generation)
        if service is None or not self.desired.running or name in self.desired.stopped:
            return 0
        if scaled and name in self.desired.scale:
            return self.desired.scale[name]
        replicas = service.count(self.observed.cpus)
        if service.scale is None:
            return replicas
        fewest, most = service.bounds(self.observed.cpus)
        return min(max(self.desired.auto.get(name, replicas), fewest), most)

    def wants(self, name: str) -> bool:
        """Whether it is to have replicas, now or when the rollout under way is through."""
        rollout = self.desired.rollout
        if self.count(name, self.desired.vector.get(name)):
            return True
        if rollout is None:
            return False
        return self.count(name, rollout.target.get(name), scaled=rollout.kind != "deploy") > 0

    def of(self, name: str) -> tuple[Replica, ...]:
        """Its replicas, alive and dead, by ordinal and age."""
        return self._members.get(name, ())

    def at(self, name: str, ordinal: int) -> Sequence[Replica]:
        """Those of one ordinal."""
        return self._slots.get((name, ordinal), ())

    @functools.cached_property
    def _members(self) -> Mapping[str, tuple[Replica, ...]]:
        found = defaultdict[str, list[Replica]](list)
        for one in self.observed.replicas:
            found[one.id.service].append(one)
        return {
            name: tuple(sorted(members, key=lambda r: (r.id.ordinal, r.started_at)))
            for name, members in found.items()
        }

    @functools.cached_property
    def _slots(self) -> Mapping[Slot, Sequence[Replica]]:
        found = defaultdict[Slot, list[Replica]](list)
        for one in self.observed.replicas:
            found[one.id.service, one.id.ordinal].append(one)
        return found

    def missing_stores(self, name: str) -> tuple[str, ...]:
        """Stores it refers to that do not answer yet."""
        return tuple(
            store
            for store in self.needs.get(name, ())
            if (node := self.observed.data.get(store)) is None or node.state != "ready"
        )

    def service_names(self, vector: Vector) -> tuple[str, ...]:
        """The vector's services, then those that only have replicas left."""
        names = dict.fromkeys(vector)
        names.update(dict.fromkeys(self._members))
        return tuple(names)

    @property
    def edge_situation(self) -> Situation:
        """Which of the edge configurations is wanted now."""
        rollout = self.desired.rollout
        if rollout is None:
            return "base"
        return "switched" if rollout.phase == "smoke" else "rolling"

    @property
    def edge_config(self) -> str:
        """The digest wanted in the present situation."""
        configs = self.handing_configs if self.hands_over else self.edge_configs
        return configs.of(self.edge_situation)

    @property
    def edge_form(self) -> EdgeForm:
        """What the wanted configuration asks of the program that is to serve it."""
        return self.edge_forms.get(self.edge_config, self.observed.edge.form)

    @property
    def hands_over(self) -> bool:
        """Whether the edge is to be reached by its own address and through the front alike.

        It keeps its address until the front has that, too; and it stays behind the front until
        that has nobody left who came that way.
        """
        front, wish = self.observed.front, self.claim
        if wish is None:
            return front.claim is not None
        own = not set(wish.addresses).isdisjoint(self.observed.edge.public)
        return own and not self.behind_front

    @property
    def behind_front(self) -> bool:
        """Whether the front passes on all that is wanted now."""
        front = self.observed.front
        found = front.claim is not None and front.claim == self.claim
        return found and front.state == "running" and front.entered and not front.stale

    @property
    def static_config(self) -> str:
        """The digest of what is to be served as files now; "": nothing."""
        return self.static_configs.of(self.edge_situation) if self.desired.running else ""

    @property
    def static_ready(self) -> bool:
        """Whether the files that pages are about to ask for are there, and no others."""
        wanted = self.static_config
        return not wanted or (self.observed.static.config == wanted and self.static_told)

    @property
    def static_told(self) -> bool:
        """Whether an edge that runs, with the routes that it is to have, keeps these files only."""
        return not self.edge_ready or self.observed.edge.files == self.static_config

    @property
    def claim(self) -> Claim | None:
        """What is wanted of the front in the present situation."""
        match self.edge_situation:
            case "base":
                return self.claims.base
            case "rolling":
                return self.claims.rolling
            case "switched":
                return self.claims.switched

    @property
    def edge_ready(self) -> bool:
        """Whether members may enter: it runs, with the configuration that is wanted."""
        edge = self.observed.edge
        return edge.state == "running" and edge.config == self.edge_config
