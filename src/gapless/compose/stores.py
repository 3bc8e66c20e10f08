"""Databases and caches: which services of a Compose file become ``[data.NAME]``, and what others
are told instead of their addresses and passwords.

One becomes a store only where each of its users is told address and password by its
environment: a program that has them in its code would not find the new ones.
"""

from __future__ import annotations

import re
import shlex
import urllib.parse
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gapless.compose import draft as drafts
from gapless.compose import names, sizes
from gapless.compose.draft import Draft, Told
from gapless.compose.forms import text
from gapless.compose.ledger import Kind
from gapless.compose.tree import Map, Node, Scalar, Seq, scalars
from gapless.model import image as images

POSTGRES = frozenset({"postgres", "postgresql"})
REDIS = frozenset({"redis", "valkey"})
LATER = {"rabbitmq": "rabbitmq", "kafka": "kafka", "cp-kafka": "kafka", "redpanda": "kafka"}
ADMIN = frozenset(
    {"adminer", "pgadmin4", "pgadmin", "pgweb", "redis-commander", "redisinsight", "pgbackweb"}
)
"""Images whose user says by hand which store they look into."""
_TOOLS = ADMIN | {"phpmyadmin", "mongo-express", "mailhog", "mailpit", "maildev", "flower"}
_ROOTS = frozenset({"", "library", "bitnami", "bitnamilegacy", "valkey", "redis"})
STAYS, STAYS_IMAGE, STORE = "x-gapless", "image", "store"
"""Key and values of a service that stays an image, whatever that is (``x-gapless: image``), and of
one that becomes a store, though nobody is told of it."""
_SERVERS = re.compile(r"(\S*/)?(postgres|(redis|valkey)-server|(docker-)?entrypoint\.sh|run\.sh)")
_SCHEMES = {
    "postgres": ("postgres", "postgresql", "psql", "pgsql"),
    "redis": ("redis", "valkey"),
}
_PORTS = {"postgres": 5432, "redis": 6379}


@dataclass(frozen=True, slots=True)
class Store:
    """A recognised image. ``names``: what others call it. ``user`` and so on: what the file says of
    it; "" where nothing."""

    service: str
    names: tuple[str, ...]
    kind: str
    version: int | None
    user: str
    password: str
    database: str
    port: int


def image(draft: Draft, service: str) -> tuple[str, str, str]:
    """(folders, name, tag) of a service's image: ``("bitnami", "redis", "7")``."""
    return parts(text(draft.items(service).get("image")))


def parts(named: str) -> tuple[str, str, str]:
    """(folders, name, tag) of an image."""
    whole = named.partition("@")[0]
    path, _, tag = whole.rpartition(":")
    if not path or "/" in tag:
        path, tag = whole, ""
    words = path.split("/")
    if len(words) > 1 and ("." in words[0] or ":" in words[0] or words[0] == "localhost"):
        words = words[1:]
    return "/".join(words[:-1]), words[-1].lower(), tag


def kind_of(named: str) -> str | None:
    """The kind of store that an image is of; None: of none that gapless operates."""
    root, base, _ = parts(named)
    if root not in _ROOTS:
        return None
    return "postgres" if base in POSTGRES else "redis" if base in REDIS else None


def stays(draft: Draft, service: str) -> bool:
    """Whether the file itself says that nothing is made of a service but its image."""
    return _said(draft, service) == STAYS_IMAGE


def _said(draft: Draft, service: str) -> str:
    return text(draft.items(service).get(STAYS))


def aside(draft: Draft, service: str) -> bool:
    """Whether it is a page about others: of a database, of caught mails, of a queue."""
    base = image(draft, service)[1]
    return base in _TOOLS or base in LATER


_ACCOUNTS = frozenset({"postgres", "redis", "valkey", "999", "70"})
"""What the official images of stores call the user that they become, and its numbers."""


def becomes(draft: Draft, service: str, user: str) -> bool:
    """Whether the image of a store becomes that user by itself: it begins as root and takes over
    its files, which Docker would have given to it, and a files store is not.
    """
    items = draft.items(service)
    named = kind_of(text(items.get("image")))
    begins = named is not None and "build" not in items and "entrypoint" not in items
    return begins and not stays(draft, service) and user.partition(":")[0] in _ACCOUNTS


