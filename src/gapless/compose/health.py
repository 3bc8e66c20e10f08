"""Health checks of a Compose file: they say when a replica is ready."""

from __future__ import annotations

import re
from typing import Any

from gapless.compose import draft as drafts
from gapless.compose import ports, sizes
from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map, Node, Scalar, Seq
from gapless.model.units import format_duration

START = 30.0
"""Seconds that a boot may take anyway."""
INTERVAL, RETRIES = 30.0, 3
"""What Compose has where a check says nothing of it."""
_PATH = re.compile(r"/[A-Za-z0-9._~!$&()*+,;=:@%/?-]*")


def write(draft: Draft, service: str, node: Node, made: dict[str, Any]) -> None:
    """``healthcheck``: ready, and how long a boot may take."""
    ledger = draft.ledger
    table = node.items if isinstance(node, Map) else {}
    off = text(table.get("disable")).lower() in ("true", "yes", "on")
    test = table.get("test")
    words = _test(draft, test)
    if off or words == ["NONE"] or not words:
        ledger.rest(node, "kept", "no check")
        return
    if any(drafts.secretive(name) for name in drafts.asked(node)) or drafts.betrays(words):
        ledger.rest(node, "refused", "a secret in a command would show in the process list")
        return
    ready = _probe(draft, service, test, words)
    if ready is None:
        ledger.rest(node, "refused", "a check that asks no command and no address")
        return
    _timing(draft, table, ready, made)
    if draft.roles.get(service) == "job":
        ledger.rest(node, "emulated", "a job has no check: its end says whether it went well")
        made.pop("start", None)
        return
    made["ready"] = ready["path"] if set(ready) == {"path"} else ready
    said = f"ready = {ready['path']}" if "path" in ready else "ready, as a command"
    ledger.say(test, "kept", said)
    ledger.rest(node, "kept", "")


def _test(draft: Draft, test: Node | None) -> list[str]:
    if isinstance(test, Scalar):
        return ["CMD-SHELL", _word(draft, test)] * bool(test.text)
    if isinstance(test, Seq):
        return [_word(draft, item) for item in test.items]
    return []


def _word(draft: Draft, node: Node) -> str:
    if not isinstance(node, Scalar):
        return ""
    return drafts.template(draft, node.raw, node.text, secrets=False)


def _probe(
    draft: Draft, service: str, test: Node | None, words: list[str]
) -> dict[str, Any] | None:
    asked = ports.asked(test)
    port = draft.ports.get(service)
    if asked is not None and port is not None and int(asked["port"] or 80) == port:
        path = _whole(words) or asked["path"] or "/"
        if _PATH.fullmatch(path) and re.search(r"\b(curl|wget)\b", " ".join(words)):
            return {"path": path}
    if words[0] == "CMD":
        command = words[1:]
    elif words[0] == "CMD-SHELL":
        command = ["sh", "-c", " ".join(words[1:])]
    else:
        return None
    if not command or not command[0] or any("\0" in word for word in command):
        return None
    return {"command": command}


def _whole(words: list[str]) -> str | None:
    """The path of an address that is a word of its own, whatever characters it has."""
    if words[0] == "CMD":
        for word in words[1:]:
            if found := re.fullmatch(r"https?://[^/\s]+(/.*)?", word):
                return found[1] or "/"
    return None


def _timing(
    draft: Draft, table: dict[str, Node], ready: dict[str, Any], made: dict[str, Any]
) -> None:
    ledger = draft.ledger
    found: dict[str, float] = {}
    for key, name in (("interval", "every"), ("timeout", "timeout")):
        node = table.get(key)
        seconds = sizes.seconds(draft.value(node, key)) if node is not None else None
        if node is not None and not seconds:
            ledger.refused(node, sizes.NO_DURATION)
        elif seconds:
            ready[name] = format_duration(seconds)
            found[key] = seconds
    retries = table.get("retries")
    number = None
    if retries is not None:
        number = sizes.whole(draft.value(retries, "retries"))
        if number is None or not 1 <= number <= 100:
            ledger.refused(retries, "must be from 1 to 100")
            number = None
        else:
            ready["after"] = number
    period = table.get("start_period")
    free = sizes.seconds(draft.value(period, "start_period")) if period is not None else 0.0
    if free is None:
        ledger.refused(period, sizes.NO_DURATION)
    # Only then is a container unhealthy, and whoever waits for it has waited in vain.
    start = (free or 0.0) + (number or RETRIES) * found.get("interval", INTERVAL)
    if start > START:
        made["start"] = format_duration(start)
        ledger.say(period, "kept", "start: not ready by then and its retries, a replica has failed")
    else:
        ledger.say(period, "emulated", f"a boot may take {START:g} s anyway")
    if (often := table.get("start_interval")) is not None:
        ledger.emulated(often, "a replica that boots is asked often anyway")
