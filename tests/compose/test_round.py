"""Out and in again: what Compose can say comes back as it was."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gapless import stackfile
from gapless.compose import losses, outgoing
from gapless.model.data import Data
from gapless.model.stack import Stack
from gapless.stackfile import shape, write

from .made import imported

TEXTS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\x7f"), max_size=12
)
SAFE = TEXTS.filter(lambda text: "${" not in text and "://" not in text)
WORDS = st.lists(
    st.one_of(SAFE, st.just("${env.LEVEL:-info}"), st.just("$${x}")), min_size=1, max_size=3
).filter(lambda words: bool(words[0]) and bool("".join(words)))
PARTS = st.sampled_from(["a", "media", "web.d", "x_1", "conf-2"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
INSIDE = st.one_of(st.just("."), st.lists(PARTS, min_size=1, max_size=2).map("/".join))
SECRETS = ("SESSION", "STRIPE_KEY", "TOKEN")
IMAGES = st.sampled_from(
    ["app", "ghcr.io/me/web:1.4", "localhost:5000/a/b@sha256:" + "0" * 64,
     # Images that an import makes something else of: they are what the stack says, all the same.
     "postgres:16", "docker.io/library/redis:7-alpine", "traefik:v3", "nginx", "minio/minio"]
)  # fmt: skip
BUILDS = st.one_of(
    INSIDE,
    st.fixed_dictionaries(
        {"context": INSIDE},
        optional={
            "dockerfile": INSIDE.filter(lambda name: name != "."),
            "target": st.sampled_from(["prod", "a_1"]),
            "args": st.dictionaries(st.sampled_from(["V", "W"]), SAFE, min_size=1),
        },
    ),
)


def milliseconds(least: int, most: int) -> st.SearchStrategy[str]:
    return st.integers(-(-least // 250), most // 250).map(lambda number: f"{number * 250}ms")


HELD = "/run/secrets/held"
"""Where a secret is as a file."""


@st.composite
def programs(draw: st.DrawFn, stores: list[str], secrets: list[str]) -> dict[str, Any]:
    """What services and jobs have in common."""
    table: dict[str, Any] = {}
    if draw(st.booleans()):
        table["image"] = draw(IMAGES)
    else:
        table["build"] = draw(BUILDS)
    optional: dict[str, Any] = {
        "run": WORDS, "entrypoint": WORDS, "cwd": PATHS,
        "user": st.sampled_from(["app", "1000:1000", "a_b:c-d"]),
        "hosts": st.dictionaries(
            st.sampled_from(["old", "a_b.example.com"]),
            st.sampled_from(["10.0.0.5", "fd00::5", "host-gateway"]), min_size=1,
        ),
    }  # fmt: skip
    table |= draw(st.fixed_dictionaries({}, optional=optional))
    sources = st.one_of(INSIDE, PATHS)
    if "files" in stores:
        sources = st.one_of(sources, st.sampled_from(["${files.path}", "${files.path}/a/b"]))
    volumes = draw(st.dictionaries(PATHS, sources, max_size=2))
    if volumes:
        table["volumes"] = {
            place: {"source": source, "read_only": True} if draw(st.booleans()) else source
            for place, source in volumes.items()
        }
    if secrets and draw(st.integers(0, 3)) == 0:
        held = {HELD: f"${{secret.{draw(st.sampled_from(secrets))}}}"}
        table["volumes"] = {**table.get("volumes", {}), **held}
    table["secrets"] = sorted(draw(st.sets(st.sampled_from(secrets)))) if secrets else []
    env = draw(st.dictionaries(st.sampled_from(["A", "B_C", "d.e", "LEVEL"]), SAFE, max_size=3))
    env |= draw(st.sampled_from([{}, {"X": "${env.X_HERE}"}, {"Y": "a ${env.Y:-b $c}$${z}"}]))
    if "db" in stores and draw(st.booleans()):
        env |= {"DATABASE_URL": "${db.url}"}
        env |= draw(
            st.sampled_from(
                [
                    {},
                    {"DATABASE_HOST": "${db.host}", "DATABASE_PASSWORD": "${db.password}"},
                    {
                        "ALT_URL": "postgresql+psycopg://${db.user}:${db.password|url}@${db.host}:"
                        "${db.port}/${db.database}"
                    },
                ]
            )
        )
    if "cache" in stores and draw(st.booleans()):
        env |= draw(
            st.sampled_from(
                [
                    {"REDIS_URL": "${cache.url}"},
                    {"REDIS_HOST": "${cache.host}", "REDIS_PASSWORD": "${cache.password}"},
                ]
            )
        )
    if table["secrets"] and draw(st.booleans()):
        env["OTHER_NAME"] = f"a${{secret.{table['secrets'][0]}}}b"
    if env:
        table["env"] = env
    return table


@st.composite
def services(draw: st.DrawFn, common: dict[str, Any]) -> dict[str, Any]:
    """A service on top of what is common; routes are given afterwards."""
    table = dict(common)
    http = draw(st.booleans())
    if http:
        table["port"] = draw(st.sampled_from([80, 3000, 5432, 8000, 65535]))
        table["grace"] = draw(milliseconds(0, 90_000))
    else:
        table["drain"] = draw(milliseconds(0, 600_000))
    table |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "replicas": st.integers(0, 9),
                "signal": st.sampled_from(["TERM", "INT", "QUIT", "HUP"]),
                "aliases": st.lists(st.sampled_from(["a_b", "W.x"]), min_size=1, unique=True),
                "surge": st.one_of(st.integers(1, 9), st.just("all")),
                "watch": milliseconds(0, 60_000),
                "limits": st.fixed_dictionaries(
                    {}, optional={"cpu": st.sampled_from([1, 0.5]), "memory": st.just("512M")}
                ),
                "reserve": st.fixed_dictionaries(
                    {}, optional={"cpu": st.sampled_from([0.25]), "memory": st.just("65537B")}
                ),
            },
        )
    )
    if draw(st.booleans()):
        how = {"command": draw(WORDS)}
        if http and draw(st.booleans()):
            how = {"path": draw(st.sampled_from(["/", "/health/ready", "/a?b=c&d=$e;f(g)"]))}
        every, after = draw(st.integers(1, 240)) * 250, draw(st.integers(1, 100))
        table["ready"] = how | {
            "every": f"{every}ms", "timeout": draw(milliseconds(250, 60_000)), "after": after,
        }  # fmt: skip
        # A container is unhealthy only after so many checks.
        table["start"] = f"{draw(st.integers(120, 3600)) * 250 + every * after}ms"
    return table


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    """The part of the language that Compose has words for."""
    stores = draw(st.lists(st.sampled_from(["db", "cache", "files"]), unique=True))
    secrets = sorted(draw(st.sets(st.sampled_from(SECRETS))))
    tree: dict[str, Any] = {"gapless": 1, "name": "shop", "service": {}, "job": {}, "data": {}}
    names = draw(st.lists(st.sampled_from(["web", "api", "a-1", "beat"]), min_size=1, unique=True))
    for name in names:
        tree["service"][name] = draw(services(draw(programs(stores, secrets))))
    for name in draw(st.lists(st.sampled_from(["migrate", "smoke"]), unique=True)):
        when = "release" if name == "migrate" else "after-release"
        tree["job"][name] = {**draw(programs(stores, secrets)), "when": when}
    for store in stores:
        tree["data"][store] = _data(draw, store, tree)
    tree["data"] = {name: table for name, table in tree["data"].items() if table}
    _published(draw, tree)
    _seen(tree)
    return tree


def _data(draw: st.DrawFn, store: str, tree: dict[str, Any]) -> dict[str, Any] | None:
    table: dict[str, Any]
    if store == "files":
        # A store of files that nobody mounts is nothing to Compose.
        return {"type": "files"} if "${files.path}" in str(tree) else None
    if store == "cache":
        settings_ = draw(st.sampled_from([{}, {"maxmemory": "100mb"}]))
        image = draw(st.sampled_from(["redis:7", "valkey/valkey", "me:5000/valkey/valkey:8.1"]))
        table = {"type": "redis", "image": image, "port": 6379}
        return table | ({"settings": settings_} if settings_ else {})
    images = ["postgres", "postgres:16.4-alpine", "me:5000/postgres@sha256:" + "0" * 64]
    table = {"type": "postgres", "image": draw(st.sampled_from(images)), "port": 5432}
    if draw(st.booleans()):
        table["settings"] = {"max_connections": "200", "work_mem": "8MB"}
    return table


def _published(draw: st.DrawFn, tree: dict[str, Any]) -> None:
    http = [name for name, table in tree["service"].items() if "port" in table]
    domains = draw(st.sampled_from([[], ["shop.example.com"], ["b.example.org", "a.example.org"]]))
    for number, name in enumerate(http):
        table = tree["service"][name]
        hosts = [None] if domains else [None, f"{name}.example.net"]
        host = draw(st.sampled_from(hosts))
        path = "/" if number == 0 else f"/{name}/x"
        if draw(st.booleans()) and number:
            table["route"] = False
            continue
        table["route"] = path if host is None else {"host": host, "path": path}
        if draw(st.booleans()):
            table["sticky"] = "cookie"
    if not http:
        return
    if domains:
        tree["domains"] = domains
    else:
        listens = ["127.0.0.1:8080", "*:80", "[::1]:9999", "10.0.0.1:81"]
        tree["edge"] = {"listen": draw(st.sampled_from(listens))}


def _seen(tree: dict[str, Any]) -> None:
    """A secret that nobody sees is none; who sees all of them need not say so."""
    owners = [*tree["service"].values(), *tree["job"].values()]
    told = {name for table in owners for name in table["secrets"]}
    files = [str(table.get("volumes", {}).get(HELD, "")) for table in owners]
    found = sorted(told | {one[9:-1] for one in files if one})
    if found:
        tree["secrets"] = found
    for table in owners:
        if table["secrets"] == found:
            del table["secrets"]


@settings(max_examples=120, deadline=None)
@given(stacks())
def test_what_compose_can_say_comes_back(tree: dict[str, Any]) -> None:
    stack = stackfile.parse(write.document(tree)).stack
    text = outgoing.text(stack, outgoing.report(stack, tree))
    again = imported(text, {f"{folder}/x": "" for folder in stack.mounted})
    assert again.stack.model_dump() == stack.model_dump()


ODD = """\
gapless = 1
name = "shop"
[service.web]
image = "web"
env = { REDIS_HOST = "${cache.host}", REDIS_PASSWORD = "${cache.password}" }
[service.db]
image = "postgres:16"
port = 5432
route = false
[data.cache]
type = "redis"
image = "redis:7"
port = 6379
"""


def test_each_word_that_tells_what_a_service_is_counts() -> None:
    """Every one of them left out, or another one, and another stack comes back."""
    stack = stackfile.parse(ODD).stack
    text = outgoing.text(stack, [])
    assert imported(text).stack.model_dump() == stack.model_dump()
    for word, other in [
        ("x-gapless: image", "x-gapless: store"),
        ("order: start-first", "order: stop-first"),
        ("traefik.http.services.db.loadbalancer.server.port", "another"),
        ("traefik.enable: 'false'", "traefik.enable: 'true'"),
        ("- ${CACHE_PASSWORD:?secret}", "- ${OTHER_PASSWORD:?secret}"),
    ]:
        assert text.count(word) == 1, (word, text)
        assert imported(text.replace(word, other)).stack.model_dump() != stack.model_dump(), word


def test_the_time_to_end_is_kept_where_no_request_can_come() -> None:
    text = """\