def recognise(draft: Draft) -> dict[str, Store]:
    """The stores, by service; ``draft.roles`` says so. What is only like one is warned of."""
    found = {}
    for name in draft.project.services:
        store = _store(draft, name)
        if store is None:
            continue
        users = drafts.users(draft, name, store.names)
        told = [user for user in users if _told(draft, user, store)]
        strangers = [u for u in users if u not in told and image(draft, u)[1] not in ADMIN]
        if not told and not strangers and _said(draft, name) != STORE:
            draft.warned.append(
                f"{name} is {store.kind}, and stays an image: nobody is told its address and "
                f"password by the environment ({STAYS}: {STORE} makes it a store all the same)"
            )
            continue
        if strangers:
            draft.warned.append(
                f"{name} is {store.kind}, and stays an image: {', '.join(strangers)} "
                f"{'is' if len(strangers) == 1 else 'are'} not told its address and password by "
                "the environment, so a store with other ones would not be found"
            )
            continue
        found[name] = store
        draft.roles[name] = "data"
    return found


def _store(draft: Draft, name: str) -> Store | None:
    _, base, tag = image(draft, name)
    if base in LATER:
        draft.warned.append(
            f"{name} is {LATER[base]}, which this version does not operate: it stays an image"
        )
    kind = kind_of(text(draft.items(name).get("image")))
    if kind is None or "build" in draft.items(name):
        return None
    if stays(draft, name) or not _serves(draft, name):
        return None
    told, called = draft.told[name], names.of(draft, name)

    def first(*names: str) -> str:
        values = (_worth(draft, told[one]) for one in names if one in told)
        return next((value for value in values if value), "")

    flags = dict(_flags(draft, name))
    port = sizes.whole(flags.get("port", "")) or 0
    port = port if 0 < port < 65536 else _PORTS[kind]
    number = re.match(r"[0-9]{1,4}", tag)
    version = int(number[0]) if number else None
    if kind == "postgres":
        user = first("POSTGRES_USER", "POSTGRESQL_USERNAME") or "postgres"
        password = first("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD")
        database = first("POSTGRES_DB", "POSTGRESQL_DATABASE") or user
        return Store(name, called, "postgres", version, user, password, database, port)
    password = flags.get("requirepass") or first("REDIS_PASSWORD", "VALKEY_PASSWORD")
    if password.startswith("$"):
        # The shell's own, which asks the environment of the store; or nobody has set it yet.
        password = first(password.strip("${}")) or password
    return Store(name, called, "redis", None, "default", password, "0", port)


def _serves(draft: Draft, name: str) -> bool:
    """Whether it is the server that runs, and no client of the same image (``psql``, a backup)."""
    entry = draft.items(name).get("entrypoint")
    words = [*(text(one) for one in scalars(entry))] if entry is not None else []
    words = [one for word in words for one in split(word)] + _words(draft, name)
    if not "".join(words) or words[0].startswith("-"):
        return True
    before = ["exec", *words]
    return any(
        _SERVERS.fullmatch(word) and (prior in _STARTS or prior.endswith((";", ".sh", "--")))
        for prior, word in zip(before, words, strict=False)
    )


_STARTS = frozenset({"exec", "&&", "||", "-c", "gosu", "su-exec", "-"})
"""What stands before a program that a shell or an entrypoint runs."""


def _told(draft: Draft, user: str, store: Store) -> bool:
    """Whether a user gets address and password by its environment."""
    found = [told for told in draft.told[user].values() if drafts.speaks_of(told, store.names)]
    if any(_of_kind(told, store) for told in found):
        return True
    return bool(found) and any(_password(draft, one, store) for one in draft.told[user].values())


def _of_kind(told: Told, store: Store) -> bool:
    found = drafts.url(told.text or "")
    return found is not None and found.scheme.partition("+")[0] in _SCHEMES[store.kind]


def _password(draft: Draft, told: Told, store: Store) -> bool:
    if not drafts.secretive(told.name):
        return False
    return bool(store.password) and _worth(draft, told) == store.password


def _worth(draft: Draft, told: Told) -> str:
    """What tells a value from others: itself, or the variables that nobody has set yet."""
    if told.text is None:
        return draft.project.environ.get(told.name, "")
    missing = isinstance(told.node, Scalar) and told.node.kind == "missing"
    return drafts.worth(draft, told.node) if missing else told.text or ""


def reference(told: Told, stores: dict[str, Store], draft: Draft, user: str) -> str | None:
    """What a variable says of a store, as placeholders; None when it says nothing of one."""
    plain = told.text or ""
    for store in stores.values():
        if (made := _address(told, plain, store, draft)) is not None:
            return made
    for store in stores.values():
        if store.service in _spoken_of(draft, user, stores) and (
            made := _part(told, plain, store, draft, user)
        ):
            return made
    return None


