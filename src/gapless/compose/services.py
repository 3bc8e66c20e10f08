"""One service of a Compose file as a table of the stack file, and what becomes of its keys."""

from __future__ import annotations

import posixpath
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pydantic

from gapless.compose import draft as drafts
from gapless.compose import (
    fates,
    harmless,
    health,
    names,
    singles,
    sizes,
    stores,
    variables,
    volumes,
)
from gapless.compose.draft import MOUNTED, Draft, Told
from gapless.compose.forms import text
from gapless.compose.ledger import Ledger
from gapless.compose.tree import Map, Node, Scalar, Seq, scalars
from gapless.model import image as images
from gapless.model.process import Stop

Table = dict[str, Any]
_IMAGE = re.compile(images.IMAGE_FORM)
_USER = re.compile(images.USER_FORM)
_RESTARTS = frozenset({"", "no", "false", "always", "true", "on-failure", "unless-stopped"})
_SIGNALS = {"15": "TERM", "2": "INT", "3": "QUIT", "1": "HUP", "9": "KILL"}
_CONDITIONS = frozenset(
    {"", "service_started", "service_healthy", "service_completed_successfully"}
)


def table(draft: Draft, service: str, known: Mapping[str, stores.Store]) -> Table:
    """``[service.NAME]`` or ``[job.NAME]``, without ports and routes."""
    items = draft.items(service)
    made: Table = {}
    for key, node in items.items():
        writer = _WRITERS.get(key)
        if writer is not None:
            writer(draft, service, node, made)
        elif key in fates.SERVICE:
            for one, kind, said in harmless.of(key, node):
                draft.ledger.say(one, kind, said)
        elif key == stores.STAYS and stores.stays(draft, service):
            draft.ledger.kept(node, "stays an image")
        elif key == stores.STAYS:
            said = f'must be "{stores.STAYS_IMAGE}", or "{stores.STORE}" of what can be one'
            draft.ledger.refused(node, said)
        elif key.startswith("x-"):
            draft.ledger.emulated(node, "gapless reads no extensions of services")
    _environment(draft, service, made, known)
    names.write(draft, service, made)
    singles.write(draft, service, made)
    return made


def startable(draft: Draft, service: str) -> bool:
    """Whether it has an image, or a build, that the stack file can name."""
    made: Table = {}
    aside = replace(draft, ledger=Ledger())
    for key in ("image", "build"):
        if key in draft.items(service):
            _WRITERS[key](aside, service, draft.items(service)[key], made)
    return bool(made)


def lost(draft: Draft, service: str) -> None:
    """What becomes of the keys of one that is not startable."""
    for key, node in draft.items(service).items():
        if key in ("image", "build"):
            _WRITERS[key](draft, service, node, {})
        draft.ledger.rest(node, "refused", "the service has no image or build to run")


def _image(draft: Draft, service: str, node: Node, made: Table) -> None:
    named = draft.value(node, "image").strip()
    if _built(draft, service):
        draft.ledger.emulated(node, "the image is built, and named by its release")
    elif _IMAGE.fullmatch(named) and len(named) <= 400:
        made["image"] = named
        draft.ledger.kept(node, "" if named == text(node) and _plain(node) else f"now {named}")
    else:
        unset = ", ".join(drafts.unset(draft, node))
        small = 'say a name in small letters such as "app:1.4"'
        todo = f"{unset} is not set: set it in .env" if unset else small
        draft.ledger.refused(node, f'is no image: "{named}"; {todo}')


def _built(draft: Draft, service: str) -> bool:
    """Whether it has a build that the stack file can name: else its image is what there is."""
    made: Table = {}
    aside = replace(draft, ledger=Ledger())
    if (node := draft.items(service).get("build")) is not None:
        _build(aside, service, node, made)
    return bool(made)


def _plain(node: Node) -> bool:
    return isinstance(node, Scalar) and node.raw is None


def _build(draft: Draft, service: str, node: Node, made: Table) -> None:
    ledger = draft.ledger
    if not isinstance(node, Map):
        ledger.refused(node, "must be a folder, or a mapping")
        return
    found: Table = {}
    for key, inner in node.items.items():
        value = draft.value(inner, f"build.{key}")
        if key == "context":
            _context(draft, inner, value, found)
        elif key == "dockerfile":
            _fitting(draft, inner, found, key, posixpath.normpath(value))
        elif key == "target":
            _fitting(draft, inner, found, key, value)
        elif key == "args":
            _arguments(draft, inner, found)
        elif key in fates.BUILD:
            ledger.rest(inner, *fates.BUILD[key])
        elif key.startswith("x-"):
            ledger.rest(inner, "emulated", "gapless reads no extensions of services")
        else:
            ledger.refused(inner, "the build has no such choice: say it in the Dockerfile")
    if "context" in node.items and "context" not in found:
        return
    found.setdefault("context", ".")
    made["build"] = found["context"] if set(found) == {"context"} else found


