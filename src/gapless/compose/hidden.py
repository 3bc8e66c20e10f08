"""Values of secrets, wherever else they stand: what holds one is not written as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gapless.compose import draft as drafts
from gapless.compose import stores
from gapless.compose.draft import Draft
from gapless.compose.tree import Map

SHORTEST = 6
"""Characters of a secret that is looked for in commands: shorter ones are words too."""
_SHOWN = (("command", "run"), ("entrypoint", "entrypoint"), ("healthcheck", "ready"))


_REFERENCE = re.compile(r"\$\{(secret\.\w+|[a-z][a-z0-9-]*\.[a-z_]+)(\|url)?\}")


def values(draft: Draft, known: Mapping[str, stores.Store]) -> frozenset[str]:
    """Values that nothing written may hold; not those that the files say openly as well."""
    found = {secret.value for secret in draft.secrets.values()}
    found |= {store.password for store in known.values()}
    told = [one for each in draft.told.values() for one in each.values()]
    open_ = {one.text for one in told if not drafts.secretive(one.name)}
    open_ |= set(draft.project.services)
    open_ |= {stores.image(draft, name)[1] for name in draft.project.services}
    known_now = {v for v in found - open_ if v is not None and not v.startswith("${")}
    return frozenset(v for v in known_now if len(v) >= SHORTEST)


def clear(draft: Draft, service: str, made: dict[str, Any], values: frozenset[str]) -> None:
    """Take out of a table what would show one of these values: other places hold secrets too."""
    items, ledger = draft.items(service), draft.ledger
    for key, written in _SHOWN:
        found = made.get(written)
        words = found.get("command") or [] if isinstance(found, dict) else found or []
        if any(_shows(word, values) for word in ([words] if isinstance(words, str) else words)):
            del made[written]
            ledger.refused(items.get(key), "a secret in a command would show in the process list")
    build, recipe = items.get("build"), made.get("build")
    nodes = build.items.get("args") if isinstance(build, Map) else None
    args = recipe.get("args", {}) if isinstance(recipe, dict) else {}
    for name in [name for name, value in args.items() if _shows(value, values)]:
        del args[name]
        node = nodes.items.get(name) if isinstance(nodes, Map) else None
        ledger.refused(node, "a secret would stay in the image for everybody to read")
    _variables(draft, service, made, values)


def _variables(draft: Draft, service: str, made: dict[str, Any], values: frozenset[str]) -> None:
    """Variables that hold one of these values become secrets themselves."""
    env = made.get("env", {})
    for name in [name for name, value in env.items() if _shows(value, values)]:
        told = draft.told[service][name]
        held = draft.secret(name, told.text, told.place, service)
        made["secrets"] = list(dict.fromkeys([*made["secrets"], held]))
        env[name] = f"${{secret.{held}}}"
        if held == name:  # it is a variable of its name already
            del env[name]
        said = f"holds a secret, so {held} is one: gapless secret set {held}"
        draft.ledger.kept(told.node, said)


def _shows(plain: str, values: frozenset[str]) -> bool:
    """Whether a text holds a secret. A mere word counts where it stands alone, or as ``-pWORD``,
    and not as the name of what is referred to.
    """
    plain = _REFERENCE.sub("${}", plain)
    return any(
        re.search(rf"(?<![\w-])(-p)?{re.escape(value)}(?![\w-])", plain)
        if value.isalpha()
        else value in plain
        for value in values
    )