def shown(draft: Draft, user: str, known: Collection[Store]) -> dict[str, str]:
    """What a program that looks into stores is told beside its own variables, which say none: with
    that it is in their network, and its user can look up the password.
    """
    base = image(draft, user)[1]
    if base not in ADMIN or stays(draft, user):
        return {}
    kind = "redis" if "redis" in base else "postgres"
    made = {}
    for store in known:
        name = draft.names[store.service]
        variable = f"{drafts.upper(name)}_URL"
        if store.kind == kind and variable not in draft.told[user]:
            made[variable] = f"${{{name}.url}}"
            draft.warned.append(
                f"{user}: user and password of {name} are made by gapless: "
                f"gapless run {draft.names[user]} -- printenv {variable}"
            )
    return made


def _spoken_of(draft: Draft, user: str, stores: dict[str, Store]) -> list[str]:
    told = draft.told[user].values()
    return [
        name
        for name, store in stores.items()
        if any(drafts.speaks_of(one, store.names) for one in told)
    ]


def _address(told: Told, plain: str, store: Store, draft: Draft) -> str | None:
    name = draft.names[store.service]
    found = drafts.url(plain)
    if found is not None:
        if not drafts.speaks_of(told, store.names) or not _of_kind(told, store):
            return None
        return _url(found, store, name)
    if plain in store.names:
        return f"${{{name}.host}}"
    if plain in [f"{one}:{store.port}" for one in store.names]:
        return f"${{{name}.host}}:${{{name}.port}}"
    return None


def _url(found: urllib.parse.SplitResult, store: Store, name: str) -> str:
    path = found.path.strip("/")
    rest = (f"?{found.query}" if found.query else "") + (
        f"#{found.fragment}" if found.fragment else ""
    )
    where = f"${{{name}.host}}:${{{name}.port}}"
    if store.kind == "redis":
        if found.scheme == "redis" and path in ("", "0") and not rest:
            return f"${{{name}.url}}"
        tail = f"/{path}" if path else ""
        return f"{found.scheme}://:${{{name}.password|url}}@{where}{drafts.escape(tail + rest)}"
    if found.scheme in ("postgres", "postgresql") and not rest:
        return f"${{{name}.url}}"
    who = f"${{{name}.user}}:${{{name}.password|url}}"
    return f"{found.scheme}://{who}@{where}/${{{name}.database}}{drafts.escape(rest)}"


_ROLES = (
    ("user", re.compile(r"USER", re.I)),
    ("database", re.compile(r"(DB|DATABASE|NAME)", re.I)),
    ("port", re.compile(r"PORT", re.I)),
)


_STEM = re.compile(r"(HOST(NAME)?|SERVER|ADDR(ESS)?|UR[IL]|DSN)$", re.I)


def _part(told: Told, plain: str, store: Store, draft: Draft, user: str) -> str | None:
    name = draft.names[store.service]
    if _password(draft, told, store):
        nearer = [
            one.name
            for one in draft.told[user].values()
            if _password(draft, one, store) and _prefixed(one, store, draft, user)
        ]
        return f"${{{name}.password}}" if not nearer or told.name in nearer else None
    if store.kind == "redis" and not _prefixed(told, store, draft, user):
        return None
    have = {"user": store.user, "database": store.database, "port": str(store.port)}
    if store.kind == "redis":
        have = {"port": have["port"]}
    for role, form in _ROLES:
        fits = role in have and plain == have[role] and form.search(told.name)
        if fits and not drafts.secretive(told.name) and _prefixed(told, store, draft, user):
            return f"${{{name}.{role}}}"
    return None


def _prefixed(told: Told, store: Store, draft: Draft, user: str) -> bool:
    """Whether it begins as the variable does that holds the store's address (``DB_HOST``)."""
    stems = [
        _STEM.sub("", one.name)
        for one in draft.told[user].values()
        if drafts.speaks_of(one, store.names)
    ]
    return any(told.name.startswith(stem) for stem in stems)


def table(draft: Draft, store: Store) -> dict[str, object]:
    """``[data.NAME]``, and what becomes of each key of the service."""
    name, ledger = draft.names[store.service], draft.ledger
    items = draft.items(store.service)
    made: dict[str, object] = {"type": store.kind}
    named = draft.value(items["image"], "image").strip()
    if re.fullmatch(images.IMAGE_FORM, named):
        made["image"] = named
        made["port"] = store.port
    elif store.version is not None and store.kind == "postgres":
        made["version"] = store.version
    ledger.kept(items["image"], f"[data.{name}] of type {store.kind}, in a container")
    settings = dict(_settings(draft, store))
    if settings:
        made["settings"] = settings
    if "volumes" in items:
        draft.warned.append(_kept_there(name, store))
    for key, node in items.items():
        if key in ("image", "command"):
            continue
        if key == STAYS and _said(draft, store.service) == STORE:
            ledger.kept(node, "becomes a store")
            continue
        kind, said = _FATES.get(key, _OTHERS)
        ledger.say(node, kind, said)
    _scripts(draft, items.get("volumes"))
    if (command := items.get("command")) is not None:
        ledger.rest(
            command, "emulated", "what it sets is in settings, as far as it is yours to set"
        )
    return made