def _context(draft: Draft, node: Node, value: str, found: Table) -> None:
    if "://" in value or value.startswith(("/", "~", "git@")):
        draft.ledger.refused(node, "must lie within the source folder: what is built is released")
        return
    _fitting(draft, node, found, "context", posixpath.normpath(value or "."))


def _fitting(draft: Draft, node: Node, found: Table, key: str, value: str) -> None:
    """Keep a value that the model takes; else it is refused in the model's words."""
    try:
        images.Build.model_validate({key: value})
    except pydantic.ValidationError as error:
        draft.ledger.refused(node, error.errors()[0]["msg"].removeprefix("Value error, "))
        return
    found[key] = value
    draft.ledger.kept(node)


def _arguments(draft: Draft, node: Node, found: Table) -> None:
    for key, inner in node.items.items() if isinstance(node, Map) else ():
        if not drafts.named(key):
            draft.ledger.refused(inner, "no argument can be called so")
        elif any(drafts.secretive(name) for name in (key, *drafts.asked(inner))):
            draft.ledger.refused(inner, "a secret would stay in the image for everybody to read")
        else:
            value = drafts.said(inner)
            if isinstance(inner, Scalar) and inner.kind == "null":
                value = draft.project.environ.get(key, "")
            found.setdefault("args", {})[key] = drafts.escape(value)
            draft.ledger.kept(inner)
    if isinstance(node, Map) and not node.items:
        draft.ledger.kept(node)


def _words(draft: Draft, service: str, node: Node, made: Table, key: str) -> None:
    """``command`` and ``entrypoint``: a list, or a line that is split as shell words."""
    if isinstance(node, Scalar) and node.kind == "null":
        draft.ledger.kept(node)
        return
    if isinstance(node, Scalar):
        pieces = [drafts.template(draft, node.raw, node.text, secrets=False)]
        words = stores.split(pieces[0])
        if any("${" in word and "}" not in word for word in words):
            words = stores.split(drafts.escape(node.text))
    else:
        words = [
            drafts.template(draft, item.raw, item.text, secrets=False) for item in scalars(node)
        ]
    if any(drafts.secretive(name) for name in drafts.asked(node)) or drafts.betrays(words):
        draft.ledger.refused(node, "a secret in a command would show in the process list")
        return
    if not words or not words[0] or any("\0" in word for word in words):
        if key == "entrypoint" and "".join(words) == "":
            draft.ledger.emulated(node, "the image's entrypoint stays")
        else:
            draft.ledger.kept(node, "the image's own")
        return
    made[key] = words
    draft.ledger.kept(node)


def _command(draft: Draft, service: str, node: Node, made: Table) -> None:
    _words(draft, service, node, made, "run")


def _entrypoint(draft: Draft, service: str, node: Node, made: Table) -> None:
    _words(draft, service, node, made, "entrypoint")


def _user(draft: Draft, service: str, node: Node, made: Table) -> None:
    value = draft.value(node, "user")
    if stores.becomes(draft, service, value):
        draft.ledger.emulated(node, "the image becomes that by itself, once its files are its own")
    elif _USER.fullmatch(value):
        made["user"] = value
        draft.ledger.kept(node)
    else:
        draft.ledger.refused(node, f'is no user: "{value}"')


def _folder(draft: Draft, service: str, node: Node, made: Table) -> None:
    value = draft.value(node, "working_dir")
    if value:
        made["cwd"] = drafts.escape(value)
    draft.ledger.kept(node)


def _restart(draft: Draft, service: str, node: Node, made: Table) -> None:
    word = text(node)
    if word.partition(":")[0] not in _RESTARTS:
        draft.ledger.refused(node, f'"{word}" says nothing: say always, or no')
    elif draft.roles.get(service) == "job":
        draft.ledger.kept(node, "a job runs to its end")
    elif word in ("no", "false", ""):
        draft.ledger.emulated(node, "a service that ends is started again")
    else:
        draft.ledger.kept(node, "what ends is started again, after 1, 2, 4 … 60 s")


def _signal(draft: Draft, service: str, node: Node, made: Table) -> None:
    said = draft.value(node, "stop_signal").upper().removeprefix("SIG")
    name = _SIGNALS.get(said, said)
    if name == "KILL":
        draft.ledger.emulated(node, "TERM, and KILL once grace is over")
    elif name not in typing.get_args(Stop):
        draft.ledger.refused(node, "what ends a program is TERM, INT, QUIT or HUP")
    elif draft.roles.get(service) == "job":
        draft.ledger.emulated(node, "a job is stopped by its timeout alone")
    else:
        made["signal"] = name
        draft.ledger.kept(node)


