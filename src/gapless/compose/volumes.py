"""Volumes of a Compose file: files stores, and parts of the source folder or of the machine."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import pydantic

from gapless.compose import draft as drafts
from gapless.compose import singles, stores
from gapless.compose.draft import Draft
from gapless.compose.forms import rebased, text
from gapless.compose.tree import Map, Node, Scalar, Seq
from gapless.model.image import PLACE_FORM, Volume
from gapless.model.stack import RESERVED

_SETTINGS = re.compile(r"/(etc|docker-entrypoint[\w.-]*)(/.*)?")
"""Where images look for what somebody has written for them."""


def write(draft: Draft, service: str, node: Node, made: dict[str, Any]) -> None:
    """``volumes`` of a service."""
    for item in node.items if isinstance(node, Seq) else []:
        if not isinstance(item, Map):
            draft.ledger.refused(item, "is no volume")
            continue
        _volume(draft, service, item, made)
    draft.ledger.rest(node, "kept", "")


def _volume(draft: Draft, service: str, item: Map, made: dict[str, Any]) -> None:
    kind = text(item.items.get("type")) or "volume"
    target = draft.value(item.items.get("target"), "volumes")
    source = draft.value(item.items.get("source"), "volumes")
    ledger = draft.ledger
    place = posixpath.normpath(target) if target.startswith("/") else target
    lacks = kind == "bind" or "source" in item.items
    if kind in ("volume", "bind") and not source and lacks:
        said = f'nothing stands before ":{target}": is a variable not set in .env?'
        ledger.refused(item, said)
        return
    if kind == "tmpfs" or (kind == "volume" and not source and not _keeps(draft, service, place)):
        ledger.emulated(item, "files in a container are gone with it anyway")
        return
    if kind not in ("volume", "bind"):
        ledger.refused(item, f"no volumes of the type {kind}")
        return
    if not re.fullmatch(PLACE_FORM, place) or place in ("/", "//"):
        ledger.refused(item, f'is no place in a container: "{target}"')
        return
    read_only = text(item.items.get("read_only")).lower() in ("true", "yes", "on", "y")
    folder = kind == "bind" and not source.startswith(("/", "~"))
    folder = folder and draft.look(posixpath.normpath(source)) is None
    moved = folder and not read_only
    moved = moved and (_keeps(draft, service, place) or _absent(draft, source, place))
    if kind == "volume" or moved:
        name = source
        if moved or not source:
            name = f"{service}-{posixpath.basename(source or place)}"
        written = f"${{{_store(draft, source or name, name)}.path}}{_below(item)}"
        _options(draft, item, "volume")
    else:
        written = _here(draft, source)
        _options(draft, item, "bind")
    if (why := _fault(written)) is not None:
        ledger.refused(item, why)
        return
    made.setdefault("volumes", {})[place] = (
        {"source": written, "read_only": True} if read_only else written
    )
    said = f'"{place}" = "{written}"'
    if moved:
        ledger.rest(item, "emulated", f"{said}, a files store: what {source} has is not moved")
    elif folder and not read_only:
        ledger.rest(item, "emulated", f"{said}, of the release: what is written there goes with it")
    elif kind == "bind" and not written.startswith("/"):
        ledger.rest(item, "kept", f"{said}, of the release")
    else:
        ledger.rest(item, "kept", said)


def _keeps(draft: Draft, service: str, place: str) -> bool:
    """Whether its image keeps files there that must outlive each release, and reads no settings or
    scripts of its first start.
    """
    if _SETTINGS.fullmatch(place) or place.endswith(("/conf", "/config", "/conf.d")):
        return False
    image = text(draft.items(service).get("image"))
    if draft.roles.get(service) != "service":
        return False
    return singles.keeper(image) and not stores.stays(draft, service)


def _absent(draft: Draft, source: str, place: str) -> bool:
    """Whether a folder is not there yet: Compose makes an empty one, and what runs fills it. What
    looks like a file, a configuration or a part of what is built has only not come along."""
    path = posixpath.normpath(source)
    if "." in posixpath.basename(path) or path.startswith("..") or _SETTINGS.fullmatch(place):
        return False
    built = (draft.items(name).get("build") for name in draft.project.services)
    contexts = [
        posixpath.normpath(text(b.items.get("context"))) for b in built if isinstance(b, Map)
    ]
    if any(f"{path}/".startswith(f"{one}/") for one in contexts if one != "."):
        return False
    return draft.read(f"{path}/") is None


def lent(draft: Draft, service: str, node: Node, made: dict[str, Any]) -> None:
    """``volumes_from``: what another service has mounted, at the same places."""
    for item in node.items if isinstance(node, Seq) else []:
        name, _, mode = text(item).removeprefix("container:").partition(":")
        mounted = draft.items(name).get("volumes") if name in draft.project.services else None
        volumes = (
            [v for v in mounted.items if isinstance(v, Map)] if isinstance(mounted, Seq) else []
        )
        named = [one for one in volumes if text(one.items.get("source"))]
        if name not in draft.project.services or mode not in ("", "rw", "ro"):
            draft.ledger.refused(item, f'"{name}" is no service here, so its volumes are unknown')
            continue
        for one in named:
            more = {"read_only": Scalar("true", "bool")} if mode == "ro" else {}
            _volume(draft, service, Map({**one.items, **more}, one.leaves), made)
        if len(named) < len(volumes):
            draft.ledger.refused(item, f"a volume of {name} has no name: give it one")
        else:
            draft.ledger.kept(item, f"the volumes of {name}")
    draft.ledger.rest(node, "kept", "")


def _options(draft: Draft, item: Map, key: str) -> None:
    for name in (key, "consistency", "image"):
        inner = item.items.get(name)
        if inner is None:
            continue
        if isinstance(inner, Map):
            for word, value in inner.items.items():
                if word == "create_host_path" or (word == "subpath" and _below(item)):
                    draft.ledger.kept(value)
                elif word == "nocopy":
                    draft.ledger.emulated(value, "what the image has there is not copied")
                elif word == "selinux":
                    draft.ledger.emulated(value, "no labels of SELinux")
                else:
                    draft.ledger.refused(value, "volumes have no such choice")
        elif name == "consistency":
            draft.ledger.kept(inner)


def _below(item: Map) -> str:
    """The part of a volume that is mounted: ``/a/b``."""
    options = item.items.get("volume")
    asked = text(options.items.get("subpath")).strip("/") if isinstance(options, Map) else ""
    fits = asked and ".." not in asked.split("/") and re.fullmatch(r"[^\0${}]+", asked)
    return f"/{asked}" if fits and "//" not in asked else ""


def _fault(written: str) -> str | None:
    try:
        Volume.model_validate({"source": written})
    except pydantic.ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return None


def _here(draft: Draft, source: str) -> str:
    if source.startswith("~"):
        home = draft.project.environ.get("HOME", "/root")
        return posixpath.normpath(home + source[1:])
    return posixpath.normpath(source or ".")


def _store(draft: Draft, source: str, name: str) -> str:
    """The files store of a volume, made when it is first asked for."""
    if source not in draft.files:
        taken = {*draft.names.values(), *draft.files.values(), *RESERVED}
        draft.files[source] = drafts.unique(name, taken)
    return draft.files[source]


def secret(draft: Draft, item: Node, name: str, place: str, made: dict[str, Any]) -> None:
    """A secret as a file at a place. ``name``: what it is called here."""
    if not re.fullmatch(PLACE_FORM, place) or posixpath.normpath(place) == "/":
        draft.ledger.refused(item, f'is no place in a container: "{place}"')
        return
    written = f"${{secret.{name}}}"
    made.setdefault("volumes", {})[place] = written
    for key in ("uid", "gid", "mode"):
        found = item.items.get(key) if isinstance(item, Map) else None
        draft.ledger.say(found, "emulated", "all that runs in the container may read it")
    draft.ledger.rest(item, "kept", f'"{place}" = "{written}"')


def configs(draft: Draft, service: str, node: Node, made: dict[str, Any]) -> None:
    """``configs`` of a service: files of the release."""
    known = draft.project.resources.get("configs", {})
    for item in node.items if isinstance(node, Seq) else []:
        source = text(item.items.get("source")) if isinstance(item, Map) else ""
        config = known.get(source)
        items = config.items if isinstance(config, Map) else {}
        if not isinstance(item, Map) or not {"file", "content", "environment"} & set(items):
            draft.ledger.refused(item, "no file holds it: write one, and say volumes")
            continue
        target = posixpath.normpath(text(item.items.get("target")) or f"/{source}")
        if variable := text(items.get("environment")):
            value, at = draft.project.environ.get(variable), draft.project.known.get(variable, "")
            secret(draft, item, draft.secret(drafts.upper(variable), value, at), target, made)
            continue
        content = items.get("content")
        if content is not None and any(drafts.secretive(one) for one in drafts.asked(content)):
            draft.ledger.refused(item, "a secret would stand in a file of the release")
            continue
        file = rebased(text(items.get("file")), draft.project.folders.get(f"configs.{source}", ""))
        written = _here(draft, file) if content is None else _beside(draft, source, content)
        if _fault(written) or not re.fullmatch(PLACE_FORM, target):
            draft.ledger.refused(item, _fault(written) or f'is no place: "{target}"')
            continue
        made.setdefault("volumes", {})[target] = {"source": written, "read_only": True}
        for key in ("uid", "gid", "mode"):
            draft.ledger.say(item.items.get(key), "emulated", "everybody may read it")
        draft.ledger.rest(item, "kept", f'"{target}" = "{written}", of the release')
    draft.ledger.rest(node, "kept", "")


def _beside(draft: Draft, name: str, content: Node) -> str:
    """The file of the source folder that a config's text is written to."""
    path = f"configs/{re.sub(r'[^A-Za-z0-9._-]+', '-', name).lstrip('.') or 'config'}"
    draft.written[path] = draft.value(content, f"configs.{name}")
    return path