def _kept_there(name: str, store: Store) -> str:
    """How what the old server has comes into the new one."""
    old = f"docker compose exec -T {store.service}"
    if store.kind == "redis":
        return f"{name} begins empty: what its old volume has is not moved"
    dumped = f"{old} pg_dump --no-owner -U {shlex.quote(store.user)} {shlex.quote(store.database)}"
    return f"{name} begins empty: {dumped} | gapless connect {name}"


_OTHERS: tuple[Kind, str] = ("emulated", "gapless operates the store itself")
_FATES: dict[str, tuple[Kind, str]] = {
    "environment": ("emulated", "gapless names user and database and makes the password"),
    "env_file": ("emulated", "gapless names user and database and makes the password"),
    "volumes": ("emulated", "gapless keeps the place of its files; what is in the old one stays"),
    "ports": ("emulated", "not public: gapless connect reaches it"),
    "expose": ("kept", "services reach it"),
    "healthcheck": ("emulated", "gapless asks the store itself"),
    "restart": ("kept", ""),
    "networks": ("emulated", "one network for the stack; nothing but the edge is public"),
    "deploy": ("emulated", "no limits for stores in this version"),
    "user": ("emulated", "it never runs as root"),
    STAYS: ("refused", f'must be "{STAYS_IMAGE}" or "{STORE}"'),
}


def _scripts(draft: Draft, volumes: Node | None) -> None:
    for item in volumes.items if isinstance(volumes, Seq) else []:
        target = text(item.items.get("target")) if isinstance(item, Map) else ""
        if target.startswith("/docker-entrypoint-initdb.d"):
            draft.ledger.refused(item, "no scripts at the first start: say a release job")
        elif (
            isinstance(item, Map)
            and text(item.items.get("type")) == "bind"
            and "." in (target.rsplit("/", 1)[-1])
        ):
            draft.ledger.refused(item, "no configuration file of its own: say settings")


def _words(draft: Draft, service: str) -> list[str]:
    node = draft.items(service).get("command")
    if isinstance(node, Seq):
        words = [drafts.worth(draft, item) for item in node.items]
    else:
        words = split(drafts.worth(draft, node))
    if words[:2] in (["sh", "-c"], ["/bin/sh", "-c"], ["bash", "-c"]) and len(words) == 3:
        words = split(words[2])
    return words


def split(plain: str) -> list[str]:
    """Shell words; what cannot be split is one word."""
    try:
        return shlex.split(plain, comments=True)
    except ValueError:
        return [plain] if plain else []


def _flags(draft: Draft, service: str) -> Iterator[tuple[str, str]]:
    """``--name value`` of a command."""
    words = _words(draft, service)
    for index, word in enumerate(words):
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            values = []
            for after in words[index + 1 :]:
                if after.startswith("--") or equals:
                    break
                values.append(after)
            yield name, value if equals else " ".join(values)
        elif word == "-c" and index + 1 < len(words):
            name, equals, value = words[index + 1].partition("=")
            if equals:
                yield name, value


def _settings(draft: Draft, store: Store) -> Iterator[tuple[str, str]]:
    form = r"[a-z][a-z0-9-]*" if store.kind == "redis" else r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)?"
    for name, value in _flags(draft, store.service):
        ours = name in _OURS[store.kind]
        usual = _USUAL.get(name) == value
        if re.fullmatch(form, name) and not ours and not usual and value and "$" not in value:
            yield name, value


_USUAL = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
"""Settings that a store of gapless has anyway."""
_OURS = {
    "redis": frozenset(
        {"port", "bind", "protected-mode", "dir", "daemonize", "logfile", "requirepass",
         "masterauth", "user", "aclfile", "unixsocket", "include", "pidfile", "supervised",
         "dbfilename", "appendfilename", "appenddirname", "loadmodule"}
    ),
    "postgres": frozenset(
        {"port", "listen_addresses", "data_directory", "config_file", "hba_file", "ident_file",
         "unix_socket_directories", "logging_collector", "log_destination",
         "password_encryption", "shared_preload_libraries"}
    ),
}  # fmt: skip