def _hosts(draft: Draft, service: str, node: Node, made: Table) -> None:
    """``extra_hosts``: names at addresses."""
    for name, inner in node.items.items() if isinstance(node, Map) else ():
        # An address may stand in brackets; of two for one name the first one counts here.
        address = draft.value(inner, "extra_hosts").strip().removeprefix("[").removesuffix("]")
        if not re.fullmatch(images.HOST_FORM, name):
            draft.ledger.refused(inner, f'is no name of a host: "{name}"')
        elif address == images.GATEWAY or images.addressed(address):
            made.setdefault("hosts", {})[name] = address
            draft.ledger.kept(inner)
        else:
            draft.ledger.refused(inner, f'is no address: "{address}"; say "{name}:10.0.0.5"')
    draft.ledger.rest(node, "kept", "")


def late(draft: Draft, job: str) -> bool:
    """Whether a job waits for services, and runs once they are there."""
    after = draft.items(job).get("depends_on")
    waits = after.items if isinstance(after, Map) else ()
    return any(draft.roles.get(other) == "service" for other in waits)


def _after(draft: Draft, service: str, node: Node, made: Table) -> None:
    for other, inner in node.items.items() if isinstance(node, Map) else ():
        role = draft.roles.get(other)
        asked = text(inner.items.get("condition")) if isinstance(inner, Map) else ""
        if asked not in _CONDITIONS:
            words = ", ".join(sorted(_CONDITIONS - {""}))
            draft.ledger.refused(inner, f'"{asked}" is no condition: say one of {words}')
        elif role == "data":
            draft.ledger.kept(inner, "stores are ready first")
        elif role == "job" and draft.roles.get(service) == "service" and late(draft, other):
            draft.ledger.emulated(inner, "it waits for services itself, so it runs after them all")
        elif role == "job":
            draft.ledger.kept(inner, "jobs of a release end before its services start")
        elif role == "edge":
            draft.ledger.kept(inner, "the edge is always there")
        elif other in draft.project.services:
            draft.ledger.kept(inner, f"at first boot {other} is ready first")
        else:
            draft.ledger.emulated(inner, f"{other} is not among these services")
    draft.ledger.rest(node, "kept", "")


def _networks(draft: Draft, service: str, node: Node, made: Table) -> None:
    for inner in node.items.values() if isinstance(node, Map) else ():
        for key, value in inner.items.items() if isinstance(inner, Map) else ():
            if key != "aliases":
                draft.ledger.refused(value, "addresses in the stack's network are not yours to set")
            elif draft.roles.get(service) == "service":
                draft.ledger.kept(value)
    draft.ledger.rest(node, "emulated", fates.NETWORK)


def _network_mode(draft: Draft, service: str, node: Node, made: Table) -> None:
    if text(node) in ("bridge", "default"):
        draft.ledger.emulated(node, fates.NETWORK)
    else:
        draft.ledger.refused(node, "each replica has a network of its own")


def _secrets(draft: Draft, service: str, node: Node, made: Table) -> None:
    for item in node.items if isinstance(node, Seq) else []:
        source = text(item.items.get("source")) if isinstance(item, Map) else ""
        target = text(item.items.get("target")) if isinstance(item, Map) else ""
        name = draft.mounted.get(source)
        place = target if target.startswith("/") else f"{MOUNTED}{target or source}"
        if name is None:
            draft.ledger.refused(item, f'no secret is called "{source}"')
            continue
        volumes.secret(draft, item, name, place, made)
    draft.ledger.rest(node, "kept", "")


def _profiles(draft: Draft, service: str, node: Node, made: Table) -> None:
    draft.ledger.kept(node, "its profile was asked for")


def _extends(draft: Draft, service: str, node: Node, made: Table) -> None:
    draft.ledger.kept(node, "what it extends is written out")


def _called(draft: Draft, service: str, node: Node, made: Table) -> None:
    if draft.roles.get(service) != "service":
        draft.ledger.emulated(node, fates.OWN)


def _links(draft: Draft, service: str, node: Node, made: Table) -> None:
    draft.ledger.rest(node, "emulated", fates.NETWORK)


def _labels(draft: Draft, service: str, node: Node, made: Table) -> None:
    draft.ledger.rest(node, "emulated", fates.DEPLOY["labels"][1])


def _later(draft: Draft, service: str, node: Node, made: Table) -> None:
    """Looked at once the rest is known."""


