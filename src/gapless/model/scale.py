"""How a service follows its load: bounds, targets and windows of the autoscaler."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gapless.model.units import Model, Percent, Seconds

DOWN_AFTER = 300.0
"""Seconds that a lower count must have been enough before replicas leave."""


TARGETS = frozenset({"cpu", "memory", "rps", "connections", "latency", "queue", "backlog"})
"""Keys of which one at least is there."""


class Scale(Model):
    """Targets are per replica, but for ``latency``; the metric that asks for most decides."""

    max: Annotated[int, Field(ge=1, le=1000)]
    """Most replicas."""
    min: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Fewest replicas; absent: replicas. 0 needs a queue: nothing else can wake it."""
    cpu: Percent | None = None
    """Cores in use, in percent of reserve.cpu, else of limits.cpu."""
    memory: Percent | None = None
    """Memory in use, in percent of reserve.memory, else of limits.memory."""
    rps: Annotated[float, Field(gt=0)] | None = None
    """Requests a second."""
    connections: Annotated[int, Field(ge=1)] | None = None
    """Requests and sockets in flight."""
    latency: Seconds | None = None
    """Mean time to an answer, over the last 1024 requests."""
    queue: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*:[!-~]{1,200}$")] | None = None
    """The queue whose length counts, as STORE:QUEUE."""
    backlog: Annotated[int, Field(ge=1)] | None = None
    """Tasks in the queue, waiting or being worked on."""
    up_after: Seconds = 0.0
    """A higher count must have been asked for this long before replicas are added."""
    down_after: Seconds = DOWN_AFTER
    """A lower count must have been enough this long before replicas leave."""

    @property
    def store(self) -> str:
        """The store that holds the queue; "" without one."""
        return (self.queue or "").partition(":")[0]

    @property
    def queue_name(self) -> str:
        """The queue's name within the store; "" without one."""
        return (self.queue or "").partition(":")[2]

    @model_validator(mode="after")
    def _logical(self) -> Self:
        problems = []
        if (self.queue is None) != (self.backlog is None):
            problems.append("queue and backlog belong together")
        if not TARGETS & self.model_fields_set:
            problems.append("needs a target: cpu, memory, rps, connections, latency or queue")
        if self.min is not None and self.min > self.max:
            problems.append(f"min is {self.min} and max {self.max}")
        if self.min == 0 and self.queue is None:
            problems.append("min = 0 needs a queue: without replicas nothing else can be measured")
        if self.latency == 0:
            problems.append("latency must be more than 0")
        if problems:
            raise ValueError("; ".join(problems))
        return self
