"""What Prometheus is told is what the status says, and nothing breaks its format."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gapless.sight.metrics import Report

ENDS = 1_790_000_000
REPLICA = {"id": "web.1@r2", "cpu": 0.25, "memory": 1024}
BOOTING = {"id": "web.2@r2", "cpu": None, "memory": None}


def status(**edge: Any) -> dict[str, Any]:
    return {
        "services": [{"name": "web", "desired": 2, "ready": 1, "replicas": [REPLICA, BOOTING]}],
        "data": [{"name": "db", "state": "starting"}],
        "edge": {"state": "running", "certificates": [], **edge},
        "maintenance": True,
    }


def samples(report: Report) -> dict[tuple[str, ...], float]:
    """(name, value of each label) to value, as a scraper understands the page."""
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(report.page())
        for one in family.samples
    }


def test_the_page_says_what_the_status_says() -> None:
    sums = {"requests": 7, "failed": 2, "responses_5xx": 2, "sessions": 3, "nobody_left": 1}
    found = samples(Report(status(), {"": sums, "web": sums}))
    assert found == {
        ("gapless_replicas_wanted", "web"): 2,
        ("gapless_replicas_ready", "web"): 1,
        ("gapless_replica_cpu_cores", "web.1@r2"): 0.25,
        ("gapless_replica_memory_bytes", "web.1@r2"): 1024,
        ("gapless_store_ready", "db"): 0,
        ("gapless_edge_up",): 1,
        ("gapless_maintenance",): 1,
        ("gapless_edge_requests_total", "web"): 7,
        ("gapless_edge_failed_requests_total", "web"): 2,
        ("gapless_edge_nobody_left_total", "web"): 1,
        ("gapless_edge_sessions", "web"): 3,
    }


def test_each_certificate_has_its_end() -> None:
    own = {"name": 'a"b', "kind": "given", "ends_at": ENDS, "in_force": True}
    none = {"name": "c", "kind": "none", "ends_at": None, "in_force": False}
    found = samples(Report(status(certificates=[own, none]), {}))
    ends = "gapless_certificate_not_after_timestamp_seconds"
    assert found[ends, 'a"b', "given"] == ENDS
    assert (ends, "c", "none") not in found
    assert found["gapless_certificate_in_force", "c", "none"] == 0