def _environment(
    draft: Draft, service: str, made: Table, known: Mapping[str, stores.Store]
) -> None:
    env: dict[str, str] = {}
    seen: list[str] = made.pop("secrets", [])
    for told in draft.told[service].values():
        name, value, kind, said = _variable(draft, service, told, known)
        if name is not None:
            env[name] = value
            seen += re.findall(r"(?<!\$)\$\{secret\.([A-Za-z0-9_]+)(?:\|url)?\}", value)
        draft.ledger.say(told.node, kind, said)  # type: ignore[arg-type]
    env |= stores.shown(draft, service, known.values())
    # A secret that a service sees is a variable of its name already.
    env = {name: value for name, value in env.items() if value != f"${{secret.{name}}}"}
    if env:
        made["env"] = env
    made["secrets"] = list(dict.fromkeys(seen))
    table = draft.items(service).get("environment")
    if table is not None:
        draft.ledger.rest(table, "kept", "")


def _variable(
    draft: Draft, service: str, told: Told, known: Mapping[str, stores.Store]
) -> tuple[str | None, str, str, str]:
    """(name or None, value, kind, what is said of it)."""
    name, plain = told.name, told.text
    if not drafts.named(name):
        return None, "", "refused", "no variable can be called so"
    if "\0" in (plain or ""):
        return None, "", "refused", "holds a NUL character"
    now = draft.project.environ.get(name) if plain is None else plain
    made = stores.reference(replace(told, text=now), dict(known), draft, service)
    if made is not None:
        return name, made, "kept", f"now {made}"
    if plain is None:
        return _passed(draft, service, told)
    if (made := _of_service(draft, told)) is not None:
        return name, made, "kept", f"now {made}"
    if told.raw is not None and _secret_variable(told.raw):
        made = drafts.template(draft, told.raw, plain, secrets=True)
        return name, made, "kept", "its secret is in the store: gapless secret set"
    found = drafts.url(plain)
    named = drafts.secretive(name) and not (plain or "").startswith(MOUNTED)  # where one is
    if plain and (named or (found is not None and found.password)):
        held = draft.secret(name, plain, told.place, service)
        return name, f"${{secret.{held}}}", "kept", f"the secret {held}: gapless secret set {held}"
    if isinstance(told.node, Scalar) and told.node.kind == "missing" and drafts.secretive(name):
        held = draft.secret(name, None, "", service)
        return name, f"${{secret.{held}}}", "kept", f"the secret {held}: gapless secret set {held}"
    return name, drafts.template(draft, told.raw, plain, secrets=True), "kept", ""


def _secret_variable(raw: str) -> bool:
    pieces = variables.split(raw)
    return any(drafts.secretive(name) for name in variables.names(pieces)) or any(
        isinstance(piece, variables.Variable) and drafts.told_secret(piece) for piece in pieces
    )


def _passed(draft: Draft, service: str, told: Told) -> tuple[str | None, str, str, str]:
    """A variable named without a value: the environment's own."""
    name = told.name
    if drafts.secretive(name):
        value = draft.project.environ.get(name)
        held = draft.secret(name, value, draft.project.known.get(name, ""), service)
        return name, f"${{secret.{held}}}", "kept", f"the secret {held}: gapless secret set {held}"
    now = draft.project.environ.get(name, "")
    if re.search(r"[{}]", now):
        return name, drafts.escape(now), "emulated", "as it is in the environment now"
    return name, f"${{env.{name}:-{now}}}", "kept", ""


def _of_service(draft: Draft, told: Told) -> str | None:
    """The address of another service of HTTP, as the edge's listener for it."""
    plain = told.text or ""
    found = drafts.url(plain)
    if found is None or found.scheme != "http" or found.username or found.query or found.fragment:
        return None
    port = found.port or 80
    other = next((n for n in draft.ports if drafts.speaks_of(told, names.of(draft, n))), None)
    if other is None or draft.ports[other] != port:
        return None
    return f"${{{draft.names[other]}.url}}{drafts.escape(found.path)}"


Writer = Callable[[Draft, str, Node, Table], None]
_WRITERS: dict[str, Writer] = {
    "image": _image,
    "build": _build,
    "command": _command,
    "entrypoint": _entrypoint,
    "user": _user,
    "working_dir": _folder,
    "restart": _restart,
    "stop_signal": _signal,
    "extra_hosts": _hosts,
    "depends_on": _after,
    "container_name": _called,
    "links": _links,
    "networks": _networks,
    "network_mode": _network_mode,
    "secrets": _secrets,
    "configs": volumes.configs,
    "volumes": volumes.write,
    "volumes_from": volumes.lent,
    "healthcheck": health.write,
    "deploy": sizes.deploy,
    "scale": sizes.scale,
    "cpus": sizes.cpus,
    "mem_limit": sizes.memory,
    "mem_reservation": sizes.reserved,
    "stop_grace_period": sizes.grace,
    "profiles": _profiles,
    "extends": _extends,
    "labels": _labels,
    "environment": _later,
    "env_file": _later,
    "ports": _later,
    "expose": _later,
}