gapless = 1
name = "shop"
[service.web]
image = "web"
port = 80
drain = "90s"
[service.worker]
image = "worker"
drain = "90s"
"""
    loaded = stackfile.parse(text)
    kinds = {line.key: line.kind for line in outgoing.report(loaded.stack, loaded.tree)}
    assert kinds["service.web.drain"] == "refused"
    assert kinds["service.worker.drain"] == "kept"


def test_what_only_newer_readers_take_for_a_number_stays_a_text() -> None:
    for value in ("0E0", "0o17", "1e3", "~", "null", "yes", "012", "1_0", ".inf", "1:30"):
        table = {"image": "web", "env": {"A": value}}
        tree = {"gapless": 1, "name": "shop", "service": {"web": table}}
        stack = stackfile.parse(write.document(tree)).stack
        again = imported(outgoing.text(stack, outgoing.report(stack, tree))).stack
        assert again.services["web"].env == {"A": value}


def test_a_store_of_the_machine_comes_back_in_a_container() -> None:
    tree = {
        "gapless": 1,
        "name": "shop",
        "service": {"web": {"image": "web", "env": {"DB": "${db.url}", "CACHE": "${cache.url}"}}},
        "data": {"db": {"type": "postgres", "version": 16}, "cache": {"type": "redis"}},
    }
    stack = stackfile.parse(write.document(tree)).stack
    again = imported(outgoing.text(stack, outgoing.report(stack, tree))).stack
    assert again.services == stack.services
    assert {name: (store.image, store.version) for name, store in again.data.items()} == {
        "db": ("postgres:16", None), "cache": ("valkey/valkey:8", None),
    }  # fmt: skip


def test_a_store_keeps_its_image_and_the_place_of_its_files() -> None:
    for image, place, server in [
        ("postgres:16.4", "/var/lib/postgresql/data", None),
        ("me:5000/postgres", "/var/lib/postgresql", None),
        ("redis:7", "/data", "redis-server"),
        ("valkey/valkey:9", "/data", "valkey-server"),
    ]:
        kind = "postgres" if "postgres" in image else "redis"
        made = outgoing.store_tree(
            "db", Data.model_validate({"type": kind, "image": image}), "db-data"
        )
        assert (made["image"], made["volumes"][0]["target"]) == (image, place)
        assert made.get("command", [None])[0] == server


def test_volumes_of_stores_and_of_the_edge_are_nobody_elses() -> None:
    text = """\
gapless = 1
name = "shop"
domains = ["shop.example.com"]
[service.web]
image = "web"
port = 80
env = { URL = "${db.url}" }
volumes = { "/a" = "${certificates.path}", "/b" = "${db-data.path}" }
[data]
certificates.type = "files"
db-data.type = "files"
db = { type = "postgres", image = "postgres:16", port = 5432 }
"""
    stack = stackfile.parse(text).stack
    services = outgoing.tree(stack)["services"]
    mounted = {
        name: {one["source"] for one in table["volumes"] if one["type"] == "volume"}
        for name, table in services.items()
    }
    assert mounted["web"] == {"certificates", "db-data"}
    assert not mounted["web"] & (mounted["db"] | mounted["edge"])
    assert imported(outgoing.text(stack, [])).stack.model_dump() == stack.model_dump()


def test_each_key_of_the_language_has_a_fate() -> None:
    keys = {
        ".".join(part for part in path if part != shape.ANY)
        for path, _ in shape.walk(Stack)
        if len(path) == 1 or (len(path) == 3 and path[1] == shape.ANY) or len(path) == 2
    }
    tables = {"service", "job", "data", "edge"}
    assert losses.known(key for key in keys if key not in tables) == []