def resources(draft: Draft) -> None:
    """What becomes of the volumes, secrets, configs and networks of the root."""
    ledger = draft.ledger
    for name, node in draft.project.resources.get("volumes", {}).items():
        used = draft.files.get(name)
        said = f"[data.{used}] of type files" if used else "only stores and the edge use it"
        if isinstance(node, Map):
            _volume_options(draft, node, bool(used))
        if used and _outside(node):
            ledger.rest(node, "refused", "what is in it stays where it is: copy it over")
        ledger.rest(node, "kept", said)
    for name, node in draft.project.resources.get("configs", {}).items():
        ledger.rest(node, "kept", f"where services mount {name}")
    for node in draft.project.resources.get("networks", {}).values():
        refused = isinstance(node, Map) and any(
            text(node.items.get("external")).lower() == "true" for _ in (0,)
        )
        said = "the stack's network is its own" if refused else NETWORK
        ledger.rest(node, "refused" if refused else "emulated", said)
    for node in draft.project.resources.get("models", {}).values():
        ledger.rest(node, "refused", "no models in this version: run one as a service")


NETWORK = "one network for the stack; nothing but the edge is public"


def _outside(node: Node) -> bool:
    return (
        isinstance(node, Map)
        and isinstance(node.items.get("external"), Scalar | Map)
        and (text(node.items.get("external")).lower() not in ("false", "no"))
    )


def _volume_options(draft: Draft, node: Map, used: bool) -> None:
    for key, inner in node.items.items():
        if key == "driver":
            local = text(inner) in ("local", "")
            said = "" if local else "files stores are folders of the machine"
            draft.ledger.say(inner, "kept" if local or not used else "refused", said)
        elif key == "driver_opts" and used:
            draft.ledger.rest(inner, "refused", "files stores are folders of the machine")
        elif key in ("name", "labels"):
            draft.ledger.rest(inner, "emulated", "gapless names its stores itself")
