"""A stack's state and counters as the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Passed = Mapping[str, Mapping[str, Any]]
"""Backend to what passed through it; ``""`` for the public frontend."""


@dataclass(frozen=True, eq=False)
class Report(Collector):
    """``status`` and ``passed``: the answers of ``GET /v1/status`` and ``/v1/counters``
    (docs/api.md); ``passed`` is empty while no edge tells it.
    """

    status: Mapping[str, Any]
    passed: Passed

    def collect(self) -> Iterator[Metric]:
        """All there is, by name."""
        yield from _services(self.status)
        yield from _certificates(self.status)
        yield from _edge(self.status, self.passed)

    def page(self) -> str:
        """The text that Prometheus reads."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return exposition.generate_latest(registry).decode()


def _services(status: Mapping[str, Any]) -> Iterator[Metric]:
    wanted = GaugeMetricFamily("gapless_replicas_wanted", "Replicas asked for.", labels=["service"])
    ready = GaugeMetricFamily("gapless_replicas_ready", "Replicas ready.", labels=["service"])
    cores = GaugeMetricFamily("gapless_replica_cpu_cores", "Cores in use.", labels=["replica"])
    memory = GaugeMetricFamily("gapless_replica_memory_bytes", "Memory used.", labels=["replica"])
    for service in status["services"]:
        wanted.add_metric([service["name"]], service["desired"])
        ready.add_metric([service["name"]], service["ready"])
        for replica in service["replicas"]:
            for family, name in ((cores, "cpu"), (memory, "memory")):
                if replica[name] is not None:
                    family.add_metric([replica["id"]], replica[name])
    stores = GaugeMetricFamily("gapless_store_ready", "1: the store is ready.", labels=["store"])
    for store in status["data"]:
        stores.add_metric([store["name"]], store["state"] == "ready")
    yield from (wanted, ready, cores, memory, stores)


def _certificates(status: Mapping[str, Any]) -> Iterator[Metric]:
    ends = GaugeMetricFamily(
        "gapless_certificate_not_after_timestamp_seconds",
        "When a certificate of the edge ends, in seconds since 1970.",
        labels=["certificate", "kind"],
    )
    force = GaugeMetricFamily(
        "gapless_certificate_in_force", "1: the edge shows it.", labels=["certificate", "kind"]
    )
    for one in status["edge"].get("certificates", ()):
        labels = [one["name"], one["kind"]]
        if one["ends_at"] is not None:
            ends.add_metric(labels, one["ends_at"])
        force.add_metric(labels, one["in_force"])
    yield from (ends, force)


def _edge(status: Mapping[str, Any], passed: Passed) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "gapless_edge_up", "1: the edge runs.", value=status["edge"]["state"] == "running"
    )
    yield GaugeMetricFamily(
        "gapless_maintenance", "1: the maintenance page is shown.", value=status["maintenance"]
    )
    requests = CounterMetricFamily(
        "gapless_edge_requests", "Requests since the edge started.", labels=["service"]
    )
    failed = CounterMetricFamily(
        "gapless_edge_failed_requests", "Of these, those that clients saw fail.", labels=["service"]
    )
    alone = CounterMetricFamily(
        "gapless_edge_nobody_left",
        "How often a request found no replica left: it waited for one, or was refused.",
        labels=["service"],
    )
    sessions = GaugeMetricFamily(
        "gapless_edge_sessions", "Requests and WebSockets under way.", labels=["service"]
    )
    for name, sums in passed.items():
        if name:
            requests.add_metric([name], sums["requests"])
            failed.add_metric([name], sums["failed"])
            alone.add_metric([name], sums["nobody_left"])
            sessions.add_metric([name], sums["sessions"])
    yield from (requests, failed, alone, sessions)
