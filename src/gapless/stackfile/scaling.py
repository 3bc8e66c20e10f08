"""What ``scale`` says of other tables: the queue it follows is in a store that holds queues."""

from __future__ import annotations

from gapless.stackfile import mentions, unknown
from gapless.stackfile.report import Report

QUEUES = frozenset({"redis"})
"""Types of stores whose queues can be measured."""


def check(report: Report) -> None:
    """Add a fault for each queue that no store of the file can hold."""
    tree = report.layered.tree
    stores = mentions.names(tree).data
    for name, table in mentions.tables(tree, "service"):
        scale = table.get("scale")
        queue = scale.get("queue") if isinstance(scale, dict) else None
        if not isinstance(queue, str) or ":" not in queue:
            continue
        store = queue.partition(":")[0]
        path = ("service", name, "scale", "queue")
        if store not in stores:
            meant = unknown.closest(store, stores)
            have = ", ".join(stores) or "none"
            report.add(
                path,
                f"no [data.{store}] holds it (have: {have})"
                + (f'; did you mean "{meant}"?' if meant else ""),
            )
        elif stores[store] not in QUEUES:
            report.add(path, f"{store} is of type {stores[store]}, which holds no queues")
