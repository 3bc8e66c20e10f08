"""Services of which there must never be two: clocks of task queues, and stores that stay images."""

from __future__ import annotations

import re
from typing import Any

from gapless.compose import ports, stores
from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map, Node, scalars

_NAME = re.compile(r"(^|[-_])celery[-_]?beat([-_]|$)|^beat$", re.IGNORECASE)
_WORDS = re.compile(
    r"\bcelery\b.*\s(beat|-B|--beat)(\s|$)|^(\S*[/_-])?(celery[-_]?)?beat(\.sh)?$"
    r"|\b(celerybeat|rqscheduler)\b"
)
_SAFE = frozenset({"memcached", "pgbouncer", "wireguard"})
"""Silent images of which there may be two: they keep nothing on disk."""
KEEPERS = (ports.SILENT - _SAFE) | frozenset(
    {"arangodb", "chromadb", "clickhouse", "clickhouse-server", "consul", "couchbase", "couchdb",
     "elasticsearch", "emqx", "eventstore", "graphite-statsd", "influxdb", "kafka", "loki",
     "meilisearch", "minio", "nats", "neo4j", "opensearch", "prometheus", "pulsar", "qdrant",
     "questdb", "rabbitmq", "ravendb", "redpanda", "rethinkdb", "solr", "surrealdb", "typesense",
     "vault", "victoria-metrics", "weaviate", "zookeeper"}
)  # fmt: skip
"""Images that keep what they know in files: two at once on the same ones spoil them."""


def write(draft: Draft, service: str, made: dict[str, Any]) -> None:
    """``singleton``, where one replica is asked for."""
    if draft.roles.get(service) != "service" or made.get("replicas", 1) not in (0, 1):
        return
    items = draft.items(service)
    update = _update(items)
    if text(update.get("order")) == "start-first":
        return  # whoever wrote this knows that there may be two
    if keeper(text(items.get("image"))) and "image" in made:
        draft.ledger.kept(items["image"], "singleton: two at once would spoil its files")
    elif clock(service, _words(items)):
        node = items.get("command") or items.get("entrypoint") or items.get("image")
        draft.ledger.kept(node, "singleton: two clocks would send everything twice")
    else:
        return
    made["singleton"] = True
    if made.pop("surge", None) is not None:
        said = update.get("parallelism")
        draft.ledger.emulated(said, "a singleton stops before the next one starts")


def _update(items: dict[str, Node]) -> dict[str, Node]:
    deploy = items.get("deploy")
    update = deploy.items.get("update_config") if isinstance(deploy, Map) else None
    return update.items if isinstance(update, Map) else {}


def _words(items: dict[str, Node]) -> list[str]:
    return [text(one) for key in ("entrypoint", "command") if key in items
            for one in scalars(items[key])]  # fmt: skip


def keeper(named: str) -> bool:
    """Whether an image is of those that keep what they know in files."""
    return stores.parts(named)[1] in KEEPERS


def clock(service: str, words: list[str]) -> bool:
    """Whether a service is the clock of a task queue, by its name and its command."""
    lines = [*words, " ".join(words)]
    return bool(_NAME.search(service)) or any(_WORDS.search(line) for line in lines)
